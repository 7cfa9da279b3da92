"""Find, pair, read and normalise images and masks: the data contract of the project.

    python import_data.py                                  check data/raw and data/gt: what is there, what is wrong
    python import_data.py my_data                          the same for another folder
    python import_data.py --from stage1_train.zip          bring a DSB2018/BBBC038 folder or zip into --out
    python import_data.py --download                       fetch that public set (BBBC038, CC0) and bring it in

`DATA_DIR/raw` holds the images and `DATA_DIR/gt` their truth, paired by stem: `raw/a.jpg` belongs to `gt/a.png`.
Any mix of png, tif, jpg and bmp, any size, 8-bit, 16-bit or float; the form of the truth is recognised by itself. The
truth may also be outlines, as corrected in QuPath (a.geojson), ImageJ (a.zip or a.roi) or a COCO tool (a.json).
Nothing here needs Keras, so the check opens at once.
"""

import argparse
import contextlib
import csv
import errno
import functools
import gzip
import hashlib
import http.client
import json
import math
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

DATA_DIR = "data"  # holds raw/ and gt/
PUBLIC_DATA_DIR = "data/dsb2018"  # a folder of its own, so that an import never mixes with other pairs
PUBLIC_URL = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"  # 670 images, CC0, about 80 MB
IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
OUTLINE_SUFFIXES = (".geojson.gz", ".geojson.zip", ".geojson", ".json", ".zip", ".roi")  # a longer one before its end
MAX_PIXELS = 500_000_000  # px in one file: 20,000 x 20,000 passes (1.2 GB as 8-bit RGB), a decompression bomb does not
RANGE_PERCENTILES = (0.5, 99.8)  # of all values, to 0 and 1; sparse nuclei cover less than 1 %: cut little above
FLOAT_PERCENTILES = (0.02, 99.98)  # float and 32-bit files to uint16: wider, only to survive a few broken pixels
MIN_RANGE_8BIT = 8  # grey levels: real dim fluorescence spans 15 of 255, sensor noise of a blank field less than 8
MIN_RANGE_16BIT = 64  # counts: read noise of a blank camera frame spans 10-50, a dim stain some hundred
MIN_CONTRAST = 8 / 255  # least range of a 16-bit or float image as a share of its brightest value
MAX_FOREGROUND = 0.9  # share of nucleus pixels above which a truth is suspect
MAX_MEMBER_BYTES = 1 << 30  # of one archive member once unpacked: an image of DSB2018 has less than 10 MB
RETRIES = 5  # downloads cut in a row before giving up
RETRY_SECONDS = 2.0  # pause where a retry brought nothing
TIMEOUT_SECONDS = 60.0  # without a byte from the server
LOCK = ".lock"  # in a folder of results, while a run writes to it
MAX_NAMED = 5  # offenders named in one message; the rest is counted
BAND_PIXELS = 4_000_000  # px handled at once where a temporary array is wider than the image
REGION_TIMES = 20  # an annotation so many times larger than the median outline, with others inside, is no nucleus
MIN_CLEAN_SHARE_JPEG = 0.6  # of the foreground near its top value: DSB2018 masks as JPEG > 0.99, its ids as JPEG < 0.55
MIN_CLEAN_SHARE = 0.3  # the same in exact files, where small nuclei with soft edges have 0.4 and noise has 0.2
TISSUE_CHROMA = 0.05  # mean (max - min of R, G, B) / white: in DSB2018 grey bright field <= 0.04, pale H&E >= 0.06


class Truth(NamedTuple):
    """Per-nucleus truth of one image, and how it was understood.

    labels: (H, W) int32, 0 background, 1...n nuclei without gaps.
    form: "binary", "binary (lossy JPEG)", "instances" (ids, or outlines), "instance colours" or "empty".
    repaired: share of pixels, 0...1, that held neither the background nor the nucleus value (JPEG noise, soft edges).
    """

    labels: np.ndarray
    form: str
    repaired: float


class Stored(NamedTuple):
    """The pixels of a file as stored: (H, W) or (H, W, 3 or 4), any dtype; lossy where JPEG made them."""

    pixels: np.ndarray
    lossy: bool


# ----------------------------------------------------------------------------------------------------------------------
# Finding and pairing


def named(names: Iterable[object]) -> str:
    """Up to MAX_NAMED names and the count of the others, for messages."""
    names = [str(name) for name in names]
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def image_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, list[Path]]:
    """Image files of a folder (none where it is missing) by stem, sorted; hidden files and other suffixes pass by."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), None)
        # A leading dot is how macOS marks its own companions of real files (._a.png), which are no images.
        if suffix and not path.name.startswith(".") and path.is_file():
            found.setdefault(path.name[: -len(suffix)], []).append(path)
    return {stem: found[stem] for stem in sorted(found)}


def find_images(folder, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Image files of a folder: {stem: path}, sorted by stem.

    Raises: FileNotFoundError where the folder is missing, ValueError where it holds no image or one stem twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {what}; expected a folder of images ({', '.join(suffixes)})")
    found = image_files(folder, suffixes)
    if not found:
        raise ValueError(f"{folder} holds no image; expected files ending in {', '.join(suffixes)}")
    twice = [" = ".join(path.name for path in paths) for paths in found.values() if len(paths) > 1]
    if twice:
        raise ValueError(f"{folder}: {len(twice)} stem(s) appear more than once ({named(twice)}); keep one of each")
    return {stem: paths[0] for stem, paths in found.items()}


def find_truths(gt_dir, stems: Iterable[str] = ()) -> dict[str, Path]:
    """Truth files of a folder, images or outlines: {stem: path}, sorted by stem.

    stems: of the images. The truth a.ome.tif belongs to the image a.ome.tif, or else to a.png, a.tif and so on.
    Raises: as `find_images`.
    """
    stems = set(stems)
    found = find_images(gt_dir, OUTLINE_SUFFIXES + IMAGE_SUFFIXES)
    for stem in [stem for stem in found if stem.endswith(".ome") and stem not in stems]:
        if stem[:-4] in stems and stem[:-4] not in found:
            found[stem[:-4]] = found.pop(stem)
    return {stem: found[stem] for stem in sorted(found)}


def find_pairs(raw_dir, gt_dir) -> dict[str, tuple[Path, Path]]:
    """Image and truth files that share a stem: {stem: (image, truth)}, sorted by stem. Unpaired files are left out.

    Raises: FileNotFoundError and ValueError as `find_images`; ValueError where no stem is shared.
    """
    images = find_images(raw_dir)
    truths = find_truths(gt_dir, images)
    pairs = {stem: (images[stem], truths[stem]) for stem in images if stem in truths}
    if not pairs:
        raise ValueError(
            f"no pair between {raw_dir} (for example {next(iter(images.values())).name}) and {gt_dir} (for example "
            f"{next(iter(truths.values())).name}); an image and its truth must have the same name before the suffix"
        )
    return pairs


# ----------------------------------------------------------------------------------------------------------------------
# Reading files


def read_stored(path) -> Stored:
    """Decode one file and turn it upright (EXIF or TIFF orientation), values untouched.

    Raises: FileNotFoundError; ValueError naming the file where it is no image, is cut short, too large or a stack.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} {'is a folder, not a file' if path.is_dir() else 'does not exist'}")
    with open(path, "rb") as file:
        head = file.read(32)
    if not head:
        raise ValueError(f"{path} is empty (0 bytes); copy it again from its source or remove it")
    try:
        # By content, not by suffix: a TIFF called .png is common enough.
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return read_tiff(path)
        return read_with_pillow(path, head)
    except MemoryError:
        raise ValueError(f"{path} does not fit into memory; cut it into smaller images") from None
    except Exception as error:  # on a damaged file the decoders raise whatever they run into
        if str(path) in str(error) and isinstance(error, ValueError):  # our own, below
            raise
        if isinstance(error, OSError) and error.errno is not None:  # a fault of the disk or a permission
            raise
        what = "is no image that can be read" if isinstance(error, Image.UnidentifiedImageError) else "is damaged"
        raise ValueError(
            f"{path} {what} ({first_line(error)}); expected a whole png, tif, jpg or bmp file: save or copy it again"
        ) from error


