"""Scores of a prediction against its ground truth: by pixels and by nuclei, with intervals.

    sums = [tally(match(truth, predicted)) for truth, predicted in pairs]  # one dict per image
    summary = summarise(sums)
    summary["pooled"]["ap_50"]  # {"value": 0.71, "low": 0.66, "high": 0.75}

`tally` reduces an image to sums. Sums of several images may be added, and `score` computes every
score from them. DEFINITIONS says in words what each score means.
"""

import numpy as np

from nuclei.instances.matching import (
    IOU_THRESHOLDS,
    average_precision,
    count_matches,
    matched_pairs,
    merges_and_splits,
    one_to_one,
)

NUM_RESAMPLES = 1000  # bootstrap samples: each end of a 95 % interval then rests on 25 samples
SEED = 0  # random seed of the bootstrap: a repeated evaluation prints the same intervals
NO_GROUP = "(no group)"  # name of the group of images that belong to none
COUNTS = ("num_truth", "num_predicted", "merges", "splits", "misses", "extras")
LEVELS = tuple(f"{threshold * 100:.0f}" for threshold in IOU_THRESHOLDS)  # "50", "55" … "95"
DEFINITIONS = {
    "pooled": "computed from the sums over all images, as if they were one large image",
    "mean_of_images": "computed for each image, then averaged; an image where the score is "
    "undefined is left out",
    "low, high": "95 % percentile bootstrap over images, "
    f"{NUM_RESAMPLES} samples, seed {SEED} (Efron 1979)",
    "dice": "2|A∩B| / (|A|+|B|) over nucleus pixels (Dice 1945); 1 where both are empty",
    "iou": "|A∩B| / |A∪B| over nucleus pixels (Jaccard 1901); 1 where both are empty",
    "pixel_accuracy": "share of pixels on which truth and prediction agree about nucleus or "
    "background",
    "background_accuracy": "the pixel accuracy of a prediction that is all background: the "
    "baseline of pixel_accuracy",
    "ap_50 … ap_95": "TP/(TP+FP+FN), TP = one-to-one pairs with IoU >= 0.50 … 0.95, as in "
    "stardist.matching; 1 where there is no nucleus in either",
    "mean_ap": "mean of ap_50 … ap_95; its mean_of_images is the score of Kaggle's Data Science "
    "Bowl 2018",
    "f1, f1_70": "2TP/(2TP+FP+FN) at IoU 0.5 and at 0.7 (Caicedo et al. 2019); 1 where there is "
    "no nucleus in either",
    "precision": "TP/(TP+FP) at IoU 0.5; undefined where nothing is predicted",
    "recall": "TP/(TP+FN) at IoU 0.5; undefined where the truth is empty",
    "aji": "aggregated Jaccard index (Kumar et al. 2017): each truth nucleus with its best-IoU "
    "prediction, which may be used again; sum of intersections / (sum of unions + area of unused "
    "predictions); 1 where both are empty",
    "aji_plus": "AJI with one-to-one pairs of largest total IoU (Graham et al. 2019); 1 where "
    "both are empty",
    "pq": "panoptic quality DQ x SQ = sum of the IoU of the TP / (TP+FP/2+FN/2) at IoU 0.5 "
    "(Kirillov et al. 2019); 1 where there is no nucleus in either",
    "dq": "detection quality TP/(TP+FP/2+FN/2) at IoU 0.5, which is f1",
    "sq": "segmentation quality, mean IoU of the TP at IoU 0.5; undefined where there is none",
    "count_error": "predicted nuclei minus true nuclei",
    "count_error_absolute": "|count_error|; its mean_of_images is the mean absolute error",
    "count_error_relative": "count_error / true nuclei; undefined where the truth is empty",
    "merges": "predicted nuclei that hold more than half of each of two or more true nuclei "
    "(Matula et al. 2015)",
    "splits": "true nuclei that hold more than half of each of two or more predicted nuclei",
    "misses": "true nuclei with more than half of their pixels on predicted background",
    "extras": "predicted nuclei with more than half of their pixels on true background",
}


