"""GeoJSON, as QuPath reads and writes it: one Feature per nucleus.

A Feature has the outline, a colour and measurements.
The outlines follow the edges of the pixels, so the area inside is the number of pixels. Features
are written one at a time: a slide with millions of nuclei needs no memory for them. Equal nuclei
give equal files, byte by byte, also inside .gz and .zip.

Format: RFC 7946, and
https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html
"""

import contextlib
import gzip
import io
import json
import uuid
import zipfile

import numpy as np

from nuclei.files import replacing
from nuclei.polygons import outlines

CLASS_NAME = "Nucleus"  # class of the detections in QuPath, and COCO's one category
CLASS_COLOUR = (255, 221, 0)  # RGB; yellow stands out from purple tissue and grey fluorescence
# Classes of immunostained nuclei. QuPath knows both names, counts them and gives "Positive %".
IMMUNO_CLASSES = {1: ("Positive", (250, 62, 62)), 0: ("Negative", (112, 112, 225))}  # its colours
NAMESPACE = uuid.UUID("5d0a3c1e-7d0f-5c55-9f4e-2f6a2f0f8d11")  # fixed, so that UUIDs are repeatable
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # of every zip member: the real date would change equal files
CERTAINTY = {"confidence": "Detection probability", "mean_probability": "Mean probability"}
# Columns worth a colour map in QuPath, and their names there; all 43 would be 1 kB per nucleus.
# Where QuPath itself measures the same, the name is QuPath's: "Length" is the perimeter.
MEASUREMENTS = CERTAINTY | {
    "circularity": "Circularity",
    "solidity": "Solidity",
    "eccentricity": "Eccentricity",
    "mean_intensity": "Mean intensity",
    "haematoxylin_od": "Nucleus: Hematoxylin OD mean",
    "dab_od": "Nucleus: DAB OD mean",
    "dab_od_max": "Nucleus: DAB OD max",
    "touches_border": "Touches border",
}
LENGTHS = {  # QuPath states one unit: µm where the pixel size is known, else px
    "area": "Area {}^2",
    "perimeter": "Length {}",
    "longest": "Max diameter {}",
    "narrowest": "Min diameter {}",
    "diameter": "Equivalent diameter {}",
    "nearest_distance": "Nearest neighbor distance {}",
}


def finite_rows(table, names):
    """Yield each row of a table as {name: float}.

    Args:
        table: DataFrame.
        names: {column: name}. Columns that are missing, and cells without a finite number, are left
            out.
    """
    names = {column: name for column, name in names.items() if column in table}
    columns = [np.asarray(table[column], float) for column in names]
    rows = zip(*columns, strict=True) if columns else ([] for _ in range(len(table)))
    for values in rows:
        pairs = zip(names.values(), values, strict=True)
        yield {name: round(float(value), 6) for name, value in pairs if np.isfinite(value)}


def measurement_names(table, editable):
    """{column: name in QuPath} of the measurements to write.

    Args:
        table: DataFrame with the columns of `measure`.
        editable: whether the outlines will be corrected. Their shapes would then be wrong.
    """
    if editable:
        return CERTAINTY
    # In a folder, some images may state their pixel size and others not.
    is_in_microns = "area_um2" in table and not table["area_um2"].isna().any()
    unit, suffix = ("µm", "_um") if is_in_microns else ("px", "_px")
    lengths = {f"{column}{suffix}": name.format(unit) for column, name in LENGTHS.items()}
    if is_in_microns:
        lengths = {"area_um2": lengths.pop("area_um"), **lengths}
    return MEASUREMENTS | lengths


def closed_ring(ring):
    """A ring of (row, column) corners as GeoJSON's list of [x, y]: its last point is its first."""
    points = ring[:, ::-1].tolist()
    return [*points, points[0]]


def geojson_features(nuclei):
    """Yield the nuclei of a `Nuclei` as Features, see `features_of_outlines`."""
    outlined = outlines(nuclei.labels)
    return features_of_outlines(nuclei.stem, outlined, nuclei.table, nuclei.editable)


def features_of_outlines(stem, outlined, table, editable=False):
    """Yield GeoJSON Features that QuPath reads as its objects, one at a time.

    The UUID of a nucleus is made from the stem and the outline. The same nucleus has the same UUID
    in every export. Numbers would not do: after a change of the model, number 5 is another nucleus.

    Args:
        stem: name of the image without suffix.
        outlined: (id, polygons) of each nucleus, as from `nuclei.polygons.outlines`.
        table: DataFrame with one row per nucleus in the same order.
        editable: write annotations, which QuPath's brush can edit. Else they are detections, which
            QuPath shows faster and measures.
    """
    rows = finite_rows(table, measurement_names(table, editable))
    classes = classes_of(table)
    for (index, polygons), measurements, (name, colour) in zip(
        outlined, rows, classes, strict=True
    ):
        coordinates = [[closed_ring(ring) for ring in rings] for rings in polygons]
        in_one_piece = len(coordinates) == 1
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{stem} {coordinates}")),
            "geometry": {
                "type": "Polygon" if in_one_piece else "MultiPolygon",
                "coordinates": coordinates[0] if in_one_piece else coordinates,
            },
            "properties": {
                "objectType": "annotation" if editable else "detection",
                "name": f"{CLASS_NAME} {index}",
                "classification": {"name": name, "color": list(colour)},
                "measurements": measurements,
            },
        }


def classes_of(table):
    """The class of each nucleus in QuPath: a list of (name, RGB colour)."""
    values = table["positive"] if "positive" in table else [None] * len(table)
    return [IMMUNO_CLASSES.get(value, (CLASS_NAME, CLASS_COLOUR)) for value in values]


@contextlib.contextmanager
def text_file(path, member):
    """Open a text file for writing: plain, .gz, or .zip with one member. It stores no date."""
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
    """Write Features as one FeatureCollection.

    Args:
        path: the file; .gz and .zip are compressed.
        features: any iterable of dicts. They are taken one at a time.
        member: name of the file inside a .zip.
    """
    with replacing(path) as temporary, text_file(temporary, member) as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, feature in enumerate(features):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(feature, separators=(",", ":"), ensure_ascii=False))
        file.write("\n]}\n")


def write_geojson(path, nuclei):
    """Write a `Nuclei` as objects for QuPath; .gz and .zip are compressed."""
    write_features(path, geojson_features(nuclei), f"{nuclei.stem}.geojson")