def first_line(error: BaseException) -> str:
    """The message of an error in one short line."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def refuse_bomb(path, shape: tuple[int, ...]) -> None:
    """Stop before a file is unpacked that would fill the memory."""
    if math.prod(shape) > MAX_PIXELS * (3 if len(shape) > 2 else 1):
        raise ValueError(
            f"{path} declares {' x '.join(map(str, shape))} px, more than the {MAX_PIXELS:,} px that are unpacked at "
            "once; cut it into tiles, or raise MAX_PIXELS in import_data.py if the file is trusted"
        )


def read_with_pillow(path: Path, head: bytes) -> Stored:
    """PNG, JPEG, BMP, and TIFF of the compressions that tifffile leaves. `head` is the beginning of the file."""
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit (89 MP) is below 10k x 10k; ours follows at once
    with Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF")) as image:
        refuse_bomb(path, (image.height, image.width))
        image.load()  # raises on a damaged file, of which OpenCV, below, returns what it has
        orientation = image.getexif().get(0x0112, 1)  # after loading, which turns a TIFF upright itself
        lossy = image.format in ("JPEG", "MPO")
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")
        elif image.mode in ("LA", "CMYK", "YCbCr", "LAB"):
            image = image.convert("L" if image.mode == "LA" else "RGB")
        deep_png = head[:4] == b"\x89PNG" and head[24] == 16 and head[25] & 6  # 16 bits, and more than grey
        if deep_png or 16 in getattr(image, "tag_v2", {}).get(258, ()) and image.mode.startswith("RGB"):
            pixels = read_deep_colour(path)
        else:
            pixels = np.array(image)
            if pixels.dtype.kind == "u":
                pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return Stored(upright(pixels, orientation), lossy)


def read_deep_colour(path: Path) -> np.ndarray:
    """Colour of 16 bits, which Pillow would cut to 8, as (H, W, 3 or 4)."""
    import cv2  # only here: most data never needs it, and the import takes a while

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]  # from BGR(A)


def read_tiff(path: Path) -> Stored:
    """TIFF and OME-TIFF with one 2-D image: grey, RGB(A), contiguous or planar, any dtype."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        refuse_bomb(path, series.shape)
        axes = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 or axis in "YX"]
        shape = tuple(size for _, size in axes)
        # Samples of one pixel are RGB(A); three channels or three pages without a meaning are taken as RGB, too. The
        # last case is what tifffile makes of float RGB when nobody tells it: H pages of W x 3.
        channel = [index for index, (axis, size) in enumerate(axes) if axis == "S" and size in (3, 4)]
        channel += [index for index, (axis, size) in enumerate(axes) if axis in "CQI" and size == 3]
        channel += [2] if len(shape) == 3 and axes[0][0] in "QI" and shape[2] == 3 else []
        if len(shape) != 2 + bool(channel):
            raise ValueError(
                f"{path} is a stack of shape {' x '.join(map(str, series.shape))} (axes {series.axes}); expected one "
                "2-D image, grey or RGB: save the plane, channel or projection to be used as a file of its own"
            )
        lossy = page.compression in (6, 7, 34892)  # old and new JPEG
        try:
            pixels = series.asarray(level=0).reshape(shape)
        except ValueError as error:  # tifffile unpacks LZW and JPEG only with the package imagecodecs
            if "imagecodecs" not in str(error):
                raise
            return Stored(read_with_pillow(path, b"").pixels, lossy)
        if channel:
            pixels = np.moveaxis(pixels, channel[0], -1)
        if page.photometric == 3 and page.colormap is not None and pixels.ndim == 2:  # palette
            pixels = np.moveaxis(page.colormap >> 8, 0, -1).astype(np.uint8)[pixels]
        elif page.photometric == 0 and pixels.dtype.kind in "bu" and not tiff.is_imagej:  # 0 is white
            # ImageJ's inverting display table also sets this tag, on masks whose nuclei are 255 all the same.
            pixels = ~pixels
        orientation = page.tags.valueof(274, 1)
    return Stored(upright(pixels, orientation), lossy)


