"""Nuclei as instances: from the network's maps to labelled nuclei, a table of them, and how well two labellings agree.

    labels = separate(maps, **thresholds)               # (H, W, K) float32 -> (H, W) int32
    table = measure(labels, image, maps)                # one row per nucleus

    matching = match(truth, predicted)                  # one pass over the pixels
    tp, fp, fn = count_matches(matching)[0]             # at IoU 0.50, the first of IOU_THRESHOLDS
    average_precision(count_matches(matching)).mean()   # this image's share of Kaggle's DSB2018 score

A label image is (H, W), integer, 0 = background, 1…n = nuclei.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage, optimize, special
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from skimage.measure import regionprops_table
from skimage.segmentation import watershed

# 0.50, 0.55 … 0.95, the levels of the Data Science Bowl 2018. Divided rather than stepped, so that each is the float
# that its decimal reads as: a pair whose IoU is 3/5 then counts at 0.60.
IOU_THRESHOLDS = tuple(k / 20 for k in range(10, 20))

# What `separate` needs, until a training run has chosen better ones on its validation images and stored them.
THRESHOLDS = {
    "nucleus_threshold": 0.5,  # probability above which a pixel belongs to a nucleus
    "marker_threshold": 0.5,  # normalised depth above which a connected patch is the heart of one nucleus
    "contact_weight": 0.5,  # of the contact map, taken off the depth map before markers are sought
    "smoothing_px": 1.0,  # sigma of the blur of the depth map: one heart, not several ripples
    "min_area_px": 20,  # smaller objects are dropped: none of 25,460 nuclei of BBBC038 is smaller
    "min_probability": 0.5,  # objects with a lower mean nucleus probability are dropped
}
SMALLEST_PX = 10  # area in the image's own pixels below which nothing is a nucleus, however large the network saw it
MIN_MARKER_PX = 3  # a smaller heart is a ripple of the depth map
RIDGE = 1e-2  # of the calibration: keeps the weights finite where every nucleus is right
EMPTY_SHARE = 1e-3  # of an image; less nucleus than that is none, however undecided
SEARCH = {  # what `choose_thresholds` tries, one after the other
    "marker_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "nucleus_threshold": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "contact_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "smoothing_px": (0.5, 1.0, 1.5, 2.0),
    "min_area_px": (10, 20, 30, 45, 70),
    "min_probability": (0.5, 0.6, 0.7, 0.75, 0.8),
}


# --- Separating touching nuclei -------------------------------------------------------------------------------------


def separate(
    maps,
    nucleus_threshold=THRESHOLDS["nucleus_threshold"],
    marker_threshold=THRESHOLDS["marker_threshold"],
    contact_weight=THRESHOLDS["contact_weight"],
    smoothing_px=THRESHOLDS["smoothing_px"],
    min_area_px=THRESHOLDS["min_area_px"],
    min_probability=THRESHOLDS["min_probability"],
    zoom=1.0,
):
    """Turn the network's maps into nuclei: hearts of the depth map, grown over the nucleus pixels by watershed.

    Args:
        maps: (H, W, K) float32 in [0, 1]; channel 0 is the nucleus probability, channel 1, where there is one, the
            normalised depth inside a nucleus, channel 2, where there is one, the probability of a contact between two.
            With channel 0 alone touching nuclei stay one.
        nucleus_threshold, marker_threshold, contact_weight, smoothing_px, min_area_px, min_probability: see THRESHOLDS.
        zoom: how many times larger the network saw the image: smoothing_px and min_area_px are in the pixels that it saw.

    Returns:
        (H, W) int32 labels, 0 background, 1…n without gaps.
    """
    smoothing_px, min_marker_px = smoothing_px / zoom, MIN_MARKER_PX / zoom**2
    min_area_px = max(min_area_px / zoom**2, min(min_area_px, SMALLEST_PX))
    nucleus = maps[..., 0]
    mask = nucleus > nucleus_threshold
    # Pinholes, and no more: a gap between nuclei that surround it is background.
    holes, num_holes = ndimage.label(~mask)
    if num_holes:
        small = np.bincount(holes.ravel(), minlength=num_holes + 1) < min_area_px
        small[0] = False
        mask |= small[holes]

    labels, num_components = ndimage.label(mask)
    if num_components and maps.shape[-1] > 1:
        depth = ndimage.gaussian_filter(maps[..., 1], smoothing_px) if smoothing_px else maps[..., 1]
        if maps.shape[-1] > 2 and contact_weight:
            depth = depth - np.float32(contact_weight) * maps[..., 2]
        hearts, num_hearts = ndimage.label(mask & (depth > marker_threshold))
        if num_hearts:
            ripple = np.bincount(hearts.ravel(), minlength=num_hearts + 1) < min_marker_px
            hearts[ripple[hearts]] = 0
        # A nucleus too small or too faint for a heart of its own is not lost: its whole component becomes one.
        has_heart = np.zeros(num_components + 1, bool)
        has_heart[labels[hearts > 0]] = True
        hearts = np.where(has_heart[labels], hearts, np.where(mask, labels + num_hearts, 0))
        labels = watershed(-depth, hearts, mask=mask)

    areas = np.bincount(labels.ravel())
    probabilities = np.bincount(labels.ravel(), nucleus.ravel(), minlength=len(areas)) / np.maximum(areas, 1)
    kept = (areas >= max(1, min_area_px)) & (probabilities >= min_probability)
    kept[0] = False
    new_ids = np.zeros(len(areas), np.int32)
    new_ids[kept] = np.arange(1, kept.sum() + 1)
    return new_ids[labels]


def median_diameter(labels):
    """Median diameter in px of the nuclei of (H, W) labels, each as a circle of its area; None without nuclei."""
    areas = np.bincount(labels.ravel())[1:]
    return float(np.median(np.sqrt(4 * areas[areas > 0] / np.pi))) if areas.any() else None


def choose_thresholds(maps, truths, zooms=None, start=None, search=None):
    """Search the thresholds of `separate` that fit a validation set best: one at a time, from THRESHOLDS on, two rounds.

    Best is the mean of two scores: pooled AP at IoU 0.5, and AP over IoU_THRESHOLDS averaged over images. The one
    counts every nucleus alike and forgives outlines, the other counts every image alike and does not.

    Args:
        maps: list of (H, W, K) float32.
        truths: list of (H, W) int32, in the same order.
        zooms: list of the zooms that the maps were made at; None for 1 throughout.
        start: thresholds to begin with; the default is THRESHOLDS.
        search: {name: values to try}; the default is SEARCH.

    Returns:
        (thresholds, score): the best dict, and its score in [0, 1].
    """

    images = list(zip(maps, truths, zooms or [1.0] * len(maps), strict=True))

    def score(thresholds):
        counts = [count_matches(match(truth, separate(m, zoom=zoom, **thresholds))) for m, truth, zoom in images]
        return (average_precision(np.sum(counts, axis=0)[0]) + average_precision(counts).mean()) / 2

    best = dict(THRESHOLDS if start is None else start)
    best_score, seen = score(best), {tuple(best.items())}
    for _ in range(2):
        before = dict(best)
        for name, values in (SEARCH if search is None else search).items():
            for value in values:
                candidate = {**best, name: value}
                if tuple(candidate.items()) in seen:
                    continue
                seen.add(tuple(candidate.items()))
                candidate_score = score(candidate)
                if candidate_score > best_score + 1e-9:
                    best, best_score = candidate, candidate_score
        if best == before:
            break
    return best, float(best_score)


# --- How sure: nuclei, and images ------------------------------------------------------------------------------------


def doubt_features(labels, maps, zoom=1.0):
    """What tells right nuclei from wrong ones, (n, 5) float64: logits of mean probability and of depth, size, a constant.

    Args:
        labels: (H, W) int32, 1…n.
        maps: (H, W, K) float32 in [0, 1], as for `separate`.
        zoom: as for `separate`.
    """
    n = int(labels.max())
    ids = np.arange(1, n + 1)
    areas = np.maximum(np.bincount(labels.ravel(), minlength=n + 1)[1:], 1)
    mean = np.bincount(labels.ravel(), maps[..., 0].ravel(), minlength=n + 1)[1:] / areas
    deepest = ndimage.maximum(maps[..., 1], labels, ids) if maps.shape[-1] > 1 and n else mean
    size = np.log(areas * zoom**2) / 2  # of the diameter that the network saw
    return np.stack(
        [special.logit(np.clip(mean, 0.01, 0.999)), special.logit(np.clip(deepest, 0.01, 0.99)), size, size**2, np.ones(n)], -1
    )


def calibrate(features, hits):
    """Weights with which `confidence` gives the share of such nuclei that are right: a logistic regression.

    Args:
        features: (n, 5) of `doubt_features`.
        hits: (n,) bool, whether a true nucleus overlaps with an IoU of 0.5 or more.

    Returns:
        A list of 5 floats.

    References:
        Platt 1999, "Probabilistic outputs for support vector machines".
    """

    def loss(weights):
        logits = features @ weights
        slope = features.T @ (special.expit(logits) - hits) + RIDGE * weights
        return np.sum(np.logaddexp(0, logits) - hits * logits) + RIDGE / 2 * weights @ weights, slope

    return [float(weight) for weight in optimize.minimize(loss, np.zeros(features.shape[1]), jac=True).x]


def confidence(features, weights):
    """Calibrated probability, (n,) in [0, 1], that a nucleus is a true one with an IoU of 0.5 or more."""
    return special.expit(features @ np.asarray(weights))


def image_doubt(maps):
    """How little the network is at home in an image: the undecided share of what it takes for nucleus, 0 to about 1.

    Undecided is a pixel by its distance to 0 or 1. An image without anything like a nucleus has none.
    """
    nucleus = maps[..., 0].astype(np.float64)
    return float(np.minimum(nucleus, 1 - nucleus).sum() / max(nucleus.sum(), EMPTY_SHARE * nucleus.size))


def expected_calibration_error(probabilities, hits, bins=10):
    """Mean distance between what is said and what is true, over bins of equal width weighted by what they hold.

    Args:
        probabilities: (n,) in [0, 1].
        hits: (n,) bool.

    Returns:
        (error, rows): rows of (nuclei, mean probability, share of hits) for each bin that holds any.

    References:
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    place = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    rows = [
        (int(np.sum(place == k)), float(probabilities[place == k].mean()), float(hits[place == k].mean()))
        for k in range(bins)
        if np.any(place == k)
    ]
    total = sum(number for number, _, _ in rows)
    return sum(number * abs(said - true) for number, said, true in rows) / max(1, total), rows


