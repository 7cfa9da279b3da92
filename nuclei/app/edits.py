"""The edits of nuclei that need no network: delete, merge, draw, brush, grow, shrink.

    draft = canvas.draft()
    merge(draft, [3, 7])
    edit = draft.finish("merge")

Each takes a `Draft`, puts pixels there, and raises `Refused` with a sentence for the user where it
makes no sense. Points are (x, y) in px of the image: the pixel in the upper left corner covers 0 to
1, its centre lies at (0.5, 0.5). No edit takes a pixel of another nucleus.
"""

from collections.abc import Sequence

import numpy as np

from nuclei.app.canvas import Draft
from nuclei.images.box import Box
from nuclei.instances.separate import SMALLEST_PX

MAX_GAP_PX = 4  # between two nuclei that may be merged; a wider gap is background
MAX_SIDE_PX = 4000  # of the part of an image that one edit changes: a slip, not a nucleus


class Refused(ValueError):
    """An edit that makes no sense. The message is a plain sentence for the user."""


def delete(draft: Draft, ids: Sequence[int]) -> None:
    """Remove nuclei."""
    for index in require(draft, ids):
        box, mask = draft.mask(index)
        draft.put(box, np.where(mask, 0, draft.canvas.labels[box.place]))


def merge(draft: Draft, ids: Sequence[int]) -> None:
    """Make one nucleus of several that touch, or nearly; the first one keeps its id."""
    ids = require(draft, ids)
    if len(ids) < 2:
        raise Refused("Choose two or more nuclei to merge.")
    boxes = [draft.canvas.boxes[index] for index in ids]
    box = limited(draft.canvas.around(*boxes, margin_px=MAX_GAP_PX))
    labels = draft.canvas.labels[box.place]
    mask = np.isin(labels, ids)
    mask = bridged(mask, mask | (labels == 0))
    draft.put(box, np.where(mask, ids[0], labels))


def bridged(mask: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """A mask whose parts are joined across narrow gaps of allowed pixels. Both are bool."""
    import cv2

    num_parts = 0
    for gap_px in range(MAX_GAP_PX + 1):
        closed = mask.astype(np.uint8)
        if gap_px:
            disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * gap_px + 1, 2 * gap_px + 1))
            closed = cv2.morphologyEx(closed, cv2.MORPH_CLOSE, disk) & allowed
        num_parts = cv2.connectedComponents(closed, connectivity=8)[0] - 1
        if num_parts == 1:
            return closed.astype(bool)
    raise Refused("These nuclei do not touch: move their edges together first, or draw one.")


def draw(draft: Draft, outline: np.ndarray) -> None:
    """Add a nucleus: what is free inside an outline, (n, 2) as (x, y)."""
    if len(outline) < 3:
        raise Refused("An outline needs three points or more.")
    box = limited(box_of(draft, outline))
    add_nucleus(draft, box, filled(outline, box))


def brush(draft: Draft, index: int | None, stroke: np.ndarray, radius: float, erase: bool) -> None:
    """Add the pixels under a brush to a nucleus or take them from it; None makes a new nucleus.

    Args:
        draft: of the edit.
        index: of the nucleus.
        stroke: (n, 2) as (x, y).
        radius: of the brush in px.
        erase: take pixels away.
    """
    box = limited(box_of(draft, stroke, margin_px=int(radius) + 2))
    if index is None:
        if erase:
            raise Refused("Choose the nucleus to take away from.")
        add_nucleus(draft, box, swept(stroke, radius, box))
        return
    require(draft, [index])
    box = limited(draft.canvas.around(box, draft.canvas.boxes[index]))
    labels = draft.canvas.labels[box.place]
    mask, under = labels == index, swept(stroke, radius, box)
    if erase:
        replace(draft, box, index, mask & ~under)
    else:
        replace(draft, box, index, joined_to(mask, mask | (under & (labels == 0))))


def grow(draft: Draft, ids: Sequence[int], by: int = 1) -> None:
    """Move the edges of nuclei outward by whole px, as far as there is background."""
    import cv2

    for step in range(by):
        for index in require(draft, ids):
            box, mask = draft.mask(index, margin_px=1)
            larger = cv2.dilate(mask.astype(np.uint8), kernel(step)).astype(bool)
            labels = draft.canvas.labels[box.place]
            draft.put(box, np.where(larger & (labels == 0), index, labels))
    if not draft.pieces:
        raise Refused("There is no room to grow.")


def shrink(draft: Draft, ids: Sequence[int], by: int = 1) -> None:
    """Move the edges of nuclei inward by whole px."""
    import cv2

    for index in require(draft, ids):
        box, mask = draft.mask(index, margin_px=1)
        smaller = mask.astype(np.uint8)
        for step in range(by):
            smaller = cv2.erode(smaller, kernel(step))
        if smaller.sum() < SMALLEST_PX:
            raise Refused("The nucleus would vanish: delete it instead.")
        replace(draft, box, index, smaller.astype(bool))


