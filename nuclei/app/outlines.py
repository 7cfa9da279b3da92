"""Nuclei as the page draws them: id, box, outline and confidence, of those that it asks for.

describe(canvas, [3, 7], confidences)
"""

from collections.abc import Iterable

import numpy as np

from nuclei.app.canvas import Canvas


def outline_of(mask: np.ndarray, corner: tuple[int, int]) -> list[list[int]]:
    """The outer outlines of the parts of a nucleus, the largest part first.

    Args:
        mask: (rows, columns) bool.
        corner: (row, column) of its upper left pixel in the image.

    Returns:
        One list x, y, x, y, ... for each part, in px of the image, along the edges of the pixels.
    """
    import cv2

    # At twice the size each pixel has four centres, one for each of its corners: see polygons.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = []
    for contour in sorted(contours, key=cv2.contourArea, reverse=True):
        ring = (contour[:, 0] + 1) // 2
        ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
        rings.append((ring + (corner[1], corner[0])).ravel().tolist())
    return rings


def describe(canvas: Canvas, ids: Iterable[int], confidences: dict[int, float]) -> list[dict]:
    """What the page needs of some nuclei.

    Args:
        canvas: that holds them.
        ids: which ones.
        confidences: {id: 0 to 1} of nuclei that are as the network found them.
    """
    result = []
    for index in ids:
        box = canvas.boxes[index]
        first, *others = outline_of(canvas.labels[box.place] == index, (box.top, box.left))
        nucleus = {"id": index, "box": [box.left, box.top, box.right, box.bottom]}
        nucleus |= {"outline": first, "confidence": confidences.get(index)}
        result.append(nucleus | ({"more": others} if others else {}))
    return result
