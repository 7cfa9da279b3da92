"""How sure the network is: of each nucleus, and of a whole image.

The confidence of a nucleus is the calibrated probability that it is right. A logistic regression on
a few features gives it; a training fits the regression on its validation images. The uncertainty of
an image is the share of undecided pixels; a high value marks an image that is out of distribution.
"""

import numpy as np

REGULARISATION = 1e-2  # of the calibration: keeps the weights finite where every nucleus is right
EMPTY_SHARE = 1e-3  # of an image; a smaller sum of probability means that it has no nuclei
NUM_BINS = 10  # of probabilities, by which their calibration is judged


def confidence_features(labels, maps, scale=1.0):
    """Compute what tells right nuclei from wrong ones.

    Args:
        labels: (H, W) int32, 1...n.
        maps: (H, W, K) float32 in [0, 1], as for `separate`.
        scale: as for `separate`.

    Returns:
        (n, 5) float64: the logits of mean nucleus probability and of largest distance, the
        logarithm of the diameter that the network saw (up to a constant), its square, and 1.
    """
    from scipy.special import logit

    num_nuclei = int(labels.max())
    pixels = np.flatnonzero(labels)
    nucleus = labels.ravel()[pixels] - 1
    areas = np.maximum(np.bincount(nucleus, minlength=num_nuclei), 1)
    sums = np.bincount(nucleus, maps[..., 0].ravel()[pixels], minlength=num_nuclei)
    mean = sums / areas
    largest_distance = mean
    if maps.shape[-1] > 1:
        largest_distance = np.zeros(num_nuclei, maps.dtype)
        np.maximum.at(largest_distance, nucleus, maps[..., 1].ravel()[pixels])
    size = np.log(areas * scale**2) / 2
    features = (
        logit(np.clip(mean, 0.01, 0.999)),
        logit(np.clip(largest_distance, 0.01, 0.99)),
        size,
        size**2,
        np.ones(num_nuclei),
    )
    return np.stack(features, -1)


def calibrate(features, hits, shares=None):
    """Fit the weights of `confidence`: a logistic regression.

    Args:
        features: (n, 5), of `confidence_features`.
        hits: (n,) bool, whether a true nucleus overlaps with an IoU of 0.5 or more.
        shares: (n,) float, how much each nucleus counts, 1 on the mean; None: all alike.

    Returns:
        A list of 5 floats.

    References:
        Platt 1999, "Probabilistic outputs for support vector machines".
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    shares = np.ones(len(hits)) if shares is None else shares

    def loss(weights):
        logits = features @ weights
        gradient = features.T @ (shares * (expit(logits) - hits)) + REGULARISATION * weights
        likelihood = np.sum(shares * (np.logaddexp(0, logits) - hits * logits))
        return likelihood + REGULARISATION / 2 * weights @ weights, gradient

    result = minimize(loss, np.zeros(features.shape[1]), jac=True)
    return [float(weight) for weight in result.x]


def confidence(features, weights):
    """Compute the probability that a nucleus is true, with an IoU of 0.5 or more.

    Args:
        features: (n, 5), of `confidence_features`.
        weights: 5 numbers, of `calibrate`.

    Returns:
        (n,) float64 in [0, 1].
    """
    from scipy.special import expit

    return expit(features @ np.asarray(weights))


def image_uncertainty(maps):
    """Compute how undecided the network is about the nuclei of an image.

    Args:
        maps: (H, W, K) float32 in [0, 1].

    Returns:
        Float from 0 to about 1: the distances of the nucleus probabilities to 0 or 1, over their
        sum. An image without anything like a nucleus has none.
    """
    nucleus = maps[..., 0]
    return uncertainty_of(*probability_sums(nucleus), nucleus.size)


def probability_sums(nucleus):
    """(sum of the distances to 0 or 1, sum) of nucleus probabilities, an array of any shape."""
    nucleus = nucleus.astype(np.float64)
    return float(np.minimum(nucleus, 1 - nucleus).sum()), float(nucleus.sum())


def uncertainty_of(undecided, probability, num_px):
    """`image_uncertainty` from the sums of `probability_sums` over all parts of an image.

    Args:
        undecided, probability: the sums.
        num_px: pixels that they go over; none at all are no uncertainty.
    """
    return float(undecided / max(probability, EMPTY_SHARE * num_px, 1e-9))


def expected_calibration_error(probabilities, hits):
    """Compute how far predicted probabilities are from the truth.

    Args:
        probabilities: (n,) in [0, 1].
        hits: (n,) bool.

    Returns:
        (error, rows): the mean distance between the mean probability and the share of hits of a
        bin, weighted by the nuclei in it, and (nuclei, mean probability, share of hits) of each bin
        that is not empty. NUM_BINS bins have equal width.

    References:
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    bin_of = np.minimum((np.asarray(probabilities) * NUM_BINS).astype(int), NUM_BINS - 1)
    rows = [
        (
            int(np.sum(bin_of == k)),
            float(probabilities[bin_of == k].mean()),
            float(hits[bin_of == k].mean()),
        )
        for k in range(NUM_BINS)
        if np.any(bin_of == k)
    ]
    total = sum(number for number, _, _ in rows)
    error = sum(number * abs(predicted - true) for number, predicted, true in rows)
    return error / max(1, total), rows
