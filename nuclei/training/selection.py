"""nuclei.training.selection"""

import math

import numpy as np

from nuclei.images.intensity import normalise
from nuclei.images.resize import Resized
from nuclei.instances.confidence import (
    calibrate,
    confidence,
    confidence_features,
    expected_calibration_error,
    image_uncertainty,
)
from nuclei.instances.matching import average_precision, count_matches, match, matched_pairs
from nuclei.instances.separate import THRESHOLDS, separate
from nuclei.training.geometry import DIAMETER_PX, scale_to_diameter
from nuclei.training.targets import targets
from nuclei.training.thresholds import choose_thresholds

MAX_VALIDATION_CROPS = 256  # 0.3 GB; more make the epochs slower and the choice no better
MAX_SEARCH_PIXELS = 24_000_000  # of validation images in the search for thresholds: a minute or two of two cores
OUT_OF_DISTRIBUTION_SHARE = 0.05  # of the validation images may be called unlike the training data
MIN_SEARCH_NUCLEI = 200  # in the validation images; fewer, as those of a single image, choose what fits it and no other


def validation_crops(samples, heads, size):
    """Cut the validation images into unaugmented crops, at most MAX_VALIDATION_CROPS, evenly taken.

    They show their nuclei at the size that the training brings them to, as prediction does.

    Returns:
        (N, size, size, 3) and (N, size, size, len(heads)), float32.
    """
    places, scaled = [], []
    for index, sample in enumerate(samples):
        scaled.append(Resized(sample.image, scale_to_diameter(sample.diameter_px)))
        # A rest of less than half a crop is not worth one of its own.
        ys, xs = (range(0, max(1, length - size // 2), size) for length in scaled[-1].shape[:2])
        places += [(index, y, x) for y in ys for x in xs]
    if len(places) > MAX_VALIDATION_CROPS:
        places = [places[k] for k in np.linspace(0, len(places) - 1, MAX_VALIDATION_CROPS).round().astype(int)]
    images = np.empty((len(places), size, size, 3), np.float32)
    truths = np.empty((len(places), size, size, len(heads)), np.float32)
    for row, (index, y, x) in enumerate(places):
        sample, seen = samples[index], scaled[index]
        height, width = seen.shape[:2]
        y, x = max(0, min(y, height - size)), max(0, min(x, width - size))
        image = normalise(seen[y : y + size, x : x + size], sample.intensity_range)
        rows, columns = (
            ((np.arange(start, start + length) + 0.5) * step).astype(int)
            for start, length, step in zip((y, x), image.shape, seen.steps, strict=False)
        )
        truth = targets(sample.labels[np.ix_(rows, columns)], heads, sample.has_instances)
        fill = ((0, size - image.shape[0]), (0, size - image.shape[1]), (0, 0))
        images[row] = np.pad(image, fill, mode="reflect")
        truths[row] = np.pad(truth, fill, mode="reflect")
    return images, truths


def whole_batches(crops, batch_size, places):
    """Validation crops in whole batches, some shown twice to fill up, so that any number of devices can share each batch.

    Args:
        crops: images and truths, (N, size, size, channels) each.
        places: range of each batch that this process needs.

    Returns:
        The same, each with as many rows as there are places in the batches.
    """
    number = math.ceil(len(crops[0]) / batch_size) * batch_size
    if number == len(crops[0]) and len(places) == batch_size:
        return crops
    rows = np.linspace(0, len(crops[0]) - 1, number).round().astype(int)
    rows = rows.reshape(-1, batch_size)[:, places.start : places.stop].ravel()
    return tuple(part[rows] for part in crops)


def score_validation(model, samples, geometry, predict_maps, base=None):
    """Predict whole validation images as predict.py does, choose thresholds on them, score them.

    Args:
        base: thresholds, calibration and unlike of the model that the training began with, if any. They stay where the
            samples hold fewer than MIN_SEARCH_NUCLEI; without them, the thresholds are those of `separate`.

    Returns:
        (found, scores): `found` goes into the model's settings: thresholds, the calibration of a nucleus's confidence, and
        from which uncertainty on an image is called unlike the training data; `scores` has dice (mean over images), ap50
        (pooled) and map (Kaggle, mean over images) for all images and for each group.
    """

    def paint(sample):
        return predict_maps(
            model.predict_on_batch, sample.image, sample.intensity_range, model.output_shape[-1], DIAMETER_PX, **geometry
        )

    few = not is_enough(samples)
    kept = base if few and base else {}
    thresholds = kept.get("thresholds", dict(THRESHOLDS))
    painted = {}  # index: maps and scale, only of the images that the thresholds are chosen on: all might be too many to hold
    if not few:
        pixels = 0
        for k in [k for k, sample in enumerate(samples) if sample.has_instances] or range(len(samples)):
            pixels += samples[k].labels.size
            if pixels <= MAX_SEARCH_PIXELS or not painted:
                painted[k] = paint(samples[k])
        maps, scales = zip(*painted.values(), strict=True)
        thresholds, _ = choose_thresholds(maps, [samples[k].labels for k in painted], scales)
    counts, dices, features, hits, uncertainties, groups = [], [], [], [], [], [sample.group for sample in samples]
    for k, sample in enumerate(samples):
        maps, scale = painted.pop(k) if k in painted else paint(sample)
        labels, truth = separate(maps, scale=scale, **thresholds), sample.labels
        matching = match(truth, labels)
        counts.append(count_matches(matching))
        features.append(confidence_features(labels, maps, scale))
        hits.append(np.isin(np.arange(1, labels.max() + 1), matching.predicted_ids[matched_pairs(matching)]))
        total = np.count_nonzero(labels) + np.count_nonzero(truth)
        dices.append(2 * np.count_nonzero((labels > 0) & (truth > 0)) / total if total else 1.0)
        uncertainties.append(image_uncertainty(maps))
    counts, dices, groups = np.array(counts), np.array(dices), np.array(groups)
    scores = {}
    for name in ["all", *sorted(set(groups))]:
        member = np.ones(len(groups), bool) if name == "all" else groups == name
        scores[name] = {
            "images": int(member.sum()),
            "dice": round(float(dices[member].mean()), 4),
            "ap50": round(float(average_precision(counts[member].sum(0)[0])), 4),
            "map": round(float(average_precision(counts[member]).mean()), 4),
        }
    features, hits = np.concatenate(features), np.concatenate(hits)
    found = {"thresholds": thresholds}
    if len(hits):
        weights = calibrate(features, hits)
        error, _ = expected_calibration_error(confidence(features, weights), hits)
        found["calibration"] = {"weights": weights, "nuclei": len(hits), "expected_calibration_error": round(error, 4)}
    limit = float(np.quantile(uncertainties, 1 - OUT_OF_DISTRIBUTION_SHARE, method="higher"))
    alarms = float(np.mean(np.array(uncertainties) > limit))
    found["out_of_distribution"] = {"uncertainty_above": limit, "false_alarm_rate": round(alarms, 4), "images": len(uncertainties)}
    return found | kept, scores


def is_enough(samples):
    """Whether these validation images hold enough nuclei to choose by."""
    return sum(int(sample.labels.max()) for sample in samples) >= MIN_SEARCH_NUCLEI


def choose_epoch(model, candidates, score, enough, say):
    """Of the best epoch by validation loss and the mean of the last ones, that which finds the nuclei better.

    The loss punishes a network that is sure and wrong, and later epochs are surer; their nuclei are right more often.

    Args:
        model: takes the weights; it ends with those chosen.
        candidates: {words: list of arrays}, the one with the best loss first.
        score: gives, for the weights that the model has, what `score_validation` gives.
        enough: whether the validation images are `is_enough`; else the first is taken.

    Returns:
        (words, weights, found, scores).

    References:
        Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".
    """
    first = next(iter(candidates))
    if len(candidates) == 1 or not enough:
        model.set_weights(candidates[first])
        return first, candidates[first], *score()
    tried = {}
    for words, weights in candidates.items():
        model.set_weights(weights)
        tried[words] = score()
        scores = tried[words][1]
        say(f"  {words}: AP@0.5 {scores['all']['ap50']:.3f}  mAP {scores['all']['map']:.3f}")
    chosen = max(tried, key=lambda words: tried[words][1]["all"]["ap50"] + tried[words][1]["all"]["map"])
    say(f"  kept: {chosen}")
    model.set_weights(candidates[chosen])
    return chosen, candidates[chosen], *tried[chosen]
