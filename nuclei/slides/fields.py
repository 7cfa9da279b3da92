"""A few fields of a slide at full size, to look at in a report, and to correct.

    fields = sample_fields(slide, found)
    write_fields("predictions", fields, summary)

    predictions/fields/raw/STEM_field_1.png      pixels of the slide, as they are
    predictions/fields/labels/STEM_field_1.png   its nuclei, 0 background, 1...n
    predictions/fields/nuclei.csv, summary.csv   as for images

So `fields/` is a folder of predictions as for images: report.py reads it, and the corrected labels
of a few fields are what fine-tuning needs.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.files import remove
from nuclei.images.box import Box
from nuclei.images.labels import without_gaps
from nuclei.images.writing import write_labels, write_png
from nuclei.polygons import fill
from nuclei.results.tables import SUMMARY, append_table, positive_share, rewrite_rows

FOLDER = "fields"  # in the folder of the results
FIELD_PX = 768  # side of a field; nuclei of 30 px stand 25 in a row
NUM_FIELDS = 6
FORMATS = "labels csv"  # of a field, for summary.csv
# Columns of summary.csv that hold for a slide and for each part of it.
SHARED = ("modality", "scale", "intensity_low", "intensity_high", "mpp", "made_by", "version")
# Places in the table of the slide, which are counted from the corner of the field instead.
PLACES = {"centroid_row": 0, "centroid_column": 1, "box_top": 0, "box_left": 1}


class Field(NamedTuple):
    """One field of a slide.

    Attributes:
        name: STEM_field_N, N from 1.
        image: (h, w, 3) uint8 or uint16, the pixels of the slide.
        labels: (h, w) int32, 0 background, 1...n.
        table: DataFrame of its n nuclei. A nucleus that the border of the field cuts is measured
            as a whole. `slide_id` is its id in the table of the slide.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    table: object


def sample_fields(slide, found):
    """Take fields out of a finished slide, from the densest to the sparsest.

    Args:
        slide: a `Slide`.
        found: its `FoundOnSlide`.

    Returns:
        A list of at most NUM_FIELDS `Field`s; empty where no nucleus was found.
    """
    import pandas as pd  # late: --help does not need it

    boxes = choose_boxes(found)
    tables = [[] for _ in boxes]
    labels = [np.zeros(box.shape, np.int32) for box in boxes]
    for table, outlined in found.parts() if boxes else ():
        top, left = table["box_top_px"], table["box_left_px"]
        bottom, right = top + table["box_height_px"], left + table["box_width_px"]
        for number, box in enumerate(boxes):
            meets = (top < box.bottom) & (bottom > box.top) & (left < box.right)
            for row in np.flatnonzero(meets & (right > box.left)):
                index, polygons = outlined[row]
                corner = (box.top, box.left)
                moved = [[ring - corner for ring in rings] for rings in polygons]
                labels[number].flat[fill(moved, box.shape)] = index
            tables[number].append(table[meets & (right > box.left)])
    return [
        make_field(f"{found.stem}_field_{number}", slide, box, ids, pd.concat(parts), found.mpp)
        for number, (box, ids, parts) in enumerate(zip(boxes, labels, tables, strict=True), start=1)
    ]


def choose_boxes(found):
    """Places of the fields: squares of a grid, evenly spread over the ranks of their counts.

    Args:
        found: a `FoundOnSlide`.

    Returns:
        A list of `Box`, the one with most nuclei first.
    """
    height, width = found.setup.shape
    side = min(FIELD_PX, height, width)
    counts = np.zeros((height // side, width // side), int)
    for table, _ in found.parts():
        cells = (table[["centroid_row_px", "centroid_column_px"]].to_numpy() // side).astype(int)
        inside = (cells < counts.shape).all(axis=1)  # the last cells of a slide may be incomplete
        np.add.at(counts, tuple(cells[inside].T), 1)
    ranked = np.argsort(-counts, axis=None, kind="stable")[: np.count_nonzero(counts)]
    if not len(ranked):
        return []
    ranks = np.unique(np.linspace(0, len(ranked) - 1, NUM_FIELDS).round().astype(int))
    corners = np.stack(np.unravel_index(ranked[ranks], counts.shape), axis=1) * side
    return [Box(top, top + side, left, left + side) for top, left in corners.tolist()]


def make_field(name, slide, box, ids, table, mpp):
    """The `Field` of one box.

    Args:
        name: of the field.
        slide: a `Slide`.
        box: the `Box` of the field.
        ids: (h, w) int32, ids of the slide's table.
        table: rows of the slide's table, with all that occur in `ids`.
        mpp: µm per pixel, or None.
    """
    visible = np.unique(ids[ids > 0])  # a nucleus may lie wholly below another one
    table = table.set_index("id").loc[visible].reset_index(names="slide_id")
    table = table.drop(columns=["image", "nearest_id"])
    table.insert(0, "image", name)
    table.insert(1, "id", np.arange(1, len(table) + 1))
    corner = (box.top, box.left)
    for place, axis in PLACES.items():
        for column, unit in ((f"{place}_px", 1), (f"{place}_um", mpp)):
            if column in table:
                table[column] = (table[column] - corner[axis] * unit).round(4)
    return Field(name, slide[box.place], without_gaps(ids), table)


def field_files(out, stem):
    """The images that the fields of a slide may be written to, a list of paths."""
    folder = Path(out) / FOLDER
    names = [f"{stem}_field_{number}" for number in range(1, NUM_FIELDS + 1)]
    files = [folder / part / f"{name}.png" for name in names for part in ("raw", "labels")]
    return files + [folder / "labels" / f"{name}.tif" for name in names]


def write_fields(out, fields, summary):
    """Write the fields of one slide, and remove those of an earlier run.

    Args:
        out: the folder of the results.
        fields: a list of `Field`.
        summary: the row of the slide in summary.csv.
    """
    import pandas as pd

    folder = Path(out) / FOLDER
    names = {f"{summary['image']}_field_{number}" for number in range(1, NUM_FIELDS + 1)}
    for table in ("summary.csv", "nuclei.csv"):
        rewrite_rows(folder / table, lambda row: None if row["image"] in names else row)
    for name in names - {field.name for field in fields}:
        for part in ("raw", "labels"):
            remove(folder / part / f"{name}.png")
    for field in fields:
        write_png(folder / "raw" / f"{field.name}.png", field.image)
        write_labels(folder / "labels", field.name, field.labels)
        append_table(folder / "nuclei.csv", field.table)
        append_table(folder / "summary.csv", pd.DataFrame([field_summary(field, summary)]))


def field_summary(field, summary):
    """The row of summary.csv of one field.

    Args:
        field: a `Field`.
        summary: the row of its slide; what is not known of a field by itself stays empty.
    """
    known = {name: summary[name] for name in SHARED} | {
        "image": field.name,
        "file": f"{field.name}.png",
        "folder": "raw",
        "height_px": field.labels.shape[0],
        "width_px": field.labels.shape[1],
        "nuclei": len(field.table),
        "median_diameter_px": round(float(field.table["diameter_px"].median()), 2),
        "nucleus_share": round(float((field.labels > 0).mean()), 4),
        "positive_share": positive_share(field.table["positive"]),
        "formats": FORMATS,
    }
    # No channel and no plane: the field has the chosen ones alone.
    return {name: known.get(name, "") for name in SUMMARY}
