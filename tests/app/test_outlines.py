"""Outlines follow the edges of the pixels: filled by the even-odd rule they give the nucleus."""

import numpy as np
import pytest
from app_tools import canvas_of, drawn_labels

from nuclei.app.outlines import describe
from nuclei.polygons import fill


def filled(nucleus, shape):
    """The pixels inside of all outlines of a nucleus, by the even-odd rule."""
    inside = np.zeros(shape, bool)
    for numbers in (nucleus["outline"], *nucleus.get("more", ())):
        ring = np.array(numbers).reshape(-1, 2)[:, ::-1]
        inside.flat[fill([[ring]], shape)] ^= True
    return inside


@pytest.mark.parametrize("seed", range(3))
def test_outlines_enclose_the_pixels_of_their_nucleus(seed):
    labels = drawn_labels(seed)
    labels[30:33, 20:23] = labels[70:72, 70:75] = 0  # holes and cuts
    canvas = canvas_of(labels)
    for nucleus in describe(canvas, sorted(canvas.boxes), {3: 0.5}):
        mask = labels == nucleus["id"]
        assert np.array_equal(filled(nucleus, labels.shape), mask)
        left, top, right, bottom = nucleus["box"]
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert nucleus["confidence"] == (0.5 if nucleus["id"] == 3 else None)


def test_parts_holes_and_single_pixels():
    labels = np.zeros((30, 30), np.int32)
    labels[2:20, 2:20] = 1
    labels[5:9, 5:9] = 0  # a hole
    labels[25:27, 25:28] = 1  # a second part
    labels[28, 3] = 2
    labels[22, 22] = labels[23, 23] = 3  # pixels that touch at a corner
    canvas = canvas_of(labels)
    first, pixel, corner = describe(canvas, [1, 2, 3], {})
    assert len(first["more"]) == 2 and "more" not in pixel
    for nucleus in (first, pixel, corner):
        assert np.array_equal(filled(nucleus, labels.shape), labels == nucleus["id"])
    assert pixel["outline"] == [3, 28, 3, 29, 4, 29, 4, 28]
