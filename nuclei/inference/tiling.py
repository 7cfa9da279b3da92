"""nuclei.inference.tiling"""

from typing import NamedTuple

import numpy as np

TILE_PX = 2048  # height and width of a window at most; smaller ones need less memory but spend more of their work on overlap
MARGIN_PX = 224  # of a window that another window knows better; at least `receptive_radius` (217 px)
MULTIPLE_PX = 32  # `size_multiple` of the default network


class Window(NamedTuple):
    """Pixels to read, rows [top, bottom) and columns [left, right), and among them those to keep.

    bottom and right may lie beyond the image, by less than the size multiple; the core never does.
    """

    top: int
    bottom: int
    left: int
    right: int
    core_top: int
    core_bottom: int
    core_left: int
    core_right: int


def cut_axis(length, tile, margin, multiple):
    """Windows along one axis: a list of (start, stop, core_start, core_stop); the cores partition [0, length).

    All starts and stops are multiples of `multiple`, so that pooling meets the same pixels in every window.

    Raises:
        ValueError: the tile leaves no core between its margins.
    """
    padded = -(-length // multiple) * multiple
    tile = tile // multiple * multiple
    margin = -(-margin // multiple) * multiple
    if padded <= tile:
        return [(0, padded, 0, length)]
    if tile < 2 * margin + multiple:
        raise ValueError(f"a tile of {tile} px has no core between margins of {margin} px; give --tile {3 * margin} or more")
    # As many windows as it takes, then all as small as so many can be: what overlaps is work done twice.
    number = -(-(padded - 2 * margin) // (tile - 2 * margin))
    tile = -(-(padded + 2 * margin * (number - 1)) // (number * multiple)) * multiple
    cuts, start, core_start = [], 0, 0
    while True:
        start = min(start, padded - tile)
        last = start + tile == padded
        core_stop = length if last else start + tile - margin
        cuts.append((start, start + tile, core_start, core_stop))
        if last:
            return cuts
        core_start = core_stop
        start += tile - 2 * margin


def cut(height, width, tile=TILE_PX, margin=MARGIN_PX, multiple=MULTIPLE_PX):
    """Windows that cover an image; their cores partition it.

    Args:
        height, width: of the image, 1 or more.
        tile: height and width of a window at most; an image that fits into one is taken whole.
        margin: see MARGIN_PX.
        multiple: see MULTIPLE_PX.

    Returns:
        A list of `Window`, rows first.
    """
    return [
        Window(top, bottom, left, right, core_top, core_bottom, core_left, core_right)
        for top, bottom, core_top, core_bottom in cut_axis(height, tile, margin, multiple)
        for left, right, core_left, core_right in cut_axis(width, tile, margin, multiple)
    ]


def read_window(image, window):
    """The pixels of a window, (rows, columns, C); beyond the image it is filled up by reflection."""
    part = np.asarray(image[window.top : window.bottom, window.left : window.right])
    below, beside = window.bottom - window.top - part.shape[0], window.right - window.left - part.shape[1]
    return np.pad(part, ((0, below), (0, beside), (0, 0)), mode="reflect") if below or beside else part


def predict_tiled(predict, image, num_maps, prepare=None, tile=TILE_PX, margin=MARGIN_PX, multiple=MULTIPLE_PX, batch_size=1):
    """Run a network over an image of any size.

    Args:
        predict: from (B, h, w, 3) float32 to (B, h, w, num_maps), such as `model.predict_on_batch`.
        image: (H, W, 3), an array or anything that slices like one.
        num_maps: channels of the network's output.
        prepare: applied to each window before the network, such as the normalisation with the range of the whole
            image; None where `image` is float32 in [0, 1] already.
        tile, margin, multiple: see `cut`.
        batch_size: windows in one call of the network.

    Returns:
        (H, W, num_maps) float32.
    """
    height, width = image.shape[:2]
    maps = np.empty((height, width, num_maps), np.float32)
    windows = cut(height, width, tile, margin, multiple)
    for first in range(0, len(windows), batch_size):
        group = windows[first : first + batch_size]
        parts = [read_window(image, window) for window in group]
        batch = np.stack([part if prepare is None else prepare(part) for part in parts]).astype(np.float32, copy=False)
        for window, painted in zip(group, np.asarray(predict(batch)), strict=True):
            w = window
            maps[w.core_top : w.core_bottom, w.core_left : w.core_right] = painted[
                w.core_top - w.top : w.core_bottom - w.top, w.core_left - w.left : w.core_right - w.left
            ]
    return maps


def dihedral(predict):
    """The network averaged over the eight flips and quarter turns of its input: a function like `predict`.

    References:
        Moshkov et al. 2020, "Test-time augmentation for deep learning-based cell segmentation on microscopy images".
    """

    def averaged(batch):
        total = 0.0
        for turns in range(4):
            for mirrored in (False, True):
                seen = np.rot90(batch, turns, (1, 2))
                painted = np.asarray(predict(np.ascontiguousarray(seen[:, :, ::-1] if mirrored else seen)))
                total = total + np.rot90(painted[:, :, ::-1] if mirrored else painted, -turns, (1, 2))
        return total / np.float32(8)

    return averaged
