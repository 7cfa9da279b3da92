"""Read ground truth in any of its usual forms as one id per nucleus.

    truth = read_truth("data/gt/a.png")
    truth.labels, truth.form            # (H, W) int32, "instances"

The form is recognised by the values: a mask of two values, ids, one colour per nucleus, or a mask
with soft edges, such as JPEG leaves. Values that fit none of them end in a ValueError.
"""

from pathlib import Path

import numpy as np

from nuclei.images.annotations import OUTLINE_SUFFIXES, read_outlines
from nuclei.images.arrays import ARRAY_SUFFIXES, read_array
from nuclei.images.labels import (
    BINARY,
    BINARY_LOSSY,
    EMPTY,
    INSTANCE_COLOURS,
    INSTANCES,
    Truth,
    components,
    joined,
    without_gaps,
)
from nuclei.images.reading import read_stored

# Share of the foreground near its top value. Masks of DSB2018 saved as JPEG have over 0.99, its ids
# saved as JPEG under 0.55. In exact files, small nuclei with soft edges have 0.4, noise has 0.2.
MIN_CLEAN_SHARE_JPEG = 0.6
MIN_CLEAN_SHARE = 0.3
CLEAN_REACH = 0.15  # of the top value: nearer values count as clean, lower ones as background
MAX_JPEG_COLOUR = 32  # grey levels between channels that JPEG leaves on a grey mask
MAX_DUST = 0.5  # share of specks above which values are soft edges and no ids
SPECK_PX = 6  # regions of fewer pixels are specks
MAX_CLASSES = 9  # values of a mask that holds classes instead of nuclei, background included


def read_truth(path, shape: tuple[int, int] | None = None, stem: str | None = None) -> Truth:
    """Read a mask in any of its usual forms, an array or outlines, as one id per nucleus.

    These forms are recognised: 0/1, 0/255 or boolean (binary), the same after JPEG or with soft
    edges (cut half-way, the repaired share reported), integer ids (instances), one colour per
    nucleus on black or on the most frequent colour (instance colours). The nuclei of a binary truth
    are its components, so touching nuclei are one.

    Args:
        path: an image, a file of ARRAY_SUFFIXES, or a file of outlines.
        shape: height and width of the image in pixels, which files of outlines need.
        stem: of the image, which outlines of a whole set need; None takes the name of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `read_stored`, `read_array` and `read_outlines`, or the values fit none of
            these forms, such as ids that went through JPEG.
    """
    if str(path).lower().endswith(OUTLINE_SUFFIXES):
        return read_outlines(path, shape, stem)
    if str(path).lower().endswith(ARRAY_SUFFIXES):
        return truth_from_values(read_array(path), False, path)
    pixels, lossy = read_stored(path)
    if pixels.ndim == 3:
        pixels = pixels[..., :3]  # without alpha
        spread = pixels.max(axis=2) - pixels.min(axis=2)
        if spread.any() and not (lossy and np.percentile(spread, 99) <= MAX_JPEG_COLOUR):
            return truth_from_colours(pixels, lossy, path)
        pixels = pixels[..., 1]
    return truth_from_values(pixels, lossy, path)


def truth_from_colours(pixels: np.ndarray, lossy: bool, path) -> Truth:
    """Understand (H, W, 3) pixels, one colour per nucleus; a single colour is a binary mask."""
    if not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(
            f"{path} is a coloured truth of dtype {pixels.dtype}; expected 8-bit colours, one per "
            "nucleus"
        )
    codes = np.zeros(pixels.shape[:2], np.int64)
    for channel in range(3):
        codes = codes << 16 | pixels[..., channel].astype(np.int64)
    colours, ids, counts = np.unique(codes, return_inverse=True, return_counts=True)
    ids = ids.reshape(codes.shape)
    background = 0 if colours[0] == 0 else int(counts.argmax())  # black, where there is any
    if len(colours) > 2 and (lossy or dust_share(ids + 1, joined(ids + 1)) > MAX_DUST):
        raise ValueError(
            f"{path} is a coloured truth of {len(colours)} colours blurred by JPEG or by "
            "resampling, which destroys the ids; expected one exact colour per nucleus: save it "
            "again as png from its source"
        )
    if len(colours) == 2:
        return Truth(components(ids != background), BINARY, 0.0)
    labels = without_gaps(np.where(ids == background, 0, ids + 1))
    return Truth(labels, INSTANCE_COLOURS, 0.0)


