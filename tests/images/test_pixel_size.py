"""The pixel size that a file states, in any unit; what is meant for a printer is ignored."""

import numpy as np
import pytest
from images_tools import GREY, save
from PIL import Image
from stack_tools import write_ome

from nuclei.images.pixel_size import microns_of, plausible_mpp
from nuclei.images.reading import open_image


@pytest.mark.parametrize(
    ("unit", "microns"),
    [("micron", 1), ("\\u00B5m", 1), ("µm", 1), ("\u03bcm", 1), ("um", 1), ("nm", 1e-3)]
    + [("Å", 1e-4), ("\u212b", 1e-4), ("cm", 1e4), ("inch", 25400), ("mm", 1e3), ("m", 1e6)]
    + [("pixel", 0), ("", 0), (None, 0)],
)
def test_a_unit_of_length_is_known_by_all_its_names(unit, microns):
    assert microns_of(unit) == pytest.approx(microns)


@pytest.mark.parametrize("unit", ["micron", "\\u00B5m", "um", "nm", "mm", "cm", "inch"])
def test_imagej_states_its_unit(tmp_path, unit):
    per_unit = microns_of(unit) / 0.325
    metadata = {"unit": unit, "axes": "YX"}
    options = {"imagej": True, "resolution": (per_unit, per_unit), "metadata": metadata}
    file = open_image(save(tmp_path / "a.tif", GREY, **options))
    assert file.mpp == pytest.approx(0.325, rel=1e-3)


@pytest.mark.parametrize(("unit", "size"), [("µm", 0.5), ("nm", 500), ("mm", 5e-4), ("Å", 5000)])
def test_ome_states_its_unit(tmp_path, unit, size):
    sizes = {f"PhysicalSize{axis}": size for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    path = write_ome(tmp_path / "a.ome.tif", GREY, "YX", **sizes, **units)
    assert open_image(path).mpp == pytest.approx(0.5)


@pytest.mark.parametrize(("unit", "microns"), [("CENTIMETER", 1e4), ("INCH", 25400)])
def test_the_resolution_of_a_plain_tiff_counts_where_a_microscope_can_have_it(
    tmp_path, unit, microns
):
    options = {"photometric": "minisblack", "resolutionunit": unit}
    for mpp, expected in ((0.25, 0.25), (84.7, None), (352.8, None)):
        dots = microns / mpp
        file = open_image(save(tmp_path / "a.tif", GREY, resolution=(dots, dots), **options))
        assert file.mpp == (None if expected is None else pytest.approx(expected, rel=1e-3))
        assert not file.notes


@pytest.mark.parametrize("dpi", [72, 96, 300, 1200, 2400])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_the_dots_per_inch_of_printers_are_no_pixel_size(tmp_path, dpi, suffix):
    Image.fromarray(GREY).save(tmp_path / f"a{suffix}", dpi=(dpi, dpi))
    assert open_image(tmp_path / f"a{suffix}").mpp is None
    Image.fromarray(GREY).save(tmp_path / "none.png")
    assert open_image(tmp_path / "none.png").mpp is None


def test_a_png_or_jpeg_may_state_that_of_a_microscope(tmp_path):
    dots = 25400 / 0.5
    Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(dots, dots))
    Image.fromarray(GREY).save(tmp_path / "a.jpg", dpi=(dots, dots))
    for name in ("a.png", "a.jpg"):
        assert open_image(tmp_path / name).mpp == pytest.approx(0.5, rel=1e-3)


def test_metamorph_states_its_calibration(tmp_path):
    values = {"x": ("float", "0.65"), "y": ("float", "0.65"), "units": ("string", "um")}
    rows = "".join(
        f'<prop id="spatial-calibration-{key}" type="{kind}" value="{value}"/>'
        for key, (kind, value) in values.items()
    )
    text = f"<MetaData><PlaneInfo>{rows}</PlaneInfo></MetaData>"
    options = {"photometric": "minisblack", "description": text, "metadata": None}
    options["software"] = "MetaSeries"
    assert open_image(save(tmp_path / "a.tif", GREY, **options)).mpp == pytest.approx(0.65)


def test_odd_pixel_sizes_are_ignored_or_averaged_with_a_line():
    for x, y, expected, word in (
        (0, 0.5, None, "does not say"),
        (np.nan, 1.0, None, "does not say"),
        (84.7, 84.7, None, "ignored"),
        (0.25, 1.0, 0.5, "not square"),
    ):
        notes = []
        assert plausible_mpp(x, y, notes) == expected and word in notes[0]
