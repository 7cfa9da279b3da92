"""How well whole validation images were predicted, and what follows from it for the model file.

result = score_image(sample, estimate, thresholds)
scores_by_group(results)        # Dice, AP@0.5 and mAP of all images, modalities and sets
calibration_of(results)         # of the confidence of a nucleus
limits_of(results, calibration, rare)       # above which an image is out of distribution
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from nuclei.instances.confidence import (
    calibrate,
    confidence,
    confidence_features,
    expected_calibration_error,
    image_uncertainty,
)
from nuclei.instances.holes import hole_share, without_holes
from nuclei.instances.matching import average_precision, count_matches, match, matched_pairs
from nuclei.instances.separate import separate
from nuclei.instances.shape import solidities
from nuclei.instances.signs import image_signs
from nuclei.training.limits import find_limits


@dataclass
class ImageScore:
    """How one validation image was predicted.

    Attributes:
        counts: of `count_matches`.
        dice: Dice of all nuclei together.
        features: (n, F) of `confidence_features`, for each predicted nucleus outside of void.
        is_hit: (n,) bool, whether it is a true nucleus.
        signs: of `image_signs`, without the confidence, which is not calibrated yet.
        groups: its modality and the name of its set.
    """

    counts: np.ndarray
    dice: float
    features: np.ndarray
    is_hit: np.ndarray
    signs: dict[str, float]
    groups: tuple[str, ...]


def score_image(sample, estimate, thresholds):
    """The `ImageScore` of a sample, from the `ScaleEstimate` with its maps."""
    scale, maps = estimate.scale, estimate.maps
    all_labels = labels = separate(maps, scale=scale, **thresholds)
    if sample.group == "tissue":  # as prediction does it
        labels = without_holes(labels, sample.image)
    matching = match(sample.labels, labels, sample.unscored)
    hits = matching.predicted_ids[matched_pairs(matching)]
    num_pixels = matching.predicted_areas[1:].sum() + matching.truth_areas[1:].sum()
    overlap = matching.intersections.sum()
    is_scored = matching.predicted_areas[1:] > 0  # neither in void nor in a clump
    return ImageScore(
        counts=count_matches(matching),
        dice=2 * overlap / num_pixels if num_pixels else 1.0,
        features=confidence_features(labels, maps, scale)[is_scored],
        is_hit=np.isin(np.arange(1, labels.max() + 1), hits)[is_scored],
        signs=image_signs(
            image_uncertainty(maps),
            estimate.spread,
            solidities=solidities(labels),
            hole_share=hole_share(all_labels, labels),
        ),
        groups=(sample.group, sample.set_name),
    )


def scores_by_group(results):
    """Scores of all images and of each group, from a list of `ImageScore`."""
    counts = np.array([result.counts for result in results])
    dices = np.array([result.dice for result in results])
    pairs = zip(*(result.groups for result in results), strict=True)
    modalities, sets = (sorted(set(names)) for names in pairs)
    names = ["all", *modalities, *(sets if len(sets) > 1 else ())]
    scores = {}
    for name in names:
        member = np.array([name == "all" or name in result.groups for result in results])
        scores[name] = {
            "images": int(member.sum()),
            "dice": round(float(dices[member].mean()), 4),
            "ap50": round(float(average_precision(counts[member].sum(0)[0])), 4),
            "map": round(float(average_precision(counts[member]).mean()), 4),
        }
    return scores


def calibration_of(results):
    """Fit the confidence of a nucleus: {"calibration": ...}, or {} if none was predicted.

    A nucleus counts as one over the square root of the images of its set, so that large sets do not
    outvote small ones.
    """
    sizes = Counter(result.groups[1] for result in results)
    shares = [np.full(len(r.is_hit), sizes[r.groups[1]] ** -0.5) for r in results]
    shares = np.concatenate(shares)
    features = np.concatenate([result.features for result in results])
    is_hit = np.concatenate([result.is_hit for result in results])
    if not len(is_hit):
        return {}
    weights = calibrate(features, is_hit, shares / shares.mean())
    error, _ = expected_calibration_error(confidence(features, weights), is_hit)
    error = round(error, 4)
    calibration = {"weights": weights, "nuclei": len(is_hit), "expected_calibration_error": error}
    return {"calibration": calibration}


def limits_of(results, calibration, rare):
    """Find the limits of an image: {"out_of_distribution": ...}, or {} with too few images.

    Args:
        results: list of `ImageScore`.
        calibration: what `calibration_of` gives for them.
        rare: of `rare_modalities`.
    """
    signs = [dict(result.signs) for result in results]
    if calibration:
        weights = calibration["calibration"]["weights"]
        for image, result in zip(signs, results, strict=True):
            if len(result.features):
                image["low_confidence"] = 1 - float(confidence(result.features, weights).mean())
    kinds, set_names = zip(*(result.groups for result in results), strict=True)
    found = find_limits(signs, set_names, kinds, rare)
    return {"out_of_distribution": found} if found else {}
