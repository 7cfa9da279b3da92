"""The picture of a whole slide with its nuclei.

On a small slide one sees their outlines, on a large one a coloured map of how many there are.
"""

import cv2
import numpy as np

from nuclei.images.intensity import normalise
from nuclei.polygons import fill
from nuclei.results.pictures import draw_outlines, outline_colours

OVERVIEW_PX = 4096  # longest side of the picture
DENSITY_PX = 6.0  # sigma of the blur of the map of nuclei, in px of the picture
OUTLINES_BELOW = 3.0  # px of the slide for one of the picture, below which outlines can be seen
DENSITY_PERCENTILE = 99  # of the density, that gets the brightest colour
MAX_OPACITY = 0.7  # of the map over the slide


def draw_nuclei(overview, setup, parts, overlay_colour="one"):
    """Draw the nuclei of a slide on its overview.

    Args:
        overview: (h, w, 3) uint8 or uint16.
        setup: the `Setup` of the slide.
        parts: an iterable of (table, [(id, polygons)]), as of `FoundOnSlide.parts`.
        overlay_colour: the rule of `outline_colours` for outlines.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    picture = (normalise(overview, setup.intensity) * 255).round().astype(np.uint8)
    step = np.divide(setup.shape, picture.shape[:2])
    if step.max() < OUTLINES_BELOW:
        labels, confidences = reduce_nuclei(parts, picture.shape[:2], step)
        return draw_outlines(picture, labels, outline_colours(overlay_colour, confidences))
    counts = np.zeros(picture.shape[:2], np.float32)
    for table, _ in parts:
        places = np.stack([table["centroid_row_px"], table["centroid_column_px"]], axis=1)
        pixels = np.minimum(places / step, np.subtract(counts.shape, 1)).astype(int)
        np.add.at(counts, tuple(pixels.T), 1)
    return draw_density(picture, counts) if counts.any() else picture


def reduce_nuclei(parts, shape, step):
    """Bring the nuclei of a slide to the size of its picture.

    Args:
        parts: as of `draw_nuclei`.
        shape: height and width of the picture in px.
        step: (2,) px of the slide for one of the picture, down and across.

    Returns:
        (labels, confidences): (h, w) int32, and for each nucleus its confidence, or its id where
        the model has no calibration.
    """
    labels, confidences = np.zeros(shape, np.int32), [np.zeros(0)]
    for table, outlined in parts:
        confidences.append(table.get("confidence", table["id"]))
        for index, polygons in outlined:
            labels.flat[fill([[ring / step for ring in rings] for rings in polygons], shape)] = (
                index
            )
    return labels, np.concatenate(confidences)


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
