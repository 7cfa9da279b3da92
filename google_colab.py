"""Train on Google Colab: paste this file into one cell of a notebook, and run the cell.

1. On Google Drive, make a folder `Unet_Data` with your images in `Unet_Data/raw` and their masks in `Unet_Data/gt`,
   paired by name: `raw/a.jpg` belongs to `gt/a.png`.
2. On https://colab.research.google.com open a new notebook and choose Runtime > Change runtime type > a GPU.
3. Paste this file into the cell, change the settings if you like, run it, and allow access to Drive. Where Colab cuts
   the runtime off, run the cell again: it goes on after the last finished epoch.
4. `trained_model.h5` and `history.csv` come as downloads, and stay in `Unet_Data/Saved_Model` on Drive. Put them into
   `Saved_Model/` at home; `python predict.py` and `python graph.py` find them there.

Nothing else is needed, no clone and no install. The settings come first, then the program, which is that of `train.py`
and the files that it imports (copied by `sync_colab.py`: change it there), then what is particular to Colab.
`google_colab.ipynb` is made of this file by `sync_colab.py`, too.
"""

# ruff: noqa: E402 - the settings come before the imports, because they are what a reader of the cell looks for.

# --- Settings: change these as you like -----------------------------------------------------------------------------

DRIVE_FOLDER = "Unet_Data"  # in My Drive, with raw/ and gt/ in it
RESULTS = "Saved_Model"  # in DRIVE_FOLDER; an unfinished training in it is gone on with, another name begins a new one
EPOCHS = 60
BATCH_SIZE = 16  # crops in one step; halve it where the GPU runs out of memory
WIDTH = 32  # filters of the first level: twice those of train.py's default, for which a GPU has the time
OPTIONS = ""  # anything else that train.py offers, as on its command line: "--patience 40 --crop 384"

# Of no interest to most.
MOUNT_POINT = "/content/drive"  # where Colab shows Google Drive
LOCAL_DIR = "/content/unet"  # on the disk of the runtime, since Drive is slow with many small files
COPY_THREADS = 16  # each file of Drive takes a while to come, whatever its size
TRIES = 3  # at what Drive refuses: the first look into a folder of thousands of files may time out
PAUSE_SECONDS = 5.0  # between them
ESTIMATE_SECONDS = 10.0  # of training, after which the rest is estimated
SHOWN_CROPS = 4  # validation crops that are shown with what the network paints

# >>> imports (made by sync_colab.py; one that the hand-written part needs may be added by hand)
import argparse
import atexit
import base64
import contextlib
import csv
import ctypes
import difflib
import functools
import gc
import gzip
import hashlib
import importlib.util
import json
import math
import os
import pickle
import platform
import re
import shlex
import shutil
import socket
import stat
import sys
import tempfile
import time
import types
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from PIL import Image

# <<<

# >>> program (made by sync_colab.py)
# fmt: off

# --- From import_data.py --------------------------------------------------------------------------------------------
# Find, pair, read and normalise images and masks: the data contract of the project.

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
OUTLINE_SUFFIXES = (".geojson.gz", ".geojson.zip", ".geojson", ".json", ".zip", ".roi")  # a longer one before its end
MAX_PIXELS = 500_000_000  # px in one file: 20,000 x 20,000 passes (1.2 GB as 8-bit RGB), a decompression bomb does not
RANGE_PERCENTILES = (0.5, 99.8)  # of all values, to 0 and 1; sparse nuclei cover less than 1 %: cut little above
FLOAT_PERCENTILES = (0.02, 99.98)  # float and 32-bit files to uint16: wider, only to survive a few broken pixels
MIN_RANGE_8BIT = 8  # grey levels: real dim fluorescence spans 15 of 255, sensor noise of a blank field less than 8
MIN_RANGE_16BIT = 64  # counts: read noise of a blank camera frame spans 10-50, a dim stain some hundred
MIN_CONTRAST = 8 / 255  # least range of a 16-bit or float image as a share of its brightest value
MAX_MEMBER_BYTES = 1 << 30  # of one archive member once unpacked: an image of DSB2018 has less than 10 MB
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


def positive(text):
    """argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


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


# --- From unet.py ---------------------------------------------------------------------------------------------------
# The network: a U-Net whose decoder upsamples by transposed convolution, and the file it lives in.

HEADS = ("nucleus", "distance", "contact")  # what the network can paint, in this order; `augment.targets` says what it means
DEPTH = 4  # number of times that the encoder halves the size, after the stem
STEM_STRIDE = 2  # 2: the first convolution halves the size, because full-resolution levels take most of a CPU's time
HEAD_FILTERS = 8  # filters of the one full-resolution convolution of a network with stem_stride 2
START_LOGIT = -1.5  # of every map: training starts at a probability of 0.18, near the share of nuclei (0.14 in BBBC038)
MOMENTUM = 0.95  # of the batch statistics: Keras's 0.99 lags behind in runs of a few hundred steps
SETTINGS = "histology_segmentation"  # the HDF5 attribute that holds everything needed to use the file
SCHEMA = 1  # of that attribute; a reader refuses a higher one
MEETING_SECONDS = 300  # that the processes of a training on several hosts wait for one another at its start
SILENT_SECONDS = 30  # after which a process that gives no sign of life is taken for dead, and the others end


def build_unet(heads=HEADS, width=WIDTH, depth=DEPTH, stem_stride=STEM_STRIDE, normalisation="batch", num_channels=3):
    """Build the encoder-decoder.

    Args:
        heads: names of the output maps, one sigmoid channel each: the first one, two or three of HEADS.
        width: filters of the first level; level k has `width * 2**k`.
        depth: how many times the encoder halves the size after the stem.
        stem_stride: 2 halves the size in the very first convolution, 1 is the classic network.
        normalisation: "batch", "group" (of 8 channels; independent of the batch) or "none".
        num_channels: channels of the image.

    Returns:
        An uncompiled `keras.Model` from (B, H, W, num_channels) float32 in [0, 1] to (B, H, W, len(heads)) float32
        in [0, 1]. H and W must be multiples of `size_multiple(depth, stem_stride)`; `tiling.py` pads any image.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Ronneberger, Fischer, Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation".
    """
    import keras
    from keras import layers

    if not heads or width < 1 or depth < 1 or stem_stride not in (1, 2):
        raise ValueError(
            f"build_unet got heads={heads}, width={width}, depth={depth}, stem_stride={stem_stride}; "
            "it wants one head or more, width and depth of at least 1, and stem_stride 1 or 2"
        )
    if tuple(heads) != HEADS[: len(heads)]:
        raise ValueError(f"heads are {' '.join(heads)}; they must be the first one, two or three of {' '.join(HEADS)}")
    if normalisation not in ("batch", "group", "none"):
        raise ValueError(f'normalisation is "{normalisation}"; it must be "batch", "group" or "none"')
    if normalisation == "group" and width % 8:
        raise ValueError(f"group normalisation takes groups of 8 channels; width is {width}, not a multiple of 8")

    def convolve(x, filters, strides=1):
        x = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=normalisation == "none", kernel_initializer="he_normal"
        )(x)
        if normalisation == "batch":
            x = layers.BatchNormalization(momentum=MOMENTUM)(x)
        elif normalisation == "group":
            x = layers.GroupNormalization(groups=filters // 8)(x)
        return layers.ReLU()(x)

    def upsample(x, filters):
        return layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer="he_normal")(x)

    image = keras.Input((None, None, num_channels), name="image")
    x = image
    if stem_stride == 2:
        x = convolve(x, width, strides=2)

    skips = []
    for level in range(depth):
        filters = width * 2**level
        x = convolve(convolve(x, filters), filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)

    filters = width * 2**depth
    x = convolve(convolve(x, filters), filters)

    for level in reversed(range(depth)):
        filters = width * 2**level
        x = layers.Concatenate()([upsample(x, filters), skips[level]])
        x = convolve(convolve(x, filters), filters)

    if stem_stride == 2:  # back at full resolution the skip is the image itself: edges stay sharp at next to no cost
        x = layers.Concatenate()([upsample(x, HEAD_FILTERS), image])
        x = convolve(x, HEAD_FILTERS)

    # A sigmoid for each map and no ReLU before it: a ReLU on two filters dies, and the masks come out black. It stays
    # in float32 under mixed precision, because half precision cannot tell probabilities near 1 apart.
    maps = layers.Conv2D(
        len(heads),
        1,
        activation="sigmoid",
        bias_initializer=keras.initializers.Constant(START_LOGIT),
        dtype="float32",
        name="maps",
    )(x)
    model = keras.Model(image, maps, name="unet")
    # Left to itself Keras has TensorFlow compile the network anew, by XLA, for every size of image: seconds for each.
    model.jit_compile = keras.backend.backend() == "jax"
    return model


def fuse_normalisation(model):
    """Have TensorFlow normalise batches while training by a kernel of its own, where Keras takes twenty operations.

    Weights and results stay what they are but for rounding. On two cores, training steps take 14 to 23 % less time.

    Args:
        model: of `build_unet`, with batch normalisation or without; changed in place, not to be saved.
    """
    import keras
    import tensorflow as tf

    def normalise(layer, inputs, training=None, mask=None):
        if not training or not layer.trainable or layer.synchronized:
            return type(layer).call(layer, inputs, training=training, mask=mask)
        scale, offset = tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, "float32"), scale=scale, offset=offset, mean=[], variance=[], epsilon=layer.epsilon
        )
        variance *= 1 - tf.cast(tf.size(mean) / tf.size(inputs), "float32")  # the kernel's is the unbiased one, Keras's is not
        for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + value * (1 - layer.momentum))
        return tf.cast(outputs, layer.compute_dtype)

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.call = functools.partial(normalise, layer)


def size_multiple(depth=DEPTH, stem_stride=STEM_STRIDE):
    """Pixels of which the network's input height and width must be a multiple."""
    return stem_stride * 2**depth


def receptive_radius(depth=DEPTH, stem_stride=STEM_STRIDE):
    """Pixels beyond which an input pixel cannot change an output pixel: the overlap that makes tiles seamless.

    Counts one pixel of each level's size for every 3x3 convolution on the longest path, and one size step for each
    pooling and each transposed convolution.
    """
    radius = 3 if stem_stride == 2 else 0  # the stem, the head's convolution and the last upsampling
    for level in range(depth + 1):
        pixel = stem_stride * 2**level
        radius += 2 * pixel if level == depth else 4 * pixel + pixel
    return radius


def geometry(architecture):
    """What `tiling` has to know of a network: {"margin": receptive radius, "multiple": size multiple}, in px.

    Args:
        architecture: the keyword arguments of `build_unet`.
    """
    shape = {name: architecture[name] for name in ("depth", "stem_stride") if name in architecture}
    return {"margin": receptive_radius(**shape), "multiple": size_multiple(**shape)}


def save_model(path, model, settings):
    """Write weights, architecture and settings into one HDF5 file, atomically.

    Args:
        path: the `.h5` file to write; a file of that name is replaced.
        model: a network of `build_unet`, never compiled (saving a compiled one to HDF5 damages its optimiser).
        settings: a dict for JSON with at least "architecture", the keyword arguments of `build_unet`.
    """
    import absl.logging
    import h5py

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".h5")
    os.close(handle)
    verbosity = absl.logging.get_verbosity()
    try:
        absl.logging.set_verbosity(absl.logging.ERROR)  # Keras calls .h5 a legacy format; here it is the product's format
        model.save(temporary, include_optimizer=False)
        with h5py.File(temporary, "r+") as file:
            file.attrs[SETTINGS] = json.dumps({"schema": SCHEMA, **settings})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        absl.logging.set_verbosity(verbosity)
        Path(temporary).unlink(missing_ok=True)


def read_settings(path):
    """The settings of a model file as a dict, without building the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no HDF5 file, or not one of ours, or from a later schema than this program knows.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file; train one with `python train.py` or give --model FILE")
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get(SETTINGS)
            is_keras = "model_weights" in file or "layer_names" in file.attrs
    except OSError as error:
        raise ValueError(
            f"{path}: not a model file (HDF5 says: {error}); expected a trained_model.h5 written by train.py"
        ) from None
    if text is None:
        what = "a Keras model of another program" if is_keras else "an HDF5 file without a Keras model"
        raise ValueError(f"{path}: {what}; expected a trained_model.h5 written by train.py")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: its settings are damaged ({error}); copy it again or train anew") from None
    if "architecture" not in settings:
        raise ValueError(f"{path}: its settings name no architecture; expected a trained_model.h5 written by train.py")
    if settings.get("schema", 0) > SCHEMA:
        raise ValueError(f"{path}: written by a later version (schema {settings['schema']}, this one reads {SCHEMA}); update")
    return settings


def load_model(path, heads=None):
    """Rebuild the network of a model file and load its weights: works across Keras 3 versions and backends.

    Args:
        path: a file of `save_model`.
        heads: maps that the network shall paint, if not those of the file: new ones start untrained, the others stay.

    Returns:
        The uncompiled `keras.Model` and the settings dict.

    Raises:
        FileNotFoundError, ValueError: as `read_settings`, or the weights do not fit the stored architecture.
    """
    settings = read_settings(path)
    model = build_unet(**settings["architecture"])
    try:
        model.load_weights(str(path))
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path}: the weights do not fit the architecture stored beside them ({error})") from None
    if heads is None or list(heads) == list(settings["architecture"]["heads"]):
        return model, settings
    settings = {**settings, "architecture": {**settings["architecture"], "heads": list(heads)}}
    changed = build_unet(**settings["architecture"])
    shared = min(len(heads), model.output_shape[-1])  # both are beginnings of HEADS
    arrays = model.get_weights()
    for old, new in zip(arrays[-2:], changed.get_weights()[-2:], strict=True):  # kernel and bias of the maps
        new[..., :shared] = old[..., :shared]
        arrays.append(new)
    changed.set_weights(arrays[:-4] + arrays[-2:])
    return changed, settings


def num_cores():
    """Cores that this process may use: those that the system lets it have, or fewer by the usual OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(said)) if said.isdigit() and int(said) else cores


def has_nvidia():
    """Whether this machine has an NVIDIA GPU, told without importing anything."""
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").exists()


# --- The machine ----------------------------------------------------------------------------------------------------


def set_up_backend():
    """Environment for TensorFlow, to be set before Keras is imported; what the user has set himself stays."""
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # off by default on AMD, where it makes a step 1.7 times faster
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its start-up notices bury ours


def memory_bytes():
    """Memory that this process may use: the machine's, or less by a container's limit or `ulimit`; infinite if unknown."""
    limits = [math.inf]
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limits.append(int(Path(path).read_text()))
    with contextlib.suppress(ImportError):
        import resource

        soft = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
        limits += [limit for limit in soft if limit != resource.RLIM_INFINITY]
    return min(limits)


def find_device():
    """The device that Keras's backend will use: (words for the user, precision that is fastest there).

    Half precision pays on GPUs with tensor cores only: bfloat16 from compute capability 8, float16 from 7.
    """
    import keras

    backend = keras.backend.backend()
    name, capability = None, (0, 0)
    if backend == "tensorflow":
        import tensorflow

        gpus = tensorflow.config.list_physical_devices("GPU")
        if gpus:
            details = tensorflow.config.experimental.get_device_details(gpus[0])
            name, capability = details.get("device_name", "GPU"), details.get("compute_capability", (0, 0))
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            name, capability = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    elif backend == "jax":
        import jax

        device = jax.local_devices()[0]
        if device.platform == "gpu":
            name = device.device_kind
            capability = tuple(int(part) for part in getattr(device, "compute_capability", "0.0").split("."))
    if name:
        precision = "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
        return f"GPU {name} with {backend}", precision
    words = f"CPU, {os.cpu_count()} cores, with {backend}"
    if has_nvidia():
        words += f". WARNING: this machine has an NVIDIA GPU that {backend} does not see; install its CUDA build"
    return words, "float32"


# --- Several devices, several hosts ---------------------------------------------------------------------------------
#
# On the engines that Keras has, and data-parallel: every device holds the whole network and computes its part of each
# batch, and the gradients of all parts are added up, so that a step is what one device would make of the whole batch.
# TensorFlow does it for the GPUs of one machine; JAX also for several machines, where one process runs on each and all of
# them make the same calls.


class Spread(NamedTuple):
    """How a training is spread over devices, by default over one.

    `places` are those of each batch that this process makes. `building` is entered to make network and optimiser, `fitting`
    for `fit`. `prepare` is called with the compiled model, and `feed` makes what `fit` takes of a function that returns a
    generator of batches.
    """

    places: range
    building: AbstractContextManager = nullcontext()
    fitting: AbstractContextManager = nullcontext()
    prepare: Callable = lambda model: None
    feed: Callable = lambda make_batches: make_batches()


def local_devices():
    """What Keras's backend can train on in this process, as its own objects: GPUs, or where there are none CPUs."""
    import keras

    if keras.backend.backend() == "tensorflow":
        from tensorflow import config

        return config.list_logical_devices("GPU") or config.list_logical_devices("CPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.local_devices()
    return ["the one that PyTorch chooses"]


def spread(batch_size, devices=1, num_processes=1, process_id=0):
    """Spread a training over `devices` devices of each of `num_processes` processes, of which this is `process_id`.

    Args:
        batch_size: crops in one step, over all devices of all processes.

    Returns:
        A Spread.

    Raises:
        ValueError: the batch does not part evenly, or there are fewer devices.
    """
    import keras

    backend, total = keras.backend.backend(), devices * num_processes
    if batch_size % total:
        larger = -(-batch_size // total) * total
        raise ValueError(f"--batch-size {batch_size} does not part evenly among {total} devices; take {larger}, for instance")
    part = batch_size // num_processes
    places = range(process_id * part, (process_id + 1) * part)
    if total == 1:
        return Spread(places)
    found = local_devices()
    if len(found) < devices:
        raise ValueError(f"--devices {devices}: KERAS_BACKEND={backend} can train on {len(found)} here; give at most that")
    if backend == "tensorflow":
        return spread_by_tensorflow(found[:devices], places)
    import jax

    by_process = [[d for d in jax.devices() if d.process_index == k][:devices] for k in range(num_processes)]
    names = [f"{device.platform}:{device.id}" for part in by_process for device in part]
    if len(names) < total:
        raise ValueError(f"--devices {devices}: the processes have {', '.join(str(len(part)) for part in by_process)} devices")
    distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)  # `places` has shared it out
    return Spread(places, distribution.scope(), distribution.scope())


def spread_by_tensorflow(devices, places):
    """Spread over devices of one machine by `tf.distribute.MirroredStrategy`."""
    import keras
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])

    def prepare(model):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True  # statistics of the whole batch; left alone, each device takes those of its part
        apply = model.optimizer.apply

        def apply_sum(gradients, variables=None):
            # Left alone, Keras clips the gradients of each part and adds them up then. Clipping is for their sum: the first
            # device hands it on, the others nothing, and adding up changes it no more.
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group == 0
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
            apply([gradient * tf.cast(is_first, gradient.dtype) for gradient in total], variables)

        model.optimizer.apply = apply_sum

    def feed(make_batches):
        # Under a strategy, `fit` looks at some batches first and begins anew, which a generator cannot: some would be lost.
        signature = tuple(tf.TensorSpec(array.shape, array.dtype) for array in next(make_batches()))
        return tf.data.Dataset.from_generator(make_batches, output_signature=signature)

    return Spread(places, strategy.scope(), nullcontext(), prepare, feed)


