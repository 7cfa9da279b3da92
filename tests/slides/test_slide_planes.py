"""Which channel, focal plane and time point of a stack is read."""

import numpy as np
import pytest
from slides_tools import write_pyramid

from nuclei.slides.formats import is_slide, open_slide


@pytest.fixture(scope="module")
def planes():
    planes = np.random.default_rng(0).integers(0, 900, (2, 4, 3, 96, 128)).astype(np.uint16)
    planes[:, :, 1] *= 5  # the middle focal plane has most contrast
    return planes


@pytest.fixture(scope="module")
def stack(planes, tmp_path_factory):
    """A time series of z-stacks of four named channels."""
    path = tmp_path_factory.mktemp("stack") / "a.ome.tif"
    names = {"Channel": {"Name": ["FITC", "DAPI", "TRITC", "Cy5"]}}
    return write_pyramid(path, planes, levels=2, axes="TCZYX", metadata=names, tile=32)


def test_the_channel_of_nuclei_is_taken_and_the_rest_is_told(stack, planes):
    assert is_slide(stack)
    slide = open_slide(stack)
    expected = np.repeat(planes[0, 1, 1, 10:40, 5:100, None], 3, axis=2)
    np.testing.assert_array_equal(slide[10:40, 5:100], expected)
    notes = "\n".join(slide.notes)
    assert "channel 2 of 4 is taken, DAPI" in notes and "FITC, DAPI, TRITC, Cy5" in notes
    assert (
        "plane 2 of 3 of the z-stack is taken, the sharpest" in notes
        and "image 1 of 2 of the time series" in notes
    )


@pytest.mark.parametrize(("channel", "index"), [("trITC", 2), ("1", 0), (4, 3)])
def test_a_channel_is_chosen_by_name_or_number(stack, planes, channel, index):
    slide = open_slide(stack, channel)
    np.testing.assert_array_equal(slide[0:9, 0:9][..., 0], planes[0, index, 1, :9, :9])


@pytest.mark.parametrize("channel", ["5", "0", "GFP"])
def test_a_channel_that_is_not_there_is_refused_with_a_list(stack, channel):
    with pytest.raises(ValueError, match="has no channel .*1 FITC, 2 DAPI"):
        open_slide(stack, channel)


@pytest.mark.parametrize(("plane", "expected"), [("3", [2]), ("max", [0, 1, 2])])
def test_a_focal_plane_is_chosen_by_number_or_the_brightest_of_all(stack, planes, plane, expected):
    slide = open_slide(stack, "DAPI", plane)
    chosen = planes[0, 1, expected].max(axis=0)
    np.testing.assert_array_equal(slide[4:20, 5:100][..., 0], chosen[4:20, 5:100])
    assert slide.plane == (plane if plane == "max" else 3) and slide.channel == 2


def test_three_light_channels_are_colours_unless_they_have_names(tmp_path):
    planes = np.random.default_rng(0).integers(150, 200, (3, 96, 128)).astype(np.uint8)
    options = {"levels": 2, "tile": 32}
    plain = open_slide(write_pyramid(tmp_path / "a.ome.tif", planes, axes="CYX", **options))
    np.testing.assert_array_equal(plain[:, :], np.moveaxis(planes, 0, -1))
    names = {"Channel": {"Name": ["Actin", "Hoechst 33342", "Tubulin"]}}
    path = write_pyramid(tmp_path / "b.ome.tif", planes, axes="CYX", metadata=names, **options)
    np.testing.assert_array_equal(open_slide(path)[:, :][..., 2], planes[1])
    colours = np.moveaxis(planes, 0, -1).copy()
    slide = open_slide(write_pyramid(tmp_path / "c.ome.tif", colours, **options), "1")
    assert "channel 1 of 3 is taken, red" in slide.notes[0]
    np.testing.assert_array_equal(slide[:, :][..., 2], planes[0])
