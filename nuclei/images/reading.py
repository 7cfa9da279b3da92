"""Read one image file, whatever made it: PNG, TIFF, JPEG or BMP, 8-bit, 16-bit or float.

    image = read_image("a.tif")         # (H, W, 3) uint8 or uint16, upright
    stored = read_stored("mask.png")    # the values as they lie in the file

A file is recognised by its content, not by its suffix. What cannot be read ends in a ValueError
that names the file and the way out.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nuclei.files import first_line, is_system_fault
from nuclei.images.intensity import scaled_to_uint16

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
MAX_PIXELS = 500_000_000  # px of one file: 1.5 GB as 8-bit RGB; a decompression bomb has more
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, of both byte orders
TIFF_JPEG = (6, 7, 34892)  # values of the tag Compression: old, new and lossy DNG JPEG
ORIENTATION_TAG = 274  # of EXIF and TIFF
BITS_PER_SAMPLE_TAG = 258  # of TIFF


class Stored(NamedTuple):
    """The content of an image file.

    Attributes:
        pixels: (H, W) or (H, W, 3 or 4), any dtype, upright.
        lossy: whether JPEG changed the values.
    """

    pixels: np.ndarray
    lossy: bool


def read_image(path) -> np.ndarray:
    """Read any supported image as RGB.

    Grey becomes three equal channels, a palette its colours. Alpha is dropped: microscopes write it
    constant. Signed 16-bit, 32-bit and float files, which have no fixed white level, are scaled to
    uint16 by FLOAT_PERCENTILES; NaN counts as the darkest, infinity as the brightest value.

    Returns:
        (H, W, 3) uint8 or uint16, upright.

    Raises:
        FileNotFoundError, ValueError: as `read_stored`; ValueError also where the file holds no
            finite value.
    """
    return as_rgb(read_stored(path).pixels, path)


def as_rgb(pixels: np.ndarray, name="the image") -> np.ndarray:
    """Bring pixels of any kind to RGB, as `read_image` does with those of a file.

    Args:
        pixels: (H, W), or (H, W, 3 or 4) of which a fourth channel is dropped; any real dtype.
        name: the image in messages.

    Returns:
        (H, W, 3) uint8 or uint16.

    Raises:
        ValueError: the shape is another one, or no value is finite.
    """
    pixels = np.asarray(pixels)
    is_colour = pixels.ndim == 3 and pixels.shape[2] in (3, 4)
    if not pixels.size or not (pixels.ndim == 2 or is_colour):
        raise ValueError(
            f"{name} has the shape {pixels.shape}; expected (H, W) for grey or (H, W, 3) for RGB"
        )
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype not in (np.uint8, np.uint16):
        pixels = scaled_to_uint16(pixels, name)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels)


def read_stored(path) -> Stored:
    """Decode one file and turn it upright (EXIF or TIFF orientation), values untouched.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image, is cut short, is too large or holds a stack.
    """
    path = Path(path)
    if not path.is_file():
        fault = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {fault}")
    with open(path, "rb") as file:
        head = file.read(32)
    if not head:
        raise ValueError(f"{path} is empty (0 bytes); copy it again from its source or remove it")
    try:
        stored = read_tiff(path) if head[:4] in TIFF_HEADS else read_with_pillow(path, head)
    except MemoryError:
        raise ValueError(f"{path} does not fit into memory; cut it into smaller images") from None
    except Exception as error:  # decoders raise errors of all kinds on a damaged file
        if str(path) in str(error) and isinstance(error, ValueError):  # raised in this room
            raise
        if is_system_fault(error):
            raise
        is_unknown = isinstance(error, Image.UnidentifiedImageError)
        fault = "is no image that can be read" if is_unknown else "is damaged"
        raise ValueError(
            f"{path} {fault} ({first_line(error)}); expected a whole png, tif, jpg or bmp file: "
            "save or copy it again"
        ) from error
    if not stored.pixels.size:
        raise ValueError(
            f"{path} has the shape {stored.pixels.shape}, no pixels; save or copy it again"
        )
    return stored


def declared_pixels(path) -> int:
    """Height times width that the head of an image file declares, without decoding it.

    Returns:
        0 where the head cannot be read; `read_image` then says why.
    """
    Image.MAX_IMAGE_PIXELS = None  # nothing is decoded here, so a bomb does no harm
    try:
        with Image.open(path) as image:
            return image.height * image.width
    except (OSError, ValueError, SyntaxError):  # Pillow raises these on damaged heads
        return 0


def refuse_bomb(path, shape: tuple[int, ...]) -> None:
    """Raise ValueError before a file is decoded that would fill the memory."""
    if math.prod(shape) > MAX_PIXELS * (3 if len(shape) > 2 else 1):
        raise ValueError(
            f"{path} declares {' x '.join(map(str, shape))} px, more than the {MAX_PIXELS:,} px "
            "that are decoded at once; cut it into tiles, or raise MAX_PIXELS in "
            "nuclei/images/reading.py if the file is trusted"
        )


def read_with_pillow(path: Path, head: bytes) -> Stored:
    """PNG, JPEG, BMP, and TIFF of the compressions that tifffile cannot decode.

    Args:
        path: the file.
        head: its first bytes.
    """
    Image.MAX_IMAGE_PIXELS = None  # Pillow's limit of 89 MP is too low; `refuse_bomb` has ours
    with Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF")) as image:
        refuse_bomb(path, (image.height, image.width))
        image.load()  # raises on a damaged file, where OpenCV below would return a part
        orientation = image.getexif().get(ORIENTATION_TAG, 1)  # read now: load() turns a TIFF
        lossy = image.format in ("JPEG", "MPO")
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")
        elif image.mode in ("LA", "CMYK", "YCbCr", "LAB"):
            # Grey with alpha becomes RGBA, since the alpha of a mask may hold its shape.
            image = image.convert("RGBA" if image.mode == "LA" else "RGB")
        is_deep_png = head[:4] == b"\x89PNG" and head[24] == 16 and head[25] & 6  # 16-bit colour
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE_TAG, ())
        if is_deep_png or 16 in bits and image.mode.startswith("RGB"):
            pixels = read_deep_colour(path)
        else:
            pixels = np.array(image)
            if pixels.dtype.kind == "u":
                pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return Stored(upright(pixels, orientation), lossy)


def read_deep_colour(path: Path) -> np.ndarray:
    """Colour of 16 bits, which Pillow would cut to 8, as (H, W, 3 or 4)."""
    import cv2  # late: few files need it, and the import takes a while

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]  # from BGR(A)


def read_tiff(path: Path) -> Stored:
    """TIFF and OME-TIFF with one 2-D image: grey, RGB(A), contiguous or planar, any dtype."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        refuse_bomb(path, series.shape)
        shape, channel = tiff_layout(series.axes, series.shape)
        if len(shape) != (2 if channel is None else 3):
            raise ValueError(
                f"{path} is a stack of shape {' x '.join(map(str, series.shape))} (axes "
                f"{series.axes}); expected one 2-D image, grey or RGB: save the plane, channel or "
                "projection to be used as a file of its own"
            )
        lossy = page.compression in TIFF_JPEG
        try:
            pixels = series.asarray(level=0).reshape(shape)
        except ValueError as error:  # tifffile decodes LZW and JPEG only with imagecodecs
            if "imagecodecs" not in str(error):
                raise
            return Stored(read_with_pillow(path, b"").pixels, lossy)
        if channel is not None:
            pixels = np.moveaxis(pixels, channel, -1)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and pixels.ndim == 2:
            if page.colormap is not None:
                pixels = np.moveaxis(page.colormap >> 8, 0, -1).astype(np.uint8)[pixels]
        elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
            # ImageJ's inverting display table also sets this, on masks whose nuclei are 255.
            pixels = pixels if tiff.is_imagej else ~pixels
        orientation = page.tags.valueof(ORIENTATION_TAG, 1)
    return Stored(upright(pixels, orientation), lossy)


def tiff_layout(axes: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int | None]:
    """The shape of a TIFF series without axes of length 1, and the axis that holds its colours.

    Samples of one pixel are RGB(A); three channels or three pages without a meaning count as RGB.

    Args:
        axes: one letter for each axis, as tifffile names them.
        shape: the length of each axis.

    Returns:
        The shape and the index of the colour axis in it, None where there is none.
    """
    long_axes = [
        (axis, size) for axis, size in zip(axes, shape, strict=True) if size > 1 or axis in "YX"
    ]
    sizes = tuple(size for _, size in long_axes)
    for index, (axis, size) in enumerate(long_axes):
        if axis == "S" and size in (3, 4):
            return sizes, index
    for index, (axis, size) in enumerate(long_axes):
        if axis in "CQI" and size == 3:
            return sizes, index
    # tifffile writes float RGB of unknown meaning as H pages of W x 3.
    if len(sizes) == 3 and long_axes[0][0] in "QI" and sizes[2] == 3:
        return sizes, 2
    return sizes, None


def upright(pixels: np.ndarray, orientation) -> np.ndarray:
    """Undo a camera's rotation: EXIF/TIFF orientation 1...8 (anything else counts as 1)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
