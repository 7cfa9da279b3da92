"""The list of formats: name, folder, suffix, writer and the package that the writer needs.

    require_formats(["geojson", "imagej"])       # before any work: is roifile installed?
    write_formats("predictions", ["geojson", "imagej"], Nuclei("a", "a.png", labels, table))

A new format is one function `write(path, nuclei)` in a room of this wing and one line in FORMATS.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nuclei.formats.coco import write_coco
from nuclei.formats.geojson import write_geojson
from nuclei.formats.imagej import write_imagej
from nuclei.formats.label_images import write_ometiff, write_omezarr
from nuclei.formats.tables import write_csv, write_parquet
from nuclei.machine import require

if TYPE_CHECKING:
    import pandas as pd


class Nuclei(NamedTuple):
    """The nuclei of one image, as every writer takes them.

    Attributes:
        stem: name of the image without its suffix; the exported file has it too.
        file_name: name of the image with its suffix; where it is unknown, of its label image.
        labels: (H, W) integer, 0 background, 1...n nuclei.
        table: one row per nucleus by ascending id, with the columns of `nuclei.instances.measure`.
        mpp: µm per pixel, or None where it is unknown.
        editable: whether QuPath's brush shall be able to edit the outlines (GeoJSON only).
    """

    stem: str
    file_name: str
    labels: np.ndarray
    table: "pd.DataFrame"
    mpp: float | None = None
    editable: bool = False


class Format(NamedTuple):
    """A format of exported nuclei.

    Attributes:
        folder: name of its folder inside the predictions folder.
        suffix: what follows the stem in the name of its files.
        write: function of (path, nuclei).
        package: the package that the writer needs beyond requirements.txt, or None.
    """

    folder: str
    suffix: str
    write: Callable[[Path, Nuclei], None]
    package: str | None = None

    def path(self, out: Path | str, stem: str) -> Path:
        """The file of one image in the folder `out`."""
        return Path(out) / self.folder / f"{stem}{self.suffix}"


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


def require_formats(names: Iterable[str]) -> None:
    """Check that the package of each format is installed; names outside FORMATS are ignored.

    Raises:
        ValueError: a package is missing; the message has the command that installs it.
    """
    for name in names:
        if name in FORMATS and FORMATS[name].package:
            require([FORMATS[name].package], f"the format {name}")


def has_geojson(names: Iterable[str]) -> bool:
    """Whether one of the formats is GeoJSON, plain or compressed."""
    return any(name.startswith("geojson") for name in names)


def write_formats(out: Path | str, names: Iterable[str], nuclei: Nuclei) -> None:
    """Write one image's nuclei in each format, to OUT/FOLDER/STEM.SUFFIX; replaces old files."""
    for name in names:
        FORMATS[name].write(FORMATS[name].path(out, nuclei.stem), nuclei)
