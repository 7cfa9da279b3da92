"""Label images are tiled pyramids of ids: OME-TIFF by tifffile, OME-Zarr by zarr."""

import numpy as np
import pandas as pd
import tifffile

from nuclei.formats.label_images import source_of_labels, write_ometiff, write_omezarr
from nuclei.formats.registry import Nuclei


def test_ometiff_is_a_tiled_pyramid_of_ids_with_pixel_size(tmp_path):
    labels = np.zeros((700, 1300), np.int32)
    labels[100:180, 200:260], labels[650:, 1200:], labels[300, 300] = 1, 70_000, 3
    nuclei = Nuclei("slide", "slide.svs", labels, pd.DataFrame(), mpp=0.25)
    write_ometiff(tmp_path / "slide.ome.tif", nuclei)
    with tifffile.TiffFile(tmp_path / "slide.ome.tif") as tiff:
        assert tiff.is_ome and len(tiff.series) == 1
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(700, 1300), (350, 650), (175, 325)]
        for number, level in enumerate(levels):
            assert level.dtype == np.uint32 and level.pages[0].is_tiled
            np.testing.assert_array_equal(level.asarray(), labels[:: 1 << number, :: 1 << number])
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (
            pixels["PhysicalSizeX"] == pixels["PhysicalSizeY"] == 0.25
            and pixels["PhysicalSizeXUnit"] == "µm"
        )
        assert pixels["Channel"]["Name"] == "Nuclei"
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert numerator / denominator == 40_000  # per centimetre
    write_ometiff(tmp_path / "plain.ome.tif", nuclei._replace(mpp=None))
    with tifffile.TiffFile(tmp_path / "plain.ome.tif") as tiff:
        assert "PhysicalSizeX" not in tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]


def test_an_omezarr_names_the_image_where_that_is_an_omezarr_too(tmp_path, monkeypatch):
    labels_path, slide = tmp_path / "out" / "omezarr" / "s.zarr", tmp_path / "slides" / "s.zarr"
    assert source_of_labels(labels_path, tmp_path / "s.svs") == {"file": "s.svs"}
    slide.mkdir(parents=True)
    source = source_of_labels(labels_path, slide)
    assert source == {"image": "../../../slides/s.zarr"}
    labels_path.mkdir(parents=True)
    assert (labels_path / source["image"]).samefile(slide)

    def on_another_drive(*_):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr("os.path.relpath", on_another_drive)
    assert source_of_labels(labels_path, slide) == {"file": "s.zarr"}


def test_omezarr_is_a_pyramid_of_labels_and_replaces_whole(tmp_path):
    import zarr

    labels = np.zeros((600, 1100), np.int32)
    labels[100:180, 200:260], labels[550:, 1000:] = 1, 70_000
    nuclei = Nuclei("slide", "slide.svs", labels, pd.DataFrame(), mpp=0.25)
    for mpp in (0.25, None):
        write_omezarr(tmp_path / "slide.zarr", nuclei._replace(mpp=mpp))
        group = zarr.open_group(tmp_path / "slide.zarr", mode="r")
        source = {"file": "slide.svs"}
        assert group.attrs["image-label"] == {"version": "0.4", "source": source}
        (multiscale,) = group.attrs["multiscales"]
        assert multiscale["version"] == "0.4" and [axis["name"] for axis in multiscale["axes"]] == [
            "y",
            "x",
        ]
        assert {axis.get("unit") for axis in multiscale["axes"]} == {"micrometer" if mpp else None}
        for number, level in enumerate(multiscale["datasets"]):
            assert level["coordinateTransformations"][0]["scale"] == [(mpp or 1) * 2**number] * 2
            assert group[level["path"]].dtype == np.uint32
            np.testing.assert_array_equal(
                group[level["path"]][:], labels[:: 1 << number, :: 1 << number]
            )
        assert len(multiscale["datasets"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["slide.zarr"]
