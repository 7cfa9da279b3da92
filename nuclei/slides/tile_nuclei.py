"""The nuclei of one tile: found, measured, and kept as a file of arrays.

Each nucleus belongs to the tile in whose core its centroid lies. Tiles that see the same nucleus
compute the same centroid to the last bit, because sums of whole pixels are divided only at the end.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nuclei.images.box import Box
from nuclei.images.resize import resize_maps
from nuclei.instances.confidence import probability_sums
from nuclei.instances.holes import without_holes
from nuclei.instances.measure import ImagePart, measure
from nuclei.instances.neighbours import count_touching
from nuclei.polygons import outlines, pack, unpack

# The arrays of a file.
MEMBERS = ("columns", "centroids", "corners", "lengths", "undecided", "probability", "num_cut")


@dataclass(frozen=True)
class TileNuclei:
    """The nuclei that a tile owns.

    Attributes:
        columns: {name: (n,) array}, as of `measure`; `confidence` where the model is calibrated.
        centroids: (n, 2) float64, row and column in px of the slide, not rounded.
        corners, lengths: their outlines, see `nuclei.polygons.pack`.
        undecided: sum of the distance to 0 or 1 of the nucleus probability over the core.
        probability: sum of the nucleus probability over the core. `image_uncertainty` divides both.
        num_cut: how many of the nuclei reach beyond the region. They are larger than expected, and
            may be cut.
    """

    columns: dict
    centroids: np.ndarray
    corners: np.ndarray
    lengths: np.ndarray
    undecided: float
    probability: float
    num_cut: int

    def __len__(self):
        return len(self.centroids)

    @property
    def polygons(self):
        """For each nucleus its polygons, in px of the slide; see `nuclei.polygons.outlines`."""
        return unpack(self.corners, self.lengths)

    def save(self, path):
        """Write a compressed .npz file.

        The table is one array of records: NumPy takes as long to open an array as to read it, and
        a tile is read several times.
        """
        types = [(name, values.dtype) for name, values in self.columns.items()]
        records = np.empty(len(self), types)
        for name, values in self.columns.items():
            records[name] = values
        np.savez_compressed(
            path,
            columns=records,
            centroids=self.centroids,
            corners=self.corners,
            lengths=self.lengths,
            undecided=self.undecided,
            probability=self.probability,
            num_cut=self.num_cut,
        )

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError, KeyError, or whatever NumPy raises: the file is damaged, or of a version
                that kept its table in another way.
        """
        with open(path, "rb") as file, np.load(file) as arrays:
            values = {name: arrays[name] for name in MEMBERS}
        if not all(isinstance(value, np.ndarray) for value in values.values()):
            raise ValueError(f"{path} is damaged: a member of it is no array")
        records = values.pop("columns")
        outlined = unpack(values["corners"], values["lengths"])
        if not len(records) == len(values["centroids"]) == len(outlined):
            raise ValueError(f"{path} is damaged: its arrays are of different lengths")
        return cls(
            columns={name: records[name] for name in records.dtype.names or ()},
            **{name: value if value.ndim else value.item() for name, value in values.items()},
        )


class Owned(NamedTuple):
    """The nuclei that a tile owns, in the pixels of its region.

    Attributes:
        labels: (rows, columns) int32, ids from 1 on.
        centroids, columns: as of `TileNuclei`.
        undecided, probability: as of `TileNuclei`.
        num_found_px, num_kept_px: pixels of nuclei in the core, before and after white holes went.
    """

    labels: np.ndarray
    centroids: np.ndarray
    columns: dict
    undecided: float
    probability: float
    num_found_px: int
    num_kept_px: int


def find_in_tile(tile, window_maps, image, setup, mask, separator):
    """Find the nuclei that a tile owns.

    Args:
        tile: a `Tile`.
        window_maps: (h, w, K) float32, the maps of its window.
        image: (rows, columns, 3) uint8 or uint16, its region of the slide.
        setup: the `Setup` of the slide.
        mask: (h, w) bool, the tissue of the slide; a nucleus whose centroid lies elsewhere is dust.
        separator: a `Separator`.

    Returns:
        `TileNuclei`.
    """
    region = tile.region
    corner = (tile.window.top, tile.window.left)
    maps = resize_maps(window_maps, setup.shape, setup.seen_shape, corner, region)
    found = measure_owned(tile, maps, image, setup, mask, separator)
    outlined = [
        (index, [[ring + (region.top, region.left) for ring in rings] for rings in polygons])
        for index, polygons in outlines(found.labels)
    ]
    return TileNuclei(
        columns=found.columns,
        centroids=found.centroids,
        **pack([polygons for _, polygons in outlined]),
        undecided=found.undecided,
        probability=found.probability,
        num_cut=count_cut(found.labels, region, setup.shape),
    )