def upright(pixels: np.ndarray, orientation) -> np.ndarray:
    """Undo a camera's rotation: EXIF/TIFF tag 274, 1...8 (anything else counts as 1)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def read_image(path) -> np.ndarray:
    """Read any supported image as RGB.

    Grey becomes three equal channels, a palette its colours. Alpha is dropped: microscopes write it constant, and what
    to lay a transparent pixel on is nowhere stated. Signed 16-bit, 32-bit and float files, which have no fixed white
    level, are scaled to uint16 by FLOAT_PERCENTILES; NaN and infinity count as the darkest and brightest valid value.

    Returns: (H, W, 3) uint8 or uint16, upright.
    Raises: FileNotFoundError; ValueError as `read_stored`, or where the file holds no finite value.
    """
    pixels = read_stored(path).pixels
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype not in (np.uint8, np.uint16):
        pixels = scaled_to_uint16(pixels, path)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels)


def declared_pixels(path) -> int:
    """Height times width that the head of an image file declares, without unpacking it; 0 where it declares nothing that
    can be read, which `read_image` then says."""
    Image.MAX_IMAGE_PIXELS = None  # nothing is unpacked here, so nothing can explode
    try:
        with Image.open(path) as image:
            return image.height * image.width
    except (OSError, ValueError, SyntaxError):  # Pillow's plugins raise these on damaged heads
        return 0


def scaled_to_uint16(pixels: np.ndarray, path) -> np.ndarray:
    """Map percentiles of a float, signed or 32-bit image to 0...65535; a blank image stays within MIN_RANGE_16BIT."""
    if np.iscomplexobj(pixels):
        raise ValueError(f"{path} holds complex numbers; expected grey levels")
    sample = pixels[:: max(1, pixels.size // BAND_PIXELS)]  # every n-th row is plenty for a percentile
    finite = sample[np.isfinite(sample)]
    if finite.size == 0:
        raise ValueError(f"{path} holds no finite number (all NaN or infinite); export it again")
    low, high = (float(value) for value in np.percentile(finite.astype(np.float64), FLOAT_PERCENTILES))
    brightest = max(abs(low), abs(high))
    integers = np.issubdtype(pixels.dtype, np.integer)
    # Floats up to 1 are shares of a full scale of 65535 counts, larger ones are counts themselves.
    least = max(MIN_CONTRAST * brightest, MIN_RANGE_16BIT / (65535 if brightest <= 1 and not integers else 1))
    # A blank image gets few counts, so that `normalise` sees a blank one, too.
    factor = 65535 / (high - low) if high - low >= least else MIN_RANGE_16BIT / least
    result = np.empty(pixels.shape, np.uint16)
    rows = max(1, BAND_PIXELS // max(1, pixels[0].size))
    for start in range(0, len(pixels), rows):
        band = (pixels[start : start + rows].astype(np.float64) - low) * factor
        result[start : start + rows] = np.clip(np.nan_to_num(band, nan=0.0, posinf=65535, neginf=0), 0, 65535).round()
    return result


# ----------------------------------------------------------------------------------------------------------------------
# Intensities


def percentiles(image: np.ndarray, shares) -> list[float]:
    """Exact percentiles (nearest rank, shares in 0...100) of all values of a uint8 or uint16 array, by histogram."""
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an image of dtype {image.dtype} came; expected uint8 or uint16, as read_image returns")
    counts = np.zeros(np.iinfo(image.dtype).max + 1, np.int64)
    rows = max(1, BAND_PIXELS // max(1, image[0].size))  # bincount makes 8 bytes of every value
    for start in range(0, len(image), rows):
        counts += np.bincount(image[start : start + rows].ravel(), minlength=counts.size)
    cumulative = counts.cumsum()
    ranks = [max(1, int(np.ceil(share / 100 * cumulative[-1]))) for share in shares]
    return [float(np.searchsorted(cumulative, rank)) for rank in ranks]


def intensity_range(image: np.ndarray) -> tuple[float, float]:
    """Grey levels (low, high) that `normalise` maps to 0 and 1: RANGE_PERCENTILES over all pixels and channels.

    One range for all channels keeps the colour of a stain. The range is never less than a floor (MIN_RANGE_8BIT, or
    MIN_RANGE_16BIT and MIN_CONTRAST), so that the noise of a blank image is not blown up into nuclei; what is missing
    is added below a bright image and above a dark one, so that empty glass stays white and an empty field black.

    image: (H, W, 3) or (H, W), uint8 or uint16. Compute it once for a whole image and pass it on for its tiles.
    """
    low, high = percentiles(image, RANGE_PERCENTILES)
    white = float(np.iinfo(image.dtype).max)
    floor = float(MIN_RANGE_8BIT) if image.dtype == np.uint8 else max(float(MIN_RANGE_16BIT), MIN_CONTRAST * high)
    if high - low < floor:
        low -= (floor - (high - low)) * low / white
        high = low + floor
    return low, high


measured_range = intensity_range  # the name for use where a parameter is called intensity_range


def normalise(image: np.ndarray, intensity_range: tuple[float, float] | None = None) -> np.ndarray:
    """Stretch grey levels to 0...1 for the network, clipped.

    image: (H, W, 3) uint8 or uint16. intensity_range: (low, high) of the whole image, where `image` is a tile of it.
    Returns: (H, W, 3) float32 in [0, 1].
    """
    low, high = measured_range(image) if intensity_range is None else intensity_range
    result = image.astype(np.float32)
    result -= np.float32(low)
    result *= np.float32(1 / (high - low))
    return np.clip(result, 0, 1, out=result)


def modality(image: np.ndarray) -> str:
    """Kind of microscopy by colour statistics: "fluorescence" (dark ground), "tissue" (coloured on light ground, as
    H&E) or "brightfield" (grey on light ground).

    image: (H, W, 3) uint8 or uint16.
    """
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / 1_000_000)))  # a megapixel is enough for an average
    sample = image[::step, ::step]
    # By the brightest channel, so that a blue (DAPI) or green signal on black counts as light, its ground as dark.
    red, green, blue = (np.ascontiguousarray(sample[..., channel]) for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    low, median, high = percentiles(brightest, (0.5, 50, 99.8))
    if image.dtype == np.uint8:
        blank, white = high - low < MIN_RANGE_8BIT, max(high, 128.0)  # 128: an underexposed slide still is light
    else:  # cameras of 10 to 16 bits all come as uint16, so the white level is what the image reaches
        blank = high - low < MIN_RANGE_16BIT
        white = 65535.0 if blank else high
    # In DSB2018 the median lies at 0.48 to 0.96 of the range on light ground, at 0.19 or less on dark.
    light_ground = median > 0.45 * white and (blank or median - low > 0.35 * (high - low))
    if not light_ground:
        return "fluorescence"
    chroma = (brightest - np.minimum(np.minimum(red, green), blue)).mean() / white
    return "tissue" if chroma > TISSUE_CHROMA else "brightfield"


# ----------------------------------------------------------------------------------------------------------------------
# Truth


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


def read_pair(image_path, truth_path) -> tuple[np.ndarray, Truth]:
    """An image and its truth, of one size. Raises: as `read_image` and `read_truth`; ValueError on unequal sizes."""
    image = read_image(image_path)
    truth = read_truth(truth_path, image.shape[:2])
    if image.shape[:2] != truth.labels.shape:
        raise ValueError(
            f"{truth_path} has {truth.labels.shape[0]} x {truth.labels.shape[1]} px (height x width), its image "
            f"{image_path} {image.shape[0]} x {image.shape[1]}; expected equal sizes: export it again at that size"
        )
    return image, truth


# ----------------------------------------------------------------------------------------------------------------------
# Truth as outlines: what exports.py writes and people correct in QuPath, ImageJ or a COCO tool. The readers stand here,
# beside the other forms of truth, so that training needs nothing of exports.py, which imports this file.


class Outline(NamedTuple):
    """One drawn nucleus: polygons whose areas add up; in each, rings of (n, 2) float, (row, column) of points where (0, 0)
    is the upper left corner of the image. What an even number of rings of a polygon enclose is a hole."""

    polygons: list[list[np.ndarray]]
    may_be_region: bool = False


def read_outlines(path, shape: tuple[int, int] | None) -> Truth:
    """Fill the outlines of a file: a pixel belongs to a nucleus when its centre lies inside.

    Understood by content: GeoJSON of QuPath (detections, cells by their nucleus, annotations; also in a gz or zip), an
    ImageJ ROI or a zip of them, COCO JSON. Where nuclei overlap the smaller one lies on top. Points and lines are passed
    over, and so is what QuPath itself ignores (classes ending in *) and a large annotation around other objects, which
    is the region that somebody worked in.

    path: a file of OUTLINE_SUFFIXES. shape: (height, width) of its image.
    Raises: FileNotFoundError; ValueError naming the file where it is damaged or of another kind, or where nothing of it
    lies inside the image.
    """
    path = Path(path)
    if shape is None:
        raise ValueError(f"{path} holds outlines, not pixels: it can only be read together with its image, as a pair")
    if not path.is_file():
        raise FileNotFoundError(f"{path} {'is a folder, not a file' if path.is_dir() else 'does not exist'}")
    shape = (int(shape[0]), int(shape[1]))
    try:
        found = read_rois(path) if holds_rois(path) else read_json_outlines(path, shape)
        nuclei = [item if isinstance(item, np.ndarray) else fill(item.polygons, shape) for item in found]
    except MemoryError:
        raise ValueError(f"{path} does not fit into memory; cut its image into smaller ones") from None
    except Exception as error:  # on a damaged file the parsers raise whatever they run into
        if str(path) in str(error) and isinstance(error, ValueError):  # our own
            raise
        if isinstance(error, OSError) and error.errno is not None:  # a fault of the disk or a permission
            raise
        raise ValueError(
            f"{path} is damaged or no file of outlines ({type(error).__name__}: {first_line(error)}); expected GeoJSON "
            "as QuPath writes it, ImageJ ROIs (one or a zip) or COCO JSON: export it again"
        ) from error
    if found and not any(nucleus.size for nucleus in nuclei):
        raise ValueError(
            f"{path} holds {len(found)} outlines and none lies inside its image of {shape[0]} x {shape[1]} px (height x "
            "width); was it drawn on another image, or at another scale?"
        )
    nuclei = without_regions(found, nuclei)
    labels = merge_nuclei(nuclei, shape)[0]
    return Truth(labels, "instances" if nuclei else "empty", 0.0)


def without_regions(found: list, nuclei: list[np.ndarray]) -> list[np.ndarray]:
    """Leave out outlines outside of the image, and annotations far larger than a nucleus that hold two others or more."""
    areas = np.array([nucleus.size for nucleus in nuclei])
    middles = np.array([nucleus[nucleus.size // 2] for nucleus in nuclei if nucleus.size])
    usual = np.median(areas[areas > 0]) if middles.size else 0
    kept = []
    for item, nucleus in zip(found, nuclei, strict=True):
        large = getattr(item, "may_be_region", False) and nucleus.size > REGION_TIMES * usual
        if nucleus.size and not (large and np.isin(middles, nucleus).sum() > 2):  # its own middle is one of them
            kept.append(nucleus)
    return kept


def fill(polygons: list[list[np.ndarray]], shape: tuple[int, int]) -> np.ndarray:
    """Flat indices of the pixels of an image of this shape whose centres lie inside the polygons, ascending."""
    from skimage.draw import polygon

    points = np.concatenate([ring for rings in polygons for ring in rings])
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is no finite number")
    top, left = np.clip(np.floor(points.min(axis=0)), 0, shape).astype(int)
    bottom, right = np.clip(np.ceil(points.max(axis=0)), 0, shape).astype(int)
    inside = np.zeros((max(0, bottom - top), max(0, right - left)), bool)
    for rings in polygons if inside.size else ():
        part = np.zeros_like(inside)
        for ring in rings:
            # Pixel (0, 0) has its centre at (0.5, 0.5) of the drawing.
            part[polygon(ring[:, 0] - 0.5 - top, ring[:, 1] - 0.5 - left, inside.shape)] ^= True
        inside |= part
    rows, columns = np.nonzero(inside)
    return (rows + top) * shape[1] + columns + left


def holds_rois(path: Path) -> bool:
    """Whether a file is an ImageJ ROI or a zip of ROIs (perhaps of none), by its first bytes and its members."""
    with open(path, "rb") as file:
        head = file.read(4)
    if head[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return not names or any(name.lower().endswith(".roi") for name in names)
    return head == b"Iout"


def read_rois(path: Path) -> list[Outline]:
    """The areas among ImageJ's ROIs: polygons, freehand and traced shapes, ovals, boxes and combinations of them."""
    try:
        import roifile
    except ModuleNotFoundError:
        raise ValueError(f"{path}: reading ImageJ ROIs needs the package roifile: python -m pip install roifile") from None

    if path.stat().st_size > MAX_MEMBER_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {MAX_MEMBER_BYTES:,}")
    kinds = roifile.ROI_TYPE
    areas = (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED, kinds.RECT, kinds.OVAL)
    if not zipfile.is_zipfile(path):  # by content, where roifile itself goes by the name
        rois = [roifile.ImagejRoi.frombytes(path.read_bytes())]
    else:
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe_archive(path, archive)
            names = [name for name in archive.namelist() if name.lower().endswith(".roi")]
            rois = [roifile.ImagejRoi.frombytes(archive.read(name)) for name in names]
    outlines = [
        Outline([[ring[:, ::-1].astype(float) for ring in roi.coordinates(multi=True)]])  # from (x, y)
        for roi in rois
        if roi.roitype in areas
    ]
    if rois and not outlines:
        raise ValueError(f"{path} holds {len(rois)} ROIs and no area among them (points or lines); expected outlines")
    return outlines


