"""A slide that is open: its tiles for the page, and fields of it. It is never read as a whole.

    picture = open_slide_picture(path, models)
    picture.tile(3, 0, 0)           # as of `Pyramid`, JPEG
    pixels, mpp = picture.cut(box)

From a few thousand pixels on, tiles come from an overview that is read once. Finer ones are read
from the file, where this is cheap, and else enlarged.
"""

import threading
from pathlib import Path

import cv2
import numpy as np

from nuclei.app.tiles import TILE_PX, Pyramid, TileCache, display
from nuclei.images.box import Box
from nuclei.images.intensity import intensity_range
from nuclei.inference.find import Options
from nuclei.slides.formats import open_slide
from nuclei.slides.slide import Slide

OVERVIEW_PX = 4096  # longest side of the overview
MAX_REDUCTION = 4  # px of the file for one of a tile, in each direction, up to which it is read


class SlidePicture:
    """An open slide, with the methods of `Picture` that need no labels.

    Args:
        slide: the slide.
        scale: how many times larger the network sees it; None where unknown.

    Attributes:
        step: px of the slide for one px of a field. Fields are read from the coarsest level that is
            fine enough for the network.
    """

    def __init__(self, slide: Slide, scale: float | None) -> None:
        self.slide, self.shape = slide, slide.shape
        self.level, self.step = slide.level_for(min(1.0, scale or 1.0))
        self.lock = threading.Lock()  # readers of slides are not made for several threads
        self.overview_level = max(0, int(np.ceil(np.log2(max(self.shape) / OVERVIEW_PX))))
        height, width = (-(-length // 2**self.overview_level) for length in self.shape[:2])
        thumbnail = slide.thumbnail(OVERVIEW_PX)
        overview = cv2.resize(thumbnail, (width, height), interpolation=cv2.INTER_AREA)
        self.intensity = intensity_range(overview)
        self.overview, self.cache = Pyramid(overview, self.intensity), TileCache()

    @property
    def num_pixels(self) -> int:
        """Pixels that it keeps in memory."""
        return self.overview.levels[0].shape[0] * self.overview.levels[0].shape[1]

    @property
    def mpp(self) -> float | None:
        """µm per pixel of the slide, or None."""
        return self.slide.mpp

    def tile(self, level: int, column: int, row: int) -> bytes | None:
        """A tile as JPEG; None where there is none."""
        if level >= self.overview_level:
            return self.overview.tile(level - self.overview_level, column, row)
        return self.cache.get((level, column, row), self.fine_part)

    def fine_part(self, level: int, column: int, row: int) -> np.ndarray | None:
        """A tile (rows, columns, 3) uint8 that is finer than the overview."""
        side = TILE_PX * 2**level
        top, left = row * side, column * side
        bottom, right = min(top + side, self.shape[0]), min(left + side, self.shape[1])
        if top >= bottom or left >= right:
            return None
        box = Box(top, bottom, left, right)
        source, downsample = self.slide.level_for(2.0**-level)
        if 2**level <= MAX_REDUCTION * downsample:
            part = display(self.read(source, box), self.intensity)
        else:
            part = self.overview.levels[0]
            part = part[box.scaled(*np.divide(part.shape[:2], self.shape[:2])).place]
        width, height = (-(-length // 2**level) for length in box.shape[::-1])
        shrinks = part.shape[1] > width
        by = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(part, (width, height), interpolation=by)

    def read(self, level, box: Box) -> np.ndarray:
        """A box of the slide as pixels of one of its levels, at least one in each direction."""
        ends = box.scaled(*np.divide(level.shape[:2], self.shape[:2]))
        place = ends._replace(bottom=max(ends.bottom, ends.top + 1))
        place = place._replace(right=max(ends.right, ends.left + 1))
        with self.lock:
            return level[place.place].copy()

    def cut(self, box: Box) -> tuple[np.ndarray, float | None]:
        """The pixels of a box, (h, w, 3), `step` times smaller, and their µm or None."""
        return self.read(self.level, box), self.slide.mpp and self.slide.mpp * self.step


def open_slide_picture(path: Path, models) -> SlidePicture:
    """Open a slide. Raises: as `open_slide`.

    Args:
        path: of its file.
        models: the `ModelInUse`, whose nuclei decide at which level fields are read.
    """
    slide = open_slide(path)
    return SlidePicture(slide, Options().scale_for(models, slide.mpp))
