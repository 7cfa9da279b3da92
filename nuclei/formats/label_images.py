"""Label images that other programs open: 32-bit ids, tiles, a pyramid, the pixel size.

OME-TIFF is for napari, QuPath and Fiji, OME-Zarr 0.4 for napari and other readers of it. Each level
of the pyramid takes every other pixel of the level before, because ids cannot be averaged. The
levels may lie on disk: they are read and filled in pieces, so a slide of any size passes.

Formats: https://docs.openmicroscopy.org/ome-model/ and https://ngff.openmicroscopy.org/0.4/
"""

import contextlib
import os
import uuid
from pathlib import Path

import numpy as np

from nuclei.files import replacing
from nuclei.formats.geojson import NAMESPACE
from nuclei.images.stems import text_of

TILE_PX = 512  # side of a tile: TIFF wants a multiple of 16, and a screen shows a few of them
CHANNEL = "Nuclei"  # shown by QuPath, Fiji and napari as the name of the channel
CLASSIC_TIFF_BYTES = 1 << 31  # a classic TIFF ends at 4 GB; half of it leaves room for the pyramid


def num_levels(shape):
    """Number of levels of a pyramid over (H, W) px; the last level fits into one tile."""
    levels = 1
    while max(shape) > TILE_PX << (levels - 1):
        levels += 1
    return levels


def padded_tiles(labels):
    """Yield the tiles of a label image, row by row: (TILE_PX, TILE_PX) uint32, padded by 0."""
    for top in range(0, labels.shape[0], TILE_PX):
        for left in range(0, labels.shape[1], TILE_PX):
            tile = np.zeros((TILE_PX, TILE_PX), np.uint32)
            part = labels[top : top + TILE_PX, left : left + TILE_PX]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def write_ometiff(path, nuclei):
    """Write a `Nuclei` as a tiled 32-bit OME-TIFF with a pyramid."""
    num = num_levels(nuclei.labels.shape)
    levels = [nuclei.labels[:: 1 << level, :: 1 << level] for level in range(num)]
    write_label_levels(path, nuclei.stem, levels, nuclei.mpp)


def write_label_levels(path, stem, levels, mpp):
    """Write the levels of a pyramid as OME-TIFF, tile by tile.

    Args:
        path: the file.
        stem: name of the image without suffix; the file's UUID is made from it.
        levels: arrays of ids, or anything that slices like an (h, w) array.
        mpp: µm per pixel, or None.
    """
    import tifffile

    height, width = levels[0].shape
    file_id = uuid.uuid5(NAMESPACE, f"{stem} {height} {width}")
    metadata = {"axes": "YX", "UUID": f"urn:uuid:{file_id}", "Channel": {"Name": [CHANNEL]}}
    first_page = {"subifds": len(levels) - 1, "metadata": metadata}
    if mpp is not None:
        metadata.update(PhysicalSizeX=mpp, PhysicalSizeY=mpp)
        metadata.update(PhysicalSizeXUnit="µm", PhysicalSizeYUnit="µm")
        pixels_per_cm = 1e4 / mpp
        first_page.update(resolution=(pixels_per_cm, pixels_per_cm), resolutionunit="CENTIMETER")
    is_large = height * width * 4 > CLASSIC_TIFF_BYTES
    with (
        replacing(path) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=is_large, ome=True) as tiff,
    ):
        for number, level in enumerate(levels):
            tiff.write(
                padded_tiles(level),
                shape=level.shape,
                dtype=np.uint32,
                tile=(TILE_PX, TILE_PX),
                photometric="minisblack",
                compression="zlib",
                **({"subfiletype": 1} if number else first_page),  # 1: a reduced image
            )


def write_omezarr(path, nuclei):
    """Write a `Nuclei` as OME-Zarr 0.4, the version that most programs read (needs zarr)."""
    labels = nuclei.labels
    source = {"file": nuclei.file_name}
    with new_omezarr(path, nuclei.stem, labels.shape, nuclei.mpp, source) as levels:
        for top in range(0, labels.shape[0], TILE_PX):
            levels[0][top : top + TILE_PX] = labels[top : top + TILE_PX].astype(np.uint32)
        fill_pyramid(levels)


def multiscale(stem, num, mpp):
    """The "multiscales" entry of OME-Zarr 0.4: axes, and the size of a pixel on each level."""
    unit = {} if mpp is None else {"unit": "micrometer"}
    scale = 1.0 if mpp is None else mpp
    return {
        "version": "0.4",
        "name": stem,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": [scale * 2**level] * 2}],
            }
            for level in range(num)
        ],
    }


def source_of_labels(path, image_path):
    """The entry "source" of an OME-Zarr: what its labels were found in.

    Args:
        path: of the OME-Zarr.
        image_path: of the image.

    Returns:
        {"image": relative path} where the image is an OME-Zarr, too: programs then open both. The
        specification allows no other image there, so the name of another file is "file".
    """
    if image_path.is_dir():
        with contextlib.suppress(ValueError):  # another drive of Windows
            return {"image": text_of(Path(os.path.relpath(image_path, path)).as_posix())}
    return {"file": text_of(image_path.name)}


@contextlib.contextmanager
def new_omezarr(path, stem, shape, mpp, source):
    """Make an OME-Zarr, whole or not at all: yields the arrays of its levels, to be filled.

    Args:
        path: the folder; an existing one is replaced at the end.
        stem: name of the image without suffix.
        shape: (H, W) of the first level.
        mpp: µm per pixel, or None.
        source: what the labels were found in, a dict as of `source_of_labels`.
    """
    import zarr

    with replacing(path) as temporary:
        group = zarr.open_group(temporary, mode="w", zarr_format=2)
        levels = [
            group.create_array(
                str(level),
                shape=tuple(-(-length >> level) for length in shape),  # half, rounded up
                chunks=(TILE_PX, TILE_PX),
                dtype="uint32",
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
            for level in range(num_levels(shape))
        ]
        group.attrs["multiscales"] = [multiscale(stem, len(levels), mpp)]
        group.attrs["image-label"] = {"version": "0.4", "source": source}
        yield levels


def fill_pyramid(levels):
    """Fill each level but the first with every other pixel of the level before, piece by piece."""
    height, width = TILE_PX, 8 * TILE_PX  # px of a piece: 8 tiles, 8 MB
    for larger, smaller in zip(levels, levels[1:], strict=False):
        for top in range(0, smaller.shape[0], height):
            for left in range(0, smaller.shape[1], width):
                rows = slice(2 * top, 2 * (top + height), 2)
                columns = slice(2 * left, 2 * (left + width), 2)
                smaller[top : top + height, left : left + width] = larger[rows, columns]