def read_json_outlines(path: Path, shape: tuple[int, int]) -> list:
    """Outlines of a GeoJSON or COCO file, plain, gzipped or the only .json or .geojson member of a zip."""
    with open(path, "rb") as file:
        head = file.read(2)
    if head == b"PK":
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe_archive(path, archive)
            names = [name for name in archive.namelist() if name.lower().endswith((".geojson", ".json"))]
            if len(names) != 1:
                raise ValueError(f"{path} holds {len(names)} .geojson files and no .roi; expected one, or ImageJ ROIs")
            text = archive.read(names[0])
    else:
        with gzip.open(path) if head == b"\x1f\x8b" else open(path, "rb") as file:
            text = file.read(MAX_MEMBER_BYTES + 1)
        if len(text) > MAX_MEMBER_BYTES:
            raise ValueError(f"{path} unpacks to more than {MAX_MEMBER_BYTES:,} bytes; cut its image into smaller ones")
    data = json.loads(text)
    if isinstance(data, dict) and "annotations" in data:
        return coco_outlines(data, path, shape)
    return geojson_outlines(data, path)


def geojson_outlines(data, path: Path) -> list[Outline]:
    """Areas of a FeatureCollection, a Feature, a geometry or a list of such, as QuPath understands its objects."""
    if isinstance(data, dict) and data.get("type") == "FeatureCollection":
        data = data["features"]
    outlines, others = [], 0
    for feature in data if isinstance(data, list) else [data]:
        properties = feature.get("properties") or {}
        kind = properties.get("objectType") or properties.get("object_type") or "annotation"
        name = (properties.get("classification") or {}).get("name") or ""
        if kind in ("root", "tile", "tmaCore") or name.endswith("*"):
            continue
        geometry = feature.get("nucleusGeometry") or feature.get("geometry", feature)
        polygons = geojson_polygons(geometry)
        others += not polygons
        if polygons:
            outlines.append(Outline(polygons, kind == "annotation"))
    if others and not outlines:
        raise ValueError(f"{path} holds {others} objects and no area among them (points or lines); expected outlines")
    return outlines


