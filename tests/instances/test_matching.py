"""Comparing two label images: true positives at every IoU, merges, splits, average precision."""

import re
import tracemalloc
import warnings

import numpy as np
import pytest
from matching_tools import dense_iou, random_pair
from scipy.optimize import linear_sum_assignment

from nuclei.instances.matching import (
    IOU_THRESHOLDS,
    average_precision,
    count_matches,
    match,
    matched_pairs,
    merges_and_splits,
    one_to_one,
)
from nuclei.scores import summarise, tally

MANY_THRESHOLDS = (1e-9, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.4, *IOU_THRESHOLDS, 1.0)


@pytest.mark.parametrize(
    ("truth", "predicted", "threshold", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1], 1.0, (1, 0, 0)),
        (
            [1, 1, 1, 1],
            [5, 5, 5, 0],
            0.75,
            (1, 0, 0),
        ),  # IoU 3/4 counts at 0.75: the bound belongs to the match
        ([1, 1, 1, 1], [5, 5, 5, 0], 0.8, (0, 1, 1)),
        (
            [1, 1, 1, 1, 1],
            [2, 2, 2, 0, 0],
            0.6,
            (1, 0, 0),
        ),  # 3/5 counts at the float that 0.60 reads as
        (
            [1, 1, 1, 1],
            [1, 1, 2, 2],
            0.5,
            (1, 1, 0),
        ),  # two halves with IoU 0.5 each: one of them only
        ([1, 1, 2, 2], [1, 1, 1, 1], 0.5, (1, 0, 1)),
        (
            [1, 1, 1, 2, 2, 2],
            [3, 3, 4, 4, 3, 3],
            0.2,
            (2, 0, 0),
        ),  # the best pair first would leave only one
        ([0, 0, 0, 0], [1, 1, 0, 0], 0.5, (0, 1, 0)),
        ([1, 0, 2, 0], [0, 0, 0, 0], 0.5, (0, 0, 2)),
        ([0, 0], [0, 0], 0.5, (0, 0, 0)),
    ],
)
def test_counts_of_cases_done_by_hand(truth, predicted, threshold, expected):
    matching = match(np.array([truth]), np.array([predicted]))
    assert tuple(count_matches(matching, [threshold])[0]) == expected
    assert matched_pairs(matching).tolist() == matched_pairs(matching, 0.5).tolist()


def test_counts_equal_the_full_assignment_at_every_threshold():
    """Against the definition of stardist.matching, written out with the dense table."""
    rng = np.random.default_rng(3)
    for _ in range(25):
        truth, predicted = random_pair(rng)
        matching = match(truth, predicted)
        iou = dense_iou(truth, predicted)[2]
        assert (matching.num_truth, matching.num_predicted) == iou.shape
        assert matching.iou.sum() == pytest.approx(iou.sum())
        counts = count_matches(matching, MANY_THRESHOLDS)
        for threshold, (tp, fp, fn) in zip(MANY_THRESHOLDS, counts, strict=True):
            above = iou >= threshold
            chosen = linear_sum_assignment(
                -above.astype(float) - iou / (2 * max(1, min(iou.shape)))
            )
            assert (tp, fp, fn) == (above[chosen].sum(), iou.shape[1] - tp, iou.shape[0] - tp)
            pairs = matched_pairs(matching, threshold)
            assert matching.iou[pairs].sum() == pytest.approx((iou * above)[chosen].sum())
            for ids in (matching.truth_ids[pairs], matching.predicted_ids[pairs]):
                assert len(set(ids)) == len(ids)


