"""Nuclei as the page draws them: id, box, outlines and confidence, of those that it asks for.

describe(canvas, [3, 7], confidences)
"""

from collections.abc import Iterable

import numpy as np

from nuclei.app.canvas import Canvas
from nuclei.polygons import trace


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
        polygons = trace(canvas.labels[box.place] == index, np.array([box.top, box.left]))
        polygons.sort(key=lambda rings: -np.ptp(rings[0], axis=0).prod())
        first, *others = (ring[:, ::-1].ravel().tolist() for rings in polygons for ring in rings)
        nucleus = {"id": index, "box": [box.left, box.top, box.right, box.bottom]}
        nucleus |= {"outline": first, "confidence": confidences.get(index)}
        result.append(nucleus | ({"more": others} if others else {}))
    return result
