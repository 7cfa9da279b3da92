"""Regions of binary masks become nuclei where a model found several."""

import numpy as np
import pytest
from images_tools import discs, is_without_gaps, same_partition
from scipy import ndimage
from truth_tools import PAIRS

from nuclei.datasets import divided_mask
from nuclei.datasets.divided_mask import VOID, divide, is_read_back
from nuclei.images.labels import components, without_gaps

MASK = components(PAIRS > 0)
RING = np.hypot(*np.mgrid[-20:21, -20:21])
SMALLER = np.where(ndimage.minimum_filter(PAIRS, 5) == ndimage.maximum_filter(PAIRS, 5), PAIRS, 0)


def nuclei_of(mask):
    return np.where(mask.labels == VOID, 0, mask.labels)


@pytest.mark.parametrize("factor", [1, 7])
def test_touching_nuclei_part_where_they_were_found(factor):
    mask = divide(MASK, SMALLER * factor)
    assert ((mask.labels > 0) == (MASK > 0)).all()
    assert mask.num_nuclei == PAIRS.max() and mask.num_divided == MASK.max() and not mask.num_void
    assert (without_gaps(mask.labels) == mask.labels).all()
    agree = [
        np.bincount(mask.labels[nucleus == PAIRS]).max() / (nucleus == PAIRS).sum()
        for nucleus in range(1, PAIRS.max() + 1)
    ]
    assert min(agree) > 0.95


def test_what_was_found_is_only_where_the_mask_is_and_no_region_is_joined():
    rng = np.random.default_rng(0)
    for _ in range(20):
        regions = components(ndimage.gaussian_filter(rng.normal(size=(60, 70)), 2) > 0.05)
        found = components(ndimage.gaussian_filter(rng.normal(size=(60, 70)), 1.5) > 0.1)
        mask = divide(regions, found)
        nuclei = nuclei_of(mask)
        assert ((mask.labels > 0) == (regions > 0)).all()
        assert is_without_gaps(nuclei) and nuclei.max() == mask.num_nuclei
        for nucleus in range(1, mask.num_nuclei + 1):
            assert len(np.unique(regions[nuclei == nucleus])) == 1
            assert components(nuclei == nucleus).max() == 1


@pytest.mark.parametrize("found", [0, 1])
def test_a_round_region_is_one_nucleus_and_a_hollow_one_void(found):
    regions = components(discs() > 0)
    mask = divide(regions, regions * found)
    assert same_partition(mask.labels, regions) and mask.num_divided == mask.num_void == 0
    crescent = ((RING < 18) & (np.hypot(*np.mgrid[-20:21, -12:29]) > 14)).astype(np.int32)
    mask = divide(crescent, crescent * found)
    assert (mask.labels == crescent * VOID).all()
    assert mask.num_void == 1 and mask.num_nuclei == 0


def test_a_region_of_which_little_was_found_is_void():
    tiny = np.where(ndimage.minimum_filter(PAIRS, 13) > 0, PAIRS, 0)
    assert len(np.unique(tiny)) == PAIRS.max() + 1
    mask = divide(MASK, tiny)
    assert mask.num_void == MASK.max() and (mask.labels == (MASK > 0) * VOID).all()


def test_a_found_nucleus_that_lies_mostly_elsewhere_divides_nothing():
    regions = np.zeros((40, 60), np.int32)
    regions[10:30, 10:30] = 1
    found = np.zeros_like(regions)
    found[10:30, 10:24] = 1
    found[10:30, 25:50] = 2  # 5 of 25 columns lie in the region
    assert divide(regions, found).num_nuclei == 1
    found[:, 34:] = 0  # 5 of 9
    assert divide(regions, found).num_nuclei == 2


