"""Nuclei as the page draws them: id, box, outlines and confidence, of those that it asks for.

describe(canvas, [3, 7], confidences)       # a list
as_json(canvas, confidences)                # all of them, as text
"""

import json
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from nuclei.app.canvas import Canvas
from nuclei.images.box import Box

STRIP_PX = 300_000  # pixels of nuclei that are traced at once
Rings = list[list[int]]


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
    ids = list(ids)
    rings, result = rings_of(canvas, ids), []
    for index in ids:
        box = canvas.boxes[index]
        first, *others = rings[index]
        nucleus = {"id": index, "box": [box.left, box.top, box.right, box.bottom]}
        nucleus |= {"outline": first} | ({"more": others} if others else {})
        result.append(nucleus | {"confidence": confidences.get(index)})
    return result


def as_json(canvas: Canvas, confidences: dict[int, float]) -> str:
    """All nuclei as JSON: the list of `describe`.

    The canvas keeps the text of each nucleus, so that an image is opened again in no time. As lists
    of numbers they would take five times the memory.
    """
    texts = canvas.texts
    for nucleus in describe(canvas, sorted(canvas.boxes.keys() - texts.keys()), {}):
        more = f',"more":{nucleus["more"]}' if "more" in nucleus else ""
        # Python writes lists of whole numbers as JSON does; the module takes twice as long.
        text = f'{{"id":{nucleus["id"]},"box":{nucleus["box"]},"outline":{nucleus["outline"]}{more}'
        texts[nucleus["id"]] = text.replace(" ", "")
    items = (
        f'{texts[index]},"confidence":{json.dumps(confidences.get(index))}}}'
        for index in sorted(canvas.boxes)
    )
    return f"[{','.join(items)}]"


def rings_of(canvas: Canvas, ids: list[int]) -> dict[int, Rings]:
    """The outlines of nuclei along the edges of their pixels.

    They are traced many at once, side by side in a strip: one by one, the calls of OpenCV and NumPy
    take ten times longer than their work, and a page with 20,000 nuclei would wait for it.
    `nuclei.polygons.trace` also tells parts and holes apart, which nobody needs here.

    Returns:
        {id: lists x, y, x, y, ... of its parts and holes, in px of the image, the longest first}.
    """
    rings: dict[int, Rings] = {index: [] for index in ids}
    for batch in batches(canvas.boxes, ids):
        strip, lefts = side_by_side(canvas, batch)
        corners = [(canvas.boxes[index].left, canvas.boxes[index].top) for index in batch]
        for place, ring in traced(strip, lefts, np.array(corners)):
            rings[batch[place]].append(ring)
    return {
        index: sorted(found, key=len, reverse=True) if len(found) > 1 else found
        for index, found in rings.items()
    }


def batches(boxes: dict[int, Box], ids: list[int]) -> Iterator[list[int]]:
    """Divide ids into lists whose nuclei fill a strip of STRIP_PX; like heights come together."""
    batch, width = [], 0
    for index in sorted(ids, key=lambda index: boxes[index].shape[0]):
        rows, columns = boxes[index].shape
        if batch and rows * (width + columns + 1) > STRIP_PX:
            yield batch
            batch, width = [], 0
        batch.append(index)
        width += columns + 1
    if batch:
        yield batch


def side_by_side(canvas: Canvas, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The masks of nuclei beside each other, with a free column behind each.

    Returns:
        (strip, lefts): (rows, columns) uint8, and the column where each mask begins.
    """
    shapes = [canvas.boxes[index].shape for index in ids]
    ends = np.cumsum([columns + 1 for _, columns in shapes])
    lefts = np.concatenate([[0], ends[:-1]])
    strip = np.zeros((max(rows for rows, _ in shapes), ends[-1]), np.uint8)
    for index, left, (rows, columns) in zip(ids, lefts.tolist(), shapes, strict=True):
        mask = canvas.labels[canvas.boxes[index].place] == index
        strip[:rows, left : left + columns] = mask
    return strip, lefts


def traced(
    strip: np.ndarray, lefts: np.ndarray, corners: np.ndarray
) -> Iterator[tuple[int, list[int]]]:
    """The outlines in a strip.

    Args:
        strip, lefts: as of `side_by_side`.
        corners: (n, 2) x and y of the upper left pixels of the nuclei in the image.

    Yields:
        (place of the nucleus in the strip, x, y, x, y, ... in px of the image).
    """
    # At twice the size each pixel has four centres, one for each of its corners.
    doubled = cv2.resize(strip, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    lengths = np.array([len(contour) for contour in contours])
    starts = np.cumsum(lengths) - lengths
    centres = np.concatenate(contours)[:, 0]
    places = np.searchsorted(lefts, centres[starts, 0] // 2, side="right") - 1
    points = (centres + 1) >> 1
    steps = np.diff(points, axis=0, prepend=0)
    steps[starts] = points[starts] - points[starts + lengths - 1]
    moved = (steps[:, 0] | steps[:, 1]) != 0
    counts = np.add.reduceat(moved, starts, dtype=int)
    shifts = (corners - np.stack([lefts, 0 * lefts], axis=1))[places].astype(np.int32)
    numbers = (points[moved] + np.repeat(shifts, counts, axis=0)).ravel().tolist()
    ends = (2 * counts).cumsum().tolist()
    for place, start, end in zip(places.tolist(), [0, *ends[:-1]], ends, strict=True):
        yield place, numbers[start:end]
