"""Which files are slides, and what is said of a slide that cannot be read."""

import numpy as np
import pytest
import tifffile

from nuclei.slides.formats import find_slides, is_slide, open_slide


def test_small_and_damaged_tiffs_are_images(tissue, tmp_path):
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, tissue[:100, :100], photometric="rgb")
    assert not is_slide(small)
    tifffile.imwrite(tmp_path / "one.ome.tif", tissue[:100, :100], photometric="rgb")
    assert not is_slide(tmp_path / "one.ome.tif")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 and nothing more")
    assert not is_slide(tmp_path / "broken.tif") and not is_slide(tmp_path / "a.png")
    assert not is_slide(tmp_path)


def test_a_large_tiled_tiff_is_a_slide(tmp_path):
    tifffile.imwrite(tmp_path / "large.tif", shape=(8200, 64), dtype=np.uint8, tile=(64, 64))
    assert is_slide(tmp_path / "large.tif")
    assert open_slide(tmp_path / "large.tif")[8000:8010, 3:9].shape == (10, 6, 3)


def test_the_files_of_a_dicom_slide_are_one_slide(tmp_path):
    folder = tmp_path / "patient"
    folder.mkdir()
    for name in ("1.dcm", "2.dcm", "x.svs", ".hidden.svs", "notes.txt"):
        (folder / name).write_bytes(b"")
    slides = [(stem, path.name) for stem, path in find_slides(folder)]
    assert slides == [("patient", "1.dcm"), ("x", "x.svs")]


@pytest.mark.parametrize(
    ("kind", "name"), [("plain", "cut.tif"), ("svs", "cut.svs"), ("ome", "cut.ome.tif")]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_slide_that_is_cut_short_is_named(readable, tmp_path, kind, name, share):
    whole = readable[kind].read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=f"{name}.*copy it again"):
        open_slide(path)[:, :]


def test_what_is_no_slide_is_named(tissue, tmp_path):
    (tmp_path / "empty.svs").write_bytes(b"")
    with pytest.raises(ValueError, match="empty.svs"):
        open_slide(tmp_path / "empty.svs")
    with pytest.raises(FileNotFoundError):
        open_slide(tmp_path / "none.svs")
    floats = tmp_path / "floats.tif"
    tifffile.imwrite(floats, tissue[..., 0].astype(np.float32), tile=(64, 64))
    with pytest.raises(ValueError, match="float32; expected 8 or 16 bits"):
        open_slide(floats)


def test_a_folder_that_is_no_omezarr_is_named_in_our_words(tmp_path):
    pytest.importorskip("zarr")
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"a.zarr is an empty folder; expected the folder of an O"):
        open_slide(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"a.zarr has neither zarr.json nor .zgroup; expected"):
        open_slide(folder)
