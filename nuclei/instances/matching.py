"""Which predicted nuclei are which true nuclei, and the counts that scores are made of.

    matching = match(truth, predicted)             # every overlapping pair, in one pass
    counts = count_matches(matching)               # (10, 3): tp, fp, fn at IoU 0.50, 0.55 ... 0.95
    average_precision(counts)                      # (10,)

The definitions are those of StarDist and of the Data Science Bowl 2018.
"""

from typing import NamedTuple

import numpy as np

# 0.50, 0.55 ... 0.95, the levels of the Data Science Bowl 2018. Divided instead of added up, so
# that each is the float nearest to its decimal: a pair of IoU 3/5 then counts at 0.60.
IOU_THRESHOLDS = tuple(k / 20 for k in range(10, 20))


class Matching(NamedTuple):
    """Which nuclei of two label images overlap, and how much; enough for any object or pixel score.

    Ids are the values in the label images. Pairs are sorted by true id, then by predicted id.

    Attributes:
        truth_areas: (n + 1,) int64, pixels of each true id; entry 0 is the background.
        predicted_areas: (m + 1,) int64, the same for the prediction.
        truth_ids: (pairs,) int64, the true nucleus of each overlapping pair.
        predicted_ids: (pairs,) int64, the predicted nucleus of each overlapping pair.
        intersections: (pairs,) int64, pixels in common, 1 or more.
        iou: (pairs,) float64 in (0, 1], intersection over union.
    """

    truth_areas: np.ndarray
    predicted_areas: np.ndarray
    truth_ids: np.ndarray
    predicted_ids: np.ndarray
    intersections: np.ndarray
    iou: np.ndarray

    @property
    def num_truth(self):
        """Number of true nuclei. Ids without pixels do not count."""
        return int(np.count_nonzero(self.truth_areas[1:]))

    @property
    def num_predicted(self):
        """Number of predicted nuclei. Ids without pixels do not count."""
        return int(np.count_nonzero(self.predicted_areas[1:]))


def match(truth, predicted, void=None):
    """Find every overlapping pair of nuclei, in one pass over the pixels.

    Pixels of void do not count, nor do predicted nuclei that lie more than half in void (the rule
    of Kirillov et al. 2019 for panoptic quality), unless the rest of them lies on a true nucleus.

    Args:
        truth: (H, W) integer label image, 0 is background.
        predicted: (H, W) integer label image of the same size.
        void: (H, W) bool, pixels whose truth nobody knows; None for none.

    Returns:
        `Matching`. Counts at any IoU follow from it without another look at the pixels.

    Raises:
        ValueError: the sizes differ, or values are no integers or negative.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(
            f"The truth is {truth.shape} and the prediction {predicted.shape}: "
            "expected equal shapes."
        )
    for name, labels in (("truth", truth), ("prediction", predicted)):
        if labels.dtype.kind not in "iub":
            raise ValueError(
                f"The {name} holds {labels.dtype}: expected integer labels, 0 for background."
            )
        if labels.size and labels.min() < 0:
            raise ValueError(
                f"The {name} holds the label {labels.min()}: expected 0 for background and 1…n."
            )
    truth, predicted = truth.ravel().astype(np.int64), predicted.ravel().astype(np.int64)
    num_predicted = int(predicted.max(initial=0))
    if void is not None:
        truth, predicted = without_void(truth, predicted, np.asarray(void).ravel())
    truth_areas = np.bincount(truth, minlength=1)
    predicted_areas = np.bincount(predicted, minlength=num_predicted + 1)
    # Only pairs that occur: the whole table of 5,000 x 5,000 nuclei would be 200 MB of zeros.
    both = (truth > 0) & (predicted > 0)
    keys = truth[both] * len(predicted_areas) + predicted[both]
    pairs, intersections = np.unique(keys, return_counts=True)
    truth_ids, predicted_ids = np.divmod(pairs, len(predicted_areas))
    unions = truth_areas[truth_ids] + predicted_areas[predicted_ids] - intersections
    iou = intersections / unions
    return Matching(truth_areas, predicted_areas, truth_ids, predicted_ids, intersections, iou)


def without_void(truth, predicted, void):
    """The pixels outside of void, without predicted nuclei that lie in it; see `match`.

    Args:
        truth, predicted: (pixels,) int64 ids.
        void: (pixels,) bool.

    Returns:
        truth and predicted of the same pixels, fewer than before.
    """
    ids = np.arange(predicted.max(initial=0) + 1)
    areas = np.bincount(predicted, minlength=len(ids))
    hidden = np.bincount(predicted[void], minlength=len(ids))
    hits = np.bincount(predicted[~void & (truth > 0)], minlength=len(ids))
    ids[(2 * hidden > areas) & (2 * hits <= areas - hidden)] = 0
    return truth[~void], ids[predicted[~void]]


def one_to_one(matching, weights):
    """Choose pairs so that no nucleus is used twice and the sum of their weights is largest.

    This is the linear assignment of `scipy.optimize.linear_sum_assignment`, but on the overlapping
    pairs alone (all others have no weight), which is much faster than the full table.

    Args:
        matching: `Matching`.
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
    # SciPy assigns every row, so each row gets an extra column that means "unmatched". Each row
    # then takes exactly one entry, and adding 1 to all (SciPy drops zeros) changes no choice.
    unmatched = np.arange(num_rows)
    table = csr_array(
        (
            np.concatenate([np.asarray(weights, float) + 1, np.ones(num_rows)]),
            (
                np.concatenate([rows, unmatched]),
                np.concatenate([columns, num_columns + unmatched]),
            ),
        ),
        shape=(num_rows, num_columns + num_rows),
    )
    column_of_row = min_weight_full_bipartite_matching(table, maximize=True)[1]
    return np.flatnonzero(column_of_row[rows] == columns)


