"""nuclei.formats.coco"""

import json

import numpy as np

from nuclei.files import replacing
from nuclei.formats.geojson import CLASS_NAME, rows_of
from nuclei.polygons import outlines, pack_runs


def write_coco(path, nuclei):
    """COCO's JSON of instances for one image; `score` is the mean probability where there is one.

    Polygons, since people can correct these; run lengths where a nucleus has a hole, which COCO's polygons cannot have.
    """
    height, width = nuclei.labels.shape
    image = {"id": 1, "file_name": nuclei.file_name, "height": height, "width": width}
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        head = {"info": {"description": "nuclei"}, "images": [image], "categories": [{"id": 1, "name": CLASS_NAME}]}
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "annotations": [')
        scores = rows_of(nuclei.table, ("mean_probability",))
        for number, ((index, polygons), score) in enumerate(zip(outlines(nuclei.labels), scores, strict=True)):
            corners = np.concatenate([rings[0] for rings in polygons])
            (top, left), (bottom, right) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
            mine = nuclei.labels[top:bottom, left:right] == index
            if all(len(rings) == 1 for rings in polygons):
                drawn = [rings[0][:, ::-1].ravel().tolist() for rings in polygons]
            else:
                whole = np.zeros((height, right - left), bool)
                whole[top:bottom] = mine
                runs = pack_runs(whole)
                runs[0] += left * height  # the columns before and behind
                rest = (width - right) * height
                drawn = {"size": [height, width], "counts": runs[:-1] + [runs[-1] + rest] if len(runs) % 2 else runs + [rest]}
            annotation = {
                "id": index,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": int(mine.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": drawn,
                **({"score": score["mean_probability"]} if score else {}),
            }
            file.write((",\n" if number else "\n") + json.dumps(annotation, separators=(",", ":")))
        file.write("\n]}\n")
