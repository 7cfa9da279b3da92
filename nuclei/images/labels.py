"""nuclei.images.labels"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from nuclei.images.reading import read_stored


class Truth(NamedTuple):
    """Per-nucleus truth of one image, and how it was understood.

    labels: (H, W) int32, 0 background, 1...n nuclei without gaps.
    form: "binary", "binary (lossy JPEG)", "instances" (ids, or outlines), "instance colours" or "empty".
    repaired: share of pixels, 0...1, that held neither the background nor the nucleus value (JPEG noise, soft edges).
    """

    labels: np.ndarray
    form: str
    repaired: float


def joined(values: np.ndarray) -> np.ndarray:
    """Regions of one value other than 0, joined by edges or corners, as (H, W) labels from 1 on."""
    from skimage.measure import label  # here: it brings SciPy, half a second that reading an image does without

    return label(values, background=0, connectivity=2)


def components(mask: np.ndarray) -> np.ndarray:
    """Connected regions (edges or corners) of a (H, W) bool mask as (H, W) int32 labels."""
    return joined(mask).astype(np.int32)


def without_gaps(ids: np.ndarray) -> np.ndarray:
    """Ids 0, 3, 7 become 0, 1, 2: (H, W) int32 in the order of the ids. Parts of one id stay one nucleus."""
    if ids.max() < 1 << 24:  # a table is ten times faster than sorting all pixels
        present = np.zeros(int(ids.max()) + 1, np.int32)
        present[ids.astype(np.intp, copy=False)] = 1
        present[0] = 0
        return present.cumsum(dtype=np.int32)[ids]
    values, indices = np.unique(ids, return_inverse=True)
    return (indices.reshape(ids.shape) + (0 if values[0] == 0 else 1)).astype(np.int32)


def merge_masks(masks: Iterable[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """One label image of many (H, W) bool masks, one nucleus each, as `merge_nuclei`."""
    return merge_nuclei([np.flatnonzero(mask) for mask in masks], shape)  # hundreds of whole masks would fill the memory


def merge_nuclei(nuclei: list[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """One label image of many nuclei, given as flat indices: ((H, W) int32 labels, pixels claimed twice or more).

    Ids follow the order of the nuclei. A pixel that several claim goes to the smallest of them (of equal ones, to the
    last), since a small nucleus under a large one would vanish.
    """
    labels, claims = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for index in sorted(range(len(nuclei)), key=lambda index: (-nuclei[index].size, index)):
        labels.flat[nuclei[index]] = index + 1
        claims.flat[nuclei[index]] += 1
    return without_gaps(labels), int((claims > 1).sum())


def read_labels(path):
    """A label image as it is stored: (H, W) int32. Raises: ValueError where it is none."""
    pixels = read_stored(path).pixels
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu" or pixels.min(initial=0) < 0 or pixels.max(initial=0) >= 2**31:
        raise ValueError(f"{path} is no label image (shape {pixels.shape}, {pixels.dtype}); expected one id per nucleus")
    if pixels.max(initial=0) == 255 and len(np.unique(pixels)) == 2:
        raise ValueError(f"{path} is a mask of 0 and 255; expected one id per nucleus, as predict.py writes to labels/")
    return pixels.astype(np.int32)
