"""nuclei.slides.tiles"""

from typing import NamedTuple

import numpy as np

from nuclei.images.intensity import normalise
from nuclei.images.resize import taps
from nuclei.inference.tiling import Window, read_window
from nuclei.slides.slide import Box


class Tile(NamedTuple):
    """A piece of work, done once: the core whose nuclei it owns and the region that it separates, in px of the slide, and
    the window that the network sees, in px that it sees."""

    index: int
    core: Box
    region: Box
    window: Box

    @property
    def area_px(self):
        """Pixels of its core."""
        return (self.core.bottom - self.core.top) * (self.core.right - self.core.left)


def cut_axis(setup, axis):
    """Cores along an axis, which partition it: [(core start, stop, region start, stop, window start, stop)]."""
    length, seen, region, overlap = setup.shape[axis], setup.seen[axis], setup.region, setup.overlap
    starts = [0] if length <= region else [0, *range(region - overlap, length - overlap, region - 2 * overlap)]
    padded = -(-seen // setup.multiple) * setup.multiple
    cuts = []
    for start, stop in zip(starts, [*starts[1:], length], strict=True):
        first, last = max(0, start - overlap), min(length, stop + overlap)
        needed = taps(first, last, seen, length)[0].min() if seen != length else first
        window = max(0, (int(needed) - setup.margin) // setup.multiple * setup.multiple)
        window = max(0, min(window, padded - setup.side))  # all windows have one size, for which the network is made once
        cuts.append((start, stop, first, last, window, min(window + setup.side, padded)))
    return cuts


def cut_tiles(setup):
    """The units of a slide, rows first; their cores partition it."""
    units = []
    for rows in cut_axis(setup, 0):
        for columns in cut_axis(setup, 1):
            units.append(Tile(len(units), *(Box(*rows[k : k + 2], *columns[k : k + 2]) for k in (0, 2, 4))))
    return units


def has_tissue(mask, box, shape):
    """Whether the mask of a slide of (H, W) `shape` has anything in a box of it."""
    down, right = mask.shape[0] / shape[0], mask.shape[1] / shape[1]
    rows, columns = slice(int(box.top * down), int(np.ceil(box.bottom * down))), slice(int(box.left * right), None)
    return bool(mask[rows, columns][:, : int(np.ceil(box.right * right)) - int(box.left * right)].any())


def read_tile(slide, unit, setup):
    """(window for the network, float32 in [0, 1]; the region as it is)."""
    window = read_window(slide.at(setup.scale), Window(*unit.window, *unit.window))
    return normalise(window, setup.intensity), slide[unit.region.place]
