"""Outlines follow the edges of the pixels: filled by the even-odd rule they give the nucleus."""

import json

import numpy as np
import pytest
from app_tools import canvas_of, corrected_image, drawn_labels, random_edit

from nuclei.app import outlines
from nuclei.app.outlines import as_json, describe
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


def test_outlines_do_not_depend_on_what_is_traced_beside_them(monkeypatch):
    labels = drawn_labels(5, num=60)
    labels[30:33, 20:23] = labels[70:72, 70:75] = 0
    canvas = canvas_of(labels)
    ids = sorted(canvas.boxes)
    together = describe(canvas, ids, {})
    assert together == [describe(canvas, [index], {})[0] for index in ids]
    monkeypatch.setattr(outlines, "STRIP_PX", 500)
    assert together == describe(canvas, ids, {})
    assert describe(canvas, [], {}) == []


def test_what_is_kept_for_the_page_follows_each_edit(tmp_path):
    image, random = corrected_image(tmp_path, drawn_labels(2)), np.random.default_rng(1)
    known = {3: 0.25, 7: 0.5}
    for _ in range(15):
        canvas = image.canvas
        expected = describe(canvas, sorted(canvas.boxes), known)
        assert json.loads(as_json(canvas, known)) == expected
        random_edit(image, random)
