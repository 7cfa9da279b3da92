"""The picture of a whole slide with its nuclei.

On a small slide one sees their outlines, on a large one a coloured map of how many there are.
"""

import cv2
import numpy as np

from nuclei.formats.geojson import CLASS_COLOUR
from nuclei.images.intensity import normalise

OVERVIEW_PX = 4096  # longest side of the picture
DENSITY_PX = 6.0  # sigma of the blur of the map of nuclei, in px of the picture
OUTLINES_BELOW = 3.0  # px of the slide for one of the picture, below which outlines can be seen
DENSITY_PERCENTILE = 99  # of the density, that gets the brightest colour
MAX_OPACITY = 0.7  # of the map over the slide


def draw_nuclei(overview, setup, parts):
    """Draw the nuclei of a slide on its overview.

    Args:
        overview: (h, w, 3) uint8 or uint16.
        setup: the `Setup` of the slide.
        parts: an iterable of (table, [(id, polygons)]), as of `FoundOnSlide.parts`.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    picture = (normalise(overview, setup.intensity) * 255).round().astype(np.uint8)
    step = np.divide(setup.shape, picture.shape[:2])
    counts = np.zeros(picture.shape[:2], np.float32)
    for table, outlined in parts:
        if step.max() < OUTLINES_BELOW:
            rings = [ring for _, polygons in outlined for rings in polygons for ring in rings]
            # OpenCV wants x first, and counts from the centre of the first pixel.
            lines = [np.round((ring / step - 0.5)[:, ::-1]).astype(np.int32) for ring in rings]
            cv2.polylines(picture, lines, True, CLASS_COLOUR)
        else:
            places = np.stack([table["centroid_row_px"], table["centroid_column_px"]], axis=1)
            pixels = np.minimum(places / step, np.subtract(counts.shape, 1)).astype(int)
            np.add.at(counts, tuple(pixels.T), 1)
    return draw_density(picture, counts) if counts.any() else picture


def draw_density(picture, counts):
    """Lay a map of colours over a picture.

    Args:
        picture: (h, w, 3) uint8 RGB.
        counts: (h, w) float32, nuclei in each pixel.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    density = cv2.GaussianBlur(counts, (0, 0), DENSITY_PX)
    brightest = np.percentile(density[density > 0], DENSITY_PERCENTILE)
    density = np.clip(density / brightest, 0, 1)
    colours = cv2.applyColorMap((density * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = MAX_OPACITY * np.sqrt(density)[..., None]
    return (picture * (1 - opacity) + colours * opacity).astype(np.uint8)