def jaccard_sums(matching, pairs):
    """Sum intersections and unions over chosen pairs. Unpaired nuclei count in the unions.

    Args:
        matching: Matching.
        pairs: indices of pairs; each truth nucleus is in one of them at most.

    Returns:
        Two ints, in pixels: their quotient is AJI for best-IoU pairs, AJI+ for one-to-one pairs.
    """
    shared = matching.intersections[pairs].sum()
    partners = matching.predicted_ids[pairs]
    predicted = matching.predicted_areas[partners].sum()
    unused = (
        matching.predicted_areas[1:].sum() - matching.predicted_areas[np.unique(partners)].sum()
    )
    return shared, matching.truth_areas[1:].sum() + predicted - shared + unused


def tally(matching):
    """Reduce one image to sums. They may be added over images; `score` needs nothing else.

    Args:
        matching: Matching of the image.

    Returns:
        dict of numbers: pixels, nuclei, true positives at each IoU, sums of IoU and of areas, and
        the mistakes of separation.
    """
    by_truth = np.lexsort((-matching.iou, matching.truth_ids))
    best = by_truth[np.unique(matching.truth_ids[by_truth], return_index=True)[1]]
    aji_shared, aji_union = jaccard_sums(matching, best)
    aji_plus_shared, aji_plus_union = jaccard_sums(matching, one_to_one(matching, matching.iou))
    merges, splits, misses, extras = merges_and_splits(matching)
    return {
        "num_pixels": matching.truth_areas.sum(),
        "truth_px": matching.truth_areas[1:].sum(),
        "predicted_px": matching.predicted_areas[1:].sum(),
        "shared_px": matching.intersections.sum(),
        "num_truth": matching.num_truth,
        "num_predicted": matching.num_predicted,
        **{
            f"tp_{level}": row[0]
            for level, row in zip(LEVELS, count_matches(matching), strict=True)
        },
        "tp_iou": matching.iou[matched_pairs(matching, 0.5)].sum(),
        "aji_shared": aji_shared,
        "aji_union": aji_union,
        "aji_plus_shared": aji_plus_shared,
        "aji_plus_union": aji_plus_union,
        "merges": merges,
        "splits": splits,
        "misses": misses,
        "extras": extras,
    }


