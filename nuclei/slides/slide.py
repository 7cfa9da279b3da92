"""A slide that slices like an array, whatever its file format.

    slide = open_slide("slide.svs")
    slide[1000:1200, 500:900]        # (200, 400, 3) uint8 or uint16 RGB
    slide.at(0.5)[0:100, 0:100]      # the slide at half its size, read from the nearest finer level

A slide has levels: the full resolution and smaller copies. Only the pixels of the slice are read.
"""

from pathlib import Path

import cv2
import numpy as np

from nuclei.files import first_line
from nuclei.images.box import Box
from nuclei.images.resize import Resized

MAX_SIDE_PX = 10_000_000  # of a slide: 1 m at 0.1 µm; a damaged header declares billions
BAND_PX = 16_000_000  # pixels read at once for a thumbnail: 48 MB of 8 bits
# A level this much too coarse still counts as fine enough: the sizes of levels are rounded.
SAME_SCALE = 1.01


class Slide:
    """A slide that reads like an array: `slide[top:bottom, left:right]` is (rows, columns, 3).

    Attributes:
        path: of its file.
        shape: (H, W, 3).
        dtype: uint8 or uint16.
        mpp: µm per pixel, or None where the file does not state it.
        levels: the `Level`s, finest first.
        downsamples: for each level, how many pixels of the slide make one of its pixels; 1 first.
        notes: lines for the user on what was chosen in the file and what was left out.
        channel, plane: numbers of what was chosen, as of `Planes`; None where there is no choice.
    """

    channel = plane = None

    def __init__(self, path, shapes, dtype, read, mpp=None, notes=()):
        """Describe a slide.

        Args:
            path: of its file.
            shapes: (h, w) of each level, in the order of the file.
            dtype: of the pixels.
            read: (number of a level in `shapes`, Box) -> (rows, columns, 3).
            mpp: µm per pixel, or None.
            notes: lines for the user.

        Raises:
            ValueError: the pixels are neither uint8 nor uint16, or a side is longer than any slide.
        """
        longest_px = max(max(shape) for shape in shapes)
        if longest_px > MAX_SIDE_PX:
            raise ValueError(
                f"{path} declares a side of {longest_px:,} px, more than the {MAX_SIDE_PX:,} px "
                "that a slide may have; copy it again from its source"
            )
        if np.dtype(dtype) not in (np.uint8, np.uint16):
            raise ValueError(
                f"{path} holds {np.dtype(dtype)}; expected 8 or 16 bits without sign: "
                "export it as uint16"
            )
        self.path, self.dtype, self.mpp, self.notes = Path(path), np.dtype(dtype), mpp, list(notes)
        self.read = read
        finest_first = sorted(range(len(shapes)), key=lambda level: -np.prod(shapes[level]))
        self.levels = [Level(self, level, shapes[level]) for level in finest_first]
        self.shape = self.levels[0].shape
        self.downsamples = [
            max(self.shape[0] / level.shape[0], self.shape[1] / level.shape[1])
            for level in self.levels
        ]

    def __getitem__(self, place):
        return self.levels[0][place]

    def at(self, scale):
        """The slide at `scale` times its size, as something that slices like (rows, columns, 3).

        Up to scale 1 this is cheap: it is read from the coarsest level that is fine enough. Grey
        levels stay those of the slide.
        """
        size = tuple(max(1, round(length * scale)) for length in self.shape[:2])
        level, _ = self.level_for(scale)
        return level if level.shape[:2] == size else Resized(level, size=size)

    def level_for(self, scale):
        """The coarsest level that is fine enough for a scale, else the finest.

        Returns:
            (`Level`, downsample): how many pixels of the slide make one of its pixels.
        """
        pairs = list(zip(self.levels, self.downsamples, strict=True))
        fine_enough = [pair for pair in pairs if pair[1] * scale < SAME_SCALE]
        return (fine_enough or pairs[:1])[-1]

    def thumbnail(self, max_px):
        """The whole slide as (rows, columns, 3), averaged, with its longest side at most max_px."""
        fine_enough = [level for level in self.levels if max(level.shape) >= max_px]
        level = (fine_enough or self.levels[:1])[-1]
        height, width = level.shape[:2]
        step = -(-max(height, width) // max_px)
        rows = -(-height // step)
        band = max(1, BAND_PX // (step * width))  # rows of the result at once
        picture = np.empty((rows, -(-width // step), 3), self.dtype)
        for top in range(0, rows, band):
            part = level[top * step : (top + band) * step, :]
            part = np.pad(part, ((0, -len(part) % step), (0, -width % step), (0, 0)), "edge")
            size = (part.shape[1] // step, part.shape[0] // step)  # OpenCV wants the width first
            picture[top : top + band] = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        return picture


class Level:
    """One level of a slide's pyramid.

    It remembers what it read last, because a tile asks for nearly the same pixels twice: for the
    network and for its measurements.
    """

    def __init__(self, slide, index, shape):
        self.slide, self.index, self.shape = slide, index, (*shape, 3)
        self.last = None  # (Box, pixels)

    def __getitem__(self, place):
        rows, columns = (place[axis].indices(self.shape[axis])[:2] for axis in (0, 1))
        box = Box.of_spans(rows, columns)
        if self.last and self.last[0].contains(box):
            last_box, pixels = self.last
            return pixels[box.relative_to(last_box).place]
        try:
            pixels = np.ascontiguousarray(self.slide.read(self.index, box))
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of any kind on a damaged file
            raise ValueError(
                f"{self.slide.path} is damaged at rows {box.top} to {box.bottom}, columns "
                f"{box.left} to {box.right} of level {self.index} ({first_line(error)}); "
                "copy it again from its source"
            ) from error
        self.last = (box, pixels)
        return pixels
