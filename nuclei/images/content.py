"""What an image file holds: an array with a letter for each axis, and what the file says of it."""

import math
from typing import NamedTuple

import numpy as np

ORIENTATION_TAG = 274  # of EXIF and TIFF
MAX_PIXELS = 500_000_000  # px of one image: 1.5 GB as 8-bit RGB; a decompression bomb has more
MIN_DISTINCT = 0.9  # colours over indices; a few equal colours come from a reduction of colours
MAX_STACK = 20  # images of MAX_PIXELS that all planes of a file may have


class Content(NamedTuple):
    """What an image file holds.

    Attributes:
        pixels: array of any real dtype, upright.
        axes: a letter for each axis: Y rows, X columns, S colours, C channels, Z focal planes, T
            times, Q pages of unknown meaning.
        lossy: whether JPEG changed the values.
        names: of the channels; may be empty.
        mpp: µm per pixel that the file states, or None.
        notes: lines for the user on what is odd in the file.
        indices: (Y, X) the numbers behind the colours of a palette that shows many of them in one
            colour; None where the colours tell all numbers apart.
    """

    pixels: np.ndarray
    axes: str
    lossy: bool = False
    names: tuple[str, ...] = ()
    mpp: float | None = None
    notes: tuple[str, ...] = ()
    indices: np.ndarray | None = None


def hidden_indices(indices: np.ndarray, palette: np.ndarray) -> np.ndarray | None:
    """The indices of a palette image, where its colours do not tell them apart.

    Programs save ids with a palette that is all black or repeats itself.

    Args:
        indices: (H, W) integer.
        palette: (n, 3) the colours.
    """
    used = np.unique(indices)
    colours = np.unique(palette[used[used < len(palette)]], axis=0)
    return indices if len(colours) < MIN_DISTINCT * len(used) else None


def refuse_bomb(path, shape: tuple[int, ...], most: int | None = None) -> None:
    """Raise ValueError before a file is decoded that would fill the memory.

    Args:
        path: for the message.
        shape: the length of each axis that counts.
        most: values; None for MAX_PIXELS, and three times that for colours.
    """
    most = MAX_PIXELS * (3 if len(shape) > 2 else 1) if most is None else most
    if math.prod(shape) > most:
        raise ValueError(
            f"{path} declares {' x '.join(map(str, shape))} px, more than the {most:,} px "
            "that are decoded at once; cut it into tiles, or raise MAX_PIXELS in "
            "nuclei/images/content.py if the file is trusted"
        )


def upright(pixels: np.ndarray, orientation, axes: str = "") -> np.ndarray:
    """Undo a camera's rotation: EXIF/TIFF orientation 1...8 (anything else counts as 1).

    Args:
        pixels: array with rows and columns.
        orientation: of the tag.
        axes: a letter for each axis; empty where rows and columns are the first two.
    """
    row, column = (axes.index("Y"), axes.index("X")) if axes else (0, 1)
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(row, column)
    if orientation in (3, 4, 7, 8):
        pixels = np.flip(pixels, row)
    if orientation in (2, 3, 6, 7):
        pixels = np.flip(pixels, column)
    return pixels if isinstance(pixels, np.memmap) else np.ascontiguousarray(pixels)