def truth_from_values(pixels: np.ndarray, lossy: bool, path) -> Truth:
    """Understand (H, W) grey levels, booleans or ids."""
    pixels = whole_numbers(pixels, path)
    values, counts = np.unique(pixels, return_counts=True)
    if values[0] < 0:
        raise ValueError(
            f"{path} holds negative values (down to {values[0]}); expected 0 for background, ids "
            "above"
        )
    binary = BINARY_LOSSY if lossy else BINARY
    if len(values) == 1:
        if values[0] == 0:
            return Truth(np.zeros(pixels.shape, np.int32), EMPTY, 0.0)
        return Truth(np.ones(pixels.shape, np.int32), binary, 0.0)
    if len(values) == 2:
        # A mask of 1 and 2 could also be two ids without background; the higher is the nucleus.
        return Truth(components(pixels == values[1]), binary, 0.0)
    if not lossy:
        pieces = joined(pixels)
        is_clean = dust_share(pixels, pieces) <= MAX_DUST
        if is_clean and len(values) <= MAX_CLASSES and pieces.max() > 2 * len(values):
            return Truth(components(pixels > 0), BINARY, 0.0)  # each value in several places
        if is_clean or are_tiny_nuclei(values, counts, pieces):
            return Truth(without_gaps(pixels), INSTANCES, 0.0)
    return truth_from_soft_mask(pixels, lossy, path)


def whole_numbers(pixels: np.ndarray, path) -> np.ndarray:
    """Pixels as integers; shares of 1 or resampled values become 0...65535.

    Raises:
        ValueError: a value is complex, infinite or NaN.
    """
    if np.issubdtype(pixels.dtype, np.inexact):
        if np.iscomplexobj(pixels) or not np.isfinite(pixels).all():
            raise ValueError(
                f"{path} holds NaN, infinite or complex values; expected a mask of whole numbers"
            )
        if (pixels != np.round(pixels)).any():
            pixels = pixels.astype(np.float64) - pixels.min()
            pixels = np.round(pixels * (65535 / pixels.max())) if pixels.any() else pixels + 1
    return pixels if pixels.dtype.kind in "iu" else pixels.astype(np.int64)


def are_tiny_nuclei(values: np.ndarray, counts: np.ndarray, pieces: np.ndarray) -> bool:
    """Whether values that look like dust are the ids of nuclei of a pixel or two.

    Each such id is one piece, no id prevails, and most of the image is background.

    Args:
        values: the values of the image, ascending.
        counts: the pixels of each value.
        pieces: (H, W) labels of the regions of equal value.
    """
    foreground = counts[values > 0]
    none_prevails = foreground.max() < 0.3 * foreground.sum()
    is_sparse = foreground.sum() < 0.5 * counts.sum()
    return bool(pieces.max() <= 1.5 * len(values) and none_prevails and is_sparse)


def truth_from_soft_mask(pixels: np.ndarray, lossy: bool, path) -> Truth:
    """Understand a mask with soft edges, (H, W) integers: most of its foreground is near one value.

    Raises:
        ValueError: the values are rather ids, or the grey levels of an image.
    """
    values, counts = np.unique(pixels, return_counts=True)
    is_bright = values > values[-1] / 4
    top = float(values[is_bright][counts[is_bright].argmax()])
    near_top = np.abs(values - top) <= CLEAN_REACH * top
    clean = counts[near_top].sum() / counts[values > CLEAN_REACH * top].sum()
    if clean < (MIN_CLEAN_SHARE_JPEG if lossy else MIN_CLEAN_SHARE):
        kind = "ids of nuclei saved as JPEG" if lossy else "grey levels of an image"
        raise ValueError(
            f"{path} has {len(values)} grey levels that are neither a mask of two values nor exact "
            f"ids (it looks like {kind}); JPEG and resampling destroy ids: save the truth again as "
            "png or tif from its source"
        )
    repaired = float(counts[(values != values[0]) & (values != top)].sum() / counts.sum())
    return Truth(components(pixels > top / 2), BINARY_LOSSY if lossy else BINARY, repaired)


def dust_share(values: np.ndarray, pieces: np.ndarray) -> float:
    """How much of the foreground is dust: near 0 for ids, near 1 for soft edges.

    Ids form whole nuclei, soft edges form specks of equal value around them.

    Args:
        values: (H, W) integer, 0 background.
        pieces: (H, W) labels of the regions of equal value.

    Returns:
        The share, 0...1, of specks in the foreground outside its most frequent value.
    """
    speck = (np.bincount(pieces.ravel()) < SPECK_PX)[pieces]
    levels, counts = np.unique(values[values > 0], return_counts=True)
    others = (values > 0) & (values != levels[counts.argmax()])
    return float((speck & others).sum() / max(1, others.sum()))


def read_nucleus(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read the mask of one nucleus.

    Returns:
        (H, W) bool.

    Raises:
        FileNotFoundError, ValueError: as `read_truth`; ValueError also where it is not of `shape`.
    """
    mask = read_truth(path).labels > 0
    if mask.shape != shape:
        raise ValueError(
            f"a mask of {mask.shape} px, an image of {shape} (height, width); expected equal sizes"
        )
    return mask
