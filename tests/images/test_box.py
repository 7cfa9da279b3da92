"""A box cuts what it says, and moves and scales as the pixels do."""

import numpy as np
import pytest

from nuclei.images.box import Box

IMAGE = np.arange(40 * 60).reshape(40, 60)
BOX = Box(top=5, bottom=25, left=10, right=50)


def test_a_box_cuts_its_rows_and_columns():
    part = IMAGE[BOX.place]
    assert part.shape == BOX.shape == (20, 40) and part.size == BOX.area_px
    assert part[0, 0] == IMAGE[5, 10] and part[-1, -1] == IMAGE[24, 49]
    assert Box.of_shape((40, 60, 3)).place == np.s_[0:40, 0:60]
    assert Box.of_spans((5, 25), (10, 50)) == BOX


def test_a_box_in_a_part_cuts_the_same_pixels():
    inner = Box(8, 20, 30, 50)
    np.testing.assert_array_equal(
        IMAGE[BOX.place][inner.relative_to(BOX).place], IMAGE[inner.place]
    )
    assert inner.relative_to(BOX).shifted(BOX.top, BOX.left) == inner


@pytest.mark.parametrize(
    ("other", "is_inside"),
    [
        (BOX, True),
        (Box(6, 24, 11, 49), True),
        (Box(4, 25, 10, 50), False),
        (Box(5, 26, 10, 50), False),
        (Box(5, 25, 9, 50), False),
        (Box(5, 25, 10, 51), False),
    ],
)
def test_a_box_contains_what_lies_in_it(other, is_inside):
    assert BOX.contains(other) is is_inside


def test_a_scaled_box_is_rounded_to_whole_pixels():
    scaled = BOX.scaled(*np.array([0.5, 1.5]))
    assert scaled == Box(2, 12, 15, 75)  # halves go to even numbers, as NumPy rounds
    assert all(type(end) is int for end in scaled)
    assert not Box(6, 7, 6, 7).scaled(0.1, 0.1).area_px
