"""Label images: one id per nucleus, 0 for the background.

    labels = components(mask)                   # a mask whose nuclei do not touch
    labels = without_gaps(ids)                  # ids 0, 3, 7 become 0, 1, 2
    labels, num_shared = merge_masks(masks, shape)
    labels = read_labels("predictions/labels/a.png")

`read_labels` takes ids only. nuclei.truth.masks reads all other forms of ground truth.
"""

from collections.abc import Iterable

import numpy as np

from nuclei.images.reading import read_stored

TABLE_IDS = 1 << 24  # ids below which a table of them fits into memory
BAND_ROWS = 1024  # rows of an image that are worked on at once where temporary arrays are wide


def joined(values: np.ndarray) -> np.ndarray:
    """Regions of one value other than 0, joined by edges or corners, as (H, W) labels from 1 on."""
    from skimage.measure import label  # late: it brings SciPy, which reading an image does not need

    return label(values)  # 0 is the background, and corners connect


def components(mask: np.ndarray) -> np.ndarray:
    """Connected regions (edges or corners) of a (H, W) bool mask as (H, W) int32 labels."""
    return joined(mask).astype(np.int32)


def without_gaps(ids: np.ndarray) -> np.ndarray:
    """Ids 0, 3, 7 become 0, 1, 2 in their order; the parts of one id stay one nucleus.

    Args:
        ids: (H, W) integer, 0 or more.

    Returns:
        (H, W) int32.
    """
    if ids.max() < TABLE_IDS:  # a table is much faster than sorting all pixels
        is_present = np.bincount(ids.ravel().astype(np.intp)) > 0
        is_present[0] = False
        return is_present.cumsum(dtype=np.int32)[ids]
    values, indices = np.unique(ids, return_inverse=True)
    return (indices.reshape(ids.shape) + (0 if values[0] == 0 else 1)).astype(np.int32)


def count_pixels(labels: np.ndarray) -> np.ndarray:
    """Number of pixels of each id, (n + 1,) int64; entry 0 is the background.

    Args:
        labels: (H, W) integer, 0 or more. A large image is counted in bands, since `np.bincount`
            makes 8 bytes of each pixel.
    """
    counts = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    for start in range(0, len(labels), BAND_ROWS):
        counts += np.bincount(labels[start : start + BAND_ROWS].ravel(), minlength=len(counts))
    return counts


def equivalent_diameters(areas_px: np.ndarray) -> np.ndarray:
    """Diameters in px of the circles that have these areas: (n,) float64."""
    return 2 * np.sqrt(areas_px / np.pi)


def merge_masks(masks: Iterable[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """One label image of many (H, W) bool masks, one nucleus each; see `merge_nuclei`."""
    # As indices: hundreds of whole masks would fill the memory.
    return merge_nuclei([np.flatnonzero(mask) for mask in masks], shape)


def merge_nuclei(nuclei: list[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """One label image of many nuclei, whose ids follow their order.

    A pixel that several nuclei claim goes to the smallest of them (of equal ones, to the last),
    since a small nucleus under a large one would vanish.

    Args:
        nuclei: flat indices of the pixels of each nucleus, row by row.
        shape: height and width in pixels.

    Returns:
        (H, W) int32 labels and the number of pixels that two or more nuclei claim.
    """
    labels = np.zeros(shape, np.int32)
    claims = np.zeros_like(labels)
    for index in sorted(range(len(nuclei)), key=lambda index: (-nuclei[index].size, index)):
        labels.flat[nuclei[index]] = index + 1
        claims.flat[nuclei[index]] += 1
    return without_gaps(labels), int((claims > 1).sum())


def read_labels(path) -> np.ndarray:
    """Read a label image as it is stored: the ids keep their numbers.

    Returns:
        (H, W) int32.

    Raises:
        FileNotFoundError, ValueError: as `read_stored`; ValueError also where the file is no label
            image.
    """
    pixels = read_stored(path).pixels
    largest = pixels.max()
    is_integer = pixels.dtype.kind in "iu"
    if pixels.ndim != 2 or not is_integer or pixels.min() < 0 or largest >= 2**31:
        raise ValueError(
            f"{path} is no label image (shape {pixels.shape}, {pixels.dtype}); expected one id per "
            "nucleus"
        )
    if largest == 255 and len(np.unique(pixels)) == 2:
        raise ValueError(
            f"{path} is a mask of 0 and 255; expected one id per nucleus, as predict.py writes to "
            "labels/"
        )
    return pixels.astype(np.int32)
