"""Borders: thin values of a truth around nuclei or between them, as trimaps have.

    borders = find_borders(ids, candidates=[1, 2])      # the ids that are borders
    labels = filled_borders(ids, borders)               # each border pixel joins a nucleus

What a value means is not written in a file. A border is thin, and it covers the outline of the
other values or lies between two of their regions.
"""

import numpy as np

from nuclei.images.labels import joined
from nuclei.truth.regions import SPECK_PX, touching

MAX_HALF_WIDTH_PX = 4.0  # of a border
MAX_WIDTH_RATIO = 0.5  # half the width of a border over that of what it surrounds
MIN_COVERED = 0.7  # share of the outline of nuclei that a border covers
NEARLY_ALL_COVERED = 0.9  # the same, from which a border may be as wide as the rest of the nucleus
MIN_SEPARATING = 0.8  # share of the area of borders that lie between two nuclei


def find_borders(ids: np.ndarray, candidates) -> list[int]:
    """Which values are thin borders around or between the regions of other values.

    Args:
        ids: (H, W) int32, 0 background, 1...n.
        candidates: the ids to look at.

    Returns:
        The ids of borders.
    """
    return [value for value in candidates if is_border(ids, value)]


def is_border(ids: np.ndarray, value: int) -> bool:
    """Whether a value is a thin border around or between others, see `find_borders`."""
    border, inside = ids == value, (ids > 0) & (ids != value)
    if not border.any() or not inside.any() or inside.all():
        return False
    width = half_width(border)
    if width > MAX_HALF_WIDTH_PX:
        return False
    outline = inside & touching(~inside)
    covered_share = (outline & touching(border)).sum() / max(1, outline.sum())
    if covered_share >= NEARLY_ALL_COVERED:
        return True
    if width > MAX_WIDTH_RATIO * half_width(inside):
        return False
    pieces, nuclei = joined(border), joined(np.where(inside, ids, 0))
    num_nuclei = (np.bincount(nuclei.ravel())[1:] >= SPECK_PX).sum()  # stray pixels are none
    if (np.bincount(pieces[border]) >= SPECK_PX).sum() < 2 and num_nuclei <= num_others(ids):
        return False  # every value is one region: these are ids, one of them narrow
    between = touches_two(pieces, nuclei)
    return bool(covered_share >= MIN_COVERED or between[pieces[border]].mean() >= MIN_SEPARATING)


def num_others(ids: np.ndarray) -> int:
    """Number of values in ids, without 0 and without one of them."""
    return int(np.count_nonzero(np.bincount(ids.ravel())[1:])) - 1


def half_width(mask: np.ndarray) -> float:
    """Distance in px from the outline of a mask that only a tenth of its pixels exceeds."""
    import cv2  # late: the import takes a while

    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return float(np.percentile(distance[mask], 90))


def touches_two(pieces: np.ndarray, nuclei: np.ndarray) -> np.ndarray:
    """Which regions touch two or more nuclei.

    Args:
        pieces: (H, W) int, 0 or the number of a region.
        nuclei: (H, W) int, 0 or the number of a nucleus.

    Returns:
        (largest number of a region + 1,) bool.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    highest = maximum_filter(nuclei, 3)
    lowest = minimum_filter(np.where(nuclei > 0, nuclei, nuclei.max() + 1), 3)
    first = np.full(int(pieces.max()) + 1, int(nuclei.max()) + 1)
    last = np.zeros(len(first), np.int64)
    has_nucleus = (pieces > 0) & (highest > 0)
    np.minimum.at(first, pieces[has_nucleus], lowest[has_nucleus])
    np.maximum.at(last, pieces[has_nucleus], highest[has_nucleus])
    return (last > 0) & (first < last)


def filled_borders(ids: np.ndarray, borders: list[int]) -> np.ndarray:
    """The nuclei of a truth with borders: each border pixel belongs to the nearest nucleus.

    Args:
        ids: (H, W) int32, 0 background.
        borders: ids of borders.

    Returns:
        (H, W) int labels with gaps. A border around nothing is a nucleus of its own.
    """
    from scipy.ndimage import distance_transform_edt

    border = np.isin(ids, borders)
    labels = joined(np.where(border, 0, ids))
    nearest = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    pieces = joined(border)
    around = np.isin(pieces, pieces[border & touching(labels > 0)]) & border
    alone = border & ~around
    grown = np.where(around, labels[tuple(nearest)], labels)
    return np.where(alone, pieces + labels.max(), grown)
