"""Divide the regions of a binary mask into nuclei, by the nuclei that a model found there.

In a binary mask touching nuclei are one region. What a model finds says where they meet; the mask
keeps its outline.

    mask = divide(regions, found)
    mask.labels                     # ids of nuclei, VOID where nobody can tell
"""

from typing import NamedTuple

import numpy as np

from nuclei.images.labels import count_pixels
from nuclei.images.reading import Stored
from nuclei.instances.shape import solidities
from nuclei.truth.masks import truth_of_stored

VOID = 65535  # value of pixels that are neither nucleus nor background
MAX_NUCLEI = VOID // 2  # in an image: beside higher ids VOID would be an id, too
# Area of a region with at most one found nucleus, over that of its convex hull. Of those regions of
# NuInsSeg 95 % have more.
MIN_SOLIDITY = 0.83
MIN_COVERED = 0.5  # share of a region that several found nuclei cover, below which it is void
MIN_INSIDE = 0.5  # share of a found nucleus that lies in the region to which it belongs


class DividedMask(NamedTuple):
    """A binary mask divided into nuclei.

    Attributes:
        labels: (H, W) int32, ids of nuclei 1...n without gaps, 0 background, and VOID.
        num_nuclei: n.
        num_divided: regions that became several nuclei.
        num_void: regions of which nobody can tell.
    """

    labels: np.ndarray
    num_nuclei: int
    num_divided: int
    num_void: int


def divide(regions: np.ndarray, found: np.ndarray, void: np.ndarray | None = None) -> DividedMask:
    """Give each region of a mask the nuclei that were found in it.

    A region with several found nuclei is divided: each of its pixels goes to the nearest one. Where
    they cover less than half of it, it is void. A region with one found nucleus or none is one
    nucleus, or void where it is too hollow for one.

    Args:
        regions: (H, W) int32, the regions of a binary mask, 1...n without gaps.
        found: (H, W) int32, ids of nuclei that a model found, 0 background.
        void: (H, W) bool, pixels of the background that are void; None for none.

    Raises:
        ValueError: there are too many nuclei for VOID to be told from an id.
    """
    from scipy.ndimage import find_objects

    labels = np.zeros(regions.shape, np.int32)
    if void is not None:
        labels[void] = VOID
    num_nuclei = num_divided = num_void = 0
    areas_px, solidity = count_pixels(found), solidities(regions)
    for index, box in enumerate(find_objects(regions)):
        region = regions[box] == index + 1
        parts = parts_of(region, np.where(region, found[box], 0), areas_px)
        if parts is None or (parts.max() == 1 and solidity[index] < MIN_SOLIDITY):
            labels[box][region] = VOID
            num_void += 1
            continue
        labels[box][region] = parts[region] + num_nuclei
        num_nuclei += int(parts.max())
        num_divided += parts.max() > 1
    if num_nuclei > MAX_NUCLEI:
        raise ValueError(
            f"{num_nuclei:,} nuclei, more than the {MAX_NUCLEI:,} of one divided mask; cut the "
            "image into smaller ones"
        )
    return DividedMask(labels, num_nuclei, num_divided, num_void)


def parts_of(region: np.ndarray, found: np.ndarray, areas_px: np.ndarray) -> np.ndarray | None:
    """Divide one region.

    Args:
        region: (h, w) bool.
        found: (h, w) int32, ids of found nuclei in the region, 0 elsewhere.
        areas_px: (m + 1,) areas of all found nuclei, whole.

    Returns:
        (h, w) int32, parts 1...k in the region, 0 elsewhere; None where the found nuclei cover too
        little.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import watershed

    ids, inside_px = np.unique(found[found > 0], return_counts=True)
    belongs = inside_px > MIN_INSIDE * areas_px[ids]
    ids, inside_px = ids[belongs], inside_px[belongs]
    if len(ids) < 2:
        return region.astype(np.int32)
    if inside_px.sum() < MIN_COVERED * region.sum():
        return None
    part = np.zeros(len(areas_px), np.int32)
    part[ids] = np.arange(1, len(ids) + 1)
    seeds = part[found]
    # Corners connect, as in the regions: a part reaches all of its pixels.
    return watershed(distance_transform_edt(seeds == 0), seeds, connectivity=2, mask=region)


def is_read_back(labels: np.ndarray) -> bool:
    """Whether `read_truth` reads the labels of a divided mask as they are meant.

    Beside few and small nuclei it takes VOID for a nucleus, and beside many specks ids for soft
    edges.
    """
    try:
        truth = truth_of_stored(Stored(labels, lossy=False), "a divided mask", ignore=())
    except ValueError:
        return False
    void = np.zeros(labels.shape, bool) if truth.void is None else truth.void
    read = np.where(void, VOID, truth.labels)
    read_as = np.zeros(VOID + 1, int)
    read_as[labels] = read
    values = np.unique(labels)
    is_one_to_one = len(np.unique(read_as[values])) == len(values)
    is_kept = read_as[0] == 0 and np.array_equal(void, labels == VOID)
    return bool(is_kept and is_one_to_one and (read_as[labels] == read).all())