def kernel(step: int) -> np.ndarray:
    """Neighbours of a pixel, four and eight in turn: many steps then make an octagon."""
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_RECT if step % 2 else cv2.MORPH_CROSS, (3, 3))


def require(draft: Draft, ids: Sequence[int]) -> list[int]:
    """The ids without repetition. Raises: Refused, where a nucleus is not there."""
    ids = list(dict.fromkeys(ids))
    if missing := [index for index in ids if index not in draft.canvas.boxes]:
        raise Refused(f"Nucleus {missing[0]} is no longer there.")
    return ids


def limited(box: Box) -> Box:
    """The box itself. Raises: Refused, where it is empty or too large for one edit."""
    if min(box.shape) <= 0:
        raise Refused("This lies outside of the image.")
    if max(box.shape) > MAX_SIDE_PX:
        raise Refused(f"This is larger than {MAX_SIDE_PX:,} px: do it in parts.")
    return box


def box_of(draft: Draft, points: np.ndarray, margin_px: int = 1) -> Box:
    """The box around points (n, 2) as (x, y), cut to the image; it may be empty."""
    left, top = np.floor(points.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(points.max(axis=0)).astype(int).tolist()
    return draft.canvas.around(Box(top, bottom, left, right), margin_px=margin_px)


def filled(outline: np.ndarray, box: Box) -> np.ndarray:
    """Which pixels of a box have their centre inside an outline, as bool.

    Each edge changes inside and outside to the right of where it crosses a row of centres. So the
    time does not grow with pixels times points, as that of scikit-image does.
    """
    height, width = box.shape
    is_edge = np.zeros((height, width + 1), bool)
    points = outline - (box.left + 0.5, box.top + 0.5)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = sorted((start, end), key=lambda point: point[1])
        rows = np.arange(max(0, int(np.ceil(y0))), min(height, int(np.ceil(y1))))
        if len(rows):
            columns = np.ceil(x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
            is_edge[rows, columns.clip(0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(is_edge[:, :-1], axis=1)


def traced(stroke: np.ndarray, box: Box) -> np.ndarray:
    """The pixels of a box along a stroke of one px, as uint8."""
    import cv2

    corners = np.floor(stroke - (box.left, box.top)).astype(np.int32)
    corners = np.concatenate([corners, corners[-1:]])  # OpenCV draws no line of one point
    line = np.zeros(box.shape, np.uint8)
    return cv2.polylines(line, [corners.reshape(-1, 1, 2)], False, 1)


def swept(stroke: np.ndarray, radius: float, box: Box) -> np.ndarray:
    """The pixels of a box under a round brush that follows a stroke, as bool."""
    import cv2

    distances = cv2.distanceTransform(1 - traced(stroke, box), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distances <= max(0.0, radius - 0.5)


def parts_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts of a bool mask joined by edges: (labels int32, areas in px), 0 is outside."""
    from nuclei.instances.separate import connected

    return connected(np.ascontiguousarray(mask))


def joined_to(mask: np.ndarray, larger: np.ndarray) -> np.ndarray:
    """The parts of a larger mask that hold a pixel of a mask."""
    parts, _ = parts_of(larger)
    return larger & np.isin(parts, np.unique(parts[mask]))


def add_nucleus(draft: Draft, box: Box, mask: np.ndarray) -> None:
    """Add the largest free part of a mask as a nucleus."""
    labels = draft.canvas.labels[box.place]
    parts, areas = parts_of(mask & (labels == 0))
    areas[0] = 0
    if areas.max() < SMALLEST_PX:
        raise Refused(f"There is no room here for a nucleus (at least {SMALLEST_PX} free px).")
    draft.put(box, np.where(parts == areas.argmax(), draft.new_id(), labels))


def replace(draft: Draft, box: Box, index: int, mask: np.ndarray) -> None:
    """Let a nucleus have other pixels. Where it falls apart, the largest part keeps its id.

    Args:
        draft: of the edit.
        box: holds all pixels of the nucleus, before and after.
        index: of the nucleus.
        mask: its new pixels in the box, bool. Parts that are too small for a nucleus are dropped.
    """
    labels = draft.canvas.labels[box.place]
    pixels = np.where(labels == index, 0, labels)
    parts, areas = parts_of(mask)
    areas[0] = 0
    for rank, part in enumerate(np.argsort(-areas, kind="stable")):
        if rank == 0 or areas[part] >= SMALLEST_PX:
            pixels[(parts == part) & (part > 0)] = draft.new_id() if rank else index
    if np.array_equal(pixels, labels):
        raise Refused("This changes nothing.")
    draft.put(box, pixels)
