"""nuclei.slides.slide"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from nuclei.files import first_line
from nuclei.images.resize import Resized


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def place(self):
        """As an index."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Slide:
    """A slide that reads like an array: `slide[top:bottom, left:right]` is (rows, columns, 3) uint8 or uint16 RGB.

    path: of its file. shape: (H, W, 3). dtype: of its pixels. mpp: µm per pixel, or None. downsamples: pixels of the slide
    for one of each level, 1 first. notes: lines on what was taken of the file and what not.
    """

    def __init__(self, path, shapes, dtype, read, mpp=None, notes=()):
        """shapes: (h, w) of the levels, finest first. read: (level, Box) -> (rows, columns, 3)."""
        if np.dtype(dtype) not in (np.uint8, np.uint16):
            raise ValueError(f"{path} holds {np.dtype(dtype)}; expected 8 or 16 bits without sign: export it as uint16")
        self.path, self.dtype, self.mpp, self.notes, self.read = Path(path), np.dtype(dtype), mpp, list(notes), read
        order = sorted(range(len(shapes)), key=lambda level: -shapes[level][0] * shapes[level][1])
        self.levels = [Level(self, level, shapes[level]) for level in order]
        self.shape = self.levels[0].shape
        self.downsamples = [max(self.shape[0] / level.shape[0], self.shape[1] / level.shape[1]) for level in self.levels]

    def __getitem__(self, place):
        return self.levels[0][place]

    def at(self, scale):
        """The slide at `scale` times its size (up to 1 cheaply): slices like (rows, columns, 3), in its grey levels."""
        size = tuple(max(1, round(length * scale)) for length in self.shape[:2])
        fine = [level for level, down in zip(self.levels, self.downsamples, strict=True) if down * scale < 1.01]
        level = fine[-1] if fine else self.levels[0]
        return level if level.shape[:2] == size else Resized(level, size=size)

    def thumbnail(self, max_px):
        """The whole slide, (rows, columns, 3), its longest side at most max_px: averaged, in bands that fit into memory."""
        fine = [level for level in self.levels if max(level.shape) >= max_px] or self.levels[:1]
        level = fine[-1]
        height, width = level.shape[:2]
        step = -(-max(height, width) // max_px)
        rows = -(-height // step)
        band = max(1, 16_000_000 // (step * width))  # rows of the result at once
        picture = np.empty((rows, -(-width // step), 3), self.dtype)
        for top in range(0, rows, band):
            part = level[top * step : (top + band) * step, :]
            part = np.pad(part, ((0, -len(part) % step), (0, -width % step), (0, 0)), "edge")
            size = (part.shape[1] // step, part.shape[0] // step)  # OpenCV wants the width first
            picture[top : top + band] = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        return picture


class Level:
    """One level of a slide's pyramid. It remembers what it read last, since a unit asks for the same pixels twice."""

    def __init__(self, slide, index, shape):
        self.slide, self.index, self.shape, self.last = slide, index, (*shape, 3), None

    def __getitem__(self, place):
        box = Box(*(end for part, length in zip(place, self.shape, strict=False) for end in part.indices(length)[:2]))
        last = self.last  # (Box, pixels)
        if (
            last
            and last[0].top <= box.top
            and box.bottom <= last[0].bottom
            and last[0].left <= box.left <= box.right <= last[0].right
        ):
            return last[1][box.top - last[0].top : box.bottom - last[0].top, box.left - last[0].left : box.right - last[0].left]
        try:
            pixels = np.ascontiguousarray(self.slide.read(self.index, box))
        except MemoryError:
            raise
        except Exception as error:  # on a damaged file the decoders raise whatever they run into
            raise ValueError(
                f"{self.slide.path} is damaged at rows {box.top} to {box.bottom}, columns {box.left} to {box.right} of level "
                f"{self.index} ({first_line(error)}); copy it again from its source"
            ) from error
        self.last = (box, pixels)
        return pixels