def join_processes(coordinator, num_processes, process_id):
    """Meet the other processes of a training on several hosts; with one process, or a second time, nothing happens.

    Args:
        coordinator: "HOST:PORT" at which process 0 can be reached by all.

    Raises:
        ValueError: JAX is not there or not Keras's backend, or the others did not come.
    """
    if num_processes == 1:
        return
    set_up_backend()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if importlib.util.find_spec("jax") is None:
        raise ValueError('several processes train on JAX: pip install jax (for NVIDIA GPUs: pip install "jax[cuda13]")')
    import jax
    import keras

    if keras.backend.backend() != "jax":
        raise ValueError(f"several processes train on JAX, not on {keras.backend.backend()}: set KERAS_BACKEND=jax")
    if jax.distributed.is_initialized():
        return
    if process_id == 0:
        print(f"Process 0 waits up to {MEETING_SECONDS} s for the {num_processes - 1} others at {coordinator}", flush=True)
    else:
        await_port(coordinator, process_id)  # since JAX would end this process without a word of ours
    try:
        # What keras.distribution.initialize calls; that one has no word on how long a silent process counts as alive.
        jax.distributed.initialize(
            coordinator, num_processes, process_id,
            initialization_timeout=MEETING_SECONDS, heartbeat_timeout_seconds=SILENT_SECONDS,
        )  # fmt: skip
    except RuntimeError as error:
        raise ValueError(
            f"process {process_id} of {num_processes} could not join at {coordinator} ({str(error).splitlines()[0]}); is each "
            "started once, with a --process-id of its own, and is the port free?"
        ) from None
    atexit.register(end_at_once)


def await_port(coordinator, process_id):
    """Wait until process 0 can be reached. Raises: ValueError, after MEETING_SECONDS."""
    host, port = coordinator.rsplit(":", 1)
    end = time.monotonic() + MEETING_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ValueError(
                    f"process {process_id} did not reach process 0 at {coordinator} within {MEETING_SECONDS} s ({error}); is "
                    "it running, and is the port open between the machines?"
                ) from None
            time.sleep(0.5)


def end_at_once():
    """End a process that has failed: left alone, JAX would wait here for the others, which are dead or wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def leave_processes(num_processes):
    """Part from the other processes, once all of them have come this far."""
    if num_processes > 1:
        import jax

        jax.distributed.shutdown()
        atexit.unregister(end_at_once)


def tell_all(make, num_processes, process_id):
    """What `make()` gives in process 0, in all processes: only that one is sure to have the files of a training."""
    if num_processes == 1:
        return make()
    from jax.experimental.multihost_utils import broadcast_one_to_all

    told = np.frombuffer(pickle.dumps(make() if process_id == 0 else None), np.uint8)
    size = int(broadcast_one_to_all(np.array(len(told), np.int32)))
    return pickle.loads(broadcast_one_to_all(np.resize(told, size)).tobytes())


# --- From augment.py ------------------------------------------------------------------------------------------------
# One random transform, applied alike to an image and its truth; and the batches that training is fed.

ECHO = 2  # times that a crop is shown, each time turned otherwise
ECHO_STEPS = 8  # of training between two of these
REHEARSAL_STREAM = 2**32 - 1  # in place of a step: of random numbers that no step takes
UNKNOWN = -1.0  # truth of a pixel that must not teach; the losses leave it out

# Geometry.
DIAMETER_PX = 24  # median nucleus diameter that every image is brought to, so that one size has to be learned, not all
SCALE = (0.7, 1.4)  # times that: sizes differ within an image, and prediction only estimates them
SCALE_LIMITS = (0.25, 4)  # never further than this from native: resampling makes or destroys detail
CENTRE_SHARE = 0.7  # of the crops are centred near a nucleus, the others lie anywhere: empty ones included, not dominating
NOTHING_SHARE = 0.05  # of the crops show no cells at all: noise, writing, fibres. Without them, text is full of nuclei
GROUP_POWER = 0.35  # a kind of image is drawn by this power of its number: 417, 82 and 14 images become 53, 30 and 16 %
ROTATE_SHARE = 0.5  # of the crops get any angle and shear, the others a multiple of 90 degrees (no interpolation of edges)
SHEAR = 0.12
ELASTIC_SHARE = 0.25
ELASTIC_GRID_PX = 48  # distance of the control points
ELASTIC_STRENGTH = 0.08  # standard deviation of a control point's shift, in control point distances

# Crowding: nuclei of one crop laid among those of another of the same image, where they touch and overlap.
CROWD_SHARE = 0.3  # of the crops
CROWD_TRIES = 4  # places of which the one with most contacts is taken
CROWD_OVERLAP = 0.3  # of a nucleus at most that another one covers
CROWD_EDGE_PX = 1.0  # sigma of the edge along which what is laid on fades

# Staining: the nuclei of a crop painted as another laboratory's bright-field stain would show them.
RESTAIN_SHARE = 0.2  # of the crops, fluorescence among them: its nuclei are many and well outlined
NUCLEAR_DENSITY = (0.4, 1.4)  # optical density of the median nucleus
STRENGTH_SPREAD = 0.25  # sigma of the logarithm of each nucleus's own part of that
GROUND_DENSITY = (0.0, 0.5)  # of what lies between the nuclei, on average
STAIN_SPREAD = 0.12  # by which a component of a stain's unit vector strays

# Fluorescence, painted from bright field.
GLOW = (0.2, 0.8)  # of the median nucleus
GLOW_SPREAD = (0.1, 0.6)  # sigma of the logarithm of each nucleus's own part of that
HAZE = 0.25  # at most, of what glows between the nuclei

CONTACT_REACH_PX = 2  # of a pixel to both nuclei that it parts: a line of some four pixels, wide enough to be learned

# Light. Each with its share of the crops; images are stretched to [0, 1] before.
GAIN = (0.7, 1.3)
OFFSET = 0.08
GAMMA = 0.55  # exponent drawn as exp(uniform(-GAMMA, GAMMA)): 0.58 to 1.73
LIGHT_SHARE = 0.8
SHADING_SHARE = 0.2  # uneven illumination
POLARITY_SHARE = 0.1  # grey images only: dark nuclei on a bright field
TINT_SHARE = 0.15  # grey images only: false-coloured fluorescence
GREY_SHARE = 0.1  # colour images only
STAIN_SHARE = 0.7  # colour images only
STAIN_GAIN = 0.35  # change of the amount of each stain
STAIN_OFFSET = 0.05  # optical density
SHUFFLE_SHARE = 0.1  # colour images only: channels in another order (brown, green and red stains)
BLUR_SHARE = 0.2
BLUR_SIGMA_PX = (0.4, 2.0)
NOISE_SHARE = 0.3
NOISE_SIGMA = 0.06
JPEG_SHARE = 0.15
JPEG_QUALITY = (25, 90)

# Ruifrok & Johnston 2001, as in scikit-image's `rgb_from_hed`: optical densities of haematoxylin, eosin and DAB.
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
MARKERS = np.array([[0.27, 0.57, 0.78], [0.21, 0.85, 0.48]], np.float32)  # of its table: DAB (brown) and fast red
EOSINS = np.array([[0.07, 0.99, 0.11], [0.2159, 0.8012, 0.5581]], np.float32)  # of that table, and of Macenko et al. 2009
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED).astype(np.float32)


@dataclass
class Sample:
    """One training image: `image` (H, W, 3) uint8 or uint16 as on disk, its `intensity_range` (low, high) that becomes
    [0, 1], `labels` (H, W) int32, the `group` that it is balanced by, its median nucleus `diameter_px` (None without
    nuclei), and whether its labels tell touching nuclei apart (`has_instances`)."""

    image: np.ndarray
    intensity_range: tuple
    labels: np.ndarray
    group: str = ""
    diameter_px: float | None = None
    has_instances: bool = True


@dataclass
class Rehearsal:
    """What a model knows already, to be trained beside what it shall learn: `crops` (N, size, size, 3), what it paints on
    them, `truths` (N, size, size, K), both float32, and the `share` of all crops that is drawn from these."""

    crops: np.ndarray
    truths: np.ndarray
    share: float


def reflect(position, length):
    """Fold positions outside of [0, length - 1] back inside, mirror-wise and as often as needed."""
    if length == 1:
        return np.zeros_like(position)
    period = 2.0 * (length - 1)
    position = np.abs(position)
    if position.max() > period:  # seldom, and the remainder is what takes the time
        position %= period
    return np.minimum(position, period - position)


def zoom_to_diameter(diameter_px):
    """How many times larger to show an image whose median nucleus has this diameter; 1 where it is None (no nuclei)."""
    return float(np.clip(DIAMETER_PX / diameter_px, *SCALE_LIMITS)) if diameter_px else 1.0


def random_coordinates(labels, rng, size, diameter_px=None):
    """Draw where each pixel of a crop comes from.

    Args:
        labels: (H, W) int32; crops are centred near nuclei.
        size: height and width of the crop.
        diameter_px: median nucleus diameter of the image, or None.

    Returns:
        (rows, columns), each (size, size) float32 positions inside the image, and the number of source pixels that one
        crop pixel spans.
    """
    height, width = labels.shape
    step = 1 / (zoom_to_diameter(diameter_px) * np.exp(rng.uniform(*np.log(SCALE))))

    row, column = rng.uniform(0, height), rng.uniform(0, width)
    if rng.random() < CENTRE_SHARE:
        inside = np.flatnonzero(labels[:: max(1, height // 256), :: max(1, width // 256)] > 0)
        if len(inside):
            coarse_width = len(range(0, width, max(1, width // 256)))
            at = inside[rng.integers(len(inside))]
            row = at // coarse_width * max(1, height // 256) + rng.uniform(-0.25, 0.25) * size * step
            column = at % coarse_width * max(1, width // 256) + rng.uniform(-0.25, 0.25) * size * step
    # Where the image is larger than the crop, keep the crop inside it: mirrored borders teach little.
    reach = size * step / 2
    row = np.clip(row, reach, height - reach) if height > 2 * reach else height / 2
    column = np.clip(column, reach, width - reach) if width > 2 * reach else width / 2

    angle = rng.integers(4) * np.pi / 2
    matrix = np.eye(2)
    if rng.random() < ROTATE_SHARE:
        angle = rng.uniform(0, 2 * np.pi)
        matrix = matrix + rng.uniform(-SHEAR, SHEAR, (2, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.diag([1, rng.choice([-1, 1])])
    matrix = (turn @ flip @ matrix * step).astype(np.float32)

    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    y, x = axis[:, None], axis[None, :]
    rows = (matrix[0, 0] * y + np.float32(row - 0.5)) + matrix[0, 1] * x
    columns = (matrix[1, 0] * y + np.float32(column - 0.5)) + matrix[1, 1] * x
    if rng.random() < ELASTIC_SHARE:
        points = max(4, round(size / ELASTIC_GRID_PX) + 1)
        shift = rng.normal(0, ELASTIC_STRENGTH * ELASTIC_GRID_PX * step, (2, points, points)).astype(np.float32)
        rows += cv2.resize(shift[0], (size, size), interpolation=cv2.INTER_CUBIC)
        columns += cv2.resize(shift[1], (size, size), interpolation=cv2.INTER_CUBIC)
    return reflect(rows, height), reflect(columns, width), step


def sample_at(image, labels, rows, columns, step):
    """Read image (bilinear, smoothed first where it shrinks) and labels (nearest) at the given positions.

    Returns:
        (size, size, 3) float32 in the units of the image, and (size, size) int32.
    """
    # Only the part of the image that is needed is touched; one pixel around it for the interpolation.
    top, left = max(0, int(rows.min()) - 2), max(0, int(columns.min()) - 2)
    bottom, right = int(rows.max()) + 4, int(columns.max()) + 4
    part = np.ascontiguousarray(image[top:bottom, left:right], dtype=np.float32)
    if step > 1.2:
        part = cv2.GaussianBlur(part, (0, 0), 0.4 * step, borderType=cv2.BORDER_REFLECT_101)
    x, y = columns - np.float32(left), rows - np.float32(top)  # OpenCV's maps are x, then y
    crop = cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ids = labels[top:bottom, left:right].astype(np.float32)  # OpenCV reads no int32; float32 is exact up to 2**24
    return crop, cv2.remap(ids, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE).astype(np.int32)


def mean_channel(image):
    """The mean of the three channels of (H, W, 3) float32, (H, W) float32; NumPy's takes twenty times as long."""
    return cv2.transform(image, np.full((1, 3), 1 / 3))


def is_grey(image, tolerance=0.02):
    """Whether a float image (H, W, 3) in [0, 1] has no colour to speak of."""
    some = np.ascontiguousarray(image[::4, ::4])
    return bool(np.abs(some - mean_channel(some)[..., None]).mean() < tolerance)


def jitter_stain(image, rng):
    """Change the amounts of haematoxylin, eosin and DAB of (H, W, 3) float32 in [0, 1], in optical density.

    To stains, gain, and back to colours are three matrices in a row: one 3x3 does it.
    References: Tellez et al. 2018, "Whole-slide mitosis detection in H&E breast histology" (HED colour augmentation).
    """
    gain = np.diag(1 + rng.uniform(-STAIN_GAIN, STAIN_GAIN, 3)).astype(np.float32)
    offset = rng.uniform(-STAIN_OFFSET, STAIN_OFFSET, 3).astype(np.float32)
    fused = HED_FROM_RGB @ gain @ RGB_FROM_HED
    light = np.log(np.maximum(image, 1 / 255))  # the negative of the density, here and below
    return np.exp(np.minimum(cv2.transform(light, np.column_stack([fused.T, -(offset @ RGB_FROM_HED)])), 0))


def change_light(image, rng):
    """Draw a change of colour, light and sharpness of (H, W, 3) float32 in [0, 1]; shape, dtype and range stay."""
    if is_grey(image):
        if rng.random() < POLARITY_SHARE:
            image = 1 - image
        if rng.random() < TINT_SHARE:
            tint = rng.uniform(0, 1, 3)
            image = image * (tint / tint.max()).astype(np.float32)
    else:
        if rng.random() < STAIN_SHARE:
            image = jitter_stain(image, rng)
        if rng.random() < SHUFFLE_SHARE:
            image = image[..., rng.permutation(3)]
        if rng.random() < GREY_SHARE:
            image = np.repeat(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None], 3, -1)
    if rng.random() < LIGHT_SHARE:
        image = cv2.pow(np.clip(image, 0, 1), np.exp(rng.uniform(-GAMMA, GAMMA)))
        image *= np.float32(rng.uniform(*GAIN))
        image += np.float32(rng.uniform(-OFFSET, OFFSET))
    if rng.random() < SHADING_SHARE:
        light = rng.uniform(0.5, 1.2, (3, 3)).astype(np.float32)
        image = image * cv2.resize(light, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    if rng.random() < BLUR_SHARE:
        image = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), rng.uniform(*BLUR_SIGMA_PX))
    if rng.random() < NOISE_SHARE:
        grain = np.empty(image.shape[:2] + (1 if is_grey(image) else 3,), np.float32)
        cv2.setRNGSeed(int(rng.integers(2**31)))  # of this thread
        cv2.randn(grain, 0, rng.uniform(0, NOISE_SIGMA))  # in a quarter of the time that NumPy takes
        image = image + grain
    image = np.clip(image, 0, 1)
    if rng.random() < JPEG_SHARE:
        quality = int(rng.integers(*JPEG_QUALITY))
        code = cv2.imencode(".jpg", (image * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = cv2.imdecode(code, cv2.IMREAD_COLOR).astype(np.float32) / 255  # channel order is kept both ways
    return image.astype(np.float32)


def crowd(crop, labels, other, other_labels, rng):
    """Lay whole nuclei of one crop on another of the same image, where they touch those that are there and hide little.

    Args:
        crop, other: (size, size, 3) float32, in the units of the image.
        labels, other_labels: (size, size) int32.

    Returns:
        The crop and labels with them, of the same shapes and dtypes; what is laid on has ids of its own.

    References:
        Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation".
    """
    whole = np.ones(other_labels.max() + 1, bool)
    whole[0] = whole[np.concatenate([other_labels[[0, -1]].ravel(), other_labels[:, [0, -1]].ravel()])] = False
    if not whole.any():
        return crop, labels
    first_id = labels.max() + 1
    areas, other_areas = np.bincount(labels.ravel()), np.bincount(other_labels.ravel())
    best = None
    for _ in range(CROWD_TRIES):
        shift = rng.integers(len(labels), size=2)
        moved = np.roll(other_labels, shift, (0, 1))
        allowed = whole.copy()
        for one, other_side in ((moved[0], moved[-1]), (moved[:, 0], moved[:, -1])):
            seen = np.zeros(len(whole), bool)
            seen[one] = True
            allowed[other_side[seen[other_side]]] = False  # a part of it came in again on the other side
        both = np.flatnonzero((labels > 0) & (moved > 0))
        pairs, hidden = np.unique(moved.ravel()[both].astype(np.int64) * first_id + labels.ravel()[both], return_counts=True)
        upper, lower = np.divmod(pairs, first_id)
        allowed[upper[hidden > CROWD_OVERLAP * np.minimum(areas[lower], other_areas[upper])]] = False
        contacts = np.count_nonzero(allowed[upper])
        if best is None or contacts > best[0]:
            best = contacts, shift, moved, allowed[moved]
    _, shift, moved, laid = best
    if not laid.any():
        return crop, labels
    moved_crop = np.roll(other, shift, (0, 1))
    if rng.random() < 0.5:  # translucent, as nuclei above one another are: the brighter counts, in transmitted light the darker
        brighter = other[other_labels > 0].mean() > other.mean()
        moved_crop = np.maximum(crop, moved_crop) if brighter else np.minimum(crop, moved_crop)
    share = cv2.GaussianBlur(cv2.dilate(laid.astype(np.float32), np.ones((3, 3))), (0, 0), CROWD_EDGE_PX)[..., None]
    return crop + share * (moved_crop - crop), np.where(laid, moved + first_id, labels).astype(np.int32)


def restain(crop, labels, rng):
    """Paint a crop as bright-field stains would show its nuclei: haematoxylin and eosin, or haematoxylin and a marker.

    A marker is brown or red and lies in some of the nuclei (as Ki67) or between them (as membranes and cytoplasm). Which
    pixels are nuclei is taken from the truth; how dense they are, and in tissue what lies between them, from the crop.

    Args:
        crop: (size, size, 3) float32 in [0, 1], of any stain, or fluorescence.
        labels: (size, size) int32.

    Returns:
        (size, size, 3) float32 in [0, 1]; the crop itself where it has no nuclei, or nothing else.

    References:
        Ruifrok & Johnston 2001, "Quantification of histochemical staining by color deconvolution" (densities add up).
    """
    inside = labels > 0
    if not inside.any() or inside.all():
        return crop
    light = mean_channel(crop)
    fluorescent = light[inside].mean() > light[~inside].mean()
    amount = light if fluorescent else -np.log(np.maximum(light, 1 / 255))
    glass = np.percentile(amount[~inside][::4], 10)
    amount = np.clip((amount - glass) / max(np.median(amount[inside][::4]) - glass, 0.05), 0, 2)
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0)
    if fluorescent:
        ground = fibres(rng, len(crop))
        if rng.random() < 0.4:  # pale nuclei with a dark rim, as large ones of tissue are; fluorescence has none of them
            amount = amount * (1 - rng.uniform(0.2, 0.8) * cv2.GaussianBlur(soft, (0, 0), rng.uniform(2, 4)) ** 2)
    else:
        ground = amount * (1 - soft)
    ground = np.minimum(ground / max(ground.mean(), 1e-3), 4)
    ground = ground + rng.uniform(0, 3) * cv2.GaussianBlur(soft, (0, 0), rng.uniform(3, 8))  # cytoplasm, around the nuclei

    def stain(base):
        vector = np.maximum(base / np.linalg.norm(base) + rng.uniform(-STAIN_SPREAD, STAIN_SPREAD, 3), 0.02)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    blue, marker, eosin = stain(RGB_FROM_HED[0]), stain(MARKERS[rng.integers(2)]), stain(EOSINS[rng.integers(2)])
    place = rng.choice(["nowhere", "nuclei", "between"])  # of the marker
    colours = np.repeat(blue[None], labels.max() + 1, 0)
    if place == "nuclei":
        marked = rng.random(len(colours)) < rng.uniform(0.1, 0.9)
        colours[marked] = marker * rng.uniform(0.8, 1.6)
    colours *= np.exp(rng.normal(0, STRENGTH_SPREAD, (len(colours), 1)))
    colours[0] = 0
    paint = cv2.GaussianBlur(np.take(colours, labels, 0), (0, 0), 0.7)
    density = paint * (amount * rng.uniform(*NUCLEAR_DENSITY))[..., None]

    between = rng.uniform(*GROUND_DENSITY) * (eosin if place == "nowhere" else float(rng.choice([0.3, 0.1])) * blue)[None, None]
    if place == "between":
        patches = cv2.resize(rng.standard_normal((5, 5), np.float32), labels.shape[::-1], interpolation=cv2.INTER_CUBIC)
        between = between + np.clip(patches + rng.uniform(-1, 1), 0, 1)[..., None] * marker * rng.uniform(0.3, 1.5)
    ground = ground * (1 - rng.uniform(0.3, 1) * soft)  # some of it shines through the nuclei
    density += ground[..., None] * between
    density += rng.uniform(0, 0.08)
    return np.exp(-density)


def fluoresce(crop, labels, rng):
    """Paint a bright-field crop as fluorescence would show its nuclei: bright, each as strong as it may be, on dark ground.

    Which pixels are nuclei is taken from the truth, their texture and what little glows between them from the crop.

    Args:
        crop: (size, size, 3) float32 in [0, 1], nuclei darker than the ground.
        labels: (size, size) int32 with nuclei and ground.

    Returns:
        (size, size, 3) float32 in [0, 1], grey.
    """
    inside = labels > 0
    soft = lambda picture, low, high: cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(low, high))
    density = -np.log(np.maximum(mean_channel(crop), 1 / 255))
    glass = np.percentile(density[~inside], 10)
    texture = soft(np.clip((density - glass) / max(np.median(density[inside]) - glass, 0.05), 0, 2), 0.5, 2)
    strengths = np.exp(rng.normal(0, rng.uniform(*GLOW_SPREAD), labels.max() + 1))
    strengths[0] = 0
    glow = soft(strengths[labels], 0.7, 1.5)
    image = rng.uniform(*GLOW) * glow * (1 + rng.uniform(0.2, 0.8) * (texture - 1))
    image += rng.uniform(0, HAZE) * soft(glow, 4, 16) + rng.uniform(0, HAZE / 2)  # out of focus, and the camera's own
    image += rng.uniform(0, HAZE / 2) * texture * (1 - soft(inside, 0.7, 1.5))
    return np.repeat(np.clip(image, 0, 1).astype(np.float32)[..., None], 3, -1)


