"""A nucleus is divided along a stroke or between two points, without a pixel lost."""

import numpy as np
import pytest
from app_tools import canvas_of, two_disks

from nuclei.app.edits import Refused
from nuclei.app.split import split_by_points, split_by_stroke


def points(*numbers):
    return np.array(numbers, float).reshape(-1, 2)


def one_blob():
    """Two disks under one id, joined in the middle."""
    return (two_disks() > 0).astype(np.int32)


def test_a_stroke_divides_and_every_pixel_stays_a_nucleus():
    labels = one_blob()
    canvas = canvas_of(labels)
    split_by_stroke(canvas.draft(), 1, points(28.5, 0, 28.5, 39))
    assert np.array_equal(canvas.labels > 0, labels > 0)
    sizes = np.unique(canvas.labels, return_counts=True)[1][1:]
    assert len(sizes) == 2 and min(sizes) > 0.4 * labels.sum()
    assert canvas.labels[20, 15] != canvas.labels[20, 40]


def test_a_stroke_across_twice_makes_three():
    canvas = canvas_of(one_blob())
    split_by_stroke(canvas.draft(), 1, points(20, 0, 20, 39, 37, 39, 37, 0))
    assert len(canvas.boxes) == 3


def test_a_stroke_that_ends_inside_is_refused():
    for stroke in (points(28.5, 0, 28.5, 20), points(0, 0, 59, 0), points(20, 20)):
        with pytest.raises(Refused, match="does not cross"):
            split_by_stroke(canvas_of(one_blob()).draft(), 1, stroke)


def test_two_points_divide_at_the_waist_without_a_network():
    labels = one_blob()
    canvas = canvas_of(labels)
    split_by_points(canvas.draft(), 1, points(20.5, 20.5, 37.5, 20.5), lambda box: None)
    assert np.array_equal(canvas.labels > 0, labels > 0)
    left, right = canvas.labels[20, 20], canvas.labels[20, 37]
    assert left != right and {left, right} == set(canvas.boxes)
    borders = np.flatnonzero(np.diff(canvas.labels[20, 12:46])) + 12
    assert len(borders) == 1 and abs(borders[0] - 28) <= 1


def test_two_points_follow_the_valley_of_the_network():
    canvas = canvas_of(one_blob())

    def heights(box):  # a valley at column 24, beside the waist
        columns = np.arange(box.left, box.right)
        return np.broadcast_to(np.abs(columns - 24.0), box.shape).astype(np.float32)

    split_by_points(canvas.draft(), 1, points(18, 20, 38, 20), heights)
    borders = np.flatnonzero(np.diff(canvas.labels[20, 12:46])) + 12
    assert len(borders) == 1 and abs(borders[0] - 24) <= 1


def test_points_that_say_nothing_are_refused():
    for clicks, message in (
        (points(20.4, 20.4, 20.6, 20.7), "are the same"),
        (points(20, 20, 58, 2), "must lie in the nucleus"),
    ):
        with pytest.raises(Refused, match=message):
            split_by_points(canvas_of(one_blob()).draft(), 1, clicks, lambda box: None)
