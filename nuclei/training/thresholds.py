"""nuclei.training.thresholds"""

import numpy as np

from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.instances.separate import THRESHOLDS, separate

SEARCH = {  # what `choose_thresholds` tries, one after the other
    "marker_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "nucleus_threshold": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "contact_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "smoothing_px": (0.5, 1.0, 1.5, 2.0),
    "min_area_px": (10, 20, 30, 45, 70),
    "min_probability": (0.5, 0.6, 0.7, 0.75, 0.8),
}


def choose_thresholds(maps, truths, scales=None, start=None, search=None):
    """Search the thresholds of `separate` that fit a validation set best: one at a time, from THRESHOLDS on, two rounds.

    Best is the mean of two scores: pooled AP at IoU 0.5, and AP over IoU_THRESHOLDS averaged over images. The one
    counts every nucleus alike and forgives outlines, the other counts every image alike and does not.

    Args:
        maps: list of (H, W, K) float32.
        truths: list of (H, W) int32, in the same order.
        scales: list of the scales that the maps were made at; None for 1 throughout.
        start: thresholds to begin with; the default is THRESHOLDS.
        search: {name: values to try}; the default is SEARCH.

    Returns:
        (thresholds, score): the best dict, and its score in [0, 1].
    """

    images = list(zip(maps, truths, scales or [1.0] * len(maps), strict=True))

    def score(thresholds):
        counts = [count_matches(match(truth, separate(m, scale=scale, **thresholds))) for m, truth, scale in images]
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