def other_look(crop, labels, rng):
    """Paint a crop as another modality would show it: `fluoresce` of bright field, `restain` of fluorescence.

    Args, Returns: as `restain`.
    """
    inside, light = labels > 0, mean_channel(crop)
    if not inside.any() or inside.all():
        return crop
    return (fluoresce if light[inside].mean() < light[~inside].mean() else restain)(crop, labels, rng)


def nucleus_distance(labels):
    """Depth inside each nucleus: 0 outside, rising from its border to 1 at its deepest pixel.

    Args:
        labels: (H, W) int32, 0 is background.

    Returns:
        (H, W) float32 in [0, 1]. The border to a touching nucleus counts as border; the edge of the image does not.

    References:
        Scherr et al. 2020, "Cell segmentation and tracking using CNN-based distance predictions" (normalised distances).
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    # A pixel whose right or lower neighbour has another id lies on a border; both sides of a contact are borders.
    inside = labels > 0
    contact = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        touch = (labels[tuple(first)] != labels[tuple(second)]) & inside[tuple(first)] & inside[tuple(second)]
        contact[tuple(first)] |= touch
        contact[tuple(second)] |= touch
    core = (inside & ~contact).astype(np.uint8)
    # By steps to neighbours and knights' moves: within 2 % of the exact distance, in a third of the time.
    depth = cv2.distanceTransform(core, cv2.DIST_L2, cv2.DIST_MASK_5) if not core.all() else np.ones(core.shape, np.float32)
    places = np.flatnonzero(inside)
    ids, depths = labels.ravel()[places], depth.ravel()[places] + contact.ravel()[places]  # contact is nucleus: depth 1, not 0
    deepest = np.ones(ids.max() + 1, np.float32)
    np.maximum.at(deepest, ids, depths)  # all depths inside are 1 or more
    painted = np.zeros(labels.shape, np.float32)
    painted.ravel()[places] = depths / deepest[ids]
    return painted


def nucleus_contact(labels):
    """Where nuclei meet: 1 within CONTACT_REACH_PX of two different nuclei, in them or between them, else 0.

    Args:
        labels: (H, W) int32, 0 is background, ids below 16 million.

    Returns:
        (H, W) float32 of 0 and 1.

    References:
        Caicedo et al. 2019, "Nucleus segmentation across imaging experiments": the borders between touching nuclei were a
        class of their own in the winning network of the Data Science Bowl 2018.
    """
    ids = labels.astype(np.float32)  # OpenCV's morphology knows no int32; float32 is exact up to 2**24
    kernel = np.ones((2 * CONTACT_REACH_PX + 1,) * 2, np.uint8)
    highest = cv2.dilate(ids, kernel)
    lowest = cv2.erode(np.where(labels > 0, ids, np.float32(2**24)), kernel)
    return ((highest > 0) & (lowest < highest)).astype(np.float32)


def targets(labels, heads, has_instances=True):
    """What the network should paint for a crop.

    Args:
        labels: (H, W) int32.
        heads: names of the maps: "nucleus" (1 in a nucleus), "distance" (`nucleus_distance`), "contact"
            (`nucleus_contact`).
        has_instances: False where touching nuclei share an id: every map but the first is then unknown (-1).

    Returns:
        (H, W, len(heads)) float32 in [0, 1], or -1 for unknown.
    """
    painters = {
        "nucleus": lambda: labels > 0,
        "distance": lambda: nucleus_distance(labels),
        "contact": lambda: nucleus_contact(labels),
    }
    truth = np.empty(labels.shape + (len(heads),), np.float32)
    for channel, head in enumerate(heads):
        truth[..., channel] = painters[head]() if has_instances or head == "nucleus" else UNKNOWN
    return truth


def draw_nothing(rng, size):
    """A picture without cells, (size, size, 3) float32 in [0, 1]: empty, grain, noise, stripes, writing, stained fibres."""
    kind = rng.choice(["empty", "grain", "noise", "stripes", "writing", "fibres", "fibres"])
    if kind == "fibres":
        eosin = EOSINS[0] + rng.uniform(0, 1) * (EOSINS[1] - EOSINS[0])
        stain = eosin + rng.uniform(0, 0.3) * RGB_FROM_HED[0]
        return np.exp(-(fibres(rng, size)[..., None] * stain + rng.uniform(0, 0.1)))
    paper, ink = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    if rng.random() < 0.5:
        paper, ink = np.repeat(paper[:1], 3), np.repeat(ink[:1], 3)
    amount = np.zeros((size, size), np.float32)  # of ink
    if kind == "grain":
        amount = rng.standard_normal((size, size), np.float32) * np.float32(rng.uniform(0.1, 0.5)) + 0.5
    elif kind == "noise":  # amplitude falling with frequency to the power of -1 or less: rough at every scale, without blobs
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) + 1 / size
        wave = np.fft.rfft2(rng.standard_normal((size, size))) * frequency ** -rng.uniform(0.2, 1.0)
        amount = np.fft.irfft2(wave, s=(size, size))
        amount = 0.5 + 0.2 * (amount - amount.mean()) / amount.std()
    elif kind == "stripes":
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
        phase = (np.arange(size)[:, None] * np.cos(angle) + np.arange(size)[None] * np.sin(angle)) * 2 * np.pi / period
        amount = 0.5 + 0.5 * np.sin(phase)
        amount = (amount > 0.5) * 1.0 if rng.random() < 0.5 else amount
    elif kind == "writing":
        scale, thickness = rng.uniform(0.3, 2.0), int(rng.integers(1, 4))
        height, sheet = round(30 * scale), np.zeros((size, size), np.uint8)
        for row in range(height, size + height, height):
            text = "".join(chr(letter) for letter in rng.integers(33, 123, 200))
            cv2.putText(sheet, text, (0, row), int(rng.integers(0, 8)), scale, 255, thickness, cv2.LINE_AA)
        amount = sheet / np.float32(255)
    return np.clip(paper + np.clip(amount, 0, 1)[..., None] * (ink - paper), 0, 1).astype(np.float32)


def fibres(rng, size):
    """Optical density of wavy bundles, as eosin shows collagen, muscle and keratin: (size, size) float32, 0 or more."""
    thickness, length = rng.uniform(1.5, 8), rng.uniform(40, 160)  # px, of a fibre
    side = 2 * size  # from which the picture is taken, turned and bent
    grid = (max(4, round(side / thickness)), max(4, round(side / length)))
    streaks = cv2.resize(rng.standard_normal(grid, np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    angle, axis = rng.uniform(0, np.pi), np.arange(size, dtype=np.float32) - (size - 1) / 2
    bends = rng.normal(0, rng.uniform(2, 20), (2, 5, 5)).astype(np.float32)
    bend_x, bend_y = (cv2.resize(part, (size, size), interpolation=cv2.INTER_CUBIC) + size for part in bends)
    x = np.float32(np.cos(angle)) * axis + np.float32(np.sin(angle)) * axis[:, None] + bend_x
    y = np.float32(np.cos(angle)) * axis[:, None] - np.float32(np.sin(angle)) * axis + bend_y
    streaks = cv2.remap(streaks, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    patches = cv2.resize(rng.standard_normal((6, 6), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)  # and glass
    return np.clip(0.5 + 0.3 * streaks + rng.uniform(0, 0.6) * patches, 0, None) * rng.uniform(0.2, 1.2)


def sampling_shares(samples, size):
    """How often each sample is drawn: groups by a power of their number, and in a group by the square root of area.

    Neither lets 400 fluorescence images drown 14 bright-field ones, nor shows those 14 as often as the 400.

    Returns:
        (len(samples),) float64, adding up to 1.
    """
    area = np.array([max(1.0, sample.labels.size / size**2) ** 0.5 for sample in samples])
    groups = np.array([sample.group for sample in samples])
    shares = np.zeros(len(samples))
    for group in np.unique(groups):
        member = groups == group
        shares[member] = area[member] / area[member].sum() * member.sum() ** GROUP_POWER
    return shares / shares.sum()


def draw_pair(samples, shares, size, rng):
    """A crop of a sample as it is but for its place: image (size, size, 3) float32 in [0, 1], labels (size, size), sample."""
    sample = samples[rng.choice(len(samples), p=shares)]
    rows, columns, source_step = random_coordinates(sample.labels, rng, size, sample.diameter_px)
    crop, labels = sample_at(sample.image, sample.labels, rows, columns, source_step)
    if sample.has_instances and rng.random() < CROWD_SHARE:
        more = random_coordinates(sample.labels, rng, size, sample.diameter_px)
        crop, labels = crowd(crop, labels, *sample_at(sample.image, sample.labels, *more), rng)
    low, high = sample.intensity_range
    crop -= np.float32(low)
    crop /= np.float32(high - low)
    return np.clip(crop, 0, 1, out=crop), labels, sample


def turn(array, turns, mirrored=False):
    """A square array (size, size, K) float32, mirrored top to bottom or not, then turned by so many right angles.

    By OpenCV, whose copies cost a training nothing that can be measured; those of `np.rot90` cost it 5 %.
    """
    array = cv2.flip(array, 0) if mirrored else array
    return (cv2.rotate(array, turns - 1) if turns else array).reshape(len(array), len(array), -1)


def draw(samples, shares, heads, size, seed, step, place, rehearsal=None):
    """The crop at `place` of the batch at `step`: image (size, size, 3) and truth (size, size, K), float32."""
    rng = np.random.default_rng([seed, step, place])
    if rehearsal is not None and rng.random() < rehearsal.share:
        k, turns = rng.integers(len(rehearsal.crops)), rng.integers(4)
        return turn(rehearsal.crops[k], turns), turn(rehearsal.truths[k], turns)
    if rng.random() < NOTHING_SHARE:
        crop, labels = draw_nothing(rng, size), np.zeros((size, size), np.int32)
        return change_light(crop, rng), targets(labels, heads)
    crop, labels, sample = draw_pair(samples, shares, size, rng)
    if rng.random() < RESTAIN_SHARE:
        crop = restain(crop, labels, rng)
    return change_light(crop, rng), targets(labels, heads, sample.has_instances)


def rehearsal_crops(samples, size, number, seed):
    """Crops that show the samples in another modality, for a model to say what it knows of that: `Rehearsal`.

    Returns:
        (number, size, size, 3) float32 in [0, 1].

    References:
        Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal"; Li & Hoiem 2016, "Learning without Forgetting"
        (the model's own output as the truth of what it shall not forget).
    """
    shares, crops = sampling_shares(samples, size), []
    for index in range(number):
        rng = np.random.default_rng([seed, REHEARSAL_STREAM, index])
        crop, labels, _ = draw_pair(samples, shares, size, rng)
        crops.append(change_light(other_look(crop, labels, rng), rng))
    return np.stack(crops)


def keep_freed_memory():
    """Let glibc keep up to 64 MB that arrays leave behind for the next ones, as it comes to do by itself.

    TensorFlow (2.21), once a generator feeds it, has all above 128 kB given back to the system at once: each crop then fetched
    some 2,300 pages of 4 kB anew, and training on two cores took 5 % longer. Where there is no glibc, nothing happens.
    """
    with contextlib.suppress(AttributeError, TypeError, OSError):
        set_option = ctypes.CDLL(None).mallopt
        for option, value in ((-1, 2**26), (-3, 2**25)):  # M_TRIM_THRESHOLD; M_MMAP_THRESHOLD, of which it is the highest
            set_option(option, value)


def batches(samples, heads, size, batch_size, seed, first_step=0, places=None, rehearsal=None, echo=ECHO, workers=2, ahead=4):
    """Yield training batches without end, made on threads while the network works on the one before.

    One place in `echo` of a batch holds a new crop; the others show, turned or mirrored, one that was new ECHO_STEPS, twice
    ECHO_STEPS ... before: drawing takes its time, and a turned crop is nearly as good as a new one.

    Args:
        samples: list of `Sample`.
        places: a range of the batch to make alone, for one of several processes that share it; default the whole batch.
            What is at a place does not depend on who makes it.
        first_step: the step to begin with: a resumed run sees the batches that it would have seen.
        rehearsal: a `Rehearsal` of which some of the crops are taken, or None.
        echo: how many times each crop is shown.
        workers: threads; OpenCV and NumPy release Python's lock for most of the work. Beside a network on a CPU one is enough.
        ahead: batches prepared in advance.

    Yields:
        (B, size, size, 3) and (B, size, size, len(heads)), float32, where B is batch_size or the number of places.

    References:
        Choi et al. 2019, "Faster Neural Network Training with Data Echoing", https://arxiv.org/abs/1907.05550
    """
    cv2.setNumThreads(1)  # the threads are ours
    shares = sampling_shares(samples, size)

    places = list(places or range(batch_size))
    # By which step and place of its own `draw` knows the crop that is shown at each place.
    keys_of = lambda step: [(step + (echo - 1 - place % echo) * ECHO_STEPS, place // echo) for place in places]

    def look(pair, step, place):
        if place % echo == 0:
            return pair
        turns, mirrored = divmod(int(np.random.default_rng([seed, step, place]).integers(8)), 2)
        return [turn(array, turns, mirrored) for array in pair]

    with ThreadPoolExecutor(workers) as pool:
        drawn = {}  # on their way or there: all that this batch and the next ones show
        for step in count(first_step):
            for later in range(step, step + ahead + 1):
                for key in keys_of(later):
                    if key not in drawn:
                        drawn[key] = pool.submit(draw, samples, shares, heads, size, seed, *key, rehearsal)
            shown = [look(drawn[key].result(), step, place) for key, place in zip(keys_of(step), places, strict=True)]
            drawn = {key: value for key, value in drawn.items() if key[0] > step}
            keep_freed_memory()  # not once for all: TensorFlow comes in after the first batch
            yield tuple(np.stack(arrays) for arrays in zip(*shown, strict=True))


# --- From instances.py ----------------------------------------------------------------------------------------------
# Nuclei as instances: from the network's maps to labelled nuclei, a table of them, and how well two labellings agree.

# OpenCV, SciPy and scikit-image are imported by the functions that use them: together they take a second, which scores and
# every --help would wait for.

# 0.50, 0.55 … 0.95, the levels of the Data Science Bowl 2018. Divided rather than stepped, so that each is the float
# that its decimal reads as: a pair whose IoU is 3/5 then counts at 0.60.
IOU_THRESHOLDS = tuple(k / 20 for k in range(10, 20))

# What `separate` needs, until a training run has chosen better ones on its validation images and stored them.
THRESHOLDS = {
    "nucleus_threshold": 0.5,  # probability above which a pixel belongs to a nucleus
    "marker_threshold": 0.5,  # normalised depth above which a connected patch is the heart of one nucleus
    "contact_weight": 0.5,  # of the contact map, taken off the depth map before markers are sought
    "smoothing_px": 1.0,  # sigma of the blur of the depth map: one heart, not several ripples
    "min_area_px": 20,  # smaller objects are dropped: none of 25,460 nuclei of BBBC038 is smaller
    "min_probability": 0.5,  # objects with a lower mean nucleus probability are dropped
}
SMALLEST_PX = 10  # area in the image's own pixels below which nothing is a nucleus, however large the network saw it
MIN_MARKER_PX = 3  # a smaller heart is a ripple of the depth map
RIDGE = 1e-2  # of the calibration: keeps the weights finite where every nucleus is right
EMPTY_SHARE = 1e-3  # of an image; less nucleus than that is none, however undecided
SEARCH = {  # what `choose_thresholds` tries, one after the other
    "marker_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "nucleus_threshold": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "contact_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "smoothing_px": (0.5, 1.0, 1.5, 2.0),
    "min_area_px": (10, 20, 30, 45, 70),
    "min_probability": (0.5, 0.6, 0.7, 0.75, 0.8),
}


# --- Separating touching nuclei -------------------------------------------------------------------------------------


def separate(
    maps,
    nucleus_threshold=THRESHOLDS["nucleus_threshold"],
    marker_threshold=THRESHOLDS["marker_threshold"],
    contact_weight=THRESHOLDS["contact_weight"],
    smoothing_px=THRESHOLDS["smoothing_px"],
    min_area_px=THRESHOLDS["min_area_px"],
    min_probability=THRESHOLDS["min_probability"],
    zoom=1.0,
):
    """Turn the network's maps into nuclei: hearts of the depth map, grown over the nucleus pixels by watershed.

    Args:
        maps: (H, W, K) float32 in [0, 1]; channel 0 is the nucleus probability, channel 1, where there is one, the
            normalised depth inside a nucleus, channel 2, where there is one, the probability of a contact between two.
            With channel 0 alone touching nuclei stay one.
        nucleus_threshold, marker_threshold, contact_weight, smoothing_px, min_area_px, min_probability: see THRESHOLDS.
        zoom: how many times larger the network saw the image: smoothing_px and min_area_px are in the pixels that it saw.

    Returns:
        (H, W) int32 labels, 0 background, 1…n without gaps.
    """
    smoothing_px, min_marker_px = smoothing_px / zoom, MIN_MARKER_PX / zoom**2
    min_area_px = max(min_area_px / zoom**2, min(min_area_px, SMALLEST_PX))
    nucleus = maps[..., 0]
    mask = nucleus > nucleus_threshold
    # Pinholes, and no more: a gap between nuclei that surround it is background.
    holes, areas = connected(~mask)
    small = areas < min_area_px
    small[0] = False
    if small.any():
        mask |= small[holes]
    del holes

    labels, areas = connected(mask)
    if len(areas) > 1 and maps.shape[-1] > 1:
        labels = grow_hearts(labels, len(areas) - 1, mask, maps, marker_threshold, contact_weight, smoothing_px, min_marker_px)

    areas = np.bincount(labels.ravel())
    probabilities = np.bincount(labels.ravel(), nucleus.ravel(), minlength=len(areas)) / np.maximum(areas, 1)
    kept = (areas >= max(1, min_area_px)) & (probabilities >= min_probability)
    kept[0] = False
    new_ids = np.zeros(len(areas), np.int32)
    new_ids[kept] = np.arange(1, kept.sum() + 1)
    return new_ids[labels]


def connected(mask):
    """Components of a (H, W) bool mask, joined by edges: (H, W) int32 ids in the order of their first pixels, and their
    areas, of which entry 0 is the background's."""
    import cv2  # far faster than SciPy's and scikit-image's, with the same ids

    number, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return labels, np.bincount(labels.ravel(), minlength=number)  # a third of the time of OpenCV's own statistics


def grow_hearts(labels, num_components, mask, maps, marker_threshold, contact_weight, smoothing_px, min_marker_px):
    """Part the components of `separate`: (H, W) int32, one id for each heart, or for a component without any.

    Only where a component has several hearts does anything have to grow: elsewhere the component takes the id of its
    heart. And only the rims of the hearts grow, the pixels inside them have nowhere to go.
    """
    import cv2
    from skimage.segmentation import watershed

    depth = np.ascontiguousarray(maps[..., 1])
    if smoothing_px:
        reach = int(4 * smoothing_px + 0.5)
        depth = cv2.GaussianBlur(depth, (2 * reach + 1,) * 2, smoothing_px, borderType=cv2.BORDER_REFLECT)
    if maps.shape[-1] > 2 and contact_weight:
        depth = depth - np.float32(contact_weight) * maps[..., 2]
    hearts, areas = connected(mask & (depth > marker_threshold))
    home = np.zeros(len(areas), np.int32)  # the component that each heart lies in; 0 for what is no heart but a ripple
    inside = np.flatnonzero(hearts)
    home[hearts.ravel()[inside]] = labels.ravel()[inside]
    home[areas < min_marker_px] = 0
    num_hearts = np.bincount(home, minlength=num_components + 1)
    num_hearts[0] = 0
    # A nucleus too small or too faint for a heart of its own is not lost: its whole component becomes one.
    new_ids = np.arange(num_components + 1, dtype=np.int32) + np.int32(len(areas) - 1)
    new_ids[home] = np.arange(len(areas), dtype=np.int32)
    new_ids[0] = 0
    grown = new_ids[labels]
    if num_hearts.max() > 1:
        crowded = (num_hearts > 1)[labels]
        hearts[~crowded] = 0
        ripple = home == 0
        ripple[0] = False
        if ripple.any():
            hearts[ripple[hearts]] = 0
        core = cv2.erode((hearts > 0).view(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))).view(bool)
        rims = crowded & ~core
        flooded = watershed(-depth, np.where(core, 0, hearts), mask=rims)
        grown[rims] = flooded[rims]
        grown[core] = hearts[core]
    return grown


