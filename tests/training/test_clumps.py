"""A region of a binary mask that may hold several nuclei does not teach how to separate them."""

import numpy as np
import pytest
from images_tools import discs
from training_samples import sample

from nuclei.images.labels import components
from nuclei.training.batches import CropPlan, draw_crop
from nuclei.training.clumps import find_clumps
from nuclei.training.samples import check_instances
from nuclei.training.targets import CONTACT_REACH_PX, UNKNOWN, targets
from nuclei.training.validation import validation_crops
from nuclei.training.void import known_targets
from unet import HEADS


def regions(distance):
    """Six single discs in two rows, and in the third row two discs that are so far apart."""
    labels = discs(96, 96, count=6, radius=8)
    y, x = np.mgrid[:96, :96]
    for column in (30, 30 + distance):
        labels[np.hypot(y - 84, x - column) < 8.5] = 7
    return components(labels > 0)


@pytest.mark.parametrize(("distance", "num_clumps"), [(0, 0), (15, 1), (17, 1), (30, 0)])
def test_what_is_not_convex_or_too_large_is_a_clump(distance, num_clumps):
    labels = regions(distance)
    is_clump = find_clumps(labels)
    assert is_clump.sum() == num_clumps and not is_clump[0]
    if num_clumps:
        assert is_clump[labels[84, 30]]


def test_a_large_round_region_among_small_ones_is_a_clump():
    y, x = np.mgrid[:96, :96]
    labels = regions(0)
    labels[np.hypot(y - 60, x - 60) < 30] = 1
    labels = components(labels > 0)
    assert find_clumps(labels)[labels[60, 60]]
    assert find_clumps(np.zeros((9, 9), np.int32)).tolist() == [False]


def test_clumps_teach_what_is_nucleus_and_single_regions_teach_all():
    labels = regions(14)
    clumps = find_clumps(labels)[labels]
    truth, whole = known_targets(labels, HEADS, clumps), targets(labels, HEADS)
    np.testing.assert_array_equal(truth[..., 0], whole[..., 0])
    assert (truth[clumps][:, 1:] == UNKNOWN).all()
    far = np.ones(labels.shape, bool)
    rows, columns = np.nonzero(clumps)
    reach = CONTACT_REACH_PX
    far[rows.min() - reach : rows.max() + reach + 1, columns.min() - reach :] = False
    np.testing.assert_array_equal(truth[far], whole[far])


def binary_sample(**changes):
    """A sample of a binary mask among label images."""
    labels = components(sample().labels > 0)
    one = sample(labels=labels, has_instances=False, **changes)
    check_instances({"a": one, "b": sample()}, {"a": "binary", "b": "instances"}, lambda line: None)
    return one


def test_clumps_reach_training_and_validation_crops_and_are_not_scored():
    one = binary_sample()
    assert one.is_clump.any() and not one.is_clump.all()
    np.testing.assert_array_equal(one.unscored, one.is_clump[one.labels])
    truths = [draw_crop(CropPlan([one], HEADS, 64, seed=1), step, 0)[1] for step in range(20)]
    unknown = np.array(truths) == UNKNOWN
    assert unknown[..., 1:].any() and not unknown[..., 0].any()
    assert (validation_crops([one], HEADS, 64)[1][..., 1:] == UNKNOWN).any()


def test_void_and_clumps_are_both_left_out_of_scores():
    void = np.zeros(sample().labels.shape, bool)
    void[:20] = True
    one = binary_sample(void=void)
    np.testing.assert_array_equal(one.unscored, void | one.is_clump[one.labels])
    assert sample().unscored is None and sample(void=void).unscored is void
