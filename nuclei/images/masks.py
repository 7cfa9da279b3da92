"""nuclei.images.masks"""

from pathlib import Path

import numpy as np

from nuclei.images.annotations import OUTLINE_SUFFIXES, read_outlines
from nuclei.images.labels import Truth, components, joined, without_gaps
from nuclei.images.reading import read_stored

MIN_CLEAN_SHARE_JPEG = 0.6  # of the foreground near its top value: DSB2018 masks as JPEG > 0.99, its ids as JPEG < 0.55
MIN_CLEAN_SHARE = 0.3  # the same in exact files, where small nuclei with soft edges have 0.4 and noise has 0.2


def read_truth(path, shape: tuple[int, int] | None = None) -> Truth:
    """Read a mask in any of its usual forms, or outlines, as one id per nucleus.

    Understood without being told: 0/1, 0/255 or boolean (binary), the same after JPEG or with soft edges (thresholded
    half-way, the repaired share reported), integer ids (instances), one colour per nucleus on black or on the most
    frequent colour (instance colours). Touching nuclei of a binary truth are merged: its components are the nuclei.

    shape: (height, width) of the image, which files of outlines do not hold; see `read_outlines`.
    Raises: FileNotFoundError; ValueError as `read_stored`, or where the values fit none of these forms, as ids that
    went through JPEG.
    """
    if str(path).lower().endswith(OUTLINE_SUFFIXES):
        return read_outlines(path, shape)
    pixels, lossy = read_stored(path)
    if pixels.ndim == 3:
        pixels = pixels[..., :3]  # without alpha
        spread = pixels.max(axis=2) - pixels.min(axis=2)
        # JPEG leaves a trace of colour on grey masks; more than that is a coloured truth.
        if not spread.any() or (lossy and np.percentile(spread, 99) <= 32):
            pixels = pixels[..., 1]
        else:
            return truth_from_colours(pixels, lossy, path)
    return truth_from_values(pixels, lossy, path)


def truth_from_colours(pixels: np.ndarray, lossy: bool, path) -> Truth:
    """One colour per nucleus, as (H, W, 3); a single colour on the ground is a binary mask."""
    if not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(f"{path} is a coloured truth of dtype {pixels.dtype}; expected 8-bit colours, one per nucleus")
    codes = np.zeros(pixels.shape[:2], np.int64)
    for channel in range(3):
        codes = codes << 16 | pixels[..., channel].astype(np.int64)
    colours, ids, counts = np.unique(codes, return_inverse=True, return_counts=True)
    ids = ids.reshape(codes.shape)
    ground = 0 if colours[0] == 0 else int(counts.argmax())  # black where there is any
    if len(colours) > 2 and (lossy or dust_share(ids + 1, joined(ids + 1)) > 0.5):
        raise ValueError(
            f"{path} is a coloured truth of {len(colours)} colours blurred by JPEG or by resampling, which destroys "
            "the ids; expected one exact colour per nucleus: save it again as png from its source"
        )
    if len(colours) == 2:
        return Truth(components(ids != ground), "binary", 0.0)
    return Truth(without_gaps(np.where(ids == ground, 0, ids + 1)), "instance colours", 0.0)


def truth_from_values(pixels: np.ndarray, lossy: bool, path) -> Truth:
    """A grey, boolean or id image, as (H, W)."""
    if np.issubdtype(pixels.dtype, np.inexact):
        if np.iscomplexobj(pixels) or not np.isfinite(pixels).all():
            raise ValueError(f"{path} holds NaN, infinite or complex values; expected a mask of whole numbers")
        if (pixels != np.round(pixels)).any():  # a mask in shares of 1, or one that was resampled
            pixels = pixels.astype(np.float64) - pixels.min()
            pixels = np.round(pixels * (65535 / pixels.max())) if pixels.any() else pixels + 1
    if pixels.dtype.kind not in "iu":  # bool, or floats that are whole numbers
        pixels = pixels.astype(np.int64)
    values, counts = np.unique(pixels, return_counts=True)
    if values[0] < 0:
        raise ValueError(f"{path} holds negative values (down to {values[0]}); expected 0 for background, ids above")
    jpeg = "binary (lossy JPEG)" if lossy else "binary"
    if len(values) == 1:
        if values[0] == 0:
            return Truth(np.zeros(pixels.shape, np.int32), "empty", 0.0)
        return Truth(np.ones(pixels.shape, np.int32), jpeg, 0.0)
    if len(values) == 2:
        # Two ids that leave no background (a mask of 1 and 2) are told from a mask by nothing: the higher is nucleus.
        return Truth(components(pixels == values[1]), jpeg, 0.0)
    if not lossy:
        pieces = joined(pixels)
        if len(values) <= 9 and pieces.max() > 2 * len(values) and dust_share(pixels, pieces) <= 0.5:
            return Truth(components(pixels > 0), "binary", 0.0)  # classes: a few values, each in several places
        # Ids of nuclei of a pixel or two look like dust, too; but each is one piece, none prevails, most is background.
        foreground = counts[values > 0]
        tiny = pieces.max() <= 1.5 * len(values) and foreground.max() < 0.3 * foreground.sum() < 0.15 * pixels.size
        if tiny or dust_share(pixels, pieces) <= 0.5:
            return Truth(without_gaps(pixels), "instances", 0.0)
    # What is left is a mask with soft edges, if most of its foreground is near one value.
    bright = values > values[-1] / 4
    top = float(values[bright][counts[bright].argmax()])
    clean = counts[np.abs(values - top) <= 0.15 * top].sum() / counts[values > 0.15 * top].sum()
    if clean < (MIN_CLEAN_SHARE_JPEG if lossy else MIN_CLEAN_SHARE):
        kind = "ids of nuclei saved as JPEG" if lossy else "grey levels of an image"
        raise ValueError(
            f"{path} has {len(values)} grey levels that are neither a mask of two values nor exact ids (it looks like "
            f"{kind}); JPEG and resampling destroy ids: save the truth again as png or tif from its source"
        )
    repaired = float(counts[(values != values[0]) & (values != top)].sum() / counts.sum())
    return Truth(components(pixels > top / 2), jpeg, repaired)


def dust_share(values: np.ndarray, pieces: np.ndarray) -> float:
    """Share of the foreground outside its most frequent value that lies in specks below 6 px of equal value (`pieces`
    labels the regions of equal value): near 0 for ids, whose values form whole nuclei, near 1 for soft edges."""
    speck = (np.bincount(pieces.ravel()) < 6)[pieces]
    levels, counts = np.unique(values[values > 0], return_counts=True)
    others = (values > 0) & (values != levels[counts.argmax()])
    return float((speck & others).sum() / max(1, others.sum()))


def read_nucleus(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """The mask of one nucleus as (H, W) bool. Raises: as `read_truth`; ValueError where it is not of `shape`."""
    mask = read_truth(path).labels > 0
    if mask.shape != shape:
        raise ValueError(f"a mask of {mask.shape} px, an image of {shape} (height, width); expected equal sizes")
    return mask
