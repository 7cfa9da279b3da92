"""Overlays outline each nucleus, and hide little of it."""

import numpy as np
import pytest
from PIL import Image

from nuclei.images.writing import write_jpeg
from nuclei.results import pictures
from nuclei.results.pictures import OUTLINE_COLOUR, draw_overlay, line_width, outline_colours


def disks(*places, diameter_px, side_px=120):
    """Labels of round nuclei at (row, column)."""
    labels = np.zeros((side_px, side_px), np.int32)
    rows, columns = np.indices(labels.shape)
    for index, (row, column) in enumerate(places, start=1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 < (diameter_px / 2) ** 2] = index
    return labels


def drawn(labels, grey=255, colours=OUTLINE_COLOUR):
    """(overlay, line, halo) of labels on a picture of one grey."""
    picture = np.full((*labels.shape, 3), grey, np.uint8)
    overlay = draw_overlay(picture, (0.0, 255.0), labels, colours)
    line = (overlay == OUTLINE_COLOUR).all(-1)
    return overlay, line, (overlay != picture).any(-1) & ~line


def test_an_outline_lies_on_both_sides_of_the_border_and_has_a_dark_halo_outside():
    labels = disks((60, 40), diameter_px=30)
    overlay, line, halo = drawn(labels)
    assert line_width(labels) == 2 and line[60, 24:28].tolist() == [False, True, True, False]
    assert halo[60, 24] and overlay[60, 24].max() < 70 and not halo[labels > 0].any()
    assert 2 * np.pi * 15 < line.sum() < 2.6 * np.pi * 30
    assert not drawn(labels, grey=0)[2].any()  # nothing is darker than black


def test_a_line_hides_little_of_a_tiny_nucleus_and_is_wide_on_a_large_image():
    tiny = disks((20, 20), (20, 40), diameter_px=8)
    _, line, _ = drawn(tiny)
    assert line_width(tiny) == 1 and line.any() and not line[tiny > 0].any()
    large = disks((60, 60), diameter_px=90, side_px=3000)
    assert line_width(large) == 3
    assert line_width(np.zeros((50, 50), np.int32)) == 2  # without a nucleus


@pytest.mark.parametrize("diameter_px", [12, 30])
def test_nuclei_that_touch_have_one_line_between_them(diameter_px):
    labels = disks((60, 40), diameter_px=diameter_px)
    labels[:, 41:][labels[:, 41:] > 0] = 2
    _, line, halo = drawn(labels)
    assert 1 <= line[60, 36:46].sum() <= 2 and not halo[60, 36:46].any()


def test_colours_follow_confidence_or_id():
    labels = disks((20, 20), (20, 60), (60, 20), (60, 60), diameter_px=24)
    colours = outline_colours("confidence", [0.3, 0.5, 0.79, 0.8])
    assert colours[1:].tolist() == [[255, 0, 60], [255] * 3, [255] * 3, list(OUTLINE_COLOUR)]
    overlay = draw_overlay(np.zeros((120, 120, 3), np.uint8), (0.0, 255.0), labels, colours)
    assert overlay[20, 8].tolist() == [255, 0, 60] and overlay[20, 48].tolist() == [255] * 3
    assert (outline_colours("one", [0.1] * 4) == OUTLINE_COLOUR).all()
    by_id = outline_colours("id", [0.1] * 9)
    assert by_id.shape == (10, 3) and (by_id[1:] != by_id[:-1]).any(axis=1).all()
    with pytest.raises(IndexError):  # colours of another image
        draw_overlay(np.zeros((120, 120, 3), np.uint8), (0.0, 255.0), labels, colours[:3])


def test_a_jpeg_keeps_the_colour_of_thin_lines(tmp_path):
    overlay, line, _ = drawn(disks((20, 20), (20, 40), diameter_px=8), grey=200)
    write_jpeg(tmp_path / "x.jpg", overlay)
    read = np.array(Image.open(tmp_path / "x.jpg")).astype(int)
    chroma = (read.max(-1) - read.min(-1))[line]
    assert chroma.mean() > 220  # of 255; 86 where colours are stored at half the size


@pytest.mark.parametrize("diameter_px", [6, 30])
def test_an_overlay_in_bands_is_that_of_the_whole_image(diameter_px, monkeypatch):
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (150, 90, 3), np.uint8)
    rows, columns = np.divmod(np.arange(150 * 90).reshape(150, 90), 90)
    labels = (rows // diameter_px) * 20 + columns // diameter_px + 1
    labels[(rows % diameter_px == 0) & (columns % 4 > 0)] = 0
    colours = random.integers(0, 255, (labels.max() + 1, 3), np.uint8)
    whole = draw_overlay(image, (10.0, 200.0), labels, colours)
    for num_rows in (1, 7, 64):
        monkeypatch.setattr(pictures, "BAND_ROWS", num_rows)
        np.testing.assert_array_equal(
            draw_overlay(image, (10.0, 200.0), labels, colours), whole, err_msg=str(num_rows)
        )