def test_counts_agree_with_stardist():
    """The package itself, where it is installed: it is no dependency of this project."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stardist = pytest.importorskip(
            "stardist.matching", reason="stardist is not installed: comparison left out"
        )
    rng = np.random.default_rng(4)
    pairs = [random_pair(rng) for _ in range(100)]
    counts = []
    for truth, predicted in pairs:
        matching = match(truth, predicted)
        theirs = stardist.matching(truth, predicted, thresh=MANY_THRESHOLDS)
        ours = count_matches(matching, MANY_THRESHOLDS)
        assert [(row.tp, row.fp, row.fn) for row in theirs] == [tuple(row) for row in ours]
        for row in theirs:
            shared = matching.iou[matched_pairs(matching, row.thresh)].sum()
            assert shared == pytest.approx(row.mean_matched_score * row.tp)
        counts.append(count_matches(matching))
    pooled = stardist.matching_dataset(
        *zip(*pairs, strict=True), thresh=IOU_THRESHOLDS, show_progress=False
    )
    assert average_precision(np.sum(counts, axis=0)) == pytest.approx(
        [row.accuracy for row in pooled]
    )
    ours = summarise([tally(match(*pair)) for pair in pairs])["pooled"]
    for name, theirs in (
        ("precision", "precision"),
        ("recall", "recall"),
        ("f1", "f1"),
        ("pq", "panoptic_quality"),
    ):
        assert ours[name]["value"] == pytest.approx(getattr(pooled[0], theirs))


def test_one_to_one_weighs_as_much_as_the_full_assignment():
    rng = np.random.default_rng(5)
    for _ in range(40):
        matching = match(*random_pair(rng))
        weights = rng.uniform(0.01, 1, len(matching.iou))
        table = np.zeros((len(matching.truth_areas), len(matching.predicted_areas)))
        table[matching.truth_ids, matching.predicted_ids] = weights
        best = table[linear_sum_assignment(table, maximize=True)].sum()
        assert weights[one_to_one(matching, weights)].sum() == pytest.approx(best)


def test_names_of_labels_do_not_matter_and_sides_can_be_exchanged():
    rng = np.random.default_rng(6)
    for _ in range(8):
        truth, predicted = random_pair(rng)
        counts = count_matches(match(truth, predicted), MANY_THRESHOLDS)
        renamed = np.concatenate([[0], 3 + 2 * rng.permutation(predicted.max() + 1)])[
            predicted
        ]  # with gaps
        assert (
            count_matches(match(truth, renamed.astype(np.uint16)), MANY_THRESHOLDS) == counts
        ).all()
        assert (
            count_matches(match(predicted, truth), MANY_THRESHOLDS) == counts[:, [0, 2, 1]]
        ).all()
        assert merges_and_splits(match(truth, predicted)) == tuple(
            np.array(merges_and_splits(match(predicted, truth)))[[1, 0, 3, 2]]
        )


def test_merges_splits_misses_and_extras():
    row = np.zeros((4, 60), np.int32)
    truth, predicted = row.copy(), row.copy()
    for label in range(12):
        truth[:, 2 * label : 2 * label + 2] = label + 1
    predicted[:, :24] = 1  # a clump of twelve, none of which has an IoU above 1/12
    truth[:, 30:40] = 13
    predicted[:, 30:35], predicted[:, 35:40] = 2, 3  # torn in two
    truth[:, 42:46] = 14  # missed
    predicted[:, 50:55] = 4  # made up
    truth[:, 56:60], predicted[:, 57:60] = 15, 5  # right
    assert merges_and_splits(match(truth, predicted)) == (1, 1, 1, 1)
    assert merges_and_splits(match(truth, truth)) == (0, 0, 0, 0)


def test_average_precision_of_empty_images_is_one():
    assert average_precision([0, 0, 0]) == 1
    assert average_precision([[1, 1, 2], [0, 1, 0]]).tolist() == [0.25, 0]
    assert average_precision([0.2, 0.3, 0]) == pytest.approx(0.4)  # means of images


def test_memory_follows_the_pairs_that_occur():
    rows, columns = np.indices((576, 576)) // 8
    truth = (rows * 72 + columns + 1).astype(np.int32)
    predicted = np.roll(truth, (1, 2), axis=(0, 1))
    tracemalloc.start()
    sums = tally(match(truth, predicted))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums["num_truth"] == 72 * 72
    assert peak_bytes < 72**4 * 8 / 3  # a third of the full table of 5,184 x 5,184 pairs


def test_pixels_of_void_do_not_count_nor_do_predictions_that_lie_in_it():
    rng, num_dropped = np.random.default_rng(7), 0
    for _ in range(60):
        truth, predicted = rng.integers(0, 4, (2, 4, 5))
        void, kept = rng.random((4, 5)) < 0.5, predicted.copy()
        for label in np.unique(predicted):
            pixels = predicted == label
            known = pixels & ~void
            in_void = known.sum() < pixels.sum() / 2  # more than half of it
            is_hit = (truth[known] > 0).sum() > known.sum() / 2
            if in_void and not is_hit:
                kept[pixels] = 0
                num_dropped += label > 0
        came, expected = match(truth, predicted, void), match(truth * ~void, kept * ~void)
        assert len(came.predicted_areas) == predicted.max() + 1
        for ours, theirs in zip(came[:2], expected[:2], strict=True):  # areas; void is nothing
            assert np.trim_zeros(ours[1:], "b").tolist() == np.trim_zeros(theirs[1:], "b").tolist()
        assert [part.tolist() for part in came[2:]] == [part.tolist() for part in expected[2:]]
    assert num_dropped > 10


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64])
def test_labels_of_any_integer_type_are_compared(dtype):
    labels = np.array([[0, 1], [1, 0]], dtype)
    assert count_matches(match(labels, labels)).tolist() == [[1, 0, 0]] * 10
    nothing = np.zeros((0, 3), dtype)
    for void in (None, nothing > 0):
        matching = match(nothing, nothing, void)
        assert count_matches(matching).tolist() == [[0, 0, 0]] * 10
        assert [areas.tolist() for areas in matching[:2]] == [[0], [0]]
    large = np.array([[60_000, 60_000, 0]], np.uint16)  # ids times ids fit into no uint16
    assert count_matches(match(large, large), [1.0]).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (
            np.zeros((2, 2), int),
            np.zeros((2, 3), int),
            "The truth is (2, 2) and the prediction (2, 3): expected equal shapes.",
        ),
        (
            np.zeros((2, 2), int),
            np.zeros((2, 2), np.float32),
            "The prediction holds float32: expected integer labels, 0 for background.",
        ),
        (
            np.full((2, 2), -1),
            np.zeros((2, 2), int),
            "The truth holds the label -1: expected 0 for background and 1…n.",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, predicted, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        match(truth, predicted)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.1])
def test_thresholds_that_mean_nothing_are_refused(threshold):
    message = f"^IoU threshold {threshold}: expected a number above 0 and up to 1.$"
    with pytest.raises(ValueError, match=message):
        matched_pairs(match(np.ones((2, 2), int), np.ones((2, 2), int)), threshold)
