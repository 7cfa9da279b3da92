"""The search for the thresholds of `separate` that fit the validation images best.

    thresholds, score = choose_thresholds(maps, truths, scales)
    labels = separate(maps[0], scale=scales[0], **thresholds)

The maps are predicted once; each set of thresholds only separates and scores them again.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.instances.separate import THRESHOLDS, separate
from nuclei.machine import num_cores
from nuclei.progress import Progress

ROUNDS = 3  # through all thresholds: the best value of one depends on the others
# The values tried for each threshold, one threshold after the other. What drops false nuclei comes
# before the level of a pixel: as long as nothing drops them, a level is chosen that does.
SEARCH = {
    "marker_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "min_probability": (0.5, 0.6, 0.7, 0.75, 0.8),
    "min_area_px": (10, 20, 30, 45, 70),
    "nucleus_threshold": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "contact_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "smoothing_px": (0.5, 1.0, 1.5, 2.0),
}
SEPARATION = ("marker_threshold", "contact_weight", "smoothing_px")  # where touching nuclei are cut


def choose_thresholds(maps, truths, scales=None, voids=None, set_names=None, is_binary=None):
    """Search the best thresholds, one at a time from THRESHOLDS on, in at most ROUNDS rounds.

    Best is the highest `mean_quality`: for the thresholds of SEPARATION on the images whose truth
    tells touching nuclei apart, since binary truth punishes cuts alone; for the others on all.

    Args:
        maps: list of (H, W, K) float32.
        truths: list of (H, W) int32, in the same order.
        scales: list of the scales that the maps were made at; None for 1 throughout.
        voids: list of (H, W) bool, pixels that do not count, or None in it; None for none at all.
        set_names: list of the names of the sets that the images belong to; None for a single set.
        is_binary: list of bool, whether the truth of an image is a binary mask; None for none.

    Returns:
        (thresholds, score): the best dict, and its score in [0, 1].
    """
    num = len(maps)
    images = list(zip(maps, truths, scales or [1.0] * num, voids or [None] * num, strict=True))

    def count(image, thresholds):
        image_maps, truth, scale, void = image
        labels = separate(image_maps, scale=scale, **thresholds)
        return count_matches(match(truth, labels, void))

    set_names = np.array(set_names or [""] * num)
    separated = np.flatnonzero(~np.array(is_binary or [False] * num))
    parts = {True: separated if separated.size else np.arange(num), False: np.arange(num)}
    known = {}  # scores of thresholds tried: they do not change

    def score(thresholds, name=""):
        indices = parts[name in SEPARATION]
        key = (len(indices), *thresholds.items())
        if key not in known:
            with ThreadPoolExecutor(num_cores()) as pool:
                counts = list(
                    pool.map(partial(count, thresholds=thresholds), [images[k] for k in indices])
                )
            known[key] = mean_quality(counts, set_names[indices])
        return known[key]

    best = dict(THRESHOLDS)
    num_values = ROUNDS * sum(map(len, SEARCH.values()))
    with Progress("Choosing thresholds", num_values, "values at most", log=True) as progress:
        for _ in range(ROUNDS):
            before = dict(best)
            for name, values in SEARCH.items():
                for value in values:
                    progress.add(1)
                    candidate = {**best, name: value}
                    if score(candidate, name) > score(best, name) + 1e-9:
                        best = candidate
            if best == before:
                break
    return best, float(score(best))


def mean_quality(counts, set_names):
    """How well the nuclei of several sets are found.

    Args:
        counts: list of `count_matches`, one for each image.
        set_names: list of the sets that they belong to.

    Returns:
        0...1, the `mean_of_sets` of `quality`.
    """
    counts, set_names = np.array(counts), np.array(set_names)
    names, sizes = np.unique(set_names, return_counts=True)
    return mean_of_sets([quality(counts[set_names == name]) for name in names], sizes)


def mean_of_sets(scores, sizes):
    """The mean of scores of several sets, of which each has `sizes` images.

    A set weighs as the square root of its size: the large ones do not outvote the small ones, and
    the chance in a few images does not decide for all.
    """
    return float(np.average(scores, weights=np.sqrt(sizes)))


def quality(counts):
    """The mean of two scores: AP at IoU 0.5 pooled over images, and the mean AP of the images.

    The first counts every nucleus alike and forgives inexact outlines. The second counts every
    image alike and does not forgive them: it is the mean over IoU_THRESHOLDS.

    Args:
        counts: (N, T, 3) int, of `count_matches`.

    Returns:
        0...1.
    """
    return (average_precision(counts.sum(axis=0)[0]) + average_precision(counts).mean()) / 2
