"""nuclei.instances.matching"""

from typing import NamedTuple

import numpy as np

# 0.50, 0.55 … 0.95, the levels of the Data Science Bowl 2018. Divided rather than stepped, so that each is the float
# that its decimal reads as: a pair whose IoU is 3/5 then counts at 0.60.
IOU_THRESHOLDS = tuple(k / 20 for k in range(10, 20))


class Matching(NamedTuple):
    """Which nuclei of two label images overlap, and how far: all that any object or pixel score needs.

    Ids are the values in the label images. Pairs are sorted by truth id, then by predicted id.
    """

    truth_areas: np.ndarray  # (n + 1,) int64, pixels of each truth id; entry 0 is the background
    predicted_areas: np.ndarray  # (m + 1,) int64, the same for the prediction
    truth_ids: np.ndarray  # (pairs,) int64, the truth nucleus of each overlapping pair
    predicted_ids: np.ndarray  # (pairs,) int64, the predicted nucleus of each overlapping pair
    intersections: np.ndarray  # (pairs,) int64, pixels in common, 1 or more
    iou: np.ndarray  # (pairs,) float64 in (0, 1], intersection over union

    @property
    def num_truth(self):
        """Number of truth nuclei. Ids that no pixel carries do not count."""
        return int(np.count_nonzero(self.truth_areas[1:]))

    @property
    def num_predicted(self):
        """Number of predicted nuclei. Ids that no pixel carries do not count."""
        return int(np.count_nonzero(self.predicted_areas[1:]))


def match(truth, predicted):
    """Find every overlapping pair of nuclei, in one pass over the pixels.

    Args:
        truth: (H, W) integer label image, 0 = background.
        predicted: (H, W) integer label image of the same size.

    Returns:
        Matching. Counts at any IoU follow from it without looking at the pixels again.

    Raises:
        ValueError: sizes that differ, values that are no integers, or negative ones.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"The truth is {truth.shape} and the prediction {predicted.shape}: expected equal shapes.")
    for name, labels in (("truth", truth), ("prediction", predicted)):
        if labels.dtype.kind not in "iub":
            raise ValueError(f"The {name} holds {labels.dtype}: expected integer labels, 0 for background.")
        if labels.size and labels.min() < 0:
            raise ValueError(f"The {name} holds the label {labels.min()}: expected 0 for background and 1…n.")
    truth, predicted = truth.ravel().astype(np.int64), predicted.ravel().astype(np.int64)
    truth_areas, predicted_areas = np.bincount(truth, minlength=1), np.bincount(predicted, minlength=1)
    # Only the pairs that occur, not the n × m table: 5,000 × 5,000 nuclei would be 200 MB of zeros.
    both = (truth > 0) & (predicted > 0)
    pairs, intersections = np.unique(truth[both] * len(predicted_areas) + predicted[both], return_counts=True)
    truth_ids, predicted_ids = np.divmod(pairs, len(predicted_areas))
    iou = intersections / (truth_areas[truth_ids] + predicted_areas[predicted_ids] - intersections)
    return Matching(truth_areas, predicted_areas, truth_ids, predicted_ids, intersections, iou)


def one_to_one(matching, weights):
    """Choose pairs so that no nucleus is used twice and the sum of their weights is the largest possible.

    The linear assignment of `scipy.optimize.linear_sum_assignment`, on the overlapping pairs only (all other pairs
    weigh nothing), which takes milliseconds where the full matrix of 5,000 × 5,000 nuclei takes seconds.

    Args:
        matching: Matching.
        weights: (pairs,) float, positive.

    Returns:
        (chosen,) int64 indices of pairs, ascending.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    num_pairs = len(weights)
    if num_pairs == 0:
        return np.zeros(0, np.int64)
    rows = np.unique(matching.truth_ids, return_inverse=True)[1]
    columns = np.unique(matching.predicted_ids, return_inverse=True)[1]
    num_rows, num_columns = rows.max() + 1, columns.max() + 1
    # Every row gets a column of its own that stands for "unmatched", since SciPy wants all rows assigned. Each row
    # then takes exactly one entry, so that adding 1 to all of them (SciPy drops zeros) changes no choice.
    own = np.arange(num_rows)
    table = csr_array(
        (
            np.concatenate([np.asarray(weights, float) + 1, np.ones(num_rows)]),
            (np.concatenate([rows, own]), np.concatenate([columns, num_columns + own])),
        ),
        shape=(num_rows, num_columns + num_rows),
    )
    taken = min_weight_full_bipartite_matching(table, maximize=True)[1]
    return np.flatnonzero(taken[rows] == columns)


