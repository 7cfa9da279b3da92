"""Add holes into stained tissue: lumina, vacuoles, fat, gaps between fibres. They are background.

From fluorescence a network learns that what is bright and round is a nucleus. In a stained section
nothing bright is one.

    crop = add_holes(crop, labels, rng)
"""

import cv2
import numpy as np

from nuclei.training.stains import blur, mean_channel

HOLE_SHARE = 0.25  # of the crops of transmitted light get holes
MAX_HOLES = 12
RADIUS_PX = (3, 24)
ELONGATION = (0.5, 1.0)  # of the short axis to the long one
LIGHT = (0.85, 1.0)  # of a hole; 1 is the white of the image
RIM_SHARE = 0.5  # of these crops draw a darker rim around the holes
GAP_PX = 3  # between a hole and a nucleus


def add_holes(crop, labels, rng):
    """Add holes where there is no nucleus.

    Args:
        crop: (size, size, 3) float32 in [0, 1].
        labels: (size, size) int32.
        rng: `numpy.random.Generator`.

    Returns:
        (size, size, 3) float32 in [0, 1]; `crop` itself where nuclei are bright, or there is
        nothing but nuclei.
    """
    inside = labels > 0
    if inside.all() or not is_transmitted(crop, inside):
        return crop
    size, holes = len(crop), np.zeros(labels.shape, np.uint8)
    for _ in range(rng.integers(1, MAX_HOLES, endpoint=True)):
        radius = np.exp(rng.uniform(*np.log(RADIUS_PX)))
        axes = (round(radius), max(1, round(radius * rng.uniform(*ELONGATION))))
        centre = tuple(int(place) for place in rng.integers(size, size=2))
        cv2.ellipse(holes, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    kernel = np.ones((2 * GAP_PX + 1,) * 2, np.uint8)
    holes[cv2.dilate(inside.view(np.uint8), kernel) > 0] = 0
    holes = cv2.morphologyEx(holes, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    soft = blur(holes.astype(np.float32), rng.uniform(0.6, 1.5))[..., None]
    white = np.percentile(crop[::4, ::4].reshape(-1, 3), 99, axis=0)
    colour = np.maximum(white, 0.8) * rng.uniform(*LIGHT)
    brighter = np.maximum(colour.astype(np.float32), crop)
    result = crop + soft * rng.uniform(0.7, 1.0) * (brighter - crop)
    if rng.random() < RIM_SHARE:
        rim = cv2.dilate(holes, np.ones((3, 3), np.uint8)) - holes
        result *= 1 - rng.uniform(0.05, 0.3) * blur(rim.astype(np.float32), 0.7)[..., None]
    return np.clip(result, 0, 1).astype(np.float32)


def is_transmitted(crop, inside):
    """Whether a crop shows transmitted light: nuclei darker than the rest, or none and much light.

    Args:
        crop: (size, size, 3) float32 in [0, 1].
        inside: (size, size) bool, the nuclei.
    """
    light = mean_channel(crop)
    if inside.any():
        return bool(light[inside].mean() < light[~inside].mean())
    return bool(np.median(light) > 0.5)