# --- Measuring nuclei -----------------------------------------------------------------------------------------------


def measure(labels, image, maps=None):
    """One row for each nucleus: where it is, its size and shape, how sure the network is, how bright it is.

    Args:
        labels: (H, W) int32, 0 background, 1…n.
        image: (H, W, 3) uint8 or uint16; intensities are means over R, G and B, in its grey levels.
        maps: (H, W, K) float32, for the mean nucleus probability; None leaves that column out.

    Returns:
        A dict of columns, each with n values: id, centroid_row_px, centroid_column_px, area_px, diameter_px (of the
        circle of equal area), major_axis_px, minor_axis_px, eccentricity (0 circle to 1 line), perimeter_px,
        circularity (4 pi area / perimeter squared; 1 circle), mean_probability, mean_intensity, mean_red, mean_green,
        mean_blue, touches_border (1 where a part may lie outside of the image).
    """
    height, width = labels.shape
    table = regionprops_table(
        labels,
        properties=("label", "area", "centroid", "bbox", "axis_major_length", "axis_minor_length", "eccentricity", "perimeter"),
    )
    ids, area = table["label"], table["area"]
    flat, size = labels.ravel(), int(labels.max()) + 1

    def mean_of(values):
        return np.bincount(flat, values.ravel(), minlength=size)[ids] / area

    colours = [mean_of(image[..., channel]) for channel in range(3)]
    touches = (table["bbox-0"] == 0) | (table["bbox-1"] == 0) | (table["bbox-2"] == height) | (table["bbox-3"] == width)
    perimeter = table["perimeter"]
    columns = {
        "id": ids,
        "centroid_row_px": table["centroid-0"].round(2),
        "centroid_column_px": table["centroid-1"].round(2),
        "area_px": area.astype(int),
        "diameter_px": np.sqrt(4 * area / np.pi).round(2),
        "major_axis_px": table["axis_major_length"].round(2),
        "minor_axis_px": table["axis_minor_length"].round(2),
        "eccentricity": table["eccentricity"].round(4),
        "perimeter_px": perimeter.round(2),
        # Digital perimeters of the smallest nuclei come out short, so that a few would pass 1: cut there.
        "circularity": np.minimum(4 * np.pi * area / np.maximum(perimeter, 1) ** 2, 1).round(4),
    }
    if maps is not None:
        columns["mean_probability"] = mean_of(maps[..., 0]).round(4)
    columns["mean_intensity"] = np.mean(colours, axis=0).round(2)
    for name, colour in zip(("mean_red", "mean_green", "mean_blue"), colours, strict=True):
        columns[name] = colour.round(2)
    columns["touches_border"] = touches.astype(int)
    return columns


# --- Comparing two labellings ---------------------------------------------------------------------------------------


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
