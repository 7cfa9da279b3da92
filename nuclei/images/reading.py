"""Read one image file, whatever made it: PNG, TIFF, JPEG, BMP or a microscope's file.

    file = open_image("a.tif", channel="DAPI")   # .image (H, W, 3), .mpp, .notes for the user
    image = read_image("a.tif")                  # the image alone, uint8 or uint16, upright
    stored = read_stored("mask.png")             # the values as they lie in the file

A file is recognised by its content, not by its suffix. What cannot be read ends in a ValueError
that names the file and the way out.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from nuclei.files import existing_file, explaining_damage, first_line
from nuclei.images import microscopes, tiff
from nuclei.images.content import Content
from nuclei.images.intensity import scaled_to_uint16
from nuclei.images.microscopes import MICROSCOPE_SUFFIXES, read_microscope
from nuclei.images.pictures import read_picture
from nuclei.images.planes import Stack, choose_planes
from nuclei.images.tiff import TIFF_HEADS, read_tiff

PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
IMAGE_SUFFIXES = PICTURE_SUFFIXES + MICROSCOPE_SUFFIXES


class Stored(NamedTuple):
    """The content of an image file.

    Attributes:
        pixels: (H, W) or (H, W, 3 or 4), any dtype, upright.
        lossy: whether JPEG changed the values.
        has_hidden_indices: whether they are indices of a palette that does not tell them apart.
        is_stack: whether they are several planes, (N, H, W).
    """

    pixels: np.ndarray
    lossy: bool
    has_hidden_indices: bool = False
    is_stack: bool = False


class ImageFile(NamedTuple):
    """An image and what its file says of it.

    Attributes:
        image: (H, W, 3) uint8 or uint16, upright.
        mpp: µm per pixel that the file states, or None.
        notes: lines for the user on what was chosen in the file.
        channel: number of the channel that was taken, from 1; None where there was no choice.
        plane: number of the focal plane, from 1, or "max"; None where there was no choice.
    """

    image: np.ndarray
    mpp: float | None = None
    notes: tuple[str, ...] = ()
    channel: int | None = None
    plane: int | str | None = None


def open_image(path, channel=None, plane=None) -> ImageFile:
    """Read any supported image as RGB, with what its file says of it.

    Grey becomes three equal channels, a palette its colours. Alpha is dropped: microscopes write it
    constant. Signed 16-bit, 32-bit and float files, which have no fixed white level, are scaled to
    uint16 by FLOAT_PERCENTILES; NaN counts as the darkest, infinity as the brightest value. Of
    several channels or focal planes one is chosen, see `choose_planes`.

    Args:
        path: the file.
        channel: name or number from 1; None chooses the one that shows nuclei.
        plane: number from 1, or "max"; None chooses the sharpest.

    Raises:
        FileNotFoundError, ValueError: as `read_stored`; ValueError also where there is no such
            channel or plane, or the file holds no finite value.
    """
    content = read_content(path)
    pixels, axes = content.pixels, content.axes

    def sample(indices):
        return pixels[tuple(indices.get(axis, slice(None)) for axis in axes)]

    stack = Stack(path, axes, pixels.shape, list(content.names), sample)
    planes, notes = choose_planes(stack, channel, plane)
    image = as_rgb(planes.cut(pixels), path)
    notes = (*content.notes, *notes)
    return ImageFile(image, content.mpp, notes, planes.channel, planes.plane)


def read_image(path, channel=None, plane=None) -> np.ndarray:
    """The image of `open_image` alone: (H, W, 3) uint8 or uint16, upright."""
    return open_image(path, channel, plane).image


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


def read_stored(path, allow_stack: bool = False) -> Stored:
    """Decode a file with one 2-D image and turn it upright, values untouched.

    Args:
        path: the file.
        allow_stack: whether several grey planes are read, too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image, is cut short, is too large or holds a stack.
    """
    content = read_content(path)
    if content.indices is not None:
        return Stored(np.ascontiguousarray(content.indices), content.lossy, True)
    pixels, axes = content.pixels, content.axes
    if sorted(axes) == ["C", "X", "Y"] and pixels.shape[axes.index("C")] == 3:
        pixels, axes = np.moveaxis(pixels, axes.index("C"), -1), "YXS"
    if allow_stack and len(axes) == 3 and axes[1:] == "YX":
        return Stored(np.ascontiguousarray(pixels), content.lossy, is_stack=True)
    if axes not in ("YX", "YXS"):
        raise ValueError(
            f"{path} is a stack of shape {' x '.join(map(str, pixels.shape))} (axes {axes}); "
            "expected one 2-D image, grey or RGB: save the plane, channel or projection to be used "
            "as a file of its own"
        )
    return Stored(np.ascontiguousarray(pixels), content.lossy)


def read_content(path) -> Content:
    """All that an image file holds. Raises: as `read_stored`, but for stacks."""
    path = existing_file(path)
    with open(path, "rb") as file:
        head = file.read(32)
    if not head:
        raise ValueError(f"{path} is empty (0 bytes); copy it again from its source or remove it")
    with explaining_damage(path, damage):
        content = decode(path, head)
    if not content.pixels.size:
        raise ValueError(
            f"{path} has the shape {content.pixels.shape}, no pixels; save or copy it again"
        )
    return content


def damage(error: Exception) -> str:
    """What is wrong with a file whose decoder raised this error, and the way out."""
    is_unknown = isinstance(error, Image.UnidentifiedImageError)
    fault = "is no image that can be read" if is_unknown else "is damaged"
    return (
        f"{fault} ({first_line(error)}); expected a whole png, tif, jpg or bmp file: save or copy "
        "it again"
    )


def decode(path: Path, head: bytes) -> Content:
    """Read a file by what its first bytes say it is."""
    if head[:4] in TIFF_HEADS:
        return read_tiff(path)
    if path.suffix.lower() in MICROSCOPE_SUFFIXES:
        return read_microscope(path)
    return read_picture(path, head)


def declared_size(path) -> tuple[int, int]:
    """Height and width that the head of an image file declares, without decoding it.

    Returns:
        (0, 0) where the head cannot be read; `read_image` then says why.
    """
    Image.MAX_IMAGE_PIXELS = None  # nothing is decoded here, so a bomb does no harm
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(len(TIFF_HEADS[0]))
        if head in TIFF_HEADS:
            return tiff.size_of(path)
        if path.suffix.lower() in MICROSCOPE_SUFFIXES:
            return microscopes.size_of(path)
        with Image.open(path) as image:
            return image.height, image.width
    except Exception:  # the readers raise errors of any kind on damaged heads
        return 0, 0


def declared_pixels(path) -> int:
    """Height times width of `declared_size`."""
    height, width = declared_size(path)
    return height * width
