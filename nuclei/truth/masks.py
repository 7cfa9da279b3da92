"""Read ground truth in any of its usual forms as one id per nucleus.

    truth = read_truth("data/gt/a.png")
    truth.labels, truth.form            # (H, W) int32, "instances"

The form is recognised by the values: a mask of two values, ids, one colour per nucleus, a few
values for many nuclei, or a mask with soft edges, such as JPEG leaves. Values that fit none of them
end in a ValueError.
"""

from pathlib import Path

import numpy as np

from nuclei.files import explaining_damage, first_line
from nuclei.images.labels import components
from nuclei.images.reading import Stored, read_stored
from nuclei.truth.annotations import OUTLINE_SUFFIXES, read_outlines
from nuclei.truth.arrays import ARRAY_SUFFIXES, read_array
from nuclei.truth.exact_truth import MAX_DUST, are_tiny_nuclei, dust_share, truth_from_regions
from nuclei.truth.forms import (
    BINARY,
    BINARY_LOSSY,
    EMPTY,
    FEW_VALUES,
    INSTANCE_COLOURS,
    INSTANCES,
    Truth,
)
from nuclei.truth.hollow import filled_outlines
from nuclei.truth.one_each import merged_planes
from nuclei.truth.regions import Regions
from nuclei.truth.values import exact_values

# Share of the foreground near its top value. Masks of DSB2018 saved as JPEG have over 0.99, its ids
# saved as JPEG under 0.55. In exact files, small nuclei with soft edges have 0.4, noise has 0.2.
MIN_CLEAN_SHARE_JPEG = 0.6
MIN_CLEAN_SHARE = 0.3
MAX_ID = 2**53  # larger floats are not exact, and larger integers no ids
MAX_SOFT_PX = 4  # median area of the grey levels at the edge of a nucleus of a few pixels
CLEAN_REACH = 0.15  # of the top value: nearer values count as clean, lower ones as background
MAX_JPEG_COLOUR = 32  # grey levels between channels that JPEG leaves on a grey mask


def read_truth(
    path, shape: tuple[int, int] | None = None, ignore=(), stem: str | None = None
) -> Truth:
    """Read a mask in any of its usual forms, an array or outlines, as one id per nucleus.

    These forms are recognised: 0/1, 0/255 or boolean (binary), the same after JPEG or with soft
    edges (cut half-way, the repaired share reported), integer ids (instances), one colour per
    nucleus (instance colours), and a few values or colours, each in many places. Of these, a thin
    one around or between the others is a border, and each region of another one is a nucleus. The
    nuclei of a binary truth are its components, so touching nuclei are one. The background is 0 or
    black, or a value that surrounds everything else.

    Args:
        path: an image, a file of ARRAY_SUFFIXES, or a file of outlines.
        shape: height and width of the image in pixels, which files of outlines need, and arrays of
            many masks.
        ignore: numbers of pixels that are neither nucleus nor background (void). Without any, 255
            or 65535 beside a few small numbers is void.
        stem: of the image, which outlines of a whole set need; None takes the name of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `read_stored`, `read_array` and `read_outlines`, or the values fit none of
            these forms, such as ids that went through JPEG.
    """
    if str(path).lower().endswith(OUTLINE_SUFFIXES):
        return read_outlines(path, shape, stem)
    if str(path).lower().endswith(ARRAY_SUFFIXES):
        array = read_array(path, shape)
        return with_filled_outlines(truth_from_values(array, False, path, ignore))
    stored = read_stored(path, allow_stack=True)
    with explaining_damage(Path(path), strange_values):  # damaged files hold values of any type
        return truth_of_stored(stored, path, ignore)


def strange_values(error: Exception) -> str:
    """What is wrong with a file whose values raised this error, and the way out."""
    return f"holds values of no mask ({first_line(error)}); save or copy it again"


def truth_of_stored(stored: Stored, path, ignore) -> Truth:
    """Understand the values of an image file. Args and Raises: as of `read_truth`."""
    pixels, lossy, has_hidden_indices, is_stack = stored
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if is_stack:
        labels = merged_planes(pixels, Path(path))
        meaning = f"{len(pixels)} planes, each the mask of one nucleus"
        return Truth(labels, INSTANCES if labels.any() else EMPTY, meaning=meaning)
    pixels, note = without_alpha(pixels)
    if has_hidden_indices:
        note = "the numbers of the palette count, since its colours do not tell them apart"
    if pixels.ndim == 3:
        spread = pixels.max(axis=2) - pixels.min(axis=2)
        if spread.any() and not (lossy and np.percentile(spread, 99) <= MAX_JPEG_COLOUR):
            truth = with_filled_outlines(truth_from_colours(pixels, lossy, path, ignore))
            return truth._replace(meaning="; ".join(filter(None, (note, truth.meaning))))
        pixels = pixels[..., 1]
    truth = with_filled_outlines(truth_from_values(pixels, lossy, path, ignore))
    return truth._replace(meaning="; ".join(filter(None, (note, truth.meaning))))


def with_filled_outlines(truth: Truth) -> Truth:
    """The truth itself, or with filled nuclei where it shows only their outlines."""
    has_ids = truth.form in (INSTANCES, INSTANCE_COLOURS)
    labels = filled_outlines(truth.labels, has_ids)
    if labels is None:
        return truth
    meaning = "; ".join(filter(None, (truth.meaning, "thin outlines, whose inside is the nucleus")))
    return truth._replace(
        labels=labels, form=truth.form if has_ids else INSTANCES, meaning=meaning, warning=""
    )


