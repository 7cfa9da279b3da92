"""TIFF files of all flavours, as an array with a letter for each axis.

    content = read_tiff("a.tif")
    content.pixels.shape, content.axes      # (2, 512, 512), "CYX"

Of several images in a file the largest is read: the others are thumbnails and labels. CMYK and
CIELAB become RGB. What cannot be read right is refused by name.
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from nuclei.images.content import (
    MAX_PIXELS,
    MAX_STACK,
    ORIENTATION_TAG,
    Content,
    hidden_indices,
    refuse_bomb,
    upright,
)
from nuclei.images.pictures import decoded
from nuclei.images.pixel_size import is_for_printers, ome_pixels, plausible_mpp, tiff_pixel_size
from nuclei.images.tiff_colours import COLOURS, GREYS, palette_of, with_meaning, without_alpha

TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, of both byte orders
TIFF_JPEG = (6, 7, 34892)  # values of the tag Compression: old, new and lossy DNG JPEG
HELD_BYTES = 1_000_000_000  # of a stack in memory; a larger one is unpacked into a temporary file
MAX_SAMPLES = 5  # length of a last axis up to which it holds channels, not columns
MIN_COLUMNS = 16  # length of the two axes before it


def largest_series(tiff):
    """The image of a TIFF that has most pixels: labels, thumbnails and macro pictures have fewer.

    Of several that are equally large it is the first.
    """
    return max(
        tiff.series, key=lambda series: series.keyframe.imagelength * series.keyframe.imagewidth
    )


def size_of(path: Path) -> tuple[int, int]:
    """Height and width that the head of a TIFF declares for the image that `read_tiff` reads."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = largest_series(tiff).keyframe
        return page.imagelength, page.imagewidth


def read_tiff(path: Path) -> Content:
    """Read the largest image of a TIFF, with all its planes.

    Raises:
        ValueError: the file declares too many pixels, or is of a kind that cannot be read right.
    """
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = largest_series(tiff)
        page = series.keyframe
        refuse_bomb(path, (page.imagelength, page.imagewidth))
        refuse_bomb(path, series.shape, MAX_STACK * MAX_PIXELS)
        photometric = getattr(page.photometric, "name", str(page.photometric))
        if photometric not in COLOURS + GREYS:
            raise ValueError(
                f"{path} is a TIFF of the kind {photometric}; expected grey, RGB, CMYK or CIELAB: "
                "export it as RGB or grey"
            )
        lossy = page.compression in TIFF_JPEG
        axes, sizes = plain_axes(series.axes, series.shape)
        indices = None
        if photometric == "YCBCR" and not lossy:
            pixels = read_frames_with_pillow(path, [page.index])[0]  # tifffile leaves it as it is
            axes, sizes = "YXS", pixels.shape
        else:
            pixels, needs_colours = read_series(path, series)
            if not needs_colours:
                axes, sizes = axes_of_frames(axes, sizes, pixels)
            pixels = pixels.reshape(sizes)
            if photometric == "PALETTE" and page.colormap is not None and pixels.ndim == 2:
                indices = hidden_indices(pixels, palette_of(page))
            if needs_colours:
                pixels, axes = with_meaning(path, tiff, page, photometric, pixels, axes)
        pixels, axes = without_alpha(page, pixels, axes)
        orientation = page.tags.valueof(ORIENTATION_TAG, 1)
        pixels = upright(pixels, orientation, axes)
        indices = None if indices is None else upright(indices, orientation)
        notes = describe_series(tiff, series)
        mpp = stated_mpp(tiff, series, notes)
        return Content(pixels, axes, lossy, channel_names(tiff, series), mpp, tuple(notes), indices)