def measure_owned(tile, maps, image, setup, mask, separator):
    """Separate the nuclei of a region and measure those that its tile owns.

    Args:
        tile: a `Tile`.
        maps: (rows, columns, K) float32, of its region.
        image, setup, mask, separator: as of `find_in_tile`.

    Returns:
        `Owned`.
    """
    is_stained = setup.kind == "tissue"
    core = tile.core.relative_to(tile.region).place
    labels, maps = separator.separate(maps, setup.scale)
    num_found_px = np.count_nonzero(labels[core])
    if is_stained:
        labels = without_holes(labels, image, setup.white)
    areas, centroids = locate(labels, tile.region)
    is_owned = lies_in(centroids, tile.core) & (areas > 0)
    is_owned &= lies_on_tissue(centroids, mask, setup.shape)
    is_owned[0] = False  # the background
    owned_ids = np.where(is_owned, is_owned.cumsum(), 0).astype(np.int32)
    owned = owned_ids[labels]
    part = ImagePart(tile.region, setup.shape, setup.white)
    columns = measure(owned, image, maps, is_stained, part=part, dab=setup.has_dab)
    columns["touching_nuclei"] = count_touching(labels, np.flatnonzero(is_owned))
    if separator.calibration is not None:
        values = separator.confidences(owned, maps, setup.scale).round(4)
        columns = insert_before(columns, "mean_probability", "confidence", values)
    num_kept_px = np.count_nonzero(labels[core])
    sums = probability_sums(maps[core][..., 0])
    return Owned(owned, centroids[is_owned], columns, *sums, num_found_px, num_kept_px)


def locate(labels, region):
    """Areas and centroids of the nuclei of a region.

    Args:
        labels: (rows, columns) int32, 0 background, 1...n.
        region: the `Box` of the slide that they fill.

    Returns:
        (areas, centroids): (n + 1,) and (n + 1, 2) in px of the slide; entry 0 is the background.
    """
    inside = np.flatnonzero(labels)
    ids = labels.ravel()[inside]
    areas = np.bincount(ids, minlength=1)
    rows, columns = np.divmod(inside, labels.shape[1])
    centroids = [
        (np.bincount(ids, positions, minlength=1) + start * areas) / np.maximum(areas, 1)
        for positions, start in ((rows, region.top), (columns, region.left))
    ]
    return areas, np.stack(centroids, axis=1)


def lies_in(points, box):
    """Which of (n, 2) points lie in a `Box`: (n,) bool."""
    rows, columns = points.T
    return (box.top <= rows) & (rows < box.bottom) & (box.left <= columns) & (columns < box.right)


def lies_on_tissue(points, mask, shape):
    """Which of (n, 2) points of a slide of (H, W) `shape` lie on the tissue `mask`: (n,) bool."""
    rows, columns = (points / shape * mask.shape).astype(int).T
    return mask[rows, columns]


def insert_before(columns, before, name, values):
    """A dict of columns with one more, before the column `before`."""
    items = list(columns.items())
    position = list(columns).index(before)
    return dict([*items[:position], (name, values), *items[position:]])


def count_cut(labels, region, shape):
    """How many nuclei reach the ends of a region, other than the ends of the slide.

    Args:
        labels: (rows, columns) int, the nuclei of the region.
        region: a `Box`.
        shape: (H, W) of the slide.
    """
    whole = Box.of_shape(shape)
    edges = [
        edge
        for edge, is_border in (
            (labels[0], region.top == whole.top),
            (labels[-1], region.bottom == whole.bottom),
            (labels[:, 0], region.left == whole.left),
            (labels[:, -1], region.right == whole.right),
        )
        if not is_border
    ]
    return int(np.count_nonzero(np.unique(np.concatenate([[0], *edges]))))


def describe_cut(num_cut):
    """A line for the user on nuclei that reach the ends of their regions."""
    return (
        f"{num_cut} nuclei are larger than tiles overlap; they may be cut, or listed twice "
        "(--diameter?)"
    )
