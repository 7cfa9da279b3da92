"""White holes of stained sections: vacuoles, lumina and tears, which are never nuclei.

    kept = without_holes(labels, image)
    hole_share(labels, kept)                # how much of what was found were holes: 0 to 1

A network that also knows fluorescence may take a bright round gap for a nucleus. But a nucleus of a
stained section absorbs light, and no less of it than what lies around.
"""

import cv2
import numpy as np

from nuclei.images.labels import without_gaps
from nuclei.images.stains import optical_densities, white_of
from nuclei.instances.separate import median_diameter

# Of 2,300 true nuclei of H&E none has less than 0.11, and none is paler than its surroundings by
# more than 0.03.
MIN_TOTAL_OD = 0.1  # `total_od` below which nothing is a nucleus
MAX_PALENESS_OD = 0.05  # optical density by which a nucleus may be paler than what lies around
RING = 0.2  # width of what lies around, in median diameters


def without_holes(labels: np.ndarray, image: np.ndarray, white: int | None = None) -> np.ndarray:
    """Drop the objects of a stained section that are too pale for a nucleus.

    Args:
        labels: (H, W) int32, 0 background, 1...n.
        image: (H, W, 3) uint8 or uint16, bright field.
        white: grey level of empty background; None takes it from the image.

    Returns:
        (H, W) int32, 0 background, 1...n without gaps; `labels` itself where nothing is dropped.
    """
    diameter_px = median_diameter(labels)
    if diameter_px is None:
        return labels
    density = optical_densities(image.mean(axis=-1), white or white_of(image)).ravel()
    inside, num_ids = labels.ravel(), int(labels.max()) + 1
    ring = around(labels, max(2, round(RING * diameter_px))).ravel()
    areas, ring_areas = (np.bincount(ids, minlength=num_ids) for ids in (inside, ring))
    inner, outer = (np.bincount(ids, density, minlength=num_ids) for ids in (inside, ring))
    inner = inner / np.maximum(areas, 1)
    outer = np.where(ring_areas, outer / np.maximum(ring_areas, 1), -np.inf)  # shut in by nuclei
    is_hole = (inner < MIN_TOTAL_OD) | (outer - inner > MAX_PALENESS_OD)
    is_hole[0] = False
    if not is_hole.any():
        return labels
    return without_gaps(np.where(is_hole[labels], 0, labels))


def around(labels: np.ndarray, width_px: int) -> np.ndarray:
    """The background next to each object, with its id: (H, W) int32."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width_px + 1, 2 * width_px + 1))
    grown = cv2.dilate(labels.astype(np.float32), kernel).astype(np.int32)  # ids below 2**24
    grown[labels > 0] = 0
    return grown


def hole_share(labels: np.ndarray, kept: np.ndarray) -> float:
    """How much of what was found was dropped, 0 to 1.

    Args:
        labels, kept: (H, W) int, what `without_holes` took and returned.
    """
    num_px = np.count_nonzero(labels)
    return 1 - np.count_nonzero(kept) / num_px if num_px else 0.0