def plain_axes(axes: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """(axes, shape) without axes of length 1, and with the letters of `Content`.

    tifffile calls an axis of unknown meaning Q or I. Two of them are channels and focal planes:
    there are fewer channels. An array (H, W, C) that was written as H pages has its channels last.
    """
    pairs = [
        (axis if axis in "YXSCZT" else "Q", size)
        for axis, size in zip(axes, shape, strict=True)
        if size > 1 or axis in "YX"
    ]
    letters, sizes = [axis for axis, _ in pairs], [size for _, size in pairs]
    if letters[-3:] == ["Q", "Y", "X"]:
        names = ["Y", "X"]
        for position in (2, 1):  # (H, W, C), and (H, C, W) which some programs write
            others = [size for index, size in enumerate(sizes[-3:]) if index != position]
            if 1 < sizes[position - 3] <= MAX_SAMPLES and min(others) >= MIN_COLUMNS:
                names.insert(position, "C" if "C" not in letters else "Q")
                letters[-3:] = names
                break
    unknown = [index for index, letter in enumerate(letters) if letter == "Q"]
    if len(unknown) > 1 or unknown and "C" in letters and "Z" not in letters:
        free = [letter for letter in "CZT" if letter not in letters]
        # The shortest is the channel; of equal ones the last, as ImageJ orders them.
        for index in sorted(unknown, key=lambda index: (sizes[index], -index)):
            letters[index] = free.pop(0) if free else "Q"
    if letters.count("Q") > 1:
        return axes, shape
    return "".join(letters), tuple(sizes)


def read_series(path: Path, series) -> tuple[np.ndarray, bool]:
    """(pixels, whether they are as they lie in the file) of a series.

    tifffile decodes LZW and JPEG only with imagecodecs; without it Pillow does, which brings all
    colours but palettes to RGB itself: (N, H, W) or (N, H, W, 3 or 4).
    """
    is_large = series.size * series.dtype.itemsize > HELD_BYTES
    try:
        return series.asarray(level=0, out="memmap" if is_large else None), True
    except (ValueError, ImportError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
    pages = [page.index for page in series.pages if page is not None]
    frames = np.stack(read_frames_with_pillow(path, pages))
    is_palette = getattr(series.keyframe.photometric, "name", "") == "PALETTE"
    return frames, is_palette and frames.ndim == 3


def axes_of_frames(axes: str, sizes, frames: np.ndarray) -> tuple[str, tuple[int, ...]]:
    """(axes, sizes) of frames that have their colours last, wherever the file has them.

    Args:
        axes, sizes: of `plain_axes`.
        frames: (N, H, W) or (N, H, W, colours).
    """
    others = [pair for pair in zip(axes, sizes, strict=True) if pair[0] not in "YXS"]
    if math.prod(size for _, size in others) != len(frames):
        others = [("Q", len(frames))]
    letters = "".join(letter for letter, _ in others) + "YXS"[: frames.ndim - 1]
    return letters, (*(size for _, size in others), *frames.shape[1:])


def read_frames_with_pillow(path: Path, indices: list[int]) -> list[np.ndarray]:
    """Pages of a TIFF, decoded by Pillow and not turned: (H, W), or (H, W, 3 or 4) of colours."""
    with Image.open(path, formats=("TIFF",)) as image:
        frames = []
        for index in indices:
            image.seek(index)
            turn = image.getexif().get(ORIENTATION_TAG, 1)
            if image.mode == "P":
                frame = np.array(image)
            else:
                frame = decoded(path, image, is_single=len(indices) == 1)
            frames.append(upright(frame, {6: 8, 8: 6}.get(turn, turn)))  # Pillow has turned it
        return frames


def channel_names(tiff, series) -> tuple[str, ...]:
    """Names of the channels that OME, Micro-Manager or ImageJ state; empty without any."""
    if tiff.is_ome:
        pixels = ome_pixels(tiff, series)
        children = () if pixels is None else list(pixels)
        return tuple(child.get("Name") or "" for child in children if child.tag.endswith("Channel"))
    if tiff.is_micromanager:
        names = (tiff.micromanager_metadata or {}).get("Summary", {}).get("ChNames")
        return tuple(map(str, names)) if isinstance(names, list) else ()
    if tiff.is_imagej:
        labels = (tiff.imagej_metadata or {}).get("Labels") or []
        num_channels = dict(zip(series.axes, series.shape, strict=True)).get("C", 1)
        # ImageJ labels planes: of a plain stack of channels these are the channels.
        if len(labels) == num_channels > 1:
            return tuple(" ".join(str(label).split()) for label in labels)
    return ()


def describe_series(tiff, series) -> list[str]:
    """A line where the file holds other images as large as the one that is read."""
    size = series.keyframe.imagelength, series.keyframe.imagewidth
    equal = [
        other
        for other in tiff.series
        if (other.keyframe.imagelength, other.keyframe.imagewidth) == size
    ]
    if len(equal) < 2:
        return []
    return [f"image 1 of {len(equal)} in the file is taken; save the others as files of their own"]


def stated_mpp(tiff, series, notes: list) -> float | None:
    """µm per pixel that a TIFF states; `notes` gets a line where it is odd."""
    x, y = tiff_pixel_size(tiff, series)
    if not x or not y or is_for_printers(x, y) and not tiff.is_ome:
        return None
    return plausible_mpp(x, y, notes)