def geojson_polygons(geometry: dict) -> list[list[np.ndarray]]:
    """The polygons of a GeoJSON geometry, [] where it is a point or a line. Coordinates are (x, y)."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        return [polygon for part in geometry["geometries"] for polygon in geojson_polygons(part)]
    if kind not in ("Polygon", "MultiPolygon"):
        if kind not in ("Point", "MultiPoint", "LineString", "MultiLineString"):
            raise ValueError(f"{kind!r} is no geometry of GeoJSON")
        return []
    polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    return [[np.array(ring, float).reshape(len(ring), -1)[:, 1::-1] for ring in rings] for rings in polygons if rings]


def coco_outlines(data: dict, path: Path, shape: tuple[int, int]) -> list:
    """Outlines, or flat indices of the pixels, of the annotations that COCO JSON has for the image of this stem."""
    stem = next(path.name[: -len(suffix)] for suffix in OUTLINE_SUFFIXES if path.name.lower().endswith(suffix))
    images = data["images"]
    mine = images if len(images) == 1 else [image for image in images if Path(image["file_name"]).stem == stem]
    if len(mine) != 1:
        raise ValueError(
            f"{path} describes {len(images)} images, {len(mine)} of which are called {stem}; expected a file for each image"
        )
    image = mine[0]
    if (image.get("height", shape[0]), image.get("width", shape[1])) != shape:
        raise ValueError(
            f"{path} was drawn on an image of {image['height']} x {image['width']} px (height x width), its image here has "
            f"{shape[0]} x {shape[1]}; expected equal sizes"
        )
    found: list = []
    for annotation in data["annotations"]:
        if annotation["image_id"] != image["id"] or annotation.get("iscrowd"):
            continue
        drawn = annotation["segmentation"]
        if isinstance(drawn, dict):
            found.append(unpack_runs(drawn["counts"], shape))
        elif drawn:
            found.append(Outline([[np.array(ring, float).reshape(-1, 2)[:, ::-1]] for ring in drawn]))
    return found


def unpack_runs(counts, shape: tuple[int, int]) -> np.ndarray:
    """COCO's run lengths, down the columns, from background on: flat indices (row by row) of the pixels, ascending.

    counts: a list of numbers, or text: per number groups of 5 bits from the lowest on, as characters from "0" on, bit 6
    set where one more follows, the last group signed; from the third on each number is a difference to the last but one.
    """
    if isinstance(counts, str):
        lengths: list[int] = []
        value, bits = 0, 0
        for character in counts:
            group = ord(character) - 48
            value |= (group & 31) << bits
            bits += 5
            if not group & 32:
                value -= (group & 16) << (bits - 4)
                lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
                value, bits = 0, 0
        counts = lengths
    lengths_of_runs = np.array(counts, np.int64)
    if (lengths_of_runs < 0).any() or lengths_of_runs.sum() != shape[0] * shape[1]:
        raise ValueError(f"runs of {lengths_of_runs.sum():,} px in an image of {shape[0] * shape[1]:,} px")
    mask = np.repeat(np.arange(len(lengths_of_runs)) % 2 == 1, lengths_of_runs).reshape(shape[1], shape[0]).T
    return np.flatnonzero(mask)


# ----------------------------------------------------------------------------------------------------------------------
# Splits


def split_stems(groups: dict[str, str], validation_share: float, seed: int) -> dict[str, str]:
    """Part every group between "train" and "validation": {stem: part}, sorted by stem.

    A stem's place depends on the seed and its own name only, so an image more moves few others, and the order of
    `groups` none. Of two stems or more each part gets at least one, where the share is above 0; no group is all
    validation, unless each has but one stem.

    groups: {stem: group}, for example its modality. validation_share: 0...1, of all stems and nearly of each group.
    Raises: ValueError where the share is not in 0...1.
    """
    if not 0 <= validation_share < 1:
        raise ValueError(f"a validation share of {validation_share} came; expected 0 or more and less than 1")
    members: dict[str, list[str]] = {}
    for stem in sorted(groups, key=lambda stem: hashlib.sha256(f"{seed}/{stem}".encode()).digest()):
        members.setdefault(groups[stem], []).append(stem)
    wanted = round(validation_share * len(groups))
    if validation_share > 0 and len(groups) > 1:
        wanted = max(1, wanted)
    # Largest remainder: whole numbers per group that add up to `wanted`.
    exact = {group: validation_share * len(stems) for group, stems in members.items()}
    taken = {group: min(int(exact[group]), len(members[group]) - 1) for group in members}
    for group in sorted(members, key=lambda group: (taken[group] - exact[group], group)):
        if sum(taken.values()) < wanted and taken[group] < len(members[group]) - 1:
            taken[group] += 1
    if wanted and not sum(taken.values()) and len(members) > 1:
        taken[max(sorted(members), key=lambda group: len(members[group]))] = 1  # every group has one member
    validation = {stem for group, stems in members.items() for stem in stems[: taken[group]]}
    return {stem: "validation" if stem in validation else "train" for stem in sorted(groups)}


def read_split(csv_path) -> dict[str, str]:
    """A split given as CSV with the columns `stem` and `split` (train, validation or test): {stem: split}.

    Raises: FileNotFoundError; ValueError naming the file where a column is missing, a value is another or a stem is
    in two parts.
    """
    csv_path = Path(csv_path)
    if not csv_path.is_file():
        raise FileNotFoundError(f"{csv_path} does not exist; expected a CSV file with the columns stem and split")
    split: dict[str, str] = {}
    try:
        with open(csv_path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"stem", "split"} <= set(rows.fieldnames or ()):
                raise ValueError(f"{csv_path} has the columns {rows.fieldnames}; expected stem and split among them")
            for row in rows:
                stem, part = (row["stem"] or "").strip(), (row["split"] or "").strip().lower()
                if Path(stem).suffix.lower() in IMAGE_SUFFIXES:
                    stem = Path(stem).stem
                if part not in ("train", "validation", "test") or not stem:
                    raise ValueError(
                        f"{csv_path} line {rows.line_num}: stem {stem!r}, split {part!r}; expected a stem and train, "
                        "validation or test"
                    )
                if split.setdefault(stem, part) != part:
                    raise ValueError(f"{csv_path} line {rows.line_num}: {stem} is in {split[stem]} and in {part}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{csv_path} is no CSV text in UTF-8 ({first_line(error)})") from error
    if not split:
        raise ValueError(f"{csv_path} holds no row below its header; expected one row for each stem")
    return split


# ----------------------------------------------------------------------------------------------------------------------
# Writing and ending well


@contextlib.contextmanager
def replacing(path) -> Iterator[Path]:
    """Write a file whole or not at all: yields a temporary path beside `path` to write to, moves it over `path` at the
    end, removes it on any error. The suffix stays, since writers choose the format by it; the leading dot hides it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_run(folder) -> Iterator[None]:
    """Keep a second run out of a folder. The lock is the operating system's: it goes with the process, however that ends.

    Raises: ValueError where another run has the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(path, "a+", encoding="utf-8"))
            if not lock(file):
                file.seek(0)
                who = file.read(100).strip() or "which has just begun"
                raise ValueError(f"{folder} is being written to by another run ({who}); wait for its end or give --out another")
            try:
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
            except FileNotFoundError:
                pass  # the run that had it has ended in between, and removed it: again
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows does not remove what is open
                path.unlink()


def lock(file) -> bool:
    """Take the lock of an open file; False where another process has it. File systems without locks let everybody pass."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            file.seek(1 << 20)  # a place that nobody reads
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def positive(text):
    """argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def user_errors_in_one_line(main: Callable[..., int]) -> Callable[..., int]:
    """Decorator for a script's `main`: a user's mistake ends in one line on stderr and exit status 1, Ctrl-C in 130."""

    @functools.wraps(main)
    def guarded(argv=None) -> int:
        script = Path(main.__globals__.get("__file__", "script")).name
        try:
            status = main(argv)
            sys.stdout.flush()  # here, where a failure still can be caught
            return status
        except KeyboardInterrupt:
            message, status = "stopped by Ctrl-C; finished files are kept, nothing is half-written", 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader (`| head`) has gone
            return 1
        except OSError as error:
            message, status = str(error), 1
            if error.errno == errno.ENOSPC or "No space left on device" in message:
                message = f"the disk is full ({error.filename or 'while writing'}); free some space and run again"
            elif error.filename is not None and error.strerror:
                message = f"{error.strerror}: {error.filename}"
        except MemoryError:
            message, status = "out of memory; close other programs or use smaller images or batches", 1
        except ValueError as error:
            message, status = " ".join(str(error).split()), 1
        print(f"{script}: {message}", file=sys.stderr)
        return status

    return guarded


# ----------------------------------------------------------------------------------------------------------------------
# The check of a folder


class Checked(NamedTuple):
    """What one pair holds: height and width in px, the form of its truth, the diameters of its nuclei in px."""

    modality: str
    height: int
    width: int
    dtype: str
    form: str
    repaired: float
    diameters: np.ndarray


def check_pairs(raw_dir, gt_dir) -> tuple[dict[str, Checked], dict[str, list[str]], list[str]]:
    """Read every pair of a data set.

    Returns: {stem: Checked} of the sound pairs, {kind of problem: offenders}, and the reasons why training could not
    run (none: it can). Raises: as `find_pairs`.
    """
    images = find_images(raw_dir)
    truths = find_truths(gt_dir, images)
    pairs = find_pairs(raw_dir, gt_dir)
    checked: dict[str, Checked] = {}
    problems: dict[str, list[str]] = {
        "images without truth (left out of training)": [images[stem].name for stem in images if stem not in truths],
        "truth without an image (left out of training)": [truths[stem].name for stem in truths if stem not in images],
    }
    problems["other files (passed over)"] = [
        str(path)
        for folder, suffixes in ((raw_dir, IMAGE_SUFFIXES), (gt_dir, OUTLINE_SUFFIXES + IMAGE_SUFFIXES))
        for path in sorted(Path(folder).iterdir())
        if not path.name.lower().endswith(suffixes) and not path.name.startswith(".")
    ]
    broken, empty, full = [], [], []
    for done, (stem, (image_path, truth_path)) in enumerate(pairs.items(), 1):
        show_progress("reading", done, len(pairs), "pairs")
        try:
            image, truth = read_pair(image_path, truth_path)
        except (OSError, ValueError) as error:
            broken.append(str(error))
            continue
        areas = np.bincount(truth.labels.ravel())[1:]
        if areas.size == 0:
            empty.append(truth_path.name)
        elif areas.sum() > MAX_FOREGROUND * truth.labels.size:
            full.append(truth_path.name)
        diameters = 2 * np.sqrt(areas / np.pi)  # of the circle of equal area
        height, width = image.shape[:2]
        checked[stem] = Checked(modality(image), height, width, str(image.dtype), *truth[1:], diameters)
    problems["pairs that cannot be used (unreadable, unequal sizes, or truth in no known form)"] = broken
    problems["truth that is empty (valid: an image without nuclei)"] = empty
    problems[f"truth that is more than {MAX_FOREGROUND:.0%} nucleus (all one value, or black and white swapped)"] = full
    stops = []
    if broken:
        stops.append("repair or remove the pairs that cannot be used")
    if len(checked) < 2:
        stops.append(f"at least two sound pairs are needed, to train and to validate, and there are {len(checked)}")
    if len(full) + len(empty) == len(checked):
        stops.append("no truth shows both nuclei and background")
    return checked, {kind: names for kind, names in problems.items() if names}, stops


def report(checked: dict[str, Checked], problems: dict[str, list[str]], stops: list[str]) -> str:
    """The check in words: a table by modality, what was understood of the truth, the problems, and the verdict."""
    rows = [("modality", "pairs", "height x width, px", "dtype", "form of truth", "nuclei", "median diameter, px")]
    for kind in sorted({pair.modality for pair in checked.values()}):
        group = [pair for pair in checked.values() if pair.modality == kind]
        sizes = sorted({(pair.height, pair.width) for pair in group}, key=lambda size: (size[0] * size[1], size))
        shown = [f"{height} x {width}" for height, width in (sizes if len(sizes) < 3 else (sizes[0], sizes[-1]))]
        forms = sorted({pair.form for pair in group})
        diameters = np.concatenate([pair.diameters for pair in group])
        rows.append(
            (
                kind,
                f"{len(group):,}",
                ", ".join(shown) if len(sizes) < 3 else f"{' ... '.join(shown)} ({len(sizes)} sizes)",
                ", ".join(sorted({pair.dtype for pair in group})),
                ", ".join(f"{form} {sum(pair.form == form for pair in group):,}" for form in forms),
                f"{diameters.size:,}",
                f"{np.median(diameters):.1f}" if diameters.size else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("")
    binary = [pair for pair in checked.values() if pair.form.startswith("binary")]
    if binary:
        lines.append(
            f"Binary truth in {len(binary):,} pairs: its connected components are taken as nuclei, so touching nuclei "
            "are merged; give one id per nucleus to teach their separation."
        )
    repaired = {stem: pair.repaired for stem, pair in checked.items() if pair.repaired > 0}
    if repaired:
        worst = max(repaired, key=repaired.__getitem__)
        lines.append(
            f"Soft or JPEG truth in {len(repaired):,} pairs was thresholded: {np.mean(list(repaired.values())):.1%} of "
            f"their pixels were neither background nor nucleus, at most {repaired[worst]:.1%} ({worst})."
        )
    for kind, names in problems.items():
        lines.append(f"{len(names):,} {kind}:")
        lines.extend(f"    {name}" for name in names[:MAX_NAMED])
        if len(names) > MAX_NAMED:
            lines.append(f"    and {len(names) - MAX_NAMED:,} more")
    lines.append(f"Training could not run: {'; '.join(stops)}." if stops else "Training can run on this data.")
    return "\n".join(lines)


def show_progress(what: str, done: int, total: int, unit: str) -> None:
    """A bar on one line of the terminal; nothing where stderr is a file or a pipe."""
    if total and sys.stderr.isatty():
        filled = min(30, 30 * done // total)
        bar = "#" * filled + "-" * (30 - filled)
        print(f"\r{what} [{bar}] {done:,} of {total:,} {unit}", end="\n" if done >= total else "", file=sys.stderr)


# ----------------------------------------------------------------------------------------------------------------------
# Other layouts. One function for each, which ends in raw/STEM and gt/STEM; DSB2018/BBBC038 is the only one so far.


def dsb2018_members(names: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Sort the names of a DSB2018 tree, `.../ID/images/*.png` and `.../ID/masks/*.png`: {".../ID": (images, masks)}."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for name in sorted(names):
        *above, kind, file = name.split("/")
        hidden = file.startswith(".") or "__MACOSX" in above
        if above and kind in ("images", "masks") and Path(file).suffix.lower() in IMAGE_SUFFIXES and not hidden:
            found.setdefault("/".join(above), ([], []))[kind == "masks"].append(name)
    return found


def refuse_unsafe_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """No member may leave the folder it is unpacked to, be a link, or be large beyond reason. Raises: ValueError."""
    for member in archive.infolist():
        parts = member.filename.replace("\\", "/").split("/")
        why = None
        if not parts[0] or any(part == ".." or part[1:2] == ":" for part in parts):
            why = "points outside the archive"
        elif stat.S_ISLNK(member.external_attr >> 16):
            why = "is a symbolic link"
        elif member.file_size > MAX_MEMBER_BYTES:
            why = f"unpacks to {member.file_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
        elif member.flag_bits & 1:
            why = "is encrypted"
        if why:
            raise ValueError(f"{path}: its member {member.filename!r} {why}; nothing was unpacked, get the original")


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


def import_dsb2018(source, out_dir, overwrite: bool = False) -> tuple[dict[str, int], list[str]]:
    """Bring a DSB2018/BBBC038 folder or zip into `out_dir/raw` (the image as it is) and `out_dir/gt` (16-bit ids).

    Stems that are there already are kept as they are unless `overwrite`; so a second run completes a first one.

    Returns: counts by name, and one message for each image that could not be brought in.
    Raises: FileNotFoundError; ValueError where the source is no such layout or an unsafe archive.
    """
    source, out_dir = Path(source).resolve(), Path(out_dir)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; expected a DSB2018 folder or zip")
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if source.is_dir():
            files = {f"{source.name}/{path.relative_to(source).as_posix()}": path for path in source.rglob("*.*")}
            fetch = files.__getitem__
        else:
            try:
                archive = stack.enter_context(zipfile.ZipFile(source))
            except zipfile.BadZipFile as error:
                raise ValueError(f"{source} is no whole zip ({error}); expected a DSB2018 folder or zip") from error
            refuse_unsafe_archive(source, archive)
            files = {f"{source.stem}/{member.filename}": member for member in archive.infolist()}

            def fetch(name: str) -> Path:
                # One member at a time, to a folder that goes at the end, under the last part of its name only.
                for earlier in scratch.iterdir():
                    earlier.unlink()
                path = scratch / Path(name).name
                with archive.open(files[name]) as packed, open(path, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                return path

        members = dsb2018_members(files)
        if not any(images and masks for images, masks in members.values()):
            raise ValueError(
                f"{source} is no DSB2018 layout; expected ID/images/*.png and ID/masks/*.png in it. A folder that has "
                "raw/ and gt/ already needs no import: python import_data.py FOLDER checks it"
            )
        outcomes = ("imported", "already there", "without image or masks", "nuclei", "pixels claimed twice")
        counts = dict.fromkeys(outcomes, 0)
        problems: list[str] = []
        seen: set[str] = set()
        there = {part: image_files(out_dir / part) for part in ("raw", "gt")}
        for done, (place, (images, masks)) in enumerate(members.items(), 1):
            show_progress("importing", done, len(members), "images")
            stem = place.rsplit("/", 1)[-1]
            if not masks or not images:
                counts["without image or masks"] += 1
                continue
            if stem not in seen and stem in there["raw"] and stem in there["gt"] and not overwrite:
                counts["already there"] += 1
                continue
            try:
                if len(images) > 1 or stem in seen:
                    raise ValueError("it is there twice" if stem in seen else f"{len(images)} images; expected one")
                seen.add(stem)
                shape = read_image(fetch(images[0])).shape[:2]
                labels, claimed = merge_masks((read_nucleus(fetch(name), shape) for name in masks), shape)
                written = []
                if overwrite or stem not in there["gt"]:
                    written.append(out_dir / "gt" / f"{stem}.png")
                    with replacing(written[-1]) as temporary:
                        Image.fromarray(labels.astype(np.uint16)).save(temporary)
                if overwrite or stem not in there["raw"]:
                    written.append(out_dir / "raw" / f"{stem}{Path(images[0]).suffix.lower()}")
                    with replacing(written[-1]) as temporary:
                        shutil.copyfile(fetch(images[0]), temporary)
            except (ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
                problems.append(f"{place}: {str(error).replace(f'{scratch}{os.sep}', '')}")
                continue
            for path in written:  # the same stem with another suffix would be a second truth
                for old in there[path.parent.name].get(stem, ()):
                    if old != path:
                        old.unlink(missing_ok=True)
                there[path.parent.name][stem] = [path]
            counts["imported"] += 1
            counts["nuclei"] += int(labels.max(initial=0))
            counts["pixels claimed twice"] += claimed
    return counts, problems


def read_nucleus(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """The mask of one nucleus as (H, W) bool. Raises: as `read_truth`; ValueError where it is not of `shape`."""
    mask = read_truth(path).labels > 0
    if mask.shape != shape:
        raise ValueError(f"a mask of {mask.shape} px, an image of {shape} (height, width); expected equal sizes")
    return mask


# ----------------------------------------------------------------------------------------------------------------------
# Download


def download(url: str, path, sha256: str | None = None) -> Path:
    """Fetch a zip to `path`; what has come lies in `path.part`, and a later call goes on from there (HTTP Range).

    The file takes its name only once its length is the announced one, every member passes its CRC, and the SHA-256 is
    the given one (where given). A file that is there already is verified, not fetched.

    Raises: OSError where the server cannot be reached or brings nothing RETRIES times in a row; ValueError where the
    content is not what was promised.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is no http or https address")
    if not path.exists():
        part = path.with_name(path.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        whole, failures = False, 0
        while not whole:
            before, reason = size_of(part), "the connection was cut"
            try:
                whole = fetch_rest(url, part)
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                    raise OSError(f"{url}: {error}; check the address, or fetch it by hand and use --from") from error
                reason = first_line(error)
            failures = 0 if size_of(part) > before else failures + 1  # a cut after some progress is no failure
            if not whole and failures == RETRIES:
                raise OSError(
                    f"{url}: {reason} after {size_of(part):,} bytes, which are kept in {part}: run the same command "
                    "again to go on from there, or fetch the zip by hand and use --from"
                )
            if not whole and failures:
                time.sleep(RETRY_SECONDS)
        verify_zip(part, sha256)
        os.replace(part, path)
    else:
        verify_zip(path, sha256)
    return path


def size_of(path: Path) -> int:
    """Bytes of a file that may not exist yet."""
    return path.stat().st_size if path.exists() else 0


def fetch_rest(url: str, part: Path) -> bool:
    """Append to `part` what is missing of it: True where all announced bytes are there."""
    have = size_of(part)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "import_data.py"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing lies beyond what we have
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return True
            part.unlink()  # longer than the file: another file, or an older one
            return False
        raise
    with response:
        announced = response.headers.get("Content-Length")
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends it all from the start
        total = have + int(announced) if announced else 0
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            while True:
                chunk = response.read(1 << 18)
                if not chunk:
                    break
                file.write(chunk)
                have += len(chunk)
                show_progress("downloading", have, total, "bytes")
            file.truncate()
    return not total or have == total


def verify_zip(path: Path, sha256: str | None) -> None:
    """Raises ValueError, and removes a `.part`, where the file is no sound zip or has another SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    why = None
    if sha256 and digest.hexdigest() != sha256.lower():
        why = f"has the SHA-256 {digest.hexdigest()}; expected {sha256.lower()}"
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
            why = f"has a damaged member, {bad}" if bad else None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            why = f"is no whole zip ({first_line(error)})"
    if why:
        way_out = "remove it and run again"
        if path.suffix == ".part":
            path.unlink()
            way_out = "it was removed, run again"
        raise ValueError(f"{path} {why}; {way_out}")
    print(f"{path}: {path.stat().st_size:,} bytes, every member sound, SHA-256 {digest.hexdigest()}")


# ----------------------------------------------------------------------------------------------------------------------


@user_errors_in_one_line
def main(argv=None) -> int:
    """Check a data folder, or bring another layout into one and check it. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", nargs="?", default=DATA_DIR, help="folder with raw/ and gt/ (default: %(default)s)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="source", metavar="FOLDER_OR_ZIP", help="import this DSB2018/BBBC038 layout")
    source.add_argument("--download", action="store_true", help="fetch the public DSB2018 training set and import it")
    parser.add_argument("--out", default=PUBLIC_DATA_DIR, help="where an import goes (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the stems that are there already")
    parser.add_argument("--url", default=PUBLIC_URL, help="address of the zip to download (default: %(default)s)")
    parser.add_argument("--sha256", help="hash that the downloaded zip must have")
    args = parser.parse_args(argv)
    importing = args.download or args.source is not None
    if not importing and (args.overwrite or args.out != PUBLIC_DATA_DIR):
        parser.error("--out and --overwrite go with --from or --download")
    if importing and args.data_dir != DATA_DIR:
        parser.error("an import goes to --out, not to DATA_DIR")

    data_dir, status = Path(args.data_dir), 0
    source = args.source
    if args.download:
        name = Path(urllib.parse.urlsplit(args.url).path).name or "download"
        source = download(args.url, Path(args.out) / name, args.sha256)
    if importing:
        data_dir = Path(args.out)
        counts, problems = import_dsb2018(source, data_dir, args.overwrite)
        print(f"{source} -> {data_dir}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
        if problems:
            status = 1
            print(f"{len(problems)} images were not imported:", *problems[:MAX_NAMED], sep="\n    ")
    checked, problems, stops = check_pairs(data_dir / "raw", data_dir / "gt")
    print(f"{data_dir}: {len(checked):,} sound pairs")
    print(report(checked, problems, stops))
    return 1 if stops else status


if __name__ == "__main__":
    sys.exit(main())
