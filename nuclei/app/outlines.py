"""Nuclei as the page draws them: id, box, outlines and confidence, of those that it asks for.

describe(canvas, [3, 7], confidences)
"""

from collections.abc import Iterable

import cv2
import numpy as np

from nuclei.app.canvas import Canvas


def describe(canvas: Canvas, ids: Iterable[int], confidences: dict[int, float]) -> list[dict]:
    """What the page needs of some nuclei.

    Args:
        canvas: that holds them.
        ids: which ones.
        confidences: {id: 0 to 1} of nuclei that are as the network found them.

    Returns:
        For each nucleus its "id", "box" (left, top, right, bottom), "outline" (x, y, x, y, ... of
        its largest part, in px of the image), "confidence" or None, and, where it has more parts or
        holes, "more": their outlines, to be filled by the even-odd rule.
    """
    result = []
    for index in ids:
        box = canvas.boxes[index]
        first, *others = rings_of(canvas.labels[box.place] == index, (box.left, box.top))
        nucleus = {"id": index, "box": [box.left, box.top, box.right, box.bottom]}
        nucleus |= {"outline": first, "confidence": confidences.get(index)}
        result.append(nucleus | ({"more": others} if others else {}))
    return result


def rings_of(mask: np.ndarray, corner: tuple[int, int]) -> list[list[int]]:
    """The outlines of a nucleus along the edges of its pixels, the longest first.

    `nuclei.polygons.trace` also tells parts and holes apart, which takes twice as long: a page with
    20,000 nuclei would wait for it.

    Args:
        mask: (rows, columns) bool.
        corner: (x, y) of its upper left pixel in the image.

    Returns:
        One list x, y, x, y, ... for each part and each hole.
    """
    # At twice the size each pixel has four centres, one for each of its corners.
    doubled = cv2.resize(mask.view(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = []
    for contour in contours:
        ring = (contour[:, 0] + 1) // 2
        moved = np.empty(len(ring), bool)
        moved[0] = (ring[0] != ring[-1]).any()
        np.any(ring[1:] != ring[:-1], axis=1, out=moved[1:])
        rings.append((ring[moved] + corner).ravel().tolist())
    return sorted(rings, key=len, reverse=True) if len(rings) > 1 else rings
