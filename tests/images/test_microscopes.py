"""Files of microscopes: a drawn .czi by its reader, the others by an object like a reader's."""

from types import SimpleNamespace

import numpy as np
import pytest
from stack_tools import focal_planes, nuclei_and_others

from nuclei.images.microscopes import content_of
from nuclei.images.reading import declared_size, open_image, read_image
from nuclei.slides.formats import is_slide

NUCLEI, CYTOPLASM = nuclei_and_others()[:2]


def write_czi(path):
    """Write a z-stack of two channels of 0.25 µm per pixel."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    stacks = np.stack([focal_planes(channel) for channel in (CYTOPLASM, NUCLEI)])
    with czi.create_czi(str(path)) as file:
        for channel, planes in enumerate(stacks.astype(np.uint16) * 16):
            for z, plane in enumerate(planes):
                file.write(plane[..., None], plane={"C": channel, "Z": z, "T": 0})
        names = {0: "GFP", 1: "DAPI"}
        file.write_metadata("a", channel_names=names, scale_x=2.5e-7, scale_y=2.5e-7)
    return path


@pytest.mark.filterwarnings("ignore")  # of the packages that read the file
def test_a_czi_of_fluorescence_is_an_image(tmp_path):
    pytest.importorskip("bioio_czi")
    path = write_czi(tmp_path / "a.czi")
    assert not is_slide(path) and declared_size(path) == NUCLEI.shape
    file = open_image(path)
    np.testing.assert_array_equal(file.image[..., 0], NUCLEI.astype(np.uint16) * 16)
    assert file.mpp == pytest.approx(0.25) and (file.channel, file.plane) == (2, 2)
    with pytest.raises(ValueError, match="no channel Cy5; it has 1 GFP, 2 DAPI"):
        read_image(path, channel="Cy5")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="a.czi cannot be read by bioio-czi"):
        read_image(path)


def test_the_first_time_and_scene_are_read(tmp_path):
    pixels = np.stack([NUCLEI, NUCLEI[::-1]])[:, None, None]  # TCZYX

    def get(axes, **others):
        assert axes == "YX" and others == {"T": 0, "C": 0, "Z": 0}
        return pixels[0, 0, 0]

    reader = SimpleNamespace(
        dims=SimpleNamespace(order="TCZYX"),
        shape=pixels.shape,
        scenes=("A1", "A2"),
        channel_names=["DAPI"],
        physical_pixel_sizes=SimpleNamespace(X=0.5, Y=0.5, Z=None),
        get_image_data=get,
    )
    content = content_of(tmp_path / "a.nd2", reader)
    np.testing.assert_array_equal(content.pixels, NUCLEI)
    assert content.mpp == 0.5 and content.names == ("DAPI",)
    assert "image 1 of 2 of the time series" in content.notes[0] and "A1" in content.notes[1]


@pytest.mark.parametrize("suffix", ["nd2", "lif", "czi"])
def test_a_missing_reader_is_named_with_the_command(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("nuclei.images.microscopes.is_installed", lambda package: False)
    (tmp_path / f"a.{suffix}").write_bytes(b"something")
    with pytest.raises(ValueError, match=f"python -m pip install bioio bioio-{suffix}"):
        read_image(tmp_path / f"a.{suffix}")
