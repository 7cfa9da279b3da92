"""nuclei.formats.label_images"""

import contextlib
import shutil
import uuid

import numpy as np

from nuclei.files import replacing
from nuclei.formats.geojson import NAMESPACE

TILE_PX = 512  # of label pyramids: a multiple of 16, as TIFF wants, and a screenful


def num_levels(shape):
    """Levels of a pyramid, each half the one before, the last of which fits into one tile."""
    levels = 1
    while max(shape) > TILE_PX << (levels - 1):
        levels += 1
    return levels


def tiles_of(labels):
    """The tiles of a label image, row by row, filled up with background: (TILE_PX, TILE_PX) uint32 each."""
    for top in range(0, labels.shape[0], TILE_PX):
        for left in range(0, labels.shape[1], TILE_PX):
            tile = np.zeros((TILE_PX, TILE_PX), np.uint32)
            part = labels[top : top + TILE_PX, left : left + TILE_PX]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def write_ometiff(path, nuclei):
    """A 32-bit OME-TIFF of ids in tiles, with a pyramid of every other pixel (ids cannot be averaged) and pixel size."""
    levels = [nuclei.labels[:: 1 << level, :: 1 << level] for level in range(num_levels(nuclei.labels.shape))]
    write_label_levels(path, nuclei.stem, levels, nuclei.mpp)


def write_label_levels(path, stem, levels, mpp):
    """As `write_ometiff`, of the levels of a pyramid: anything that slices like (h, w) arrays, read tile by tile."""
    import tifffile

    height, width = levels[0].shape
    metadata = {"axes": "YX", "UUID": f"urn:uuid:{uuid.uuid5(NAMESPACE, f'{stem} {height} {width}')}"}
    resolution = {}
    if mpp is not None:
        metadata.update(PhysicalSizeX=mpp, PhysicalSizeY=mpp, PhysicalSizeXUnit="µm", PhysicalSizeYUnit="µm")
        resolution = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    with replacing(path) as temporary:
        large = height * width * 4 > 1 << 31  # before compression: a classic TIFF ends at 4 GB
        with tifffile.TiffWriter(temporary, bigtiff=large, ome=True) as tiff:
            for number, level in enumerate(levels):
                tiff.write(
                    tiles_of(level),
                    shape=level.shape,
                    dtype=np.uint32,
                    tile=(TILE_PX, TILE_PX),
                    photometric="minisblack",
                    compression="zlib",
                    **({"subfiletype": 1} if number else {"subifds": len(levels) - 1, "metadata": metadata, **resolution}),
                )


def write_omezarr(path, nuclei):
    """OME-Zarr 0.4, the version that most programs read: a pyramid of ids, marked as labels."""
    with new_omezarr(path, nuclei.stem, nuclei.labels.shape, nuclei.mpp) as levels:
        for top in range(0, nuclei.labels.shape[0], TILE_PX):
            levels[0][top : top + TILE_PX] = nuclei.labels[top : top + TILE_PX].astype(np.uint32)
        fill_pyramid(levels)


@contextlib.contextmanager
def new_omezarr(path, stem, shape, mpp):
    """Make the OME-Zarr of `write_omezarr`, whole or not at all: yields the arrays of its levels, to be filled."""
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    scale = 1.0 if mpp is None else mpp
    unit = {} if mpp is None else {"unit": "micrometer"}
    try:
        group = zarr.open_group(temporary, mode="w", zarr_format=2)
        levels = [
            group.create_array(
                str(level), shape=tuple(-(-length >> level) for length in shape), chunks=(TILE_PX, TILE_PX), dtype="uint32",
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
            for level in range(num_levels(shape))
        ]  # fmt: skip
        group.attrs["multiscales"] = [
            {
                "version": "0.4",
                "name": stem,
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": [
                    {
                        "path": str(level),
                        "coordinateTransformations": [{"type": "scale", "scale": [scale * (1 << level)] * 2}],
                    }
                    for level in range(len(levels))
                ],
            }
        ]
        group.attrs["image-label"] = {"version": "0.4"}
        yield levels
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fill_pyramid(levels):
    """Fill each level but the first with every other pixel of the one before, in pieces that fit into any memory."""
    for larger, smaller in zip(levels, levels[1:], strict=False):
        for top in range(0, smaller.shape[0], TILE_PX):
            for left in range(0, smaller.shape[1], 8 * TILE_PX):
                place = (slice(top, top + TILE_PX), slice(left, left + 8 * TILE_PX))
                smaller[place] = larger[2 * top : 2 * (top + TILE_PX) : 2, 2 * left : 2 * (left + 8 * TILE_PX) : 2]