def matched_pairs(matching, threshold=0.5):
    """Choose the true positives at one IoU threshold: one-to-one pairs with IoU ≥ `threshold`.

    As in `stardist.matching.matching` (Schmidt et al. 2018, https://github.com/stardist/stardist): as many pairs as
    possible, ties broken by the larger sum of IoU. Kaggle's DSB2018 rule and Kirillov's PQ say IoU > threshold; the
    two differ only where an IoU equals the threshold to the last bit.

    Args:
        matching: Matching.
        threshold: float in (0, 1].

    Returns:
        (tp,) int64 indices into the pairs of `matching`, ascending.

    Raises:
        ValueError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"IoU threshold {threshold}: expected a number above 0 and up to 1.")
    above = np.flatnonzero(matching.iou >= threshold)
    ids = matching.truth_ids[above], matching.predicted_ids[above]
    if all(len(np.unique(one_side)) == len(above) for one_side in ids):
        return above  # always so above IoU 0.5: two nuclei cannot both share more than half with a third
    num_most = min(matching.num_truth, matching.num_predicted)
    chosen = one_to_one(matching, (matching.iou >= threshold) + matching.iou / (2 * num_most))
    return chosen[matching.iou[chosen] >= threshold]


def count_matches(matching, thresholds=IOU_THRESHOLDS):
    """Count true positives, false positives and false negatives at several IoU thresholds.

    Counts of several images may be added to pool them.

    Args:
        matching: Matching.
        thresholds: floats in (0, 1].

    Returns:
        (thresholds, 3) int64: tp, fp, fn.
    """
    tp = np.array([len(matched_pairs(matching, threshold)) for threshold in thresholds], np.int64)
    return np.stack([tp, matching.num_predicted - tp, matching.num_truth - tp], axis=-1)


def average_precision(counts):
    """TP / (TP + FP + FN), which StarDist, Cellpose and Kaggle's DSB2018 call average precision at an IoU threshold.

    It is the Jaccard index of objects, not the area under a precision-recall curve that COCO means by the name.
    For `counts = [count_matches(matching) for matching in matchings]`:

        average_precision(np.mean(counts, axis=0))      # pooled over images, one value per threshold
        average_precision(counts).mean()                # Kaggle's score: thresholds first, then images

    Args:
        counts: (…, 3) numbers: tp, fp, fn.

    Returns:
        (…) float64 in [0, 1]. Nothing there and nothing found is right, so 1 (StarDist says 0 there).
    """
    counts = np.asarray(counts, float)
    total = counts.sum(axis=-1)
    return np.divide(counts[..., 0], total, out=np.ones_like(total), where=total > 0)


def merges_and_splits(matching):
    """Count the mistakes of separation: nuclei run together, torn apart, missed, made up.

    A nucleus lies in another when more than half of its pixels do, the detection test of Matula et al. 2015 (Cell
    Tracking Accuracy Measurement, https://doi.org/10.1371/journal.pone.0144959), who count merged nuclei by it.
    Unlike a low IoU bound (Caicedo et al. 2019 use 0.1) it also sees a clump of twenty nuclei, each with a small IoU.

    Returns:
        Four ints: merges (predicted nuclei in which two or more truth nuclei lie), splits (truth nuclei in which two
        or more predicted ones lie), misses (truth nuclei of which more than half was left as background), extras
        (predicted nuclei more than half of which lie on background).
    """
    truth_ids, predicted_ids, shared = matching.truth_ids, matching.predicted_ids, matching.intersections
    truth_inside = 2 * shared > matching.truth_areas[truth_ids]
    predicted_inside = 2 * shared > matching.predicted_areas[predicted_ids]
    merges = np.count_nonzero(np.bincount(predicted_ids[truth_inside]) > 1)
    splits = np.count_nonzero(np.bincount(truth_ids[predicted_inside]) > 1)
    truth_covered = np.bincount(truth_ids, shared, minlength=len(matching.truth_areas))
    predicted_covered = np.bincount(predicted_ids, shared, minlength=len(matching.predicted_areas))
    misses = np.count_nonzero((2 * truth_covered < matching.truth_areas)[1:])
    extras = np.count_nonzero((2 * predicted_covered < matching.predicted_areas)[1:])
    return merges, splits, misses, extras
