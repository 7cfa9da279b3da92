"""A large image band by band: maps from top to bottom, and the tiles that they are enough for.

    for tile, maps in tiles_of_bands(predict_strips(...), setup):
        ...                                     # maps (rows, columns, K) of tile.region

The network sees each pixel in as few tiles as an image of any size. Only a band of its maps is in
memory, and the tiles of nuclei are cut from it: as on a slide, they overlap, and each owns the
nuclei whose centroids lie in its core.
"""

import numpy as np

from nuclei.images.box import Box
from nuclei.images.outliers import with_mirrored_border
from nuclei.images.resize import resize_maps
from nuclei.slides.setup import INTERPOLATION_PX
from nuclei.slides.tiles import Tile

CORE_PX = 1024  # side of the core of a tile at most


class MirroredBorder:
    """An image that is mirrored into its flat border where it is read: slices like an array.

    Args:
        image: (H, W, 3).
        inside: (H, W) bool, as of `without_flat_border`.
    """

    def __init__(self, image, inside):
        self.image, self.inside, self.shape = image, inside, image.shape

    def __getitem__(self, place):
        part, inside = self.image[place], self.inside[place]
        return part if inside.all() or not inside.any() else with_mirrored_border(part, inside)


def tiles_of_bands(strips, setup):
    """Cut an image into tiles while its maps come in.

    Args:
        strips: the maps of the image as the network sees it, from top to bottom: an iterator of
            (rows, columns, K) float32.
        setup: a `Setup`, of which shape, seen_shape and overlap_px are read.

    Yields:
        (tile, maps): a `Tile`, whose window is the part of the maps that was at hand, and
        (rows, columns, K) float32 of its region. The cores partition the image.
    """
    height, width = setup.shape
    ratio = setup.seen_shape[0] / height
    band, origin, start, num_tiles = None, 0, 0, 0
    for strip in strips:
        band = strip if band is None else np.concatenate([band, strip])
        del strip  # a fifth of the memory of a large image
        end = origin + len(band)
        is_last = end == setup.seen_shape[0]
        # Rows of the image whose maps are at hand, and up to which cores may reach.
        at_hand = height if is_last else int((end - INTERPOLATION_PX) / ratio)
        stop = height if is_last else at_hand - setup.overlap_px
        for rows in spans(start, stop):
            for columns in spans(0, width):
                core = Box.of_spans(rows, columns)
                region = grown(core, setup.overlap_px, setup.shape)
                window = Box(origin, end, 0, setup.seen_shape[1])
                maps = resize_maps(band, setup.shape, setup.seen_shape, (origin, 0), region)
                yield Tile(num_tiles, core, region, window), maps
                num_tiles += 1
        start = max(start, stop)
        needed = int((start - setup.overlap_px) * ratio) - INTERPOLATION_PX
        needed = min(max(needed, origin), end)
        band, origin = band[needed - origin :].copy(), needed


def spans(start, stop):
    """Cut [start, stop) into equal parts of at most CORE_PX: a list of (start, stop)."""
    if stop <= start:
        return []
    num_parts = -(-(stop - start) // CORE_PX)
    ends = np.linspace(start, stop, num_parts + 1).round().astype(int).tolist()
    return list(zip(ends, ends[1:], strict=False))


def grown(box, px, shape):
    """A box that is larger by so many px on each side, but not beyond (H, W)."""
    return Box(
        max(0, box.top - px),
        min(shape[0], box.bottom + px),
        max(0, box.left - px),
        min(shape[1], box.right + px),
    )
