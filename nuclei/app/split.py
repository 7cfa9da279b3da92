"""Divide a nucleus in two or more: along a stroke, or between two points.

    split_by_stroke(draft, 3, stroke)
    split_by_points(draft, 3, points, heights)  # heights: by the network, high in the middle

Where no network is at hand, the distance to the edge of the nucleus takes the place of its maps.
"""

from collections.abc import Callable

import numpy as np

from nuclei.app.canvas import Draft
from nuclei.app.edits import Refused, parts_of, require, traced
from nuclei.images.box import Box
from nuclei.instances.separate import SMALLEST_PX

MAX_MISS_PX = 4  # a point may lie so far outside of the nucleus that it means
# From a box to (rows, columns) float32, or None where there is no network.
Heights = Callable[[Box], np.ndarray | None]


def split_by_stroke(draft: Draft, index: int, stroke: np.ndarray) -> None:
    """Cut a nucleus where a stroke, (n, 2) as (x, y), crosses it."""
    from skimage.segmentation import watershed

    require(draft, [index])
    box, mask = draft.mask(index)
    parts, areas = parts_of(mask & (traced(stroke, box) == 0))
    areas[0] = 0
    is_small = areas < min(SMALLEST_PX, areas.max())
    if (~is_small).sum() < 2:
        raise Refused("The stroke does not cross the nucleus: begin and end it outside.")
    parts[is_small[parts]] = 0
    # The pixels under the stroke go to the nearest part.
    share_out(draft, box, index, watershed(np.zeros(box.shape), parts, mask=mask))


def split_by_points(draft: Draft, index: int, points: np.ndarray, heights: Heights) -> None:
    """Divide a nucleus between the nuclei that two points lie in.

    Args:
        draft: of the edit.
        index: of the nucleus.
        points: (2, 2) as (x, y).
        heights: what `marker_heights` gives for a part of the image; the border follows its valley.
    """
    import cv2
    from skimage.segmentation import watershed

    require(draft, [index])
    box, mask = draft.mask(index, margin_px=1)
    markers = np.zeros(box.shape, np.int32)
    for number, point in enumerate(points, start=1):
        markers[nearest_pixel(mask, point - (box.left, box.top))] = number
    if len(np.unique(markers)) < 3:
        raise Refused("The two points are the same: choose one in each half.")
    surface = heights(box)
    if surface is None:
        surface = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    share_out(draft, box, index, watershed(-surface, markers, mask=mask))


def nearest_pixel(mask: np.ndarray, point: np.ndarray) -> tuple[int, int]:
    """(row, column) of the pixel of a mask that is nearest to a point (x, y) of the box."""
    rows, columns = np.nonzero(mask)
    distances = np.hypot(columns + 0.5 - point[0], rows + 0.5 - point[1])
    nearest = distances.argmin()
    if distances[nearest] > MAX_MISS_PX:
        raise Refused("Both points must lie in the nucleus that is to be divided.")
    return int(rows[nearest]), int(columns[nearest])


def share_out(draft: Draft, box: Box, index: int, parts: np.ndarray) -> None:
    """Make a nucleus of each part of one nucleus; the largest keeps its id.

    Args:
        draft: of the edit.
        box: its box.
        index: its id.
        parts: (rows, columns) int32, 0 outside of the nucleus.
    """
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    pixels = draft.canvas.labels[box.place].copy()
    for rank, part in enumerate(np.argsort(-areas, kind="stable")):
        if areas[part]:
            pixels[parts == part] = draft.new_id() if rank else index
    draft.put(box, pixels)