def median_diameter(labels):
    """Median diameter in px of the nuclei of (H, W) labels, each as a circle of its area; None without nuclei."""
    areas = np.bincount(labels.ravel())[1:]
    return float(np.median(np.sqrt(4 * areas[areas > 0] / np.pi))) if areas.any() else None


def choose_thresholds(maps, truths, zooms=None, start=None, search=None):
    """Search the thresholds of `separate` that fit a validation set best: one at a time, from THRESHOLDS on, two rounds.

    Best is the mean of two scores: pooled AP at IoU 0.5, and AP over IoU_THRESHOLDS averaged over images. The one
    counts every nucleus alike and forgives outlines, the other counts every image alike and does not.

    Args:
        maps: list of (H, W, K) float32.
        truths: list of (H, W) int32, in the same order.
        zooms: list of the zooms that the maps were made at; None for 1 throughout.
        start: thresholds to begin with; the default is THRESHOLDS.
        search: {name: values to try}; the default is SEARCH.

    Returns:
        (thresholds, score): the best dict, and its score in [0, 1].
    """

    images = list(zip(maps, truths, zooms or [1.0] * len(maps), strict=True))

    def score(thresholds):
        counts = [count_matches(match(truth, separate(m, zoom=zoom, **thresholds))) for m, truth, zoom in images]
        return (average_precision(np.sum(counts, axis=0)[0]) + average_precision(counts).mean()) / 2

    best = dict(THRESHOLDS if start is None else start)
    best_score, seen = score(best), {tuple(best.items())}
    for _ in range(2):
        before = dict(best)
        for name, values in (SEARCH if search is None else search).items():
            for value in values:
                candidate = {**best, name: value}
                if tuple(candidate.items()) in seen:
                    continue
                seen.add(tuple(candidate.items()))
                candidate_score = score(candidate)
                if candidate_score > best_score + 1e-9:
                    best, best_score = candidate, candidate_score
        if best == before:
            break
    return best, float(best_score)


# --- How sure: nuclei, and images ------------------------------------------------------------------------------------


def doubt_features(labels, maps, zoom=1.0):
    """What tells right nuclei from wrong ones, (n, 5) float64: logits of mean probability and of depth, size, a constant.

    Args:
        labels: (H, W) int32, 1…n.
        maps: (H, W, K) float32 in [0, 1], as for `separate`.
        zoom: as for `separate`.
    """
    from scipy import special

    n = int(labels.max())
    inside = np.flatnonzero(labels)
    nucleus = labels.ravel()[inside] - 1
    areas = np.maximum(np.bincount(nucleus, minlength=n), 1)
    mean = np.bincount(nucleus, maps[..., 0].ravel()[inside], minlength=n) / areas
    deepest = mean
    if maps.shape[-1] > 1:
        deepest = np.zeros(n, maps.dtype)
        np.maximum.at(deepest, nucleus, maps[..., 1].ravel()[inside])
    size = np.log(areas * zoom**2) / 2  # of the diameter that the network saw
    return np.stack(
        [special.logit(np.clip(mean, 0.01, 0.999)), special.logit(np.clip(deepest, 0.01, 0.99)), size, size**2, np.ones(n)], -1
    )


def calibrate(features, hits):
    """Weights with which `confidence` gives the share of such nuclei that are right: a logistic regression.

    Args:
        features: (n, 5) of `doubt_features`.
        hits: (n,) bool, whether a true nucleus overlaps with an IoU of 0.5 or more.

    Returns:
        A list of 5 floats.

    References:
        Platt 1999, "Probabilistic outputs for support vector machines".
    """
    from scipy import optimize, special

    def loss(weights):
        logits = features @ weights
        slope = features.T @ (special.expit(logits) - hits) + RIDGE * weights
        return np.sum(np.logaddexp(0, logits) - hits * logits) + RIDGE / 2 * weights @ weights, slope

    return [float(weight) for weight in optimize.minimize(loss, np.zeros(features.shape[1]), jac=True).x]


def confidence(features, weights):
    """Calibrated probability, (n,) in [0, 1], that a nucleus is a true one with an IoU of 0.5 or more."""
    from scipy import special

    return special.expit(features @ np.asarray(weights))


def image_doubt(maps):
    """How little the network is at home in an image: the undecided share of what it takes for nucleus, 0 to about 1.

    Undecided is a pixel by its distance to 0 or 1. An image without anything like a nucleus has none.
    """
    nucleus = maps[..., 0].astype(np.float64)
    return float(np.minimum(nucleus, 1 - nucleus).sum() / max(nucleus.sum(), EMPTY_SHARE * nucleus.size))


def expected_calibration_error(probabilities, hits, bins=10):
    """Mean distance between what is said and what is true, over bins of equal width weighted by what they hold.

    Args:
        probabilities: (n,) in [0, 1].
        hits: (n,) bool.

    Returns:
        (error, rows): rows of (nuclei, mean probability, share of hits) for each bin that holds any.

    References:
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    place = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    rows = [
        (int(np.sum(place == k)), float(probabilities[place == k].mean()), float(hits[place == k].mean()))
        for k in range(bins)
        if np.any(place == k)
    ]
    total = sum(number for number, _, _ in rows)
    return sum(number * abs(said - true) for number, said, true in rows) / max(1, total), rows


# --- Comparing two labellings ---------------------------------------------------------------------------------------


class Matching(NamedTuple):
    """Which nuclei of two label images overlap, and how far: all that any object or pixel score needs.

    Ids are the values in the label images. Pairs are sorted by truth id, then by predicted id.
    """

    truth_areas: np.ndarray  # (n + 1,) int64, pixels of each truth id; entry 0 is the background
    predicted_areas: np.ndarray  # (m + 1,) int64, the same for the prediction
    truth_ids: np.ndarray  # (pairs,) int64, the truth nucleus of each overlapping pair
    predicted_ids: np.ndarray  # (pairs,) int64, the predicted nucleus of each overlapping pair
    intersections: np.ndarray  # (pairs,) int64, pixels in common, 1 or more
    iou: np.ndarray  # (pairs,) float64 in (0, 1], intersection over union

    @property
    def num_truth(self):
        """Number of truth nuclei. Ids that no pixel carries do not count."""
        return int(np.count_nonzero(self.truth_areas[1:]))

    @property
    def num_predicted(self):
        """Number of predicted nuclei. Ids that no pixel carries do not count."""
        return int(np.count_nonzero(self.predicted_areas[1:]))


def match(truth, predicted):
    """Find every overlapping pair of nuclei, in one pass over the pixels.

    Args:
        truth: (H, W) integer label image, 0 = background.
        predicted: (H, W) integer label image of the same size.

    Returns:
        Matching. Counts at any IoU follow from it without looking at the pixels again.

    Raises:
        ValueError: sizes that differ, values that are no integers, or negative ones.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"The truth is {truth.shape} and the prediction {predicted.shape}: expected equal shapes.")
    for name, labels in (("truth", truth), ("prediction", predicted)):
        if labels.dtype.kind not in "iub":
            raise ValueError(f"The {name} holds {labels.dtype}: expected integer labels, 0 for background.")
        if labels.size and labels.min() < 0:
            raise ValueError(f"The {name} holds the label {labels.min()}: expected 0 for background and 1…n.")
    truth, predicted = truth.ravel().astype(np.int64), predicted.ravel().astype(np.int64)
    truth_areas, predicted_areas = np.bincount(truth, minlength=1), np.bincount(predicted, minlength=1)
    # Only the pairs that occur, not the n × m table: 5,000 × 5,000 nuclei would be 200 MB of zeros.
    both = (truth > 0) & (predicted > 0)
    pairs, intersections = np.unique(truth[both] * len(predicted_areas) + predicted[both], return_counts=True)
    truth_ids, predicted_ids = np.divmod(pairs, len(predicted_areas))
    iou = intersections / (truth_areas[truth_ids] + predicted_areas[predicted_ids] - intersections)
    return Matching(truth_areas, predicted_areas, truth_ids, predicted_ids, intersections, iou)


def one_to_one(matching, weights):
    """Choose pairs so that no nucleus is used twice and the sum of their weights is the largest possible.

    The linear assignment of `scipy.optimize.linear_sum_assignment`, on the overlapping pairs only (all other pairs
    weigh nothing), which takes milliseconds where the full matrix of 5,000 × 5,000 nuclei takes seconds.

    Args:
        matching: Matching.
        weights: (pairs,) float, positive.

    Returns:
        (chosen,) int64 indices of pairs, ascending.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    num_pairs = len(weights)
    if num_pairs == 0:
        return np.zeros(0, np.int64)
    rows = np.unique(matching.truth_ids, return_inverse=True)[1]
    columns = np.unique(matching.predicted_ids, return_inverse=True)[1]
    num_rows, num_columns = rows.max() + 1, columns.max() + 1
    # Every row gets a column of its own that stands for "unmatched", since SciPy wants all rows assigned. Each row
    # then takes exactly one entry, so that adding 1 to all of them (SciPy drops zeros) changes no choice.
    own = np.arange(num_rows)
    table = csr_array(
        (
            np.concatenate([np.asarray(weights, float) + 1, np.ones(num_rows)]),
            (np.concatenate([rows, own]), np.concatenate([columns, num_columns + own])),
        ),
        shape=(num_rows, num_columns + num_rows),
    )
    taken = min_weight_full_bipartite_matching(table, maximize=True)[1]
    return np.flatnonzero(taken[rows] == columns)


def matched_pairs(matching, threshold=0.5):
    """Choose the true positives at one IoU threshold: one-to-one pairs with IoU ≥ `threshold`.

    As in `stardist.matching.matching` (Schmidt et al. 2018, https://github.com/stardist/stardist): as many pairs as
    possible, ties broken by the larger sum of IoU. Kaggle's DSB2018 rule and Kirillov's PQ say IoU > threshold; the
    two differ only where an IoU equals the threshold to the last bit.

    Args:
        matching: Matching.
        threshold: float in (0, 1].

    Returns:
        (tp,) int64 indices into the pairs of `matching`, ascending.

    Raises:
        ValueError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"IoU threshold {threshold}: expected a number above 0 and up to 1.")
    above = np.flatnonzero(matching.iou >= threshold)
    ids = matching.truth_ids[above], matching.predicted_ids[above]
    if all(len(np.unique(one_side)) == len(above) for one_side in ids):
        return above  # always so above IoU 0.5: two nuclei cannot both share more than half with a third
    num_most = min(matching.num_truth, matching.num_predicted)
    chosen = one_to_one(matching, (matching.iou >= threshold) + matching.iou / (2 * num_most))
    return chosen[matching.iou[chosen] >= threshold]


def count_matches(matching, thresholds=IOU_THRESHOLDS):
    """Count true positives, false positives and false negatives at several IoU thresholds.

    Counts of several images may be added to pool them.

    Args:
        matching: Matching.
        thresholds: floats in (0, 1].

    Returns:
        (thresholds, 3) int64: tp, fp, fn.
    """
    tp = np.array([len(matched_pairs(matching, threshold)) for threshold in thresholds], np.int64)
    return np.stack([tp, matching.num_predicted - tp, matching.num_truth - tp], axis=-1)


def average_precision(counts):
    """TP / (TP + FP + FN), which StarDist, Cellpose and Kaggle's DSB2018 call average precision at an IoU threshold.

    It is the Jaccard index of objects, not the area under a precision-recall curve that COCO means by the name.
    For `counts = [count_matches(matching) for matching in matchings]`:

        average_precision(np.mean(counts, axis=0))      # pooled over images, one value per threshold
        average_precision(counts).mean()                # Kaggle's score: thresholds first, then images

    Args:
        counts: (…, 3) numbers: tp, fp, fn.

    Returns:
        (…) float64 in [0, 1]. Nothing there and nothing found is right, so 1 (StarDist says 0 there).
    """
    counts = np.asarray(counts, float)
    total = counts.sum(axis=-1)
    return np.divide(counts[..., 0], total, out=np.ones_like(total), where=total > 0)


# --- From losses.py -------------------------------------------------------------------------------------------------
# What training minimises, by which steps, and the pixel scores that it shows.

