"""The search for the thresholds of `separate` that fit the validation images best.

    thresholds, score = choose_thresholds(maps, truths, scales)
    labels = separate(maps[0], scale=scales[0], **thresholds)

The maps are predicted once; each set of thresholds only separates and scores them again.
"""

import numpy as np

from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.instances.separate import THRESHOLDS, separate
from nuclei.progress import Progress

ROUNDS = 2  # through all thresholds: the best value of one depends on the others
SEARCH = {  # the values tried for each threshold, one threshold after the other
    "marker_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "nucleus_threshold": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "contact_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "smoothing_px": (0.5, 1.0, 1.5, 2.0),
    "min_area_px": (10, 20, 30, 45, 70),
    "min_probability": (0.5, 0.6, 0.7, 0.75, 0.8),
}


def choose_thresholds(maps, truths, scales=None, start=None, search=None, voids=None):
    """Search the best thresholds, one at a time, in at most ROUNDS rounds.

    Best is the mean of two scores: AP at IoU 0.5 pooled over all images, and AP over IoU_THRESHOLDS
    averaged over images. The first counts every nucleus alike and forgives inexact outlines. The
    second counts every image alike and does not forgive them.

    Args:
        maps: list of (H, W, K) float32.
        truths: list of (H, W) int32, in the same order.
        scales: list of the scales that the maps were made at; None for 1 throughout.
        start: thresholds to begin with; the default is THRESHOLDS.
        search: {name: values to try}; the default is SEARCH.
        voids: list of (H, W) bool, pixels that do not count, or None in it; None for none at all.

    Returns:
        (thresholds, score): the best dict, and its score in [0, 1].
    """
    num = len(maps)
    images = list(zip(maps, truths, scales or [1.0] * num, voids or [None] * num, strict=True))

    def score(thresholds):
        counts = [
            count_matches(match(truth, separate(image_maps, scale=scale, **thresholds), void))
            for image_maps, truth, scale, void in images
        ]
        pooled = average_precision(np.sum(counts, axis=0)[0])
        return (pooled + average_precision(counts).mean()) / 2

    best = dict(THRESHOLDS if start is None else start)
    best_score, tried = score(best), {tuple(best.items())}
    search = SEARCH if search is None else search
    num_values = ROUNDS * sum(map(len, search.values()))
    with Progress("Choosing thresholds", num_values, "values at most", log=True) as progress:
        for _ in range(ROUNDS):
            before = dict(best)
            for name, values in search.items():
                for value in values:
                    progress.add(1)
                    candidate = {**best, name: value}
                    if tuple(candidate.items()) in tried:
                        continue
                    tried.add(tuple(candidate.items()))
                    candidate_score = score(candidate)
                    if candidate_score > best_score + 1e-9:
                        best, best_score = candidate, candidate_score
            if best == before:
                break
    return best, float(best_score)