def without_alpha(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """Drop a constant alpha channel; take the shape from one that is not constant.

    Args:
        pixels: (H, W) or (H, W, 3 or 4).

    Returns:
        (H, W) or (H, W, 3), and words where alpha was used: the values of alpha where what is not
        transparent has one colour, else the colours, with black where they are transparent.
    """
    if pixels.ndim == 2 or pixels.shape[2] < 4:
        return pixels, ""
    colours, alpha = pixels[..., :3], pixels[..., 3]
    if alpha.min() == alpha.max():
        return colours, ""
    is_clear = alpha < alpha.max() / 2
    opaque = colours[~is_clear]
    if (opaque == opaque[0]).all() and (is_clear.any() or (colours == opaque[0]).all()):
        return alpha, "the shape is taken from the alpha channel, since the colour is constant"
    if not colours[is_clear].any() or not opaque.any(axis=1).all():  # black is in use
        return colours, ""
    return np.where(is_clear[..., None], 0, colours), "transparent pixels are background"


def truth_from_colours(pixels: np.ndarray, lossy: bool, path, ignore=()) -> Truth:
    """Understand (H, W, 3) pixels, one colour per nucleus; a single colour is a binary mask."""
    if not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(
            f"{path} is a coloured truth of dtype {pixels.dtype}; expected 8-bit colours, one per "
            "nucleus"
        )
    exact = exact_values(pixels, ignore)
    truth = None
    if not lossy or exact.num_values < 2:
        truth = truth_from_regions(exact, Regions(exact.ids), INSTANCE_COLOURS)
    if truth is None:
        raise ValueError(
            f"{path} is a coloured truth of {len(exact.names)} colours blurred by JPEG or by "
            "resampling, which destroys the ids; expected one exact colour per nucleus: save it "
            "again as png from its source"
        )
    return truth


def truth_from_values(pixels: np.ndarray, lossy: bool, path, ignore=()) -> Truth:
    """Understand (H, W) grey levels, booleans or ids."""
    pixels = whole_numbers(pixels, path)
    lowest = pixels[~np.isin(pixels, tuple(ignore))].min(initial=0)
    if lowest < 0:
        raise ValueError(
            f"{path} holds negative values (down to {lowest}); expected 0 for background, ids "
            f"above; --ignore {lowest} of train.py, import_data.py and evaluate.py leaves these "
            "pixels out"
        )
    exact = exact_values(pixels, ignore)
    if lossy and exact.num_values < 2:
        form = BINARY_LOSSY if exact.num_values else EMPTY
        return Truth(components(exact.ids > 0), form)
    regions = None if lossy else Regions(exact.ids)
    # Dust of grey levels is rather a mask with soft edges than ids with them.
    if regions is not None and (
        dust_share(exact.ids, regions.pieces) <= MAX_DUST
        or are_tiny_nuclei(exact.counts, regions.pieces)
    ):
        truth = truth_from_regions(exact, regions, INSTANCES)
        if truth is not None:
            return truth
    known = pixels if exact.void is None else np.where(exact.void, 0, pixels)
    return truth_from_soft_mask(known, lossy, path)._replace(void=exact.void)


def whole_numbers(pixels: np.ndarray, path) -> np.ndarray:
    """Pixels as integers; shares of 1 or resampled values become 0...65535.

    Raises:
        ValueError: a value is complex, infinite or NaN.
    """
    has_numbers = pixels.dtype != bool and pixels.size
    largest = float(np.abs(pixels).max()) if has_numbers else 0.0
    if np.isfinite(largest) and largest > MAX_ID:
        raise ValueError(f"{path} holds values up to {largest:.3g}; expected ids of nuclei")
    if np.issubdtype(pixels.dtype, np.inexact):
        if np.iscomplexobj(pixels) or not np.isfinite(pixels).all():
            raise ValueError(
                f"{path} holds NaN, infinite or complex values; expected a mask of whole numbers"
            )
        if (pixels != np.round(pixels)).any():
            pixels = pixels.astype(np.float64) - pixels.min()
            pixels = np.round(pixels * (65535 / pixels.max())) if pixels.any() else pixels + 1
    return pixels if pixels.dtype.kind in "iu" else pixels.astype(np.int64)


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


def tells_nuclei_apart(truth: Truth) -> bool:
    """Whether a truth has several nuclei, and not for the number of its regions alone."""
    forms = (INSTANCES, INSTANCE_COLOURS, FEW_VALUES)
    return truth.form in forms and truth.labels.max() > 1


def is_soft_spot(labels: np.ndarray) -> bool:
    """Whether labels (H, W) are one small nucleus whose soft edge was read as ids of few pixels."""
    areas_px = np.bincount(labels.ravel())[1:]
    return np.median(areas_px) <= MAX_SOFT_PX and components(labels > 0).max() == 1


def read_nucleus(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read the mask of one nucleus.

    Returns:
        (H, W) bool.

    Raises:
        FileNotFoundError, ValueError: as `read_truth`; ValueError also where it shows several
            nuclei or is not of `shape`.
    """
    truth = read_truth(path)
    if tells_nuclei_apart(truth) and not is_soft_spot(truth.labels):
        raise ValueError(
            f"{Path(path).name} shows {truth.labels.max()} nuclei; expected the mask of one "
            "nucleus, or one truth with the name of its image"
        )
    mask = truth.labels > 0
    if mask.shape != shape:
        raise ValueError(
            f"a mask of {mask.shape} px, an image of {shape} (height, width); expected equal sizes"
        )
    return mask