def matched_pairs(matching, threshold=0.5):
    """Choose the true positives at one IoU threshold: one-to-one pairs with IoU >= `threshold`.

    As in `stardist.matching.matching` (Schmidt et al. 2018, https://github.com/stardist/stardist):
    as many pairs as possible, and of equal numbers the larger sum of IoU. Kaggle's DSB2018 rule and
    Kirillov's PQ say IoU > threshold, which differs only where an IoU equals the threshold exactly.

    Args:
        matching: `Matching`.
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
        return above  # always so above IoU 0.5: two nuclei cannot share more than half with a third
    num_most = min(matching.num_truth, matching.num_predicted)
    chosen = one_to_one(matching, (matching.iou >= threshold) + matching.iou / (2 * num_most))
    return chosen[matching.iou[chosen] >= threshold]


def count_matches(matching, thresholds=IOU_THRESHOLDS):
    """Count true positives, false positives and false negatives at several IoU thresholds.

    Counts of several images may be added to pool them.

    Args:
        matching: `Matching`.
        thresholds: floats in (0, 1].

    Returns:
        (thresholds, 3) int64: tp, fp, fn.
    """
    tp = np.array([len(matched_pairs(matching, threshold)) for threshold in thresholds], np.int64)
    return np.stack([tp, matching.num_predicted - tp, matching.num_truth - tp], axis=-1)


def average_precision(counts):
    """Compute TP / (TP + FP + FN), average precision as StarDist, Cellpose and Kaggle define it.

    It is the Jaccard index of objects at an IoU threshold. COCO uses the same name for the area
    under a precision-recall curve. For `counts = [count_matches(m) for m in matchings]`:

        average_precision(np.mean(counts, axis=0))   # pooled over images, one for each threshold
        average_precision(counts).mean()             # Kaggle: mean of thresholds, then of images

    Args:
        counts: (..., 3) numbers: tp, fp, fn.

    Returns:
        (...) float64 in [0, 1]. Without any nucleus, true or predicted, it is 1 (0 in StarDist).
    """
    counts = np.asarray(counts, float)
    total = counts.sum(axis=-1)
    return np.divide(counts[..., 0], total, out=np.ones_like(total), where=total > 0)


def merges_and_splits(matching):
    """Count errors of separation: merged, split, missed and invented nuclei.

    A nucleus lies in another one if more than half of its pixels do, the detection test of Matula
    et al. 2015 (Cell Tracking Accuracy Measurement, https://doi.org/10.1371/journal.pone.0144959),
    who count merged nuclei by it. A low limit of IoU (Caicedo et al. 2019 use 0.1) would miss a
    clump of twenty nuclei, each with a small IoU.

    Args:
        matching: `Matching`.

    Returns:
        Four ints: merges (predicted nuclei in which two or more true nuclei lie), splits (true
        nuclei in which two or more predicted ones lie), misses (true nuclei of which more than half
        is predicted as background) and extras (predicted nuclei that lie more than half on
        background).
    """
    truth_ids, predicted_ids = matching.truth_ids, matching.predicted_ids
    shared = matching.intersections
    truth_inside = 2 * shared > matching.truth_areas[truth_ids]
    predicted_inside = 2 * shared > matching.predicted_areas[predicted_ids]
    merges = np.count_nonzero(np.bincount(predicted_ids[truth_inside]) > 1)
    splits = np.count_nonzero(np.bincount(truth_ids[predicted_inside]) > 1)
    truth_covered = np.bincount(truth_ids, shared, minlength=len(matching.truth_areas))
    predicted_covered = np.bincount(predicted_ids, shared, minlength=len(matching.predicted_areas))
    misses = np.count_nonzero((2 * truth_covered < matching.truth_areas)[1:])
    extras = np.count_nonzero((2 * predicted_covered < matching.predicted_areas)[1:])
    return merges, splits, misses, extras
