"""nuclei.formats.geojson"""

import contextlib
import gzip
import io
import json
import uuid
import zipfile

import numpy as np

from nuclei.files import replacing
from nuclei.polygons import outlines

CLASS_NAME = "Nucleus"  # of the detections in QuPath, and of COCO's one category
CLASS_COLOUR = (255, 221, 0)  # RGB; far from the purples of tissue and the greys of fluorescence
NAMESPACE = uuid.UUID("5d0a3c1e-7d0f-5c55-9f4e-2f6a2f0f8d11")  # of the nuclei's UUIDs; another one would make others
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # of every member: the date of writing would make equal content unequal files
GEOJSON_MEASUREMENTS = (  # what is worth seeing in QuPath's table and colour maps; all of them would be a kilobyte a nucleus
    "area_px", "area_um2", "diameter_px", "diameter_um", "perimeter_px", "perimeter_um", "circularity", "solidity",
    "eccentricity", "mean_probability", "mean_intensity", "haematoxylin_od", "dab_od", "nearest_distance_px",
    "nearest_distance_um", "touches_border",
)  # fmt: skip


def rows_of(table, names):
    """Each row of the table as a dict of the named columns that it has and whose value is a finite number."""
    names = [name for name in names if name in table]
    columns = [np.asarray(table[name], float) for name in names]
    for values in zip(*columns, strict=True) if columns else ({} for _ in range(len(table))):
        yield {name: round(float(value), 6) for name, value in zip(names, values, strict=True) if np.isfinite(value)}


def geojson_features(nuclei):
    """The nuclei of an image as GeoJSON Features, see `features_of_outlines`."""
    return features_of_outlines(nuclei.stem, outlines(nuclei.labels), nuclei.table)


def features_of_outlines(stem, outlined, table):
    """GeoJSON Features that QuPath reads as detections, one at a time, of outlines and their rows in a table.

    The UUID follows from the stem and the outline: the same nucleus has the same in every export, and so has no other
    nucleus, as ids would have after a change of the model.
    """
    for (index, polygons), measurements in zip(outlined, rows_of(table, GEOJSON_MEASUREMENTS), strict=True):
        # From (row, column) to (x, y); GeoJSON closes its rings.
        coordinates = [[[*ring[:, ::-1].tolist(), ring[0, ::-1].tolist()] for ring in rings] for rings in polygons]
        one = len(coordinates) == 1
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{stem} {coordinates}")),
            "geometry": {
                "type": "Polygon" if one else "MultiPolygon",
                "coordinates": coordinates[0] if one else coordinates,
            },
            "properties": {
                "objectType": "detection",
                "name": f"{CLASS_NAME} {index}",
                "classification": {"name": CLASS_NAME, "color": list(CLASS_COLOUR)},
                "measurements": measurements,
            },
        }


@contextlib.contextmanager
def text_file(path, member):
    """A text file to write to: gzip or zip (with this one member) where the suffix says so; no dates, no names inside."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(path, "wb"))
        if path.suffix == ".gz":
            raw = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
        elif path.suffix == ".zip":
            archive = stack.enter_context(zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED))
            information = zipfile.ZipInfo(member, ZIP_DATE)
            information.compress_type = zipfile.ZIP_DEFLATED
            raw = stack.enter_context(archive.open(information, "w", force_zip64=True))
        text = io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()


def write_features(path, features, member="nuclei.geojson"):
    """Write Features (any iterable: they are taken one at a time, so that millions need no memory) as a collection."""
    with replacing(path) as temporary, text_file(temporary, member) as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, feature in enumerate(features):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(feature, separators=(",", ":"), ensure_ascii=False))
        file.write("\n]}\n")


def write_geojson(path, nuclei):
    """Detections for QuPath; .gz and .zip are compressed."""
    write_features(path, geojson_features(nuclei), f"{nuclei.stem}.geojson")