@functools.cache
def load_losses():
    """The contents of losses.py, made when first asked for: it needs Keras, whose import takes seconds."""
    import math

    import keras
    from keras import ops

    DICE_WEIGHT = 1.0  # beside the cross-entropy: counters the few foreground pixels of sparse images
    MAP_WEIGHT = 6.0  # of each soft map: at 2 the valleys between touching nuclei are learned last, and they part them
    ORTHOGONAL = (3.4445, -4.7750, 2.0315)  # of x, x**3, x**5: drives singular values of 0.002 to 1 into 0.65 to 1.2
    STEPS = (3, 2)  # of that; in between the Gram matrix is made anew: its rounding, coarse on GPUs, grows twelvefold a step
    STEP_SIZE = 0.2  # of an orthogonal step's entries, root mean square: that of Adam's, so that one rate serves both
    NESTEROV = 0.95  # share of the momentum that stays from step to step
    SMOOTH = 1.0  # pixels added to both sides of Dice, so that an empty image is defined

    class SegmentationLoss(keras.losses.Loss):
        """Cross-entropy + Dice on the nucleus channel, Kullback-Leibler divergence on each soft map.

        The divergence is the binary cross-entropy of a soft truth less the entropy of that truth, so that a perfect map
        scores 0 and its gradient is that of the cross-entropy.

        Args:
            heads: the names of the channels; the first is the nucleus.

        References:
            Milletari, Navab, Ahmadi 2016, "V-Net" (Dice as a loss).
        """

        def __init__(self, heads, name="segmentation_loss"):
            super().__init__(name=name)
            self.heads = tuple(heads)

        def call(self, truth, maps):
            known = ops.cast(truth >= 0, maps.dtype)
            truth = ops.maximum(truth, 0.0)
            maps = ops.clip(maps, 1e-6, 1 - 1e-6)
            cross_entropy = -(truth * ops.log(maps) + (1 - truth) * ops.log(1 - maps))
            clipped = ops.clip(truth, 1e-6, 1 - 1e-6)
            entropy = -(clipped * ops.log(clipped) + (1 - clipped) * ops.log(1 - clipped))
            divergence = (cross_entropy - entropy) * known
            # One mean for each channel over its known pixels.
            per_map = ops.sum(divergence, axis=(0, 1, 2)) / ops.maximum(ops.sum(known, axis=(0, 1, 2)), 1.0)

            nucleus, painted = truth[..., 0] * known[..., 0], maps[..., 0] * known[..., 0]
            overlap = ops.sum(nucleus * painted, axis=(1, 2))
            total = ops.sum(nucleus, axis=(1, 2)) + ops.sum(painted, axis=(1, 2))
            dice_loss = 1 - ops.mean((2 * overlap + SMOOTH) / (total + SMOOTH))
            loss = per_map[0] + DICE_WEIGHT * dice_loss + MAP_WEIGHT * ops.sum(per_map[1:])
            return ops.reshape(loss, (1,))  # of which Keras takes the mean over devices that share a batch, not of a scalar

        def get_config(self):
            return {"heads": list(self.heads), "name": self.name}

    class Muon(keras.optimizers.AdamW):
        """Muon for the kernels of convolutions, AdamW for all else: the same loss in about half the steps of AdamW alone.

        A kernel (h, w, in, out) is a matrix of h*w*in rows. Its momentum, made orthogonal, is the step: directions in which
        gradients are small are learned as fast as those in which they are large. The orthogonal factor comes by the iteration
        of the reference, here on the Gram matrix of the momentum instead of the momentum itself: the same polynomial in half
        of the multiplications, so that on two cores a step of the default network takes about a tenth longer than AdamW's.

        Keras's own Muon leaves every kernel of a convolution to AdamW.

        References:
            Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", https://kellerjordan.github.io/posts/muon
            Liu et al. 2025, "Muon is Scalable for LLM Training" (the size of the steps), https://arxiv.org/abs/2502.16982
        """

        def update_step(self, gradient, variable, learning_rate):
            if len(variable.shape) != 4 or tuple(variable.shape[:2]) == (1, 1):  # the maps are a regression on few filters
                super().update_step(gradient, variable, learning_rate)
                return
            gradient = ops.cast(gradient, variable.dtype)
            momentum = self._momentums[self._get_variable_index(variable)]
            self.assign_add(momentum, gradient + (NESTEROV - 1) * momentum)
            outputs = variable.shape[-1]
            step = orthogonal(ops.reshape(gradient + NESTEROV * momentum, (-1, outputs)))
            size = STEP_SIZE * max(math.prod(variable.shape[:-1]), outputs) ** 0.5
            rate = ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, ops.reshape(rate * size * step, variable.shape))

    def orthogonal(matrix):
        """Roughly the orthogonal factor of a (n, m) matrix: singular values from 0.002 of its norm on become 0.65 to 1.2."""
        matrix = matrix / (ops.norm(matrix) + 1e-7)
        tall = matrix.shape[0] > matrix.shape[1]
        linear, cubic, quintic = ORTHOGONAL
        for steps in STEPS:
            gram = ops.matmul(ops.transpose(matrix), matrix) if tall else ops.matmul(matrix, ops.transpose(matrix))
            identity, product = ops.eye(gram.shape[0], dtype=matrix.dtype), None
            for k in range(steps):
                polynomial = linear * identity + cubic * gram + quintic * ops.matmul(gram, gram)
                product = polynomial if product is None else ops.matmul(polynomial, product)
                if k < steps - 1:
                    gram = ops.matmul(ops.matmul(polynomial, gram), polynomial)
            matrix = ops.matmul(matrix, product) if tall else ops.matmul(product, matrix)
        return matrix

    class PixelScore(keras.metrics.Metric):
        """Accuracy, Dice or IoU of the nucleus channel at probability 0.5, pooled over all pixels of an epoch.

        Args:
            score: "accuracy" (share of right pixels), "dice" (2TP / (2TP + FP + FN)) or "iou" (TP / (TP + FP + FN)).
        """

        def __init__(self, score, name=None, **kwargs):
            super().__init__(name=name or score, **kwargs)
            self.score = score
            # float32 sums lose single pixels past 16 million: shares of an epoch's batches are added up instead.
            self.hit, self.false, self.true_negative = (
                self.add_weight(name=part, initializer="zeros") for part in ("hit", "false", "true_negative")
            )

        def update_state(self, truth, maps, sample_weight=None):
            known = ops.cast(truth[..., 0] >= 0, "float32")
            nucleus = ops.cast(truth[..., 0] > 0.5, "float32")
            painted = ops.cast(maps[..., 0] > 0.5, "float32")
            pixels = ops.cast(ops.size(known), "float32")
            self.hit.assign_add(ops.sum(known * nucleus * painted) / pixels)
            self.false.assign_add(ops.sum(known * ops.abs(nucleus - painted)) / pixels)
            self.true_negative.assign_add(ops.sum(known * (1 - nucleus) * (1 - painted)) / pixels)

        def result(self):
            if self.score == "accuracy":
                total = self.hit + self.false + self.true_negative
                return ops.divide_no_nan(self.hit + self.true_negative, total)
            if self.score == "dice":
                return ops.divide_no_nan(2 * self.hit, 2 * self.hit + self.false)
            return ops.divide_no_nan(self.hit, self.hit + self.false)

    def pixel_metrics():
        """The three pixel scores that history.csv shows."""
        return [PixelScore("accuracy"), PixelScore("dice"), PixelScore("iou")]

    return types.SimpleNamespace(Muon=Muon, SegmentationLoss=SegmentationLoss, pixel_metrics=pixel_metrics)


# --- From tiling.py -------------------------------------------------------------------------------------------------
# Cover an image of any height and width with windows, run the network on each, stitch without a seam.

TILE_PX = 2048  # height and width of a window at most; smaller ones need less memory but spend more of their work on overlap
MARGIN_PX = 224  # of a window that another window knows better; at least `unet.receptive_radius` (217 px)
MULTIPLE_PX = 32  # `unet.size_multiple` of the default network
SMOOTHING = 0.4  # sigma of the blur before shrinking, in pixels of the result
ZOOM_LIMITS = (0.1, 3.0)  # of the estimated scale: nuclei of 8 to 240 px for a network that knows 24 px
TOLERANCE = 1.35  # times too large or too small that a nucleus may be before zooming pays; the training's scale jitter
PROBES = 5  # looks at most; three are the rule where the scale is far off
SURER = 0.85  # of the doubt that another size may leave to be taken; from 0.78 to 0.89 validation images fare alike
SURE = 0.06  # doubt below which no smaller size is tried: of 291 validation images at four sizes none below was better smaller
UNSURE = 0.15  # doubt from which larger sizes are tried, too: dearer looks, and a network that is at home needs none
PROBE_ZOOMS = (0.4, 2.5)  # tried where nothing is found
PROBE_PX = 768  # side of a look at most; smaller images are looked at as a whole, and that look is the result
BLUR_PAD_PX = 64  # columns added before a blur: OpenCV rounds the last few of a row unlike the others
SMOOTH_FROM = 1.2  # image pixels for one of the result, below which nothing is blurred


class Window(NamedTuple):
    """Pixels to read, rows [top, bottom) and columns [left, right), and among them those to keep.

    bottom and right may lie beyond the image, by less than the size multiple; the core never does.
    """

    top: int
    bottom: int
    left: int
    right: int
    core_top: int
    core_bottom: int
    core_left: int
    core_right: int


