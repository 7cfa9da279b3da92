"""COCO's JSON of instances, one file per image: for pycocotools, CVAT, FiftyOne.

A nucleus is a list of polygons, because people can correct polygons. A nucleus with a hole is a
list of run lengths instead, because COCO's polygons cannot have holes.

Format: https://cocodataset.org/#format-data
"""

import json

import numpy as np

from nuclei.files import replacing
from nuclei.formats.geojson import CLASS_NAME, finite_rows
from nuclei.polygons import outlines, pack_runs


def run_lengths(inside, left, width):
    """COCO's run lengths of a whole image, of which only some columns are given.

    Args:
        inside: (H, w) bool, the columns from `left` on that hold the nucleus.
        left: px, number of empty columns before them.
        width: px, width of the whole image.

    Returns:
        {"size": [H, width], "counts": [...]}: pixels down the columns, in turn outside and inside.
    """
    height = len(inside)
    runs = pack_runs(inside)
    runs[0] += left * height
    empty_px = (width - left - inside.shape[1]) * height  # the columns behind
    if len(runs) % 2:  # the last run is background
        runs[-1] += empty_px
    else:
        runs.append(empty_px)
    return {"size": [height, width], "counts": runs}


def coco_annotation(index, polygons, labels):
    """One nucleus as an entry of COCO's "annotations", without its score.

    Args:
        index: id of the nucleus in `labels`.
        polygons: its outline, as from `nuclei.polygons.outlines`.
        labels: (H, W) integer.
    """
    height, width = labels.shape
    corners = np.concatenate([rings[0] for rings in polygons])
    (top, left), (bottom, right) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    mask = labels[top:bottom, left:right] == index
    if all(len(rings) == 1 for rings in polygons):
        segmentation = [rings[0][:, ::-1].ravel().tolist() for rings in polygons]  # x, y, x, y, ...
    else:
        columns = np.zeros((height, right - left), bool)
        columns[top:bottom] = mask
        segmentation = run_lengths(columns, left, width)
    return {
        "id": index,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": segmentation,
    }


def write_coco(path, nuclei):
    """Write a `Nuclei` as COCO JSON. `score` is the mean probability where the table has it."""
    height, width = nuclei.labels.shape
    image = {"id": 1, "file_name": nuclei.file_name, "height": height, "width": width}
    head = {
        "info": {"description": "nuclei"},
        "images": [image],
        "categories": [{"id": 1, "name": CLASS_NAME}],
    }
    rows = finite_rows(nuclei.table, {"mean_probability": "score"})
    with (
        replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="\n") as file,
    ):
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "annotations": [')
        nuclei_and_rows = zip(outlines(nuclei.labels), rows, strict=True)
        for number, ((index, polygons), row) in enumerate(nuclei_and_rows):
            annotation = coco_annotation(index, polygons, nuclei.labels)
            if row:
                annotation["score"] = row["score"]
            file.write(",\n" if number else "\n")
            file.write(json.dumps(annotation, separators=(",", ":")))
        file.write("\n]}\n")
