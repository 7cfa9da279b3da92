"""Slides for tests: their files, a network that reads them, and a search of them."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import zarr
from scipy import ndimage, special
from synthetic import draw

from nuclei.inference.find import Options
from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import Model
from nuclei.results.image import Job, Run
from nuclei.slides.formats import open_slide
from nuclei.slides.search import find_nuclei_on_slide
from nuclei.training.targets import targets

ROOT = Path(__file__).resolve().parent.parent
DIAMETER_PX = 14
FORMATS = ["overlays", "geojson", "geojson.gz", "geojson.zip", "omezarr", "ometiff", "parquet"]


def network(batch):
    """Maps by local filters, which see 12 px far.

    What is dark in red is nucleus, what is dark in green is its distance map.
    """
    all_maps = np.zeros(batch.shape, np.float32)
    for window, maps in zip(batch, all_maps, strict=True):
        dark_red = ndimage.gaussian_filter(1 - window[..., 0], 1.0)
        maps[..., 0] = special.expit(14 * (dark_red - 0.5))
        maps[..., 1] = ndimage.gaussian_filter(1 - window[..., 1], 2.0)
        maps[..., 2] = 0.2 * (1 - maps[..., 0])
    return all_maps


def slow_network(batch):
    """`network`, so slow that a test can kill the run."""
    time.sleep(0.15)
    return network(batch)


MODEL = Model(
    network=network,
    num_maps=3,
    margin_px=16,
    multiple_px=8,
    diameter_px=DIAMETER_PX,
    thresholds={**THRESHOLDS, "min_area_px": 12},
)


def draw_tissue():
    """(400, 600, 3) uint8 that `network` reads: touching nuclei, with background at the right."""
    labels = draw("tissue", 400, 420, num_nuclei=160, diameter=DIAMETER_PX, seed=4, touching=0.5)[1]
    nucleus, distance = np.moveaxis(targets(labels, ("nucleus", "distance")), -1, 0)
    blue = np.full(labels.shape, 200)
    image = np.stack([220 - 190 * nucleus, 220 - 190 * distance, blue], axis=-1)
    image = np.concatenate([image, np.full((400, 180, 3), 243)], axis=1)
    image += np.random.default_rng(0).integers(-4, 5, image.shape)  # no two places alike, no ties
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_fluorescence():
    """(420, 520, 3) uint8: bright nuclei on black."""
    shape = {"num_nuclei": 110, "diameter": 16, "touching": 0.2}
    image = draw("fluorescence", 420, 520, seed=2, **shape)[0].astype(int)
    image += np.random.default_rng(0).integers(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


# --- Files ----------------------------------------------------------------------------------------


def write_pyramid(path, image, levels=3, mpp=0.5, tile=64, axes="YXS", metadata=None, **options):
    """Write a tiled pyramid as OME-TIFF (by its name) or plain TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_ome = path.name.endswith((".ome.tif", ".ome.tiff"))
    photometric = "rgb" if axes.endswith("S") else "minisblack"
    options = {"photometric": photometric, "tile": (tile, tile), **options}
    description = None
    if is_ome:
        sizes = {} if mpp is None else {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
        description = {"axes": axes, **sizes, **(metadata or {})}
    elif mpp:
        options.update(resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER")
    with tifffile.TiffWriter(path, ome=is_ome) as tiff:
        tiff.write(image, subifds=levels - 1, metadata=description, **options)
        for level in range(1, levels):
            part = (slice(None, None, 1 << level),) * 2
            part = part if axes.startswith("YX") else (..., *part)
            smaller = np.ascontiguousarray(image[part])
            tiff.write(smaller, subfiletype=1, metadata=None, **options)
    return path


def write_zarr(path, image, levels=3, scale=(0.5, 0.5), unit="micrometer", version="0.4"):
    """Write an OME-Zarr of a colour image."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    space = [{"name": axis, "type": "space", "unit": unit} for axis in "yx"]
    datasets = []
    for level in range(levels):
        part = np.moveaxis(image[:: 1 << level, :: 1 << level], -1, 0)
        chunks = (1, 100, 100)
        array = group.create_array(str(level), shape=part.shape, chunks=chunks, dtype=image.dtype)
        array[:] = part
        steps = [1, *(step * (1 << level) for step in scale)]
        transformations = [{"type": "scale", "scale": steps}]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    axes = [{"name": "c", "type": "channel"}, *space]
    metadata = {"multiscales": [{"axes": axes, "datasets": datasets}]}
    group.attrs.update(metadata if version == "0.4" else {"ome": {"version": version, **metadata}})
    return path


def write_svs(path, image, mpp="0.25"):
    """Write a tiled JPEG TIFF that its description makes one of Aperio's."""
    height, width = image.shape[:2]
    program = "Aperio Image Library v1.0 \r\n"
    description = f"{program}{width}x{height} [0,0 {width}x{height}] (128x128) JPEG/RGB Q=90"
    description += "|AppMag = 40" + (f"|MPP = {mpp}" if mpp else "")
    options = {
        "photometric": "rgb",
        "tile": (128, 128),
        "compression": "jpeg",
        "compressionargs": {"level": 95},
        "metadata": None,
    }
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, description=description, **options)
        smaller = np.ascontiguousarray(image[::4, ::4])
        tiff.write(smaller, description=f"{program}level", **options)
    return path


# --- Searches -------------------------------------------------------------------------------------


def find(slide, out, stem="s", model=MODEL, **options):
    """`find_nuclei_on_slide` with `network`; options as of `Options`."""
    options = Options(**{"scale": 1.0, "tile_px": 320, **options})
    run = Run(Path(out), model, options, made_by="test")
    return find_nuclei_on_slide(slide, Job(stem, slide.path, ()), run)


def find_slowly(path, out):
    """What a test kills: a slow run in a process of its own."""
    model = replace(MODEL, network=slow_network)
    find(open_slide(path), out, model=model).write(out, FORMATS)


def table_of(found):
    """All nuclei in the order of their places, without the columns that depend on their order."""
    table = pd.concat([table for table, _ in found.parts()])
    return in_order_of_place(table.drop(columns=["id", "nearest_id"]))


def in_order_of_place(table):
    """A table of nuclei, sorted by their centroids."""
    return table.sort_values(["centroid_row_px", "centroid_column_px"], ignore_index=True)


def contents(folder):
    """{relative path: bytes} of all files of a folder."""
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


if __name__ == "__main__":
    find_slowly(Path(sys.argv[1]), Path(sys.argv[2]))
