"""Run a network over an image of any size, tile by tile.

Tiles overlap, and each keeps only its core, far enough from its border. The cores partition the
image. Maps that were put together from tiles equal those of the whole image.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from nuclei.images.box import Box
from nuclei.images.resize import Resized, resize_maps
from nuclei.model_file import Model

TILE_PX = 2048  # side of a tile at most; smaller ones need less memory, but overlap more


class Window(NamedTuple):
    """What the network sees of an image at once, and the part of it that is kept.

    Attributes:
        box: may reach below and to the right of the image, by less than the size multiple.
        core: lies in the image.
    """

    box: Box
    core: Box


def cut_axis(length: int, tile: int, margin: int, multiple: int) -> list[tuple[int, ...]]:
    """Cut one axis into tiles.

    All starts and stops are multiples of `multiple`, so that pooling meets the same pixels in every
    tile.

    Args:
        length: of the axis in px, 1 or more.
        tile, margin, multiple: as for `cut`.

    Returns:
        A list of (start, stop, core_start, core_stop); the cores partition [0, length).

    Raises:
        ValueError: the tile leaves no core between its margins.
    """
    padded = -(-length // multiple) * multiple
    tile = tile // multiple * multiple
    margin = -(-margin // multiple) * multiple
    if padded <= tile:
        return [(0, padded, 0, length)]
    if tile < 2 * margin + multiple:
        raise ValueError(
            f"a tile of {tile} px has no core between margins of {margin} px; give "
            f"--tile {3 * margin} or more"
        )
    # As few tiles as possible, then all as small as possible: what overlaps is done twice.
    num_tiles = -(-(padded - 2 * margin) // (tile - 2 * margin))
    tile = -(-(padded + 2 * margin * (num_tiles - 1)) // (num_tiles * multiple)) * multiple
    cuts, start, core_start = [], 0, 0
    while True:
        start = min(start, padded - tile)
        is_last = start + tile == padded
        core_stop = length if is_last else start + tile - margin
        cuts.append((start, start + tile, core_start, core_stop))
        if is_last:
            return cuts
        core_start = core_stop
        start += tile - 2 * margin


def cut(height: int, width: int, tile: int, margin: int, multiple: int) -> list[Window]:
    """Cut an image into tiles whose cores partition it.

    Args:
        height, width: of the image in px, 1 or more.
        tile: side of a tile in px at most; an image that fits into one tile is one tile.
        margin: px between the border of a tile and its core, see `Model.margin_px`.
        multiple: px that sides must be a multiple of, see `Model.multiple_px`.

    Returns:
        The tiles, row by row.

    Raises:
        ValueError: the tile is too small for the margin.
    """
    return [
        Window(Box(top, bottom, left, right), Box(core_top, core_bottom, core_left, core_right))
        for top, bottom, core_top, core_bottom in cut_axis(height, tile, margin, multiple)
        for left, right, core_left, core_right in cut_axis(width, tile, margin, multiple)
    ]


def read_window(image, box: Box) -> np.ndarray:
    """The pixels of a box, (rows, columns, C). What lies beyond the image is reflected."""
    part = np.asarray(image[box.place])
    below, beside = box.shape[0] - part.shape[0], box.shape[1] - part.shape[1]
    if not (below or beside):
        return part
    return np.pad(part, ((0, below), (0, beside), (0, 0)), mode="reflect")


def predict_tiled(
    model: Model, image, prepare: Callable | None = None, tile_px=TILE_PX, batch_size=1
) -> np.ndarray:
    """Run a model over an image of any size.

    Args:
        model: a `Model`.
        image: (H, W, 3), an array or anything that slices like one.
        prepare: applied to each tile before the network, such as the normalisation by the range of
            the whole image; None where the image is float32 in [0, 1] already.
        tile_px: side of a tile at most.
        batch_size: tiles in one call of the network.

    Returns:
        (H, W, num_maps) float32.
    """
    height, width = image.shape[:2]
    maps = np.empty((height, width, model.num_maps), np.float32)
    windows = cut(height, width, tile_px, model.margin_px, model.multiple_px)
    for core, core_maps in predict_windows(model, image, windows, prepare, batch_size):
        maps[core.place] = core_maps
    return maps


def predict_windows(
    model: Model, image, windows: list[Window], prepare: Callable | None, batch_size: int
) -> Iterator[tuple[Box, np.ndarray]]:
    """Run a model over some tiles. Yields (core, its maps). Args: as of `predict_tiled`."""
    for first in range(0, len(windows), batch_size):
        group = windows[first : first + batch_size]
        tiles = [read_window(image, window.box) for window in group]
        if prepare is not None:
            tiles = [prepare(tile) for tile in tiles]
        batch = np.stack(tiles).astype(np.float32, copy=False)
        for (box, core), tile_maps in zip(group, np.asarray(model(batch)), strict=True):
            yield core, tile_maps[core.relative_to(box).place]


def predict_strips(
    model: Model, image, prepare: Callable | None = None, tile_px=TILE_PX, batch_size=1
) -> Iterator[np.ndarray]:
    """The maps of `predict_tiled` from top to bottom, one row of tiles at a time.

    Yields:
        (rows, W, num_maps) float32; the strips follow each other without gaps.
    """
    height, width = image.shape[:2]
    windows = cut(height, width, tile_px, model.margin_px, model.multiple_px)
    for top, row in itertools.groupby(windows, lambda window: window.core.top):
        row = list(row)
        strip = np.empty((row[0].core.bottom - top, width, model.num_maps), np.float32)
        for core, core_maps in predict_windows(model, image, row, prepare, batch_size):
            strip[:, core.left : core.right] = core_maps
        yield strip
        del strip  # before the next one is made


def predict_scaled(
    model: Model,
    image,
    scale=1.0,
    prepare: Callable | None = None,
    tile_px=TILE_PX,
    batch_size=1,
) -> np.ndarray:
    """Run a model over an image that it sees `scale` times as large.

    Args:
        scale: 1 for the image as it is.
        model, image, prepare, tile_px, batch_size: as of `predict_tiled`.

    Returns:
        (H, W, num_maps) float32 at the size of `image`.
    """
    if scale == 1:
        return predict_tiled(model, image, prepare, tile_px, batch_size)
    maps = predict_tiled(model, Resized(image, scale), prepare, tile_px, batch_size)
    return resize_maps(maps, image.shape[:2])