def ratio(numerator, denominator, empty):
    """Divide array by array; `empty` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, float), np.asarray(denominator, float)
    )
    values = np.full(denominator.shape, float(empty))
    return np.divide(numerator, denominator, out=values, where=denominator > 0)


def score(sums):
    """Compute all scores from sums: of single images, of a whole folder, or of bootstrap samples.

    An image that is empty in truth and prediction is a correct answer and scores 1. Precision,
    recall, SQ and the relative count error are undefined there.

    Args:
        sums: dict of equal-length arrays, as `tally` names them.

    Returns:
        dict of float64 arrays of that length; NaN where a score is undefined.

    References:
        Caicedo et al. 2019, https://doi.org/10.1038/s41592-019-0612-7 (AP, mean AP and F1 on the
        Data Science Bowl 2018); Schmidt et al. 2018, https://arxiv.org/abs/1806.03535 (AP as in
        StarDist); Kumar et al. 2017, https://doi.org/10.1109/TMI.2017.2677499 (AJI); Graham et al.
        2019, https://doi.org/10.1016/j.media.2019.101563 (AJI+, in the metrics of hover_net);
        Kirillov et al. 2019, https://arxiv.org/abs/1801.00868 (PQ, DQ, SQ).
    """
    num_truth = np.asarray(sums["num_truth"], float)
    num_predicted = np.asarray(sums["num_predicted"], float)
    tp = {level: np.asarray(sums[f"tp_{level}"], float) for level in LEVELS}
    precisions = {}
    for level, hits in tp.items():
        counts = np.stack([hits, num_predicted - hits, num_truth - hits], axis=-1)
        precisions[f"ap_{level}"] = average_precision(counts)
    nucleus_px = sums["truth_px"] + sums["predicted_px"]  # pixels of both count twice
    return {
        "dice": ratio(2 * sums["shared_px"], nucleus_px, 1),
        "iou": ratio(sums["shared_px"], nucleus_px - sums["shared_px"], 1),
        "pixel_accuracy": ratio(
            sums["num_pixels"] - nucleus_px + 2 * sums["shared_px"], sums["num_pixels"], 1
        ),
        "background_accuracy": ratio(sums["num_pixels"] - sums["truth_px"], sums["num_pixels"], 1),
        **precisions,
        "mean_ap": np.mean(list(precisions.values()), axis=0),
        "f1": ratio(2 * tp["50"], num_truth + num_predicted, 1),
        "f1_70": ratio(2 * tp["70"], num_truth + num_predicted, 1),
        "precision": ratio(tp["50"], num_predicted, np.nan),
        "recall": ratio(tp["50"], num_truth, np.nan),
        "aji": ratio(sums["aji_shared"], sums["aji_union"], 1),
        "aji_plus": ratio(sums["aji_plus_shared"], sums["aji_plus_union"], 1),
        "pq": ratio(2 * sums["tp_iou"], num_truth + num_predicted, 1),
        "dq": ratio(2 * tp["50"], num_truth + num_predicted, 1),
        "sq": ratio(sums["tp_iou"], tp["50"], np.nan),
        "count_error": num_predicted - num_truth,
        "count_error_absolute": np.abs(num_predicted - num_truth),
        "count_error_relative": ratio(num_predicted - num_truth, num_truth, np.nan),
    }


def as_columns(sums):
    """Turn a list of dicts of numbers into a dict of float64 arrays."""
    return {name: np.array([row[name] for row in sums], float) for name in sums[0]}


def summarise(sums):
    """Score a set of images, pooled and as the mean of images, with 95 % intervals.

    The bootstrap draws whole images, because nuclei of one image succeed and fail together (Efron
    1979, https://doi.org/10.1214/aos/1176344552). A single image has no interval.

    Args:
        sums: list of dicts as `tally` gives them, one per image, at least one.

    Returns:
        dict: the counts, and `pooled` and `mean_of_images`, each a dict of score name →
        {"value", "low", "high"}, floats or NaN.
    """
    num_images = len(sums)
    columns = as_columns(sums)
    images = score(columns)
    # One row of weights per sample: how often each image was drawn. The first row is the whole set.
    share = np.full(num_images, 1 / num_images)
    draws = np.random.default_rng(SEED).multinomial(num_images, share, NUM_RESAMPLES)
    weights = np.concatenate([np.ones((1, num_images)), draws])
    pooled = score({name: weights @ column for name, column in columns.items()})
    means = {}
    for name, values in images.items():
        defined = np.isfinite(values)
        means[name] = ratio(weights @ np.where(defined, values, 0), weights @ defined, np.nan)

    def with_interval(samples):
        drawn = samples[1:][np.isfinite(samples[1:])]
        has_interval = num_images > 1 and len(drawn)
        low, high = np.percentile(drawn, [2.5, 97.5]) if has_interval else (np.nan, np.nan)
        return {"value": samples[0], "low": low, "high": high}

    return {
        "num_images": num_images,
        **{name: int(columns[name].sum()) for name in COUNTS},
        "pooled": {name: with_interval(samples) for name, samples in pooled.items()},
        "mean_of_images": {name: with_interval(samples) for name, samples in means.items()},
    }


def image_rows(sums, groups):
    """Make one row of scores per image: the lowest mean AP first, ties by Dice.

    Args:
        sums: dict of stem → sums as `tally` gives them.
        groups: dict of stem → name of its group; images that are not in it get NO_GROUP.

    Returns:
        list of dicts with `stem`, `group`, the counts and all scores.
    """
    scores = score(as_columns(list(sums.values())))
    rows = []
    for index, (stem, row) in enumerate(sums.items()):
        counts = {name: int(row[name]) for name in COUNTS}
        values = {name: float(column[index]) for name, column in scores.items()}
        rows.append({"stem": stem, "group": groups.get(stem, NO_GROUP), **counts, **values})
    return sorted(rows, key=lambda row: (row["mean_ap"], row["dice"], row["stem"]))
