"""Tiles: how a slide is cut so that every nucleus is found once.

The cores of the tiles partition the slide. A tile separates the nuclei of a larger region, and owns
the nuclei whose centroid lies in its core. The region reaches so far that it holds them whole. The
window of the network reaches farther still, so that no pixel of the region depends on where the
window ends. The result then equals that of the whole slide at once.
"""

from typing import NamedTuple

import numpy as np

from nuclei.images.box import Box
from nuclei.images.intensity import normalise
from nuclei.images.resize import taps
from nuclei.inference.tiling import read_window


class Tile(NamedTuple):
    """A piece of work of a slide, done once.

    Attributes:
        index: its number, rows first.
        core: the tile owns the nuclei whose centroids lie here; in px of the slide.
        region: nuclei are separated here; in px of the slide.
        window: what the network sees; in px of the slide at the network's scale.
    """

    index: int
    core: Box
    region: Box
    window: Box


class Cut(NamedTuple):
    """A tile along one axis: starts and stops of its core, region and window."""

    core: tuple[int, int]
    region: tuple[int, int]
    window: tuple[int, int]


def cut_axis(setup, axis):
    """Cut one axis of a slide.

    Args:
        setup: the `Setup` of the slide.
        axis: 0 for rows, 1 for columns.

    Returns:
        A list of `Cut`, whose cores partition the axis.
    """
    length, seen_length = setup.shape[axis], setup.seen_shape[axis]
    region_px, overlap_px = setup.region_px, setup.overlap_px
    starts = [0]
    if length > region_px:
        step = region_px - 2 * overlap_px
        starts += range(region_px - overlap_px, length - overlap_px, step)
    padded = -(-seen_length // setup.multiple_px) * setup.multiple_px
    cuts = []
    for start, stop in zip(starts, [*starts[1:], length], strict=True):
        first, last = max(0, start - overlap_px), min(length, stop + overlap_px)
        # The first pixel that the network sees and that the region is made of.
        needed = first
        if seen_length != length:
            needed = int(taps(first, last, seen_length, length)[0].min())
        window = max(0, (needed - setup.margin_px) // setup.multiple_px * setup.multiple_px)
        # All windows have one size: an engine prepares the network for each size anew.
        window = max(0, min(window, padded - setup.side_px))
        window_stop = min(window + setup.side_px, padded)
        cuts.append(Cut((start, stop), (first, last), (window, window_stop)))
    return cuts


def cut_tiles(setup):
    """The tiles of a slide, rows first; their cores partition it. `setup` is its `Setup`."""
    tiles = []
    for rows in cut_axis(setup, 0):
        for columns in cut_axis(setup, 1):
            tiles.append(
                Tile(
                    index=len(tiles),
                    core=Box.of_spans(rows.core, columns.core),
                    region=Box.of_spans(rows.region, columns.region),
                    window=Box.of_spans(rows.window, columns.window),
                )
            )
    return tiles


def has_tissue(mask, box, shape):
    """Whether a tissue mask has anything in a box of its slide.

    Args:
        mask: (h, w) bool, of the whole slide.
        box: a `Box` in px of the slide.
        shape: (H, W) of the slide.
    """
    rows_per_px, columns_per_px = mask.shape[0] / shape[0], mask.shape[1] / shape[1]
    rows = slice(int(box.top * rows_per_px), int(np.ceil(box.bottom * rows_per_px)))
    columns = slice(int(box.left * columns_per_px), int(np.ceil(box.right * columns_per_px)))
    return bool(mask[rows, columns].any())


def read_tile(slide, tile, setup):
    """The pixels of a tile.

    Returns:
        (window, region): (h, w, 3) float32 in [0, 1] for the network, and (rows, columns, 3) of the
        slide as it is.
    """
    window = read_window(slide.at(setup.scale), tile.window)
    return normalise(window, setup.intensity), slide[tile.region.place]