def test_half_of_a_nucleus_is_not_enough_and_half_of_a_region_is():
    regions = np.zeros((40, 60), np.int32)
    regions[10:30, 10:50] = 1
    found = np.zeros_like(regions)
    found[10:30, 10:20], found[10:30, 40:60] = 1, 2  # half of the second lies in the region
    assert divide(regions, found).num_nuclei == 1
    found[10:30, 59] = 0
    assert divide(regions, found).num_nuclei == 2
    found[10, 10] = 0  # 399 of 800 px, after exactly half
    assert divide(regions, found).num_void == 1


def test_each_pixel_goes_to_the_nearest_found_nucleus(monkeypatch):
    monkeypatch.setattr(divided_mask, "MIN_COVERED", 0)
    rng = np.random.default_rng(3)
    region, shares = np.ones((60, 80), np.int32), []
    for _ in range(5):
        found = np.zeros_like(region)
        for nucleus in range(1, 5):  # of different sizes
            row, column, size = *rng.integers(0, (40, 60)), rng.integers(8, 20)
            found[row : row + size, column : column + size] = nucleus
        labels = divided_mask.parts_of(region > 0, found, np.bincount(found.ravel()))
        distances = [
            ndimage.distance_transform_edt(found != nucleus) for nucleus in np.unique(found)[1:]
        ]
        own = np.take_along_axis(np.array(distances), labels[None] - 1, axis=0)[0]
        shares.append((own <= np.min(distances, axis=0) + 1.5).mean())
    assert np.mean(shares) > 0.985  # floods meet a little beside the line


def test_void_of_the_mask_stays_void():
    void = np.zeros(MASK.shape, bool)
    void[:4] = True
    mask = divide(MASK, SMALLER, void)
    assert ((mask.labels == VOID) == void).all() and mask.num_void == 0


def test_pixels_that_only_a_corner_connects_go_along():
    regions = np.zeros((30, 40), np.int32)
    regions[5:20, 5:35] = 1
    regions[20, 35] = regions[21, 36] = 1
    found = np.zeros_like(regions)
    found[6:19, 6:18], found[6:19, 22:34] = 1, 2
    mask = divide(regions, found)
    assert mask.labels[21, 36] == mask.labels[20, 35] == mask.labels[10, 30] != 0


def test_an_empty_mask_stays_empty():
    mask = divide(np.zeros((20, 30), np.int32), SMALLER[:20, :30])
    assert not mask.labels.any() and mask[1:] == (0, 0, 0)


def test_more_nuclei_than_void_leaves_room_for_are_refused(monkeypatch):
    monkeypatch.setattr(divided_mask, "MAX_NUCLEI", 31)
    with pytest.raises(
        ValueError, match="32 nuclei, more than the 31 .* cut the image into smaller ones$"
    ):
        divide(MASK, SMALLER)
    monkeypatch.setattr(divided_mask, "MAX_NUCLEI", 32)
    assert divide(MASK, SMALLER).num_nuclei == 32


@pytest.mark.parametrize(
    ("nuclei", "void", "is_sure"),
    [
        (PAIRS, PAIRS < 0, True),
        (PAIRS, PAIRS == 7, True),
        (
            np.where((PAIRS > 0) & (PAIRS < 3), 3 - PAIRS, 0),
            PAIRS == 7,
            True,
        ),  # ids not in the order of the rows
        (np.where(PAIRS == 1, 1, 0), PAIRS == 7, True),
        (np.where(PAIRS == 1, 1, 0), PAIRS < 0, True),
        (np.zeros_like(PAIRS), PAIRS == 7, False),  # VOID would be the only nucleus
        (np.where((SMALLER == 1), 1, 0), PAIRS > 1, False),  # too little beside it
        (PAIRS + 40_000 * (PAIRS > 0), PAIRS == 7, False),  # VOID would be one id of many
    ],
)
def test_labels_are_written_where_they_are_read_as_they_are_meant(nuclei, void, is_sure):
    labels = np.where(void, VOID, nuclei)
    assert is_read_back(labels.astype(np.int32)) == is_sure
