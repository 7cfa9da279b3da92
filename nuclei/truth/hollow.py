"""Ground truth that shows the outlines of nuclei in place of filled nuclei.

    filled = filled_outlines(labels, has_ids=False)     # None where the nuclei are filled already

Lines around nothing cannot be filled; `are_lines` tells them from nuclei.
"""

import numpy as np

from nuclei.images.labels import without_gaps
from nuclei.truth.borders import half_width
from nuclei.truth.regions import SPECK_PX

MAX_LINE_PX = 2.0  # half the width of a line; nuclei are wider
MAX_LINE = 0.5  # half the width of a line over that of what it encloses
MIN_ENCLOSED = 0.5  # area that lines enclose over their own, from which they are outlines
MIN_CLOSED = 0.8  # share of the pixels of lines that lie at an enclosed region
MIN_OWN = 0.8  # share of the edge of a region that belongs to one id, which then owns the region
MIN_SOLIDITY = 0.75  # area over that of the convex hull; gaps between round nuclei have 0.4
MIN_REGION = 0.1  # of the median area of enclosed regions: smaller ones are gaps
MIN_LENGTH = 12  # median area over the square of half the width, from which it is a line; discs: 4


def filled_outlines(labels: np.ndarray, has_ids: bool) -> np.ndarray | None:
    """Fill the nuclei of a truth that shows their outlines.

    Args:
        labels: (H, W) int32, 0 background.
        has_ids: whether each nucleus has an id of its own. Without, each region that the lines
            enclose is a nucleus, and gaps between round nuclei are known by their shape.

    Returns:
        (H, W) int32 labels without gaps; None where this is no truth of outlines.
    """
    lines = labels > 0
    if not lines.any() or lines.all() or half_width(lines) > MAX_LINE_PX:
        return None
    regions, areas_px = enclosed_regions(lines)
    inside = regions > 0
    if areas_px.sum() < MIN_ENCLOSED * lines.sum():
        return None
    if half_width(lines) > MAX_LINE * half_width(inside):
        return None
    if closed_share(lines, inside) < MIN_CLOSED:
        return None
    if has_ids:
        owners = owners_of(labels, regions)
        return without_gaps(np.where(inside, owners[regions], labels))
    return without_gaps(grown(lines, np.where(are_nuclei(regions, areas_px)[regions], regions, 0)))


def enclosed_regions(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The regions between lines, without the largest, which is the background.

    Args:
        lines: (H, W) bool.

    Returns:
        (H, W) int labels from 1 on, joined by edges, and the pixels of each; entry 0 is 0.
    """
    from skimage.measure import label

    regions = label(~lines, connectivity=1)
    areas_px = np.bincount(regions.ravel())
    areas_px[0] = 0
    background = areas_px.argmax()
    areas_px[background] = 0
    return np.where(regions == background, 0, regions), areas_px


def closed_share(lines: np.ndarray, inside: np.ndarray) -> float:
    """The share of pixels of lines near a region that they enclose: 0...1.

    Args:
        lines: (H, W) bool.
        inside: (H, W) bool, what they enclose.
    """
    import cv2

    reach = 4 * int(MAX_LINE_PX) + 1  # the width of a line on each side
    near = cv2.dilate(inside.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    return float(near[lines].mean())


def owners_of(labels: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The id that owns each region: the one with most of its edge, or 0 where several share it.

    Args:
        labels: (H, W) int32, 0 background.
        regions: (H, W) int, 0 or the number of a region.

    Returns:
        (number of regions + 1,) int32.
    """
    numbers, ids = [], []
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        for here, there in ((one, other), (other, one)):
            is_edge = (regions[here] > 0) & (labels[there] > 0)
            numbers.append(regions[here][is_edge])
            ids.append(labels[there][is_edge])
    edges, counts = np.unique(
        np.stack([np.concatenate(numbers), np.concatenate(ids)]), axis=1, return_counts=True
    )
    num_regions = int(regions.max()) + 1
    total = np.bincount(edges[0], counts, minlength=num_regions)
    owners = np.zeros(num_regions, np.int32)
    is_own = counts >= MIN_OWN * total[edges[0]]
    owners[edges[0][is_own]] = edges[1][is_own]
    return owners


def are_nuclei(regions: np.ndarray, areas_px: np.ndarray) -> np.ndarray:
    """Which regions are nuclei and no gaps between them, by area and shape.

    Args:
        regions: (H, W) int, 0 or the number of a region.
        areas_px: (number of regions + 1,) their areas.

    Returns:
        (number of regions + 1,) bool.
    """
    from skimage.measure import regionprops

    least = max(SPECK_PX, MIN_REGION * np.median(areas_px[areas_px > 0]))
    result = areas_px >= least
    for region in regionprops(regions):
        if result[region.label] and region.area_convex * MIN_SOLIDITY > region.area:
            result[region.label] = False
    return result


def grown(lines: np.ndarray, nuclei: np.ndarray) -> np.ndarray:
    """Give each pixel of the lines to the nearest nucleus that it lies at; (H, W) int labels.

    Lines around nothing, such as tiny nuclei, stay nuclei of their own.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.measure import label

    distance, nearest = distance_transform_edt(nuclei == 0, return_indices=True)
    is_near = lines & (distance <= 2 * MAX_LINE_PX)
    labels = np.where(is_near, nuclei[tuple(nearest)], nuclei)
    alone = label(lines & ~is_near, connectivity=2)
    is_large = (np.bincount(alone.ravel()) >= SPECK_PX)[alone]
    return np.where((alone > 0) & is_large, alone + nuclei.max(), labels)


def are_lines(labels: np.ndarray) -> bool:
    """Whether the nuclei of a truth are thin lines: most are long for their width.

    Args:
        labels: (H, W) int32, 0 background.
    """
    areas_px = np.bincount(labels.ravel())[1:]
    if not areas_px.size:
        return False
    width = half_width(labels > 0)
    return bool(width <= MAX_LINE_PX and np.median(areas_px) >= MIN_LENGTH * width**2)
