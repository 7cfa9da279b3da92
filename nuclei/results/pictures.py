"""Overlays: the outlines of nuclei on an image, and their colours.

    overlay = draw_overlay(image, intensity, labels)               # all nuclei in OUTLINE_COLOUR
    colours = outline_colours("confidence", table["confidence"])   # one colour for each nucleus
    write_jpeg("a.jpg", draw_overlay(image, intensity, labels, colours))

Pictures are (H, W, 3) uint8 RGB; nuclei.images.writing makes files of them.
"""

import cv2
import numpy as np

from nuclei.images.intensity import normalise
from nuclei.images.labels import BAND_ROWS, count_pixels, equivalent_diameters

# RGB of outlines. No colour is farther from the purples and pinks of tissue, the browns of DAB and
# the greys of fluorescence, also for colour-blind people (CIEDE2000, tried on a grid of 125).
OUTLINE_COLOUR = (60, 255, 0)
HALO_SHADE = 0.25  # of the picture beside an outline: dark, so that the line is seen on white
LINE_PX = 2  # width of an outline on an image of usual size
SCREEN_PX = 1000  # of a screen; the line of a larger image is wider, so that it is seen reduced
DIAMETERS_PER_LINE = 7  # the line has this part of a nucleus diameter at most: it must hide little
# Least confidence -> RGB. Green, white and red differ in brightness, too, for colour-blind people.
CONFIDENCE_COLOURS = ((0.0, (255, 0, 60)), (0.5, (255, 255, 255)), (0.8, OUTLINE_COLOUR))
# RGB of single nuclei, so that neighbours can be told apart
ID_COLOURS = (
    (255, 221, 0),
    (0, 229, 118),
    (0, 214, 255),
    (255, 112, 67),
    (178, 255, 89),
    (255, 64, 129),
)
COLOUR_RULES = ("one", "confidence", "id")  # of `outline_colours`


def draw_overlay(image, intensity, labels, colours=OUTLINE_COLOUR) -> np.ndarray:
    """Draw the outlines of nuclei on an image as the network sees it (dark images brightened).

    Args:
        image: (H, W, 3) uint8 or uint16 RGB.
        intensity: (low, high) grey levels that become black and white.
        labels: (H, W) integers, 0 background.
        colours: as of `draw_outlines`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    picture, width_px = np.empty(image.shape, np.uint8), line_width(labels)
    reach = 2 * width_px + 2  # px by which a line and its halo depend on rows beside them
    for top in range(0, len(image), BAND_ROWS):
        first = max(0, top - reach)
        rows = slice(first, top + BAND_ROWS + reach)
        part = (normalise(image[rows], intensity) * 255).astype(np.uint8)
        drawn = draw_outlines(part, labels[rows], colours, width_px)
        picture[top : top + BAND_ROWS] = drawn[top - first :][:BAND_ROWS]
    return picture


def draw_outlines(picture, labels, colours=OUTLINE_COLOUR, width_px=None) -> np.ndarray:
    """Draw the outlines of nuclei on a picture: bright lines with a dark halo on the background.

    A line lies on both sides of the border of a nucleus, a line of one pixel outside of it. Between
    two nuclei that touch there is one line.

    Args:
        picture: (H, W, 3) uint8 RGB.
        labels: (H, W) integers, 0 background.
        colours: RGB of all outlines, or (n + 1, 3) uint8, one for each id.
        width_px: of the line; None takes `line_width`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    width_px = line_width(labels) if width_px is None else width_px
    ids = labels.astype(np.float32)  # exact up to 16 million; OpenCV has no int32 here
    largest = cv2.dilate(ids, disk((width_px + 1) // 2))
    line = largest > ids
    if width_px > 1:
        line |= cv2.erode(ids, disk(width_px // 2)) < ids
    halo = cv2.dilate(line.astype(np.uint8), disk(max(1, width_px // 2))) > 0
    halo &= ~line & (labels == 0)
    drawn = picture.copy()
    drawn[halo] = (picture[halo] * HALO_SHADE).astype(np.uint8)
    colours = np.asarray(colours, np.uint8)
    drawn[line] = colours if colours.ndim == 1 else colours[largest[line].astype(np.int64)]
    return drawn


def line_width(labels) -> int:
    """Width of the outlines in px: wider on large images, narrower where the nuclei are small."""
    width_px = max(LINE_PX, round(max(labels.shape) / SCREEN_PX))
    areas_px = count_pixels(labels)[1:]
    if not areas_px.any():
        return width_px
    diameter_px = np.median(equivalent_diameters(areas_px[areas_px > 0]))
    return min(width_px, max(1, round(diameter_px / DIAMETERS_PER_LINE)))


def disk(radius_px: int) -> np.ndarray:
    """The pixels within a radius, as OpenCV's `dilate` and `erode` take them."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))


def outline_colours(rule: str, confidence) -> np.ndarray:
    """The colours of outlines by one of COLOUR_RULES.

    Args:
        rule: "one" colour for all; by "confidence", see CONFIDENCE_COLOURS; or by "id", so that
            nuclei that touch can be told apart.
        confidence: (n,) confidence of each nucleus, 0 to 1, by ascending id 1...n. Only the rule
            "confidence" reads the values.

    Returns:
        (n + 1, 3) uint8 RGB, one colour for each id.
    """
    if rule == "one":
        indices, colours = np.zeros(len(confidence) + 1, int), [OUTLINE_COLOUR]
    elif rule == "confidence":
        limits, colours = zip(*CONFIDENCE_COLOURS, strict=True)
        indices = np.searchsorted(limits[1:], [0, *confidence], side="right")
    else:
        indices, colours = np.arange(len(confidence) + 1) % len(ID_COLOURS), ID_COLOURS
    return np.array(colours, np.uint8)[indices]
