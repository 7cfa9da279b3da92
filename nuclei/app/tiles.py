"""An image as tiles for the page: TILE_PX wide, at full size and at a half, a quarter and so on.

pyramid = Pyramid(image, intensity)
pyramid.tile(level, column, row)        # JPEG as bytes
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from nuclei.images.intensity import normalise
from nuclei.images.writing import encode

TILE_PX = 512
JPEG_QUALITY = 90
BAND_ROWS = 1024  # rows of 16 bits that become display colours at once: NumPy's indices are large
MAX_CACHED_TILES = 256  # of about 60 kB


def display(image: np.ndarray, intensity: tuple[float, float]) -> np.ndarray:
    """An image (H, W, 3), uint8 or uint16, in the colours of the overlays, uint8."""
    import cv2

    levels = np.arange(np.iinfo(image.dtype).max + 1, dtype=image.dtype)
    table = (normalise(levels, intensity) * 255).astype(np.uint8)
    if image.dtype == np.uint8:
        return cv2.LUT(image, table)
    shown = np.empty(image.shape, np.uint8)
    for top in range(0, len(image), BAND_ROWS):
        np.take(table, image[top : top + BAND_ROWS], out=shown[top : top + BAND_ROWS])
    return shown


class TileCache:
    """The tiles that were asked for last, as JPEG."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.codes: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()

    def get(self, key: tuple[int, int, int], make: Callable) -> bytes | None:
        """A tile.

        Args:
            key: (level, column, row).
            make: from these three to (rows, columns, 3) uint8, or None where there is no tile.
        """
        with self.lock:
            if key in self.codes:
                self.codes.move_to_end(key)
                return self.codes[key]
        part = make(*key)
        if part is None:
            return None
        import cv2

        code = encode(part, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        with self.lock:
            self.codes[key] = code
            if len(self.codes) > MAX_CACHED_TILES:
                self.codes.popitem(last=False)
        return code


class Pyramid:
    """The pictures of one image, in the colours of the overlays.

    Args:
        image: (H, W, 3) uint8 or uint16.
        intensity: (low, high) grey levels that become black and white.
    """

    def __init__(self, image: np.ndarray, intensity: tuple[float, float]) -> None:
        import cv2

        self.levels = [display(image, intensity)]
        while max(self.levels[-1].shape[:2]) > TILE_PX:
            height, width = (-(-length // 2) for length in self.levels[-1].shape[:2])
            half = cv2.resize(self.levels[-1], (width, height), interpolation=cv2.INTER_AREA)
            self.levels.append(half)
        self.cache = TileCache()

    def tile(self, level: int, column: int, row: int) -> bytes | None:
        """A tile as JPEG, smaller at the right and lower border; None where there is none."""
        return self.cache.get((level, column, row), self.part)

    def part(self, level: int, column: int, row: int) -> np.ndarray | None:
        """The pixels of a tile."""
        if level >= len(self.levels):
            return None
        top, left = row * TILE_PX, column * TILE_PX
        part = self.levels[level][top : top + TILE_PX, left : left + TILE_PX]
        return part if part.size else None
