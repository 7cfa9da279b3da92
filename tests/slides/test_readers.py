"""What the readers make of pixel sizes, missing levels and missing packages."""

import shutil
import sys

import pytest
import zarr
from slides_tools import write_pyramid, write_svs, write_zarr

from nuclei.slides.formats import open_slide


@pytest.fixture
def open_tiff_with(tissue, tmp_path):
    """Open a TIFF that is written with some options."""

    def opened(name, **options):
        path = tmp_path / name
        return open_slide(write_pyramid(path, tissue[:128, :128], levels=2, tile=32, **options))

    return opened


def test_a_slide_without_pixel_size_says_so(open_tiff_with, tissue, tmp_path):
    assert "does not say" in open_tiff_with("a.ome.tif", mpp=None).notes[0]
    slide = open_slide(write_svs(tmp_path / "e.svs", tissue[:128, :128], mpp=None))
    assert slide.mpp is None and "40x" in slide.notes[1]


@pytest.mark.parametrize("mpp", [84.7, 0.001, 500.0])
def test_a_pixel_size_that_no_slide_has_is_ignored_with_a_note(open_tiff_with, mpp):
    slide = open_tiff_with("b.tif", mpp=mpp)
    assert (
        slide.mpp is None and "no microscope image" in slide.notes[0] and "--mpp" in slide.notes[0]
    )


def test_pixels_that_are_not_square_count_by_their_mean(open_tiff_with):
    slide = open_tiff_with("c.ome.tif", metadata={"PhysicalSizeX": 0.25, "PhysicalSizeY": 1.0})
    assert slide.mpp == pytest.approx(0.5) and "not square" in slide.notes[0]


def test_pixel_sizes_may_be_in_nanometres(open_tiff_with):
    sizes = {f"PhysicalSize{axis}": 250.0 for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
    slide = open_tiff_with("d.ome.tif", metadata={**sizes, **units})
    assert slide.mpp == pytest.approx(0.25)


def test_missing_levels_of_a_zarr_are_named(tissue, tmp_path):
    path = write_zarr(tmp_path / "a.zarr", tissue)
    shutil.rmtree(path / "1")
    slide = open_slide(path)
    assert "level 1 is missing" in slide.notes[0] and slide.downsamples == pytest.approx([1, 4])
    shutil.rmtree(path / "0")
    with pytest.raises(ValueError, match="lacks its full resolution"):
        open_slide(path)
    zarr.open_group(tmp_path / "b.zarr", mode="w")
    with pytest.raises(ValueError, match="no OME-Zarr image"):
        open_slide(tmp_path / "b.zarr")


def test_an_omezarr_of_several_images_is_its_first(tissue, tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    write_zarr(tmp_path / "a.zarr" / "0", tissue[:80, :90], levels=1)
    assert open_slide(tmp_path / "a.zarr").shape == (80, 90, 3)


@pytest.mark.parametrize(
    ("kind", "missing", "packages"),
    [
        ("svs", "openslide", "openslide-python"),
        ("ome", "zarr", "zarr imagecodecs"),
        ("zarr", "zarr", "zarr"),
    ],
)
def test_a_missing_package_is_named_with_the_command(
    readable, monkeypatch, kind, missing, packages
):
    monkeypatch.setattr("nuclei.slides.readers.is_installed", lambda package: package != missing)
    with pytest.raises(ValueError, match=f"python -m pip install {packages}"):
        open_slide(readable[kind])


def test_openslide_without_its_library_names_the_package(readable, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ValueError, match="openslide-bin"):
        open_slide(readable["svs"])
