"""nuclei.formats.registry"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nuclei.formats.coco import write_coco
from nuclei.formats.geojson import write_geojson
from nuclei.formats.imagej import write_imagej
from nuclei.formats.label_images import write_ometiff, write_omezarr
from nuclei.formats.tables import write_csv, write_parquet
from nuclei.machine import require


class Nuclei(NamedTuple):
    """The nuclei of one image, as the writers take them.

    stem: of the image file, whose whole name is file_name. labels: (H, W) integer, 0 background, 1...n.
    table: a DataFrame with one row for each nucleus by ascending id, columns as of `measure`.
    mpp: µm per pixel, or None.
    """

    stem: str
    file_name: str
    labels: np.ndarray
    table: Any
    mpp: float | None = None


class Format(NamedTuple):
    """Where a format goes, and how: `write(path, nuclei)` to folder/STEM + suffix; package: to be installed for it."""

    folder: str
    suffix: str
    write_formats: Callable
    package: str | None = None


FORMATS = {
    "geojson": Format("geojson", ".geojson", write_geojson),
    "geojson.zip": Format("geojson", ".geojson.zip", write_geojson),
    "geojson.gz": Format("geojson", ".geojson.gz", write_geojson),
    "imagej": Format("imagej", ".zip", write_imagej, "roifile"),
    "coco": Format("coco", ".json", write_coco),
    "ometiff": Format("ometiff", ".ome.tif", write_ometiff),
    "omezarr": Format("omezarr", ".zarr", write_omezarr, "zarr"),
    "csv": Format("csv", ".csv", write_csv),
    "parquet": Format("parquet", ".parquet", write_parquet, "pyarrow"),
}


def require_formats(formats):
    """`require` for the names of formats; those of other files pass by."""
    for name in formats:
        require([FORMATS[name].package] if name in FORMATS else [], f"the format {name}")


def write_formats(out, formats, nuclei):
    """Write one image's nuclei to out/FOLDER/STEM.SUFFIX in each of the formats, replacing what is there."""
    for name in formats:
        form = FORMATS[name]
        form.write(Path(out) / form.folder / f"{nuclei.stem}{form.suffix}", nuclei)
