"""Each edit does what its name says, and takes no pixel of another nucleus."""

import time

import numpy as np
import pytest
from app_tools import canvas_of, drawn_labels, two_disks

from nuclei.app import edits
from nuclei.app.edits import Refused
from nuclei.app.requests import MAX_NUMBERS
from nuclei.images.box import Box
from nuclei.polygons import fill


def done(labels, function, *args):
    """The labels after one edit of a copy."""
    canvas = canvas_of(labels)
    function(canvas.draft(), *args)
    return canvas.labels


def points(*numbers):
    return np.array(numbers, float).reshape(-1, 2)


def test_delete_removes_these_nuclei_only():
    labels = drawn_labels()
    after = done(labels, edits.delete, [2, 7])
    assert np.array_equal(after, np.where(np.isin(labels, (2, 7)), 0, labels))


def test_merge_keeps_the_first_id_and_all_pixels():
    labels = two_disks()
    after = done(labels, edits.merge, [2, 1])
    assert np.array_equal(after > 0, labels > 0) and set(np.unique(after)) == {0, 2}


def test_merge_bridges_a_narrow_gap_and_refuses_a_wide_one():
    labels = two_disks()
    labels[:, 28:30] = 0
    after = done(labels, edits.merge, [1, 2])
    assert set(np.unique(after)) == {0, 1} and (after[labels > 0] == 1).all()
    with pytest.raises(Refused, match="do not touch"):
        done(two_disks(touching=False), edits.merge, [1, 2])


def test_merge_does_not_cross_a_third_nucleus():
    labels = two_disks()
    labels[:, 26:31] = 3
    with pytest.raises(Refused):
        done(labels, edits.merge, [1, 2])


def test_draw_fills_the_outline_and_takes_nothing_of_others():
    labels = two_disks()
    after = done(labels, edits.draw, points(0, 0, 30, 0, 30, 40, 0, 40))
    expected = np.zeros_like(labels, bool)
    expected[:40, :30] = True
    assert np.array_equal(after == 3, expected & (labels == 0))
    assert np.array_equal(after[labels > 0], labels[labels > 0])
    with pytest.raises(Refused, match="no room"):
        done(labels, edits.draw, points(18, 18, 22, 18, 22, 22))
    with pytest.raises(Refused, match="outside"):
        done(labels, edits.draw, points(100, 100, 120, 100, 120, 120))


def test_a_brush_draws_a_disk_of_its_radius():
    labels = np.zeros((60, 60), np.int32)
    after = done(labels, edits.brush, None, points(30.5, 30.5), 10.0, False)
    assert abs((after == 1).sum() - np.pi * 10**2) < 0.1 * np.pi * 10**2


def test_a_brush_adds_what_touches_and_erases_what_it_covers():
    labels = two_disks(touching=False)
    after = done(labels, edits.brush, 1, points(20, 20, 34, 20), 3.0, False)
    assert (after[labels == 1] == 1).all() and after[20, 34] == 1
    far = done(labels, edits.brush, 1, points(20, 20, 50, 20), 2.0, False)
    assert np.array_equal(far == 2, labels == 2)
    assert far[20, 58] != 1  # beyond the other nucleus nothing is added
    less = done(labels, edits.brush, 1, points(20, 5, 20, 12), 3.0, True)
    assert 0 < (less == 1).sum() < (labels == 1).sum()
    with pytest.raises(Refused, match="changes nothing"):
        done(labels, edits.brush, 1, points(2, 2, 3, 3), 1.0, True)
    with pytest.raises(Refused, match="Choose the nucleus"):
        done(labels, edits.brush, None, points(2, 2), 1.0, True)


def test_erasing_through_a_nucleus_leaves_two():
    labels = two_disks(touching=False)
    after = done(labels, edits.brush, 1, points(20, 5, 20, 35), 2.0, True)
    ids, sizes = np.unique(after[:, :32], return_counts=True)
    assert set(ids) == {0, 1, 3} and min(sizes[1:]) > 50


def test_grow_and_shrink_move_the_edge_by_the_pixels_asked():
    labels = two_disks(touching=False)
    width = lambda image: np.ptp(np.flatnonzero((image == 1).any(axis=0))) + 1
    assert width(done(labels, edits.grow, [1], 3)) == width(labels) + 6
    assert width(done(labels, edits.shrink, [1], 3)) == width(labels) - 6
    with pytest.raises(Refused, match="vanish"):
        done(labels, edits.shrink, [1], 9)


def test_nuclei_that_grow_share_the_gap_and_stop_at_each_other():
    labels = two_disks()
    labels[:, 28:30] = 0
    after = done(labels, edits.grow, [1, 2], 5)
    assert (after[labels > 0] == labels[labels > 0]).all()
    middle = after[20, 20:40]
    assert (np.diff(middle) >= 0).all() and set(middle) == {1, 2}


def test_what_grows_at_the_edge_of_the_image_or_between_others():
    labels = np.full((12, 12), 2, np.int32)
    labels[:6] = 1
    with pytest.raises(Refused, match="no room"):
        done(labels, edits.grow, [1, 2], 1)


@pytest.mark.parametrize("function", (edits.delete, edits.merge, edits.grow, edits.shrink))
def test_a_nucleus_that_is_gone_is_named(function):
    with pytest.raises(Refused, match="Nucleus 77 is no longer there"):
        done(two_disks(), function, [1, 77])


def test_an_outline_holds_the_centres_inside_it_also_where_it_crosses_itself():
    random, box = np.random.default_rng(0), Box(3, 60, 5, 90)
    for _ in range(10):
        outline = random.uniform(-5, 95, (random.integers(3, 30), 2))
        expected = np.zeros(box.shape, bool)
        expected.flat[fill([[outline[:, ::-1] - (box.top, box.left)]], box.shape)] = True
        assert np.array_equal(edits.filled(outline, box), expected)


def test_the_longest_line_that_is_allowed_takes_no_time():
    outline = np.random.default_rng(0).uniform(1, 1999, (MAX_NUMBERS // 2, 2))
    started = time.monotonic()
    edits.filled(outline, Box(0, 2000, 0, 2000))
    assert time.monotonic() - started < 10  # s; pixels times points took minutes
