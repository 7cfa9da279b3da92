"""nuclei.instances.confidence"""

import numpy as np

RIDGE = 1e-2  # of the calibration: keeps the weights finite where every nucleus is right
EMPTY_SHARE = 1e-3  # of an image; less nucleus than that is none, however undecided


def confidence_features(labels, maps, scale=1.0):
    """What tells right nuclei from wrong ones, (n, 5) float64: logits of mean probability and of depth, size, a constant.

    Args:
        labels: (H, W) int32, 1…n.
        maps: (H, W, K) float32 in [0, 1], as for `separate`.
        scale: as for `separate`.
    """
    from scipy import special

    n = int(labels.max())
    inside = np.flatnonzero(labels)
    nucleus = labels.ravel()[inside] - 1
    areas = np.maximum(np.bincount(nucleus, minlength=n), 1)
    mean = np.bincount(nucleus, maps[..., 0].ravel()[inside], minlength=n) / areas
    deepest = mean
    if maps.shape[-1] > 1:
        deepest = np.zeros(n, maps.dtype)
        np.maximum.at(deepest, nucleus, maps[..., 1].ravel()[inside])
    size = np.log(areas * scale**2) / 2  # of the diameter that the network saw
    return np.stack(
        [special.logit(np.clip(mean, 0.01, 0.999)), special.logit(np.clip(deepest, 0.01, 0.99)), size, size**2, np.ones(n)], -1
    )


def calibrate(features, hits):
    """Weights with which `confidence` gives the share of such nuclei that are right: a logistic regression.

    Args:
        features: (n, 5) of `confidence_features`.
        hits: (n,) bool, whether a true nucleus overlaps with an IoU of 0.5 or more.

    Returns:
        A list of 5 floats.

    References:
        Platt 1999, "Probabilistic outputs for support vector machines".
    """
    from scipy import optimize, special

    def loss(weights):
        logits = features @ weights
        slope = features.T @ (special.expit(logits) - hits) + RIDGE * weights
        return np.sum(np.logaddexp(0, logits) - hits * logits) + RIDGE / 2 * weights @ weights, slope

    return [float(weight) for weight in optimize.minimize(loss, np.zeros(features.shape[1]), jac=True).x]


def confidence(features, weights):
    """Calibrated probability, (n,) in [0, 1], that a nucleus is a true one with an IoU of 0.5 or more."""
    from scipy import special

    return special.expit(features @ np.asarray(weights))


def image_uncertainty(maps):
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
