"""nuclei.images.reading"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nuclei.files import first_line
from nuclei.images.intensity import scaled_to_uint16

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
MAX_PIXELS = 500_000_000  # px in one file: 20,000 x 20,000 passes (1.2 GB as 8-bit RGB), a decompression bomb does not


class Stored(NamedTuple):
    """The pixels of a file as stored: (H, W) or (H, W, 3 or 4), any dtype; lossy where JPEG made them."""

    pixels: np.ndarray
    lossy: bool


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