def cut_axis(length, tile, margin, multiple):
    """Windows along one axis: a list of (start, stop, core_start, core_stop); the cores partition [0, length).

    All starts and stops are multiples of `multiple`, so that pooling meets the same pixels in every window.

    Raises:
        ValueError: the tile leaves no core between its margins.
    """
    padded = -(-length // multiple) * multiple
    tile = tile // multiple * multiple
    margin = -(-margin // multiple) * multiple
    if padded <= tile:
        return [(0, padded, 0, length)]
    if tile < 2 * margin + multiple:
        raise ValueError(f"a tile of {tile} px has no core between margins of {margin} px; give --tile {3 * margin} or more")
    # As many windows as it takes, then all as small as so many can be: what overlaps is work done twice.
    number = -(-(padded - 2 * margin) // (tile - 2 * margin))
    tile = -(-(padded + 2 * margin * (number - 1)) // (number * multiple)) * multiple
    cuts, start, core_start = [], 0, 0
    while True:
        start = min(start, padded - tile)
        last = start + tile == padded
        core_stop = length if last else start + tile - margin
        cuts.append((start, start + tile, core_start, core_stop))
        if last:
            return cuts
        core_start = core_stop
        start += tile - 2 * margin


def cut(height, width, tile=TILE_PX, margin=MARGIN_PX, multiple=MULTIPLE_PX):
    """Windows that cover an image; their cores partition it.

    Args:
        height, width: of the image, 1 or more.
        tile: height and width of a window at most; an image that fits into one is taken whole.
        margin: see MARGIN_PX.
        multiple: see MULTIPLE_PX.

    Returns:
        A list of `Window`, rows first.
    """
    return [
        Window(top, bottom, left, right, core_top, core_bottom, core_left, core_right)
        for top, bottom, core_top, core_bottom in cut_axis(height, tile, margin, multiple)
        for left, right, core_left, core_right in cut_axis(width, tile, margin, multiple)
    ]


def taps(start, stop, length, full):
    """Where the pixels of a resized axis come from: pixel k of [start, stop) is the sum of weights[:, k] * old[indices[:, k]].

    Linear where it grows, the mean of the area covered where it shrinks. All positions are those of the whole axis, so that
    a part comes out as that part of the whole, to the last bit. By hand, since OpenCV measures positions in single precision
    from the start of what it is given: each part its own way.

    Args:
        start, stop: the part, in pixels of the resized axis.
        length, full: pixels of the whole axis before and after.

    Returns:
        (indices, weights): (taps, stop - start) intp within [0, length), and float32.
    """
    step = length / full
    pixels = np.arange(start, stop)
    if step <= 1:
        at = np.clip((pixels + 0.5) * step - 0.5, 0, length - 1)
        before = np.minimum(at.astype(np.intp), max(0, length - 2))
        weights = [1 - (at - before), at - before]
    else:
        from_, to = pixels * step, (pixels + 1) * step
        before = from_.astype(np.intp)
        weights = [
            np.clip(np.minimum(to, before + k + 1) - np.maximum(from_, before + k), 0, None) / step
            for k in range(int(np.ceil(step)) + 1)
        ]
    indices = np.minimum(before + np.arange(len(weights))[:, None], length - 1)
    return indices, np.array(weights, np.float32)


def weighted(array, axis, indices, weights):
    """The sums of `taps` along one axis (0 or 1) of (h, w, C) float32; a sparse matrix takes half the time of indexing."""
    from scipy.sparse import csr_array  # here: its import takes longer than all of a small image

    count, number = indices.shape
    shape = (number, array.shape[axis])
    matrix = csr_array((weights.T.ravel(), indices.T.ravel(), np.arange(0, count * number + 1, count)), shape=shape)
    array = np.ascontiguousarray(array.swapaxes(0, axis))
    return np.ascontiguousarray((matrix @ array.reshape(len(array), -1)).reshape(number, *array.shape[1:]).swapaxes(0, axis))


class Resized:
    """An image at another scale, computed where it is read: `Resized(image, zoom)[top:bottom, left:right]`.

    Bilinear, and smoothed first where it shrinks, as the crops of the training are. Any part equals that part of the whole.

    Args:
        image: (H, W, C), an array or anything that slices like one, of any number type.
        zoom: pixels of the result for one of the image; `shape` is that of the image times `zoom`, rounded, at least 1.
        size: height and width of the result, where they are known instead.
    """

    def __init__(self, image, zoom=1.0, size=None):
        self.image = image
        self.shape = (*(size or (max(1, round(length * zoom)) for length in image.shape[:2])), *image.shape[2:])
        self.steps = tuple(image.shape[axis] / self.shape[axis] for axis in (0, 1))

    def __getitem__(self, place):
        """(rows, columns, C) float32, in the units of the image."""
        sigmas = [SMOOTHING * step if step > SMOOTH_FROM else 0.0 for step in self.steps]
        shares, needed = [], []
        for part, length, full, step, sigma in zip(place, self.shape, self.image.shape, self.steps, sigmas, strict=False):
            start, stop, _ = part.indices(length)
            at = np.clip((np.arange(start, stop) + 0.5) * step - 0.5, 0, full - 1)
            before = np.minimum(at.astype(np.intp), max(0, full - 2))
            reach = int(np.ceil(4 * sigma)) + 2  # OpenCV cuts the Gaussian of a float image off at four sigma
            first, last = max(0, int(before[0]) - reach), min(full, int(before[-1]) + reach + 2)
            share = (at - before).astype(np.float32)
            shares.append((np.stack([before, np.minimum(before + 1, full - 1)]) - first, np.stack([1 - share, share])))
            needed.append(slice(first, last))
        part = np.ascontiguousarray(self.image[needed[0], needed[1]], dtype=np.float32)
        if any(sigmas):
            near_zero = 1e-3  # OpenCV takes a sigma of zero as "like the other axis"
            width = part.shape[1]
            part = np.pad(part, ((0, 0), (0, BLUR_PAD_PX), (0, 0)), "reflect")
            part = cv2.GaussianBlur(
                part, (0, 0), max(sigmas[1], near_zero), None, max(sigmas[0], near_zero), cv2.BORDER_REFLECT_101
            )[:, :width]
        for axis, (indices, weights) in enumerate(shares):
            part = weighted(part, axis, indices, weights)
        return part


def read_window(image, window):
    """The pixels of a window, (rows, columns, C); beyond the image it is filled up by reflection."""
    part = np.asarray(image[window.top : window.bottom, window.left : window.right])
    below, beside = window.bottom - window.top - part.shape[0], window.right - window.left - part.shape[1]
    return np.pad(part, ((0, below), (0, beside), (0, 0)), mode="reflect") if below or beside else part


def predict_tiled(predict, image, num_maps, prepare=None, tile=TILE_PX, margin=MARGIN_PX, multiple=MULTIPLE_PX, batch_size=1):
    """Run a network over an image of any size.

    Args:
        predict: from (B, h, w, 3) float32 to (B, h, w, num_maps), such as `model.predict_on_batch`.
        image: (H, W, 3), an array or anything that slices like one.
        num_maps: channels of the network's output.
        prepare: applied to each window before the network, such as the normalisation with the range of the whole
            image; None where `image` is float32 in [0, 1] already.
        tile, margin, multiple: see `cut`.
        batch_size: windows in one call of the network.

    Returns:
        (H, W, num_maps) float32.
    """
    height, width = image.shape[:2]
    maps = np.empty((height, width, num_maps), np.float32)
    windows = cut(height, width, tile, margin, multiple)
    for first in range(0, len(windows), batch_size):
        group = windows[first : first + batch_size]
        parts = [read_window(image, window) for window in group]
        batch = np.stack([part if prepare is None else prepare(part) for part in parts]).astype(np.float32, copy=False)
        for window, painted in zip(group, np.asarray(predict(batch)), strict=True):
            w = window
            maps[w.core_top : w.core_bottom, w.core_left : w.core_right] = painted[
                w.core_top - w.top : w.core_bottom - w.top, w.core_left - w.left : w.core_right - w.left
            ]
    return maps


def predict_zoomed(predict, image, num_maps, zoom=1.0, **arguments):
    """Run a network over an image that is seen `zoom` times as large.

    Args:
        zoom: 1 for the image as it is.
        predict, image, num_maps, arguments: as `predict_tiled`.

    Returns:
        (H, W, num_maps) float32 at the size of `image`.
    """
    if zoom == 1:
        return predict_tiled(predict, image, num_maps, **arguments)
    return resize_maps(predict_tiled(predict, Resized(image, zoom), num_maps, **arguments), image.shape[:2])


def resize_maps(maps, shape, whole=None, origin=(0, 0), place=None):
    """Bring maps (h, w, K) to the height and width of `shape`; float32.

    Where only a part is there and wanted, that part comes out as from the whole, to the last bit:

    Args:
        whole: height and width of the whole maps, of which `maps` is the part at `origin` (row, column).
        place: (top, bottom, left, right) of the result wanted, in pixels of `shape`.
    """
    whole = maps.shape[:2] if whole is None else whole
    place = (0, shape[0], 0, shape[1]) if place is None else place
    for axis in (0, 1):
        start, stop = place[2 * axis : 2 * axis + 2]
        if whole[axis] == shape[axis]:
            maps = maps.take(range(start - origin[axis], stop - origin[axis]), axis)
            continue
        indices, weights = taps(start, stop, whole[axis], shape[axis])
        maps = weighted(maps, axis, indices - origin[axis], weights)
    return maps


def busiest_window(image, height, width):
    """(top, left) of the window of this size where grey levels change most: where nuclei are, if there are any."""
    height, width = (min(part, full) for part, full in zip((height, width), image.shape, strict=False))
    step = max(1, max(image.shape[:2]) // 512)
    small = np.asarray(image[::step, ::step], np.float32).mean(-1)
    change = np.abs(np.diff(small, axis=0, prepend=small[:1])) + np.abs(np.diff(small, axis=1, prepend=small[:, :1]))
    box = (max(1, width // step), max(1, height // step))
    total = cv2.boxFilter(change, -1, box, anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    total = total[: max(1, small.shape[0] - box[1] + 1), : max(1, small.shape[1] - box[0] + 1)]
    top, left = np.unravel_index(total.argmax(), total.shape)
    return min(int(top) * step, image.shape[0] - height), min(int(left) * step, image.shape[1] - width)


def estimate_zoom(
    predict, image, num_maps, diameter_px, measure, doubt=None, prepare=None, margin=MARGIN_PX, multiple=MULTIPLE_PX
):  # fmt: skip
    """How many times larger an image should be shown so that its nuclei have the size that the network knows.

    The network looks, the nuclei that it finds are measured, the image is zoomed by what they are off, until they fit: also
    a network that misses half of the nuclei at the wrong size says whether the others are too large or too small. Much too
    large ones it takes to pieces of the size that it knows, though. So it looks once more at half the size, unless it is
    sure, and goes there if that leaves less doubt; and at twice the size, where it is in doubt, if that also fits better.

    Args:
        predict, image, num_maps, prepare, margin, multiple: as `predict_tiled`.
        diameter_px: median nucleus diameter that the network was trained for.
        measure: from maps (h, w, num_maps) to the median diameter in px of the nuclei in them, or None without any.
        doubt: from maps to how undecided they are, such as `instances.image_doubt`; None goes by the size alone.

    Returns:
        (zoom, maps): maps (H, W, num_maps) of the whole image at its own size where the last look covered it, else None.
        Without nuclei at any zoom (1, None).
    """

    def look(zoom, box=None):
        """Maps of the busiest part of the image, or of `box`, and that box: (top, left, bottom, right) of the image seen."""
        seen = Resized(image, zoom) if zoom != 1 else image
        if box is None:
            height, width = (min(length, PROBE_PX) for length in seen.shape[:2])
            top, left = 0, 0
            if (height, width) != tuple(seen.shape[:2]):  # sought in the image as it is, since that costs no resampling
                top, left = busiest_window(image, int(height / zoom), int(width / zoom))
                top, left = min(int(top * zoom), seen.shape[0] - height), min(int(left * zoom), seen.shape[1] - width)
            box = (top, left, top + height, left + width)
        part = seen[box[0] : box[2], box[1] : box[3]]
        part = part if prepare is None else prepare(part)
        return predict_tiled(predict, part, num_maps, margin=margin, multiple=multiple), box

    def size(zoom):
        return Resized(image, zoom).shape[:2]

    def misfit(found):
        return max(found / diameter_px, diameter_px / found) if found else np.inf

    zoom, untried = 1.0, list(PROBE_ZOOMS)
    for _ in range(PROBES):
        maps, box = look(zoom)
        found = measure(maps)
        if found is None:
            if not untried:
                return 1.0, None
            zoom = untried.pop(0)
            continue
        if misfit(found) <= TOLERANCE or zoom in ZOOM_LIMITS:
            break
        zoom = float(np.clip(zoom * diameter_px / found, *ZOOM_LIMITS))
        if max(zoom, 1 / zoom) <= TOLERANCE**0.5:
            zoom = 1.0  # nearly native: interpolation would cost more than it gains
    else:
        return zoom, None
    for factor in (0.5, 2.0) if doubt else ():
        began = zoom
        while ZOOM_LIMITS[0] <= zoom * factor <= ZOOM_LIMITS[1] and doubt(maps) > (SURE if factor < 1 else UNSURE):
            # Both are judged by the same part of the image, as much of it as a look may take.
            height, width = (min(length, int(PROBE_PX / max(1, factor))) for length in maps.shape[:2])
            top, left = (0, 0) if maps.shape[:2] == (height, width) else busiest_window(maps[..., :1], height, width)
            part = maps[top : top + height, left : left + width]
            corners = (box[0] + top, box[1] + left, box[0] + top + height, box[1] + left + width)
            other = np.rint(np.multiply(corners, np.tile(np.divide(size(zoom * factor), size(zoom)), 2))).astype(int)
            if other[0] == other[2] or other[1] == other[3]:
                break
            painted, _ = look(zoom * factor, other)
            # At twice the size clumps of tiny nuclei fall apart and fit better; so do nuclei of the right size, but fit worse.
            if doubt(painted) > SURER * doubt(part) or (factor > 1 and misfit(measure(painted)) >= misfit(measure(part))):
                break
            zoom, maps, box = zoom * factor, painted, other
        if zoom != began:
            break
    return zoom, resize_maps(maps, image.shape[:2]) if maps.shape[:2] == tuple(size(zoom)) else None


def predict_at_known_size(predict, image, num_maps, diameter_px, measure, doubt=None, zoom=None, prepare=None, **arguments):
    """Run a network over an image, shown at the zoom that brings its nuclei to the size that the network knows.

    Args:
        predict, image, num_maps, prepare, arguments: as `predict_tiled`.
        diameter_px, measure, doubt: as `estimate_zoom`.
        zoom: where it is known; None estimates it.

    Returns:
        (maps, zoom): maps (H, W, num_maps) float32 at the size of `image`.
    """
    maps = None
    if zoom is None:
        geometry = {name: arguments[name] for name in ("margin", "multiple") if name in arguments}
        zoom, maps = estimate_zoom(predict, image, num_maps, diameter_px, measure, doubt, prepare, **geometry)
    if maps is None:
        maps = predict_zoomed(predict, image, num_maps, zoom, prepare=prepare, **arguments)
    return maps, zoom


# --- From train.py --------------------------------------------------------------------------------------------------
# Train a U-Net on pairs of images and masks.

DATA_DIR = "data"
OUT = "Saved_Model"
SEED = 7
CROPS_PER_IMAGE = 2  # in one epoch, of each training image on average
MIN_STEPS = 16  # of an epoch, so that a handful of images still makes a training: half as many part far fewer nuclei
CROP_PX = 256  # shows ten or more nuclei of usual size; what most public sets cut their images to
LEARNING_RATE = 6e-3  # at its highest, after WARMUP_SHARE of the steps; then along a cosine to zero
WARMUP_SHARE = 0.05
WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0  # of the whole gradient: one crop of a broken mask must not throw the weights off
PATIENCE = 20  # epochs without a better validation loss, then training stops
VALIDATION_SHARE = 0.15
MAX_VALIDATION_CROPS = 256  # 0.3 GB; more make the epochs slower and the choice no better
HELD_BYTES = 4_000_000_000  # of images and labels in memory, 7 bytes a pixel; what is more lies in a file, read as needed
HELD_SHARE = 0.25  # of the memory that this process may use, where that is less
MAX_SEARCH_PIXELS = 24_000_000  # of validation images in the search for thresholds: a minute or two of two cores
UNLIKE_SHARE = 0.05  # of the validation images may be called unlike the training data
CHECK_STEPS = 10  # steps between two looks at whether the loss is still a number
BLIND_DICE = 0.02  # validation Dice below which the network paints background only
BLIND_EPOCH = 5  # the first epoch at whose end that is worth a warning
FINE_TUNING_RATE = 6e-4  # the same with --init, so that what was learned is not washed out
FEW_IMAGES = 50  # training images; with fewer, --init keeps its batch normalisation: theirs would be far from all others
REHEARSAL_SHARE = 0.6  # of the crops with --init and few images: in another modality, with the truth that --init paints
REHEARSAL_PIXELS = 6_000_000  # of those crops, 92 of the default size: 24 bytes each
MEAN_SHARE = 0.25  # of the epochs, the last ones, whose weights are averaged to what a training ends with
BLENDS = (0.25, 0.5, 0.75, 1.0)  # of the way from --init to the end of the training, tried one after the other
FEW_BLEND = 0.75  # where there are too few nuclei to choose by: one image or another chose anything from 0.25 to 1
BLEND_GAIN = 0.85  # of what the training gains on the validation crops; the first of BLENDS that gives so much is taken
MIN_SEARCH_NUCLEI = 200  # in the validation images; fewer, as those of a single image, choose what fits it and no other
NOT_STORED = (  # arguments of `train` that a resumed training may change
    "resume", "out", "devices", "num_processes", "process_id", "coordinator", "say", "make_callbacks",
)  # fmt: skip
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
FOLDERS = ("data_dir", "gt_dir", "split", "init")  # arguments that name places on this machine
COLUMNS = ("loss", "accuracy", "dice", "iou")  # of history.csv, each for training and, as val_, validation


# --- Data -----------------------------------------------------------------------------------------------------------


def on_disk(array, file):
    """The array at the end of a temporary file, mapped: the system holds what it has room for and reads the rest again."""
    start = file.seek(0, os.SEEK_END)
    file.write(np.ascontiguousarray(array))
    file.flush()
    return np.memmap(file, array.dtype, "r", start, array.shape)


def load_samples(raw_dir, gt_dir, say=print, folder=OUT):
    """Read every pair into memory, images as they are on disk; what is more than its share into a temporary file in `folder`.

    Returns:
        {stem: augment.Sample}, its group being the image's modality, and {stem: form of the truth}.

    Raises:
        FileNotFoundError, ValueError: no pairs, or files that cannot be read or do not fit together (up to five named).
    """
    pairs = find_pairs(raw_dir, gt_dir)
    unpaired = len(find_images(raw_dir)) + len(find_truths(gt_dir)) - 2 * len(pairs)
    if unpaired:
        say(f"{unpaired} files of {raw_dir} and {gt_dir} have no partner and are left out; python import_data.py names them")
    samples, forms, problems = {}, {}, []
    held, most, overflow = 0, min(HELD_BYTES, HELD_SHARE * memory_bytes()), None
    with contextlib.ExitStack() as opened:  # closed, the file is there for as long as it is mapped
        for stem, (image_path, truth_path) in pairs.items():
            try:
                image, truth = read_pair(image_path, truth_path)
            except ValueError as error:
                problems.append(str(error))
                continue
            areas, shown, labels = np.bincount(truth.labels.ravel())[1:], image, truth.labels
            held += image.nbytes + labels.nbytes
            if held > most:
                if overflow is None:
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    overflow = opened.enter_context(tempfile.TemporaryFile(dir=folder))
                    say(f"The images are more than {most / 1e9:.3g} GB: the rest lies in a temporary file in {folder}")
                shown, labels = on_disk(image, overflow), on_disk(labels, overflow)
            samples[stem] = Sample(
                image=shown,
                intensity_range=intensity_range(image),
                labels=labels,
                group=modality(image),
                diameter_px=float(np.median(2 * np.sqrt(areas / np.pi))) if len(areas) else None,
                # A label image of one nucleus cannot be told from a binary mask, nor need it be.
                has_instances=truth.form in ("instances", "instance colours", "empty") or truth.labels.max() <= 1,
            )
            forms[stem] = truth.form
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(pairs)} pairs cannot be used: {'; '.join(problems[:5])}"
            f"{' ...' if len(problems) > 5 else ''} (mend or remove them; `python import_data.py` checks all)"
        )
    if not any(sample.labels.any() for sample in samples.values()):
        raise ValueError(f"{gt_dir}: none of the {len(samples)} masks holds a nucleus; nothing can be learned from them")
    merged = [stem for stem, sample in samples.items() if not sample.has_instances]
    if merged and not any(form in ("instances", "instance colours") for form in forms.values()):
        say("All masks are binary: nuclei that touch in them are learned as one. Instance labels would separate them.")
        for sample in samples.values():
            sample.has_instances = True  # better components than no separation at all
    elif merged:
        say(f"{len(merged)} masks are binary among instance labels: they teach what is nucleus, not what is separate.")
    return samples, forms


def choose_split(samples, split_csv, seed, say=print):
    """Part the stems: (train stems, validation stems), each sorted.

    Raises:
        ValueError: the split CSV leaves no training image.
    """
    if split_csv:
        given = read_split(split_csv)
        parts = {stem: given.get(stem) for stem in samples}
        left_out = [stem for stem, part in parts.items() if part not in ("train", "validation")]
        if left_out:
            say(f"{len(left_out)} images are in neither part of {split_csv} and left out: {named(left_out)}")
    else:
        parts = split_stems({stem: sample.group for stem, sample in samples.items()}, VALIDATION_SHARE, seed)
    train, validation = (sorted(s for s, part in parts.items() if part == name) for name in ("train", "validation"))
    if not train:
        raise ValueError(f"{split_csv}: no stem of the data is marked train; stems must be file names without suffix")
    if not validation:
        say("No validation images (one pair, or none in the split): the training images validate, so the scores flatter.")
        validation = train
    return train, validation


def validation_crops(samples, heads, size):
    """Cut the validation images into unaugmented crops, at most MAX_VALIDATION_CROPS, evenly taken.

    They show their nuclei at the size that the training brings them to, as prediction does.

    Returns:
        (N, size, size, 3) and (N, size, size, len(heads)), float32.
    """
    places, zoomed = [], []
    for index, sample in enumerate(samples):
        zoomed.append(Resized(sample.image, zoom_to_diameter(sample.diameter_px)))
        # A rest of less than half a crop is not worth one of its own.
        ys, xs = (range(0, max(1, length - size // 2), size) for length in zoomed[-1].shape[:2])
        places += [(index, y, x) for y in ys for x in xs]
    if len(places) > MAX_VALIDATION_CROPS:
        places = [places[k] for k in np.linspace(0, len(places) - 1, MAX_VALIDATION_CROPS).round().astype(int)]
    images = np.empty((len(places), size, size, 3), np.float32)
    truths = np.empty((len(places), size, size, len(heads)), np.float32)
    for row, (index, y, x) in enumerate(places):
        sample, seen = samples[index], zoomed[index]
        height, width = seen.shape[:2]
        y, x = max(0, min(y, height - size)), max(0, min(x, width - size))
        image = normalise(seen[y : y + size, x : x + size], sample.intensity_range)
        rows, columns = (
            ((np.arange(start, start + length) + 0.5) * step).astype(int)
            for start, length, step in zip((y, x), image.shape, seen.steps, strict=False)
        )
        truth = targets(sample.labels[np.ix_(rows, columns)], heads, sample.has_instances)
        fill = ((0, size - image.shape[0]), (0, size - image.shape[1]), (0, 0))
        images[row] = np.pad(image, fill, mode="reflect")
        truths[row] = np.pad(truth, fill, mode="reflect")
    return images, truths


def whole_batches(crops, batch_size, places):
    """Validation crops in whole batches, some shown twice to fill up, so that any number of devices can share each batch.

    Args:
        crops: images and truths, (N, size, size, channels) each.
        places: range of each batch that this process needs.

    Returns:
        The same, each with as many rows as there are places in the batches.
    """
    number = math.ceil(len(crops[0]) / batch_size) * batch_size
    if number == len(crops[0]) and len(places) == batch_size:
        return crops
    rows = np.linspace(0, len(crops[0]) - 1, number).round().astype(int)
    rows = rows.reshape(-1, batch_size)[:, places.start : places.stop].ravel()
    return tuple(part[rows] for part in crops)


def fingerprint(samples):
    """A hash of pixels and labels, so that a model file says what data it has seen and --resume that it is the same."""
    digest = hashlib.sha256()
    for stem in sorted(samples):
        digest.update(stem.encode())
        digest.update(np.ascontiguousarray(samples[stem].image))
        digest.update(samples[stem].labels)
    return digest.hexdigest()[:16]


def nucleus_size(samples):
    """Diameters in px over all nuclei of the samples: {"median", "percentile_5", "percentile_95"}."""
    areas = np.concatenate([np.bincount(sample.labels.ravel())[1:] for sample in samples])
    diameters = 2 * np.sqrt(areas[areas > 0] / np.pi)
    values = np.percentile(diameters, (50, 5, 95)) if len(diameters) else (0, 0, 0)
    return {name: round(float(v), 1) for name, v in zip(("median", "percentile_5", "percentile_95"), values, strict=True)}


# --- Checkpoint: everything that a later process needs to go on as if nothing had happened ---------------------------


def save_checkpoint(path, model, best_weights, start_weights, mean_weights, state):
    """Write weights, optimiser, best, first and mean weights and `state` (for JSON) into one HDF5 file, atomically."""
    import h5py
    import keras

    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["state"] = json.dumps(state)
        groups = {
            "weights": model.get_weights(),
            "optimizer": [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables],
            "best": best_weights,
            "start": [] if state["base"] is None else start_weights,  # the file of --init may be that which this run writes
            "mean": mean_weights,
        }
        for name, arrays in groups.items():
            group = file.create_group(name)
            for index, array in enumerate(arrays):
                group.create_dataset(f"{index:04d}", data=array)


def read_checkpoint(path):
    """The groups of a checkpoint, {name: list of arrays}, and its state.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no checkpoint of this program.
    """
    import h5py

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no unfinished training to resume; start one with `python train.py`")
    try:
        with h5py.File(path, "r") as file:
            state = json.loads(file.attrs["state"])
            groups = {name: [group[key][()] for key in sorted(group)] for name, group in file.items()}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint of this program ({error}); remove it and start training anew") from None
    return groups, state


def move_aside(paths, folder, say=print):
    """Move files that exist into a new folder named by date and time below `folder`."""
    paths = [Path(path) for path in paths if Path(path).exists()]
    if not paths:
        return
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    target, number = Path(folder) / stamp, 1
    while target.exists():
        number += 1
        target = Path(folder) / f"{stamp}_{number}"
    target.mkdir(parents=True)
    for path in paths:
        os.replace(path, target / path.name)
    say(f"Earlier {named(path.name for path in paths)} moved to {target}")


def write_history(path, rows):
    """history.csv, one row an epoch, replaced whole so that it is never half a row."""
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def make_bookkeeper(**arguments):
    """A Keras callback that keeps history, best weights and checkpoint, and decides when to stop."""
    import keras

    class Bookkeeper(keras.callbacks.Callback):
        def __init__(self, state, best_weights, start_weights, mean_weights, epochs, patience, paths, writes, save_best, say):
            super().__init__()
            self.state, self.epochs, self.patience, self.paths = state, epochs, patience, paths
            self.best_weights, self.start_weights, self.mean_weights = best_weights, start_weights, mean_weights
            self.writes = writes  # of several processes, one
            self.save_best, self.say = save_best, say
            self.failure = None

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.monotonic()

        def on_train_batch_end(self, batch, logs=None):
            # The loss shown is the mean of the epoch so far: once NaN, it stays so. Asking for it at every step would
            # make a GPU wait for Python.
            if batch % CHECK_STEPS == 0 and not math.isfinite(float(logs["loss"])):
                self.failure = f"loss became {float(logs['loss'])} in epoch {len(self.state['rows']) + 1}, by step {batch + 1}"
                self.model.stop_training = True

        def on_epoch_end(self, epoch, logs=None):
            for name in ("loss", "val_loss"):
                if not self.failure and not math.isfinite(float(logs[name])):
                    self.failure = f"{name} became {float(logs[name])} in epoch {epoch + 1}"
            if self.failure:
                self.model.stop_training = True
                return
            row = {"epoch": epoch + 1}
            row |= {name: round(float(logs[name]), 6) for name in (*COLUMNS, *(f"val_{name}" for name in COLUMNS))}
            row["learning_rate"] = float(f"{float(np.asarray(self.model.optimizer.learning_rate)):.6g}")
            row["seconds"] = round(time.monotonic() - self.started, 2)
            rows = self.state["rows"]
            rows.append(row)
            if self.writes and not self.state["moved"]:  # not before there is something to put in its place
                move_aside([self.paths["model"], self.paths["history"]], self.paths["previous"], self.say)
                self.state["moved"] = True
            if self.state["best_loss"] is None or row["val_loss"] < self.state["best_loss"]:
                self.state |= {"best_loss": row["val_loss"], "best_epoch": epoch + 1, "wait": 0}
                self.best_weights = self.model.get_weights()
                if self.writes:
                    self.save_best(self.best_weights, row)
            else:
                self.state["wait"] += 1
            if epoch + 1 > self.epochs - max(1, round(MEAN_SHARE * self.epochs)):
                self.state["averaged"] += 1
                share, weights = 1 / self.state["averaged"], self.model.get_weights()
                before = self.mean_weights or weights
                self.mean_weights = [(1 - share) * old + share * new for old, new in zip(before, weights, strict=True)]
            if self.writes:
                write_history(self.paths["history"], rows)
                kept = self.best_weights, self.start_weights, self.mean_weights
                save_checkpoint(self.paths["checkpoint"], self.model, *kept, self.state)
            if epoch + 1 >= BLIND_EPOCH and row["val_dice"] < BLIND_DICE:
                self.say(
                    f"WARNING: after {epoch + 1} epochs the network paints background only (validation Dice "
                    f"{row['val_dice']:.3f}). Usual causes: masks that do not belong to their images, masks that are "
                    "nearly empty, too few steps, or a learning rate too high. `python import_data.py` checks the data."
                )
            if self.state["wait"] >= self.patience:
                self.say(f"Stopped early: no better validation loss for {self.patience} epochs.")
                self.model.stop_training = True

    return Bookkeeper(**arguments)


# --- Training -------------------------------------------------------------------------------------------------------


def score_validation(model, samples, geometry, base=None):
    """Predict whole validation images as predict.py does, choose thresholds on them, score them.

    Args:
        base: thresholds, calibration and unlike of the model that the training began with, if any. They stay where the
            samples hold fewer than MIN_SEARCH_NUCLEI; without them, the thresholds are those of `instances.separate`.

    Returns:
        (found, scores): `found` goes into the model's settings: thresholds, the calibration of a nucleus's confidence, and
        from which doubt on an image is called unlike the training data; `scores` has dice (mean over images), ap50
        (pooled) and map (Kaggle, mean over images) for all images and for each group.
    """

    def paint(sample):
        return predict_at_known_size(
            model.predict_on_batch,
            sample.image,
            model.output_shape[-1],
            DIAMETER_PX,
            measure=lambda seen: median_diameter(separate(seen)),
            doubt=image_doubt,
            prepare=lambda part: normalise(part, sample.intensity_range),
            **geometry,
        )

    few = not is_enough(samples)
    kept = base if few and base else {}
    thresholds = kept.get("thresholds", dict(THRESHOLDS))
    painted = {}  # index: maps and zoom, only of the images that the thresholds are chosen on: all might be too many to hold
    if not few:
        pixels = 0
        for k in [k for k, sample in enumerate(samples) if sample.has_instances] or range(len(samples)):
            pixels += samples[k].labels.size
            if pixels <= MAX_SEARCH_PIXELS or not painted:
                painted[k] = paint(samples[k])
        maps, zooms = zip(*painted.values(), strict=True)
        thresholds, _ = choose_thresholds(maps, [samples[k].labels for k in painted], zooms)
    counts, dices, features, hits, doubts, groups = [], [], [], [], [], [sample.group for sample in samples]
    for k, sample in enumerate(samples):
        maps, zoom = painted.pop(k) if k in painted else paint(sample)
        labels, truth = separate(maps, zoom=zoom, **thresholds), sample.labels
        matching = match(truth, labels)
        counts.append(count_matches(matching))
        features.append(doubt_features(labels, maps, zoom))
        hits.append(np.isin(np.arange(1, labels.max() + 1), matching.predicted_ids[matched_pairs(matching)]))
        total = np.count_nonzero(labels) + np.count_nonzero(truth)
        dices.append(2 * np.count_nonzero((labels > 0) & (truth > 0)) / total if total else 1.0)
        doubts.append(image_doubt(maps))
    counts, dices, groups = np.array(counts), np.array(dices), np.array(groups)
    scores = {}
    for name in ["all", *sorted(set(groups))]:
        member = np.ones(len(groups), bool) if name == "all" else groups == name
        scores[name] = {
            "images": int(member.sum()),
            "dice": round(float(dices[member].mean()), 4),
            "ap50": round(float(average_precision(counts[member].sum(0)[0])), 4),
            "map": round(float(average_precision(counts[member]).mean()), 4),
        }
    features, hits = np.concatenate(features), np.concatenate(hits)
    found = {"thresholds": thresholds}
    if len(hits):
        weights = calibrate(features, hits)
        error, _ = expected_calibration_error(confidence(features, weights), hits)
        found["calibration"] = {"weights": weights, "nuclei": len(hits), "expected_calibration_error": round(error, 4)}
    limit = float(np.quantile(doubts, 1 - UNLIKE_SHARE, method="higher"))
    alarms = float(np.mean(np.array(doubts) > limit))
    found["unlike"] = {"doubt_above": limit, "false_alarm_rate": round(alarms, 4), "images": len(doubts)}
    return found | kept, scores


def is_enough(samples):
    """Whether these validation images hold enough nuclei to choose by."""
    return sum(int(sample.labels.max()) for sample in samples) >= MIN_SEARCH_NUCLEI


def choose_epoch(model, candidates, score, enough, say):
    """Of the best epoch by validation loss and the mean of the last ones, that which finds the nuclei better.

    The loss punishes a network that is sure and wrong, and later epochs are surer; their nuclei are right more often.

    Args:
        model: takes the weights; it ends with those chosen.
        candidates: {words: list of arrays}, the one with the best loss first.
        score: gives, for the weights that the model has, what `score_validation` gives.
        enough: whether the validation images are `is_enough`; else the first is taken.

    Returns:
        (words, weights, found, scores).

    References:
        Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".
    """
    first = next(iter(candidates))
    if len(candidates) == 1 or not enough:
        model.set_weights(candidates[first])
        return first, candidates[first], *score()
    tried = {}
    for words, weights in candidates.items():
        model.set_weights(weights)
        tried[words] = score()
        scores = tried[words][1]
        say(f"  {words}: AP@0.5 {scores['all']['ap50']:.3f}  mAP {scores['all']['map']:.3f}")
    chosen = max(tried, key=lambda words: tried[words][1]["all"]["ap50"] + tried[words][1]["all"]["map"])
    say(f"  kept: {chosen}")
    model.set_weights(candidates[chosen])
    return chosen, candidates[chosen], *tried[chosen]


def choose_blend(model, start, end, crops, batch_size, blends=None):
    """How far to go from the weights of --init to those at the end of the training: no farther than pays.

    What fine-tuning learns of new images it gains early on that way; what it forgets of all others, late.

    Args:
        model: takes the weights; it ends with those chosen.
        start, end: lists of arrays.
        crops: validation images (N, size, size, 3) and truths (N, size, size, K), float32, of `validation_crops`.
        batch_size: of the prediction.
        blends: to choose from; the default is BLENDS.

    Returns:
        (blend, losses): the one chosen, and the validation losses at 0, at 1 and at each of them that was looked at.

    References:
        Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", https://arxiv.org/abs/2109.01903
    """

    images, truths = crops
    loss = load_losses().SegmentationLoss(range(truths.shape[-1]))

    def measure(blend):
        model.set_weights([(1 - blend) * one + blend * other for one, other in zip(start, end, strict=True)])
        parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
        values = [float(loss(truths[part], model.predict_on_batch(images[part]))) for part in parts]
        return float(np.average(values, weights=[len(images[part]) for part in parts]))

    found = {blend: measure(blend) for blend in (0.0, 1.0)}
    for blend in blends or BLENDS:
        found[blend] = measure(blend)
        if found[0.0] - found[blend] >= BLEND_GAIN * (found[0.0] - min(found.values())) > 0:
            return blend, found
    blend = min(blends or BLENDS, key=found.get)  # there was nothing to gain: the least harm
    measure(blend)
    return blend, found


def rehearse(model, learned, samples, heads, size, batch_size, share, seed):
    """What a model knows of other modalities than that of the few images that it shall learn: an `augment.Rehearsal`.

    Args:
        model: paints `heads`, of which it has `learned` these.
        samples: the images, `augment.Sample`.
        size: height and width of the crops, of which there are REHEARSAL_PIXELS.
        share: of the crops of the training that these shall be.
    """
    crops = rehearsal_crops(samples, size, max(1, round(REHEARSAL_PIXELS / size**2)), seed)
    parts = range(0, len(crops), batch_size)
    truths = np.concatenate([np.asarray(model.predict_on_batch(crops[first : first + batch_size])) for first in parts])
    truths[..., [head not in learned for head in heads]] = UNKNOWN
    return Rehearsal(crops, truths, share)


def make_optimizer(rate, total_steps):
    """Muon that warms up to `rate` and follows a cosine down to zero at `total_steps`.

    References:
        Loshchilov & Hutter 2017, "SGDR" (cosine), and 2019, "Decoupled Weight Decay Regularization" (AdamW).
    """
    import keras

    warmup_steps = max(1, round(WARMUP_SHARE * total_steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        rate * 0.01, max(1, total_steps - warmup_steps), warmup_target=rate, warmup_steps=warmup_steps
    )
    return load_losses().Muon(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM)


def compile_model(model, heads, rate, total_steps, device):
    """Ready a model of `build_unet` for `fit` on `device` (the words of `unet.find_device`), as fast as it goes there."""
    import keras

    # XLA pays on a GPU; on a CPU it takes half a minute to compile and its steps are 15 % slower than oneDNN's.
    on_gpu = device.startswith("GPU")
    if keras.backend.backend() == "tensorflow" and not on_gpu:
        fuse_normalisation(model)
    model.compile(
        make_optimizer(rate, total_steps),
        loss=load_losses().SegmentationLoss(heads),
        metrics=load_losses().pixel_metrics(),
        jit_compile="auto" if on_gpu else model.jit_compile,
    )


def drawing_threads(device):
    """How many threads shall draw crops: one beside a network that needs the cores itself, several for a GPU."""
    return min(8, max(2, num_cores())) if device.startswith("GPU") else 1


def check_alike(settings, num_processes, process_id):
    """All processes must train the same. Raises: ValueError, where this one has other flags or data than process 0."""
    first = tell_all(lambda: settings, num_processes, process_id)
    other = [name for name in settings if name not in FOLDERS and settings[name] != first[name]]
    if other:
        raise ValueError(
            f"process {process_id} differs from process 0 in {named(other)}; give every process the same flags (but for "
            "--process-id) and the same images and masks"
        )


def restore(model, checkpoint, data_hash):
    """Bring a compiled model and its optimiser to where a checkpoint was written.

    Args:
        checkpoint: what `read_checkpoint` returns.

    Returns:
        The best weights so far, those that the training began with (none without --init), the mean of those at its end (none
        before), and the state of the bookkeeping.

    Raises:
        ValueError: the data is not what it was.
    """
    groups, state = checkpoint
    if state["data"] != data_hash:
        raise ValueError(
            f"{state['arguments']['data_dir']}: the data has changed since the interrupted training; restore it, or "
            "start anew without --resume"
        )
    model.set_weights(groups["weights"])
    for variable, value in zip(model.optimizer.variables, groups["optimizer"], strict=True):
        variable.assign(value)
    return groups["best"], groups.get("start", []), groups.get("mean", []), state


def describe(architecture, thresholds, arguments, training, num_validation, forms, data_hash):
    """The settings that go into the model file: all that is needed to use it, and how it came about."""
    import keras

    return {
        "architecture": architecture,
        "preprocessing": {"scaling": "percentiles of the whole image to [0, 1], see import_data.intensity_range"},
        "nucleus_diameter_px": nucleus_size(training),
        "seen_diameter_px": DIAMETER_PX,
        "thresholds": thresholds,
        "arguments": arguments,
        "data": {
            "fingerprint": data_hash,
            "train": dict(sorted(Counter(sample.group for sample in training).items())),
            "validation": num_validation,
            "truth": dict(sorted(Counter(forms.values()).items())),
        },
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "numpy": np.__version__,
        },
        "scores": {},
    }


def train(
    data_dir, gt_dir, split, out, init, blend, resume, epochs, crops_per_image, batch_size, crop, learning_rate, patience,
    width, depth, stem_stride, normalisation, heads, precision, seed, rehearsal=None, devices=1, num_processes=1, process_id=0,
    coordinator=None, say=print, make_callbacks=None,
):  # fmt: skip
    """Train, and write `out`/trained_model.h5 and `out`/history.csv; the arguments are the flags of the same names.

    Of several processes, each trains on its share of every batch, and process 0 alone writes and says something.

    Args:
        say: called with each line for the user.
        make_callbacks: from the validation crops, (N, size, size, 3) and their truths (N, size, size, K), both float32,
            to further Keras callbacks, which come after the files of an epoch are written: google_colab.py copies them
            to Drive and shows pictures.

    Returns:
        The path of the model file.

    Raises:
        FileNotFoundError, ValueError: as said by the functions above, or the loss became NaN.
    """
    settings_of_run = {k: v for k, v in locals().items() if k not in NOT_STORED}
    join_processes(coordinator, num_processes, process_id)
    if num_processes > 1:
        role = "says the rest and writes the files" if process_id == 0 else "trains; process 0 says the rest"
        print(f"Process {process_id} of {num_processes} {role}. Should one end early, all do: start them again with --resume")
        sys.stdout.flush()
    if process_id:
        say = lambda line: None
    out = Path(out)
    paths = {
        "model": out / "trained_model.h5",
        "history": out / "history.csv",
        "checkpoint": out / "checkpoint.h5",
        "previous": out / "previous",
    }
    samples, forms = load_samples(Path(data_dir) / "raw", Path(gt_dir) if gt_dir else Path(data_dir) / "gt", say, out)
    train_stems, validation_stems = choose_split(samples, split, seed, say)
    training, validating = [samples[s] for s in train_stems], [samples[s] for s in validation_stems]
    counts = sorted(Counter(sample.group for sample in training).items())
    say(
        f"{len(training)} images to train on ({', '.join(f'{number} {group}' for group, number in counts)}), "
        f"{len(validating)} to validate; nucleus diameter {nucleus_size(training)['median']} px (median)"
    )

    data_hash = fingerprint(samples)
    check_alike({**settings_of_run, "devices": devices, "data": data_hash}, num_processes, process_id)

    # Importing Keras takes seconds: not before the data is known to be good.
    set_up_backend()
    import keras

    device, fastest = find_device()
    precision = fastest if precision == "auto" else precision
    parallel = spread(batch_size, devices, num_processes, process_id)
    share = f"; {devices * num_processes} devices share each batch" if devices * num_processes > 1 else ""
    say(f"Training on {device}, {precision}{share}")
    if device.startswith("GPU") and (found := len(local_devices())) > devices:
        say(f"{found} GPUs are here: --devices {found} --batch-size {batch_size * found} would train on all of them")
    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(seed)

    base, few = None, len(training) < FEW_IMAGES
    with parallel.building:
        if init:
            model, base = load_model(init, heads)
            architecture = base["architecture"]
            if few:
                for layer in model.layers:
                    if isinstance(layer, keras.layers.BatchNormalization):
                        layer.trainable = False  # in Keras that keeps the statistics, too
        else:
            architecture = {
                "heads": list(heads or HEADS), "width": width, "depth": depth, "stem_stride": stem_stride,
                "normalisation": normalisation,
            }  # fmt: skip
            model = build_unet(**architecture)
        heads = architecture["heads"]
        steps = max(MIN_STEPS, round(len(training) * crops_per_image / batch_size))
        rate = learning_rate or (FINE_TUNING_RATE if init else LEARNING_RATE)
        compile_model(model, heads, rate, steps * epochs, device)
        model.optimizer.build(model.trainable_variables)
    parallel.prepare(model)

    state = {
        "arguments": settings_of_run, "data": data_hash, "rows": [],
        "best_loss": None, "best_epoch": 0, "averaged": 0, "wait": 0, "moved": False,
        "base": {name: base[name] for name in ("thresholds", "calibration", "unlike") if name in base} if base else None,
        "learned": read_settings(init)["architecture"]["heads"] if init else [],
    }  # fmt: skip
    start_weights, mean_weights = model.get_weights(), []
    best_weights = start_weights
    if resume:
        checkpoint = tell_all(lambda: read_checkpoint(paths["checkpoint"]), num_processes, process_id)
        best_weights, kept_weights, mean_weights, kept_state = restore(model, checkpoint, data_hash)
        start_weights, state = kept_weights or start_weights, state | kept_state
        say(f"Resuming after epoch {len(state['rows'])} of {epochs}")
    elif process_id == 0 and paths["checkpoint"].exists():
        say(f"{paths['checkpoint']} belongs to an unfinished training (`--resume` would have gone on with it)")
        move_aside([paths["checkpoint"]], paths["previous"], say)
    say(f"{model.count_params():,} weights, {epochs} epochs of {steps} steps of {batch_size} crops of {crop} px")

    thresholds = state["base"]["thresholds"] if init else dict(THRESHOLDS)
    arguments = {**settings_of_run, "learning_rate": rate}
    for name in FOLDERS:  # the file travels: it tells no one the folders of this machine
        arguments[name] = Path(arguments[name]).name if arguments[name] else None
    settings = describe(architecture, thresholds, arguments, training, len(validating), forms, data_hash)
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy("float32")
    product = build_unet(**architecture)  # never compiled: what goes into the file, in float32
    keras.mixed_precision.set_global_policy(policy)

    def save_best(weights, row):
        product.set_weights(weights)
        settings["epoch"] = row["epoch"]
        settings["scores"] = {"validation_crops": {key: row[f"val_{key}"] for key in COLUMNS}}
        save_model(paths["model"], product, settings)

    done = len(state["rows"])
    finished = done >= epochs or state["wait"] >= patience
    bookkeeper = make_bookkeeper(
        state=state, best_weights=best_weights, start_weights=start_weights, mean_weights=mean_weights, epochs=epochs,
        patience=patience, paths=paths, writes=process_id == 0, save_best=save_best, say=say,
    )  # fmt: skip
    crops, rehearsed = None if finished else validation_crops(validating, heads, crop), None
    if not finished:
        callbacks = [bookkeeper, *(make_callbacks(*crops) if make_callbacks else ())]
        share = (REHEARSAL_SHARE if few else 0) if rehearsal is None else rehearsal
        if init and share:
            say(f"{share:.0%} of the crops are painted in another modality, to keep what {init} knows of that")
            product.set_weights(start_weights)
            rehearsed = rehearse(product, state["learned"], training, heads, crop, batch_size, share, seed)
        make_batches = lambda: batches(
            training, heads, crop, batch_size, seed, first_step=done * steps, places=parallel.places, rehearsal=rehearsed,
            workers=drawing_threads(device),
        )  # fmt: skip
        try:
            with parallel.fitting:
                model.fit(
                    parallel.feed(make_batches),
                    steps_per_epoch=steps,
                    epochs=epochs,
                    initial_epoch=done,
                    validation_data=whole_batches(crops, batch_size, parallel.places),
                    validation_batch_size=len(parallel.places),
                    shuffle=False,  # the batches are random already
                    callbacks=callbacks,
                    verbose=0 if process_id else "auto" if sys.stdout.isatty() else 2,
                )
        except KeyboardInterrupt:
            say(f"\nStopped after epoch {len(state['rows'])}; `python train.py --resume --out {out}` goes on from there")
            raise
    last, best = len(state["rows"]), state["best_epoch"]
    last_weights = bookkeeper.mean_weights or model.get_weights()  # no mean where patience ended it early
    first = last - max(1, state["averaged"]) + 1
    leave_processes(num_processes)
    if bookkeeper.failure:
        kept = f"{paths['model']} holds epoch {state['best_epoch']}, the best before it"
        kept = kept if state["rows"] else "no epoch was finished"
        raise ValueError(
            f"training stopped: {bookkeeper.failure}; {kept}. Usual causes: a learning rate too high (--learning-rate "
            f"{rate / 4:g}), half precision (--precision float32) or broken image values (`python import_data.py` checks)"
        )

    if process_id:
        print(f"Process {process_id} has done its part; process 0 chooses the thresholds and writes {paths['model']}")
        return paths["model"]
    score_product = lambda: score_validation(product, validating, geometry(architecture), state["base"])
    end = f"epoch {last}" if first == last else f"mean of epochs {first} to {last}"
    candidates = {f"epoch {best}": bookkeeper.best_weights, end: last_weights}
    if init and not is_enough(validating):  # a single image says little of which epoch is best: those at the lowest rate
        candidates = {end: last_weights}
    # Whole images come next, and need their memory.
    crops, rehearsed, make_batches, model, callbacks, bookkeeper, last_weights = [None] * 7
    gc.collect()
    say(f"Best loss in epoch {best}; choosing thresholds on {len(validating)} validation images")
    chosen, end_weights, found, scores = choose_epoch(product, candidates, score_product, is_enough(validating), say)
    if init:
        crops = validation_crops(validating, heads, crop)
        fixed = (blend,) if blend else None if is_enough(validating) else (FEW_BLEND,)
        settings["blend"], values = choose_blend(product, start_weights, end_weights, crops, batch_size, fixed)
        kept = "" if settings["blend"] == 1 else f", {values[1.0]:.3f} at its end, where more of the old is forgotten"
        say(
            f"Took {settings['blend']:.0%} of the way from {init}: validation loss {values[0.0]:.3f} at its beginning, "
            f"{values[settings['blend']]:.3f} here{kept}"
        )
        crops = None
        if settings["blend"] != 1:
            found, scores = score_product()
    settings |= found
    settings["epoch"] = last if chosen == end else best
    settings["averaged_epochs"] = last - first + 1 if chosen == end else 1
    settings["scores"] = {"validation": scores}
    save_model(paths["model"], product, settings)
    paths["checkpoint"].unlink(missing_ok=True)
    for name, score in scores.items():
        values = "  ".join(f"{label} {score[key]:.3f}" for label, key in (("Dice", "dice"), ("AP@0.5", "ap50"), ("mAP", "map")))
        say(f"  validation {name:<14} {score['images']:4d} images  {values}")
    say(f"Wrote {paths['model']} ({paths['model'].stat().st_size / 1e6:.1f} MB) and {paths['history']}")
    return paths["model"]


def parse_arguments(argv):
    """The flags; with --resume those of the interrupted run, which the user need not repeat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", default=DATA_DIR, metavar="DIR", help=f"folder with raw/ and gt/ (default {DATA_DIR})")
    add("--gt-dir", default=None, metavar="DIR", help="folder of the masks, if not DATA_DIR/gt")
    add("--split", default=None, metavar="CSV", help="columns stem, split (train or validation); default: chosen by itself")
    add("--out", default=OUT, metavar="DIR", help=f"where model and history go (default {OUT})")
    add("--init", default=None, metavar="MODEL", help="start from the weights of this model file")
    add(
        "--blend", type=float, default=None, metavar="B",
        help="share of the way gone from --init to the new weights; 1 is all of it (default: no more than pays on validation, "
        f"or {FEW_BLEND} where that has fewer than {MIN_SEARCH_NUCLEI} nuclei)",
    )  # fmt: skip
    add(
        "--rehearsal", type=float, default=None, metavar="SHARE",
        help="with --init: share of the crops that are painted in another modality, to keep what the model knew of that "
        f"(default {REHEARSAL_SHARE} with fewer than {FEW_IMAGES} images, else 0)",
    )  # fmt: skip
    add("--resume", action="store_true", help="go on with the interrupted training in --out, with its settings")
    add("--epochs", type=positive, default=EPOCHS, metavar="N", help=f"(default {EPOCHS})")
    number = {"type": positive, "metavar": "N"}
    add("--crops-per-image", default=CROPS_PER_IMAGE, help=f"in one epoch (default {CROPS_PER_IMAGE})", **number)
    add("--batch-size", type=positive, default=BATCH_SIZE, metavar="N", help=f"crops in one step (default {BATCH_SIZE})")
    add("--crop", type=positive, default=CROP_PX, metavar="PX", help=f"height and width of a crop (default {CROP_PX})")
    rates = f"(default {LEARNING_RATE}, with --init {FINE_TUNING_RATE})"
    add("--learning-rate", type=float, default=None, metavar="R", help=f"at its highest {rates}")
    add("--patience", type=positive, default=PATIENCE, metavar="N", help=f"epochs without gain, then stop (default {PATIENCE})")
    add("--width", default=WIDTH, help=f"filters of the first level (default {WIDTH})", **number)
    add("--depth", default=DEPTH, help=f"times the encoder halves the size (default {DEPTH})", **number)
    add("--stem-stride", type=int, choices=(1, 2), default=STEM_STRIDE, help="2: the first convolution halves, too")
    add("--normalisation", choices=("batch", "group", "none"), default="batch", help="(default batch)")
    add("--heads", nargs="+", choices=HEADS, help="maps to learn (default all, or those of --init)")
    add("--precision", choices=PRECISIONS, default="auto", help="of the arithmetic (default auto: half on a GPU that gains)")
    add("--seed", type=int, default=SEED, metavar="N", help=f"of everything random (default {SEED})")
    add("--devices", default=1, help="GPUs of this machine that share each batch (default 1)", **number)
    hosts = parser.add_argument_group("several hosts", "one process on each, all with the same flags and data, on JAX")
    hosts.add_argument("--num-processes", default=1, help="how many there are (default 1)", **number)
    hosts.add_argument(
        "--process-id", type=int, default=0, metavar="K", help="which this is, from 0; that one writes the files"
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, with a free port, the same for all")
    args = parser.parse_args(argv)
    if not 0 <= args.process_id < args.num_processes:
        parser.error(f"--process-id is {args.process_id}; with --num-processes {args.num_processes} it counts from 0")
    if args.blend is not None and not 0 < args.blend <= 1:
        parser.error(f"--blend is {args.blend}; expected more than 0, the weights of --init, up to 1, those of the training")
    if args.rehearsal is not None and not (0 <= args.rehearsal < 1 and (args.init or args.resume)):
        parser.error(f"--rehearsal is {args.rehearsal}; expected 0 or more and less than 1, with --init")
    if args.num_processes > 1 and not re.fullmatch(r".+:\d+", args.coordinator or ""):
        parser.error(f"--coordinator is {args.coordinator}; {args.num_processes} processes need HOST:PORT to meet at")
    return args

# fmt: on
# <<<


# --- On Colab -------------------------------------------------------------------------------------------------------

PRODUCTS = ("trained_model.h5", "history.csv")  # what the user takes home
CHECKPOINT = "checkpoint.h5"  # what a new runtime needs to go on


class Stop(Exception):
    """What the user can mend; the notebook shows its one line in place of a traceback."""

    def _render_traceback_(self):  # IPython asks the exception itself, where it has this
        return [f"STOPPED: {self}"]


def is_notebook():
    """Whether this runs in a cell."""
    shell = sys.modules.get("IPython")
    return shell is not None and shell.get_ipython() is not None


def panel():
    """A place in the output of the cell: a function that shows HTML there instead of what it showed before.

    It does nothing outside of a notebook.
    """
    if not is_notebook():
        return lambda html: None
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    return lambda html: handle.update(HTML(html))


def patiently(action, *arguments):
    """The result of a call, made up to TRIES times where Drive fails. A file that is not there is no failure of Drive."""
    for attempt in range(1, TRIES + 1):
        try:
            return action(*arguments)
        except FileNotFoundError:
            raise
        except OSError as error:
            if attempt == TRIES:
                raise
            print(f"Drive: {error}; trying again")
            time.sleep(PAUSE_SECONDS)


# Step 1: the data, from Drive to the local disk.


def mount_drive():
    """Ask for access to Google Drive; returns the folder My Drive. Raises: Stop."""
    try:
        from google.colab import drive
    except ImportError:
        raise Stop(
            "this is not Google Colab (there is no module google.colab); open a notebook on "
            "https://colab.research.google.com, or train at home by `python train.py`"
        ) from None
    try:
        drive.mount(MOUNT_POINT)
    except Exception as error:  # ValueError or one of Colab's own: access refused, a closed dialog, a time-out
        raise Stop(f"Google Drive could not be opened ({error}); run the cell again and allow access") from None
    return Path(MOUNT_POINT) / "MyDrive"


def find_data(my_drive):
    """The folder of the data, after a look into it.

    Raises:
        Stop: there is no such folder.
        FileNotFoundError, ValueError: as `find_pairs`.
    """
    folder = my_drive / DRIVE_FOLDER
    if not folder.is_dir():
        others = {path.name.lower(): path.name for path in sorted(my_drive.iterdir()) if path.is_dir()}
        similar = [others[name] for name in difflib.get_close_matches(DRIVE_FOLDER.lower(), others)]
        hint = f"there is {named(similar)}, which DRIVE_FOLDER may name" if similar else "make it, with raw/ and gt/ in it"
        raise Stop(
            f"My Drive has no folder {DRIVE_FOLDER}; {hint}. A folder that was shared with you needs a shortcut in My Drive"
        )
    images, truths = (patiently(image_files, folder / part) for part in ("raw", "gt"))
    pairs = patiently(find_pairs, folder / "raw", folder / "gt")
    print(f"{DRIVE_FOLDER}: {len(images):,} images in raw, {len(truths):,} masks in gt, {len(pairs):,} pairs")
    return folder


def copy_data(source, target, show):
    """Copy raw/ and gt/ of Drive to the local disk; what lies there already, of the same size and time, stays.

    What is no longer on Drive goes from the copy, too.
    """
    wanted = {
        target / part / path.name: path
        for part in ("raw", "gt")
        for paths in patiently(image_files, source / part).values()
        for path in paths
    }
    for part in ("raw", "gt"):
        for paths in image_files(target / part).values():
            for path in paths:
                if path not in wanted:
                    path.unlink()

    def copy(local):
        there = wanted[local].stat()
        if local.exists():
            have = local.stat()
            if have.st_size == there.st_size and abs(have.st_mtime - there.st_mtime) < 2:
                return 0
        with replacing(local) as temporary:
            shutil.copy2(wanted[local], temporary)
        return there.st_size

    started, shown, num_bytes, num_copied = time.monotonic(), 0.0, 0, 0
    with ThreadPoolExecutor(COPY_THREADS) as pool:
        for done, size in enumerate(pool.map(lambda local: patiently(copy, local), wanted), 1):
            num_bytes, num_copied = num_bytes + size, num_copied + bool(size)
            if time.monotonic() - shown > 0.5 or done == len(wanted):
                shown = time.monotonic()
                show(
                    f'Copying from Drive: <progress value="{done}" max="{len(wanted)}"></progress> '
                    f"{done:,} of {len(wanted):,} files, {num_bytes / 1e6:,.0f} MB"
                )
    if num_copied:
        print(f"Copied {num_copied:,} files, {num_bytes / 1e6:,.1f} MB, in {time.monotonic() - started:.0f} s")
    else:
        print("The data is on the local disk already")


# Step 2: the device.


def report_device():
    """Say which GPU there is, or what to do where there is none."""
    set_up_backend()
    device, precision = find_device()
    print(f"{device}; arithmetic in {precision}")
    if not device.startswith("GPU"):
        print(
            "WARNING: no GPU. Training on the processor takes many times as long; an estimate follows after the first "
            "steps. For a GPU: stop the cell, Runtime > Change runtime type > T4 GPU, and run it again."
        )


# Step 3: training, with everything on Drive after each epoch.


def put_on_drive(source, target):
    """Copy a file so that one whole version of it is on Drive at any time.

    The old version is emptied before it is replaced: Drive moves what is replaced or removed to its bin for 30 days,
    where a checkpoint for each epoch would soon fill the user's storage.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as original, open(part, "wb") as copy:
        shutil.copyfileobj(original, copy)
        copy.flush()
        os.fsync(copy.fileno())
    if target.exists():
        open(target, "wb").close()
    os.replace(part, target)


def remove_from_drive(path):
    """Remove a file without leaving its bytes in the bin of Drive."""
    if path.exists():
        open(path, "wb").close()
        path.unlink()


def mend_drive(folder):
    """Finish or undo what a cut-off left half-done in `put_on_drive`."""
    for name in (*PRODUCTS, CHECKPOINT):
        target, part = folder / name, folder / f"{name}.part"
        if part.exists() and target.exists() and not target.stat().st_size:
            os.replace(part, target)  # the old version was emptied, so the new one is whole
        remove_from_drive(part)


def free_bytes(folder):
    """Bytes that may still be written to a folder, or None where the file system does not say."""
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else None


def require_space(folder, num_weights):
    """Raises Stop where Drive has too little room for model and checkpoint, and for the next version of each."""
    model, checkpoint = 4 * num_weights, 16 * num_weights  # the weights; and with them the best ones and two of AdamW
    there = sum(path.stat().st_size for path in folder.glob("*.h5*")) if folder.is_dir() else 0
    needed, free = 2 * (model + checkpoint) + 10_000_000 - there, free_bytes(folder)
    if free is not None and free < needed:
        raise Stop(
            f"Google Drive has {free / 1e6:,.0f} MB left, and model and checkpoint need {needed / 1e6:,.0f} MB; empty "
            f"its bin or remove something, or lower WIDTH ({WIDTH}), and run the cell again"
        )


def find_checkpoint(out, on_drive):
    """The arguments of the unfinished training that went furthest, whose checkpoint is then in `out`; None: there is none."""
    found = []
    for path in (out / CHECKPOINT, on_drive / CHECKPOINT):
        if not path.exists():
            continue
        try:
            state = read_checkpoint(path)[1]
        except ValueError as error:
            print(f"Passed over: {error}")
            continue
        found.append((len(state["rows"]), path, state["arguments"]))
    if not found:
        return None
    num_epochs, path, arguments = max(found, key=lambda one: one[0])  # of equal ones the local
    if path.parent != out:
        with replacing(out / CHECKPOINT) as temporary:
            shutil.copyfile(path, temporary)
    print(
        f"An unfinished training goes on after epoch {num_epochs} of {arguments['epochs']}, with the settings that it "
        "began with (another name in RESULTS begins a new one, with those above)"
    )
    return arguments


def training_arguments(data_dir, out, stored):
    """The arguments of `train`: the settings above, or those stored in a checkpoint. Raises: Stop."""
    try:
        arguments = vars(parse_arguments(shlex.split(OPTIONS)))
    except (SystemExit, ValueError):  # argparse has said what is wrong
        raise Stop(f"OPTIONS = {OPTIONS!r} is not understood; it takes what `python train.py --help` lists") from None
    if unknown := set(stored or ()) - set(arguments):
        raise Stop(
            f"the unfinished training on Drive is of another version ({named(sorted(unknown))}); go on with the cell that "
            "began it, or give RESULTS another name"
        )
    return arguments | (stored or {}) | {"data_dir": str(data_dir), "out": str(out), "resume": stored is not None}


def curve(history, column, title):
    """One column of history.csv over the epochs as SVG: validation solid, training dotted."""
    width, height, left, right, top, bottom = 460, 190, 48, 12, 26, 24
    values = history[[column, f"val_{column}"]].to_numpy()
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    x = np.linspace(left, width - right, max(2, len(history)))[: len(history)]
    y = height - bottom - (values - low) / max(high - low, 1e-9) * (height - top - bottom)
    lines = ""
    for part, colour, dash in ((0, "#D55E00", "2 3"), (1, "#0072B2", "none")):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y[:, part], strict=True))
        lines += (
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
            f'<circle cx="{x[-1]:.1f}" cy="{y[-1, part]:.1f}" r="3" fill="{colour}"/>'
        )
    return (
        f'<svg width="{width}" height="{height}" style="background:#fff" font-family="sans-serif" font-size="12">'
        f'<text x="{left}" y="16">{title}: <tspan fill="#0072B2">validation {values[-1, 1]:.3f}</tspan>, '
        f'<tspan fill="#D55E00">training {values[-1, 0]:.3f} (dotted)</tspan></text>'
        f'<path d="M{left} {top}V{height - bottom}H{width - right}" fill="none" stroke="#888"/>'
        f'<text x="{left - 6}" y="{top + 8}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 6}" y="{height - bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{left}" y="{height - 8}">epoch {history["epoch"].iloc[0]}</text>'
        f'<text x="{width - right}" y="{height - 8}" text-anchor="end">{history["epoch"].iloc[-1]}</text>{lines}</svg>'
    )


def pictures(images, truths, maps):
    """Crops side by side as a JPEG: above with the outlines of the truth, below with those of what the network paints.

    Args:
        images: (N, S, S, 3) float32 in [0, 1].
        truths, maps: (N, S, S, K) float32; channel 0 is the nucleus.
    """
    rows = []
    for nuclei, colour in ((truths[..., 0] > 0.5, (0, 255, 0)), (maps[..., 0] > 0.5, (0, 255, 255))):
        row = []
        for image, mask in zip(images, nuclei, strict=True):
            picture = np.ascontiguousarray((image * 255).astype(np.uint8))
            outlines = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
            picture = cv2.drawContours(picture, outlines, -1, colour, 1)
            row.append(np.pad(picture, ((0, 4), (0, 4), (0, 0)), constant_values=255))
        rows.append(np.concatenate(row, axis=1))
    # Colour in full resolution, or the outlines fade; and OpenCV wants BGR.
    options = [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", np.concatenate(rows)[..., ::-1], options)[1].tobytes()


def callbacks_for(out, on_drive, is_new):
    """For `train`: a function from the validation crops to the callback that saves to Drive and shows how it goes.

    Args:
        out: where `train` writes.
        on_drive: the folder on Drive that is to hold the same.
        is_new: whether this training begins now; what lies on Drive then is of an earlier one, and is moved aside.
    """
    show, sent = panel(), {}

    def save():
        """Bring to Drive what has changed since the last time; the checkpoint last, since a new runtime begins from it."""
        nonlocal is_new
        if is_new:
            move_aside([on_drive / name for name in (*PRODUCTS, CHECKPOINT)], on_drive / "previous")
            is_new = False
        for name in (*PRODUCTS, CHECKPOINT):
            if (out / name).exists():
                changed = (out / name).stat().st_mtime_ns
                if sent.get(name) != changed:
                    put_on_drive(out / name, on_drive / name)
                    sent[name] = changed

    def make_callbacks(images, truths):
        import keras

        shown = np.linspace(0, len(images) - 1, min(SHOWN_CROPS, len(images))).round().astype(int)

        class OnColab(keras.callbacks.Callback):
            def on_train_begin(self, logs=None):
                self.has_estimate = False
                require_space(on_drive, self.model.count_params())

            def on_epoch_begin(self, epoch, logs=None):
                self.num_left = self.params["epochs"] - epoch

            def on_train_batch_end(self, batch, logs=None):
                if self.has_estimate:
                    return
                if batch == 0:  # the first step also compiles the network
                    self.started = time.monotonic()
                    return
                seconds, steps = time.monotonic() - self.started, self.params["steps"]
                if seconds > ESTIMATE_SECONDS or batch + 1 == steps:
                    self.has_estimate = True
                    epoch = seconds / batch * steps
                    minutes = epoch * self.num_left / 60
                    print(
                        f"An epoch takes about {epoch:,.0f} s, the {self.num_left} epochs to come {minutes:,.0f} min, without "
                        "validation and saving; training stops early where validation gains nothing any more"
                    )

            def on_epoch_end(self, epoch, logs=None):
                history = pd.read_csv(out / "history.csv") if (out / "history.csv").exists() else ()
                if len(history) != epoch + 1:
                    return  # the loss was no number: there is nothing new to save
                try:
                    save()
                    where = f"saved to {DRIVE_FOLDER}/{RESULTS} on Drive"
                except OSError as error:
                    where = f"NOT saved to Drive ({error}); training goes on, and the next epoch tries again"
                    print(f"WARNING: epoch {epoch + 1} was {where}")
                maps = np.asarray(self.model.predict_on_batch(images[shown]))
                picture = base64.b64encode(pictures(images[shown], truths[shown], maps)).decode()
                show(
                    f"<p>Epoch {epoch + 1} of {self.params['epochs']}, {where}</p>"
                    f"{curve(history, 'loss', 'Loss')} {curve(history, 'dice', 'Dice')}"
                    "<p>Validation images, above with the true outlines, below with those that the network paints now:</p>"
                    f'<img src="data:image/jpeg;base64,{picture}" style="max-width: 100%">'
                )

        return [OnColab()]

    return make_callbacks, save


# Step 4: the results.


def hand_over(out, on_drive):
    """Download the model and the history; they also stay on Drive."""
    from google.colab import files

    print(f"Done: {' and '.join(PRODUCTS)} are in {DRIVE_FOLDER}/{RESULTS} on Drive and come as downloads now (allow")
    print("several, if the browser asks). Put both into Saved_Model/ at home, then: python predict.py")
    for name in PRODUCTS:
        files.download(str(out / name))


def train_on_colab():
    """The four steps. Raises: Stop, or as `train`."""
    data = find_data(mount_drive())
    report_device()
    local, out, on_drive = Path(LOCAL_DIR) / "data", Path(LOCAL_DIR) / RESULTS, data / RESULTS
    copy_data(data, local, panel())

    mend_drive(on_drive)
    stored = find_checkpoint(out, on_drive)
    make_callbacks, save = callbacks_for(out, on_drive, is_new=stored is None)
    try:
        train(**training_arguments(local, out, stored), make_callbacks=make_callbacks)
    except ValueError as error:
        if stored is None:
            raise
        raise Stop(f"{error}. In this notebook: another name in RESULTS begins a new training") from None

    patiently(save)
    remove_from_drive(on_drive / CHECKPOINT)
    hand_over(out, on_drive)


def main():
    """Run it; what the user can mend ends in one line."""
    try:
        train_on_colab()
        return
    except Stop as stop:
        problem = stop
    except KeyboardInterrupt:
        problem = Stop("by you. In this notebook, run the cell again to go on after the last finished epoch")
    except (OSError, ValueError, MemoryError) as error:
        problem = Stop(" ".join(str(error).split()) or type(error).__name__)
    except Exception as error:  # TensorFlow's own type, which cannot be named without TensorFlow
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        problem = Stop(f"out of GPU memory; lower BATCH_SIZE ({BATCH_SIZE}), give RESULTS another name and run again")
    if not is_notebook():
        sys.exit(f"google_colab.py: {problem}")
    raise problem from None


if __name__ == "__main__":
    main()
