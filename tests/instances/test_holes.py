"""White holes of a stained section are no nuclei; all that is stained stays."""

import numpy as np
import pytest
from stains_tools import BLUE, PINK, immunostained, stained
from synthetic import draw

from nuclei.instances.holes import MIN_TOTAL_OD, around, hole_share, without_holes
from nuclei.instances.measure import measure


def section(background_od=0.3, hole_od=0.0, dim=0.0, dtype=np.uint8):
    """Pink tissue with four nuclei (1 to 4) and two gaps that a network took for nuclei (5, 6)."""
    labels = np.zeros((80, 120), np.int32)
    rows, columns = np.mgrid[:80, :120]
    for index in range(6):
        row, column = 20 + 40 * (index // 3), 20 + 40 * (index % 3)
        labels[(rows - row) ** 2 + (columns - column) ** 2 < 81] = index + 1
    densities = np.full((*labels.shape, 3), background_od * np.array(PINK))
    densities[(labels > 0) & (labels < 5)] = 0.6 * np.array(BLUE)
    densities[labels >= 5] = hole_od
    return stained(densities + dim, dtype), labels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bright_gaps_are_dropped_and_the_numbers_have_no_gaps(dtype):
    image, labels = section(dtype=dtype)
    kept = without_holes(labels, image)
    np.testing.assert_array_equal(kept, np.where(labels < 5, labels, 0))
    assert (measure(kept, image, stained=True)["total_od"] >= MIN_TOTAL_OD).all()
    order = np.array([0, 6, 1, 5, 2, 3, 4])[labels]
    assert sorted(np.unique(without_holes(order, image))) == [0, 1, 2, 3, 4]


def test_in_a_dark_picture_gaps_are_told_by_what_lies_around():
    image, labels = section(background_od=0.6, dim=0.25)  # under half of the light
    assert measure(labels, image, stained=True)["total_od"].min() > MIN_TOTAL_OD
    np.testing.assert_array_equal(without_holes(labels, image), np.where(labels < 5, labels, 0))


def test_pale_objects_on_a_white_background_are_dropped_by_their_density_alone():
    image, labels = section(background_od=0.0, hole_od=0.05)
    assert without_holes(labels, image).max() == 4


@pytest.mark.parametrize("seed", range(4))
def test_true_nuclei_stay(seed):
    for image, labels in (
        draw("tissue", 200, 200, diameter=20, seed=seed, touching=0.6),
        immunostained(seed=seed)[:2],
    ):
        assert without_holes(labels, image) is labels


def test_what_lies_around_is_no_other_nucleus():
    image, labels = section()
    ring = around(labels, 30)
    assert not ring[labels > 0].any() and set(np.unique(ring)) == set(range(7))
    assert without_holes(np.zeros_like(labels), image).max() == 0
    filled = np.ones_like(labels)  # nothing lies around
    assert without_holes(filled, section(hole_od=0.3)[0]) is filled


@pytest.mark.parametrize("num_holes", [0, 2, 6])
def test_the_share_of_holes_counts_pixels_that_were_dropped(num_holes):
    labels = section()[1]
    kept = np.where(labels > num_holes, labels, 0)
    assert hole_share(labels, kept) == pytest.approx(num_holes / 6)
    assert hole_share(np.zeros_like(labels), np.zeros_like(labels)) == 0  # nothing was found
