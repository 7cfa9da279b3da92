"""Drawn nuclei in the JSON of many tools: the same discs, each as another tool writes them."""

import json

import numpy as np
from formats_tools import circle, disc

SHAPE = (90, 120)
CENTRES = [(row, column, 8) for row in (15, 45, 75) for column in (20, 60, 100)]  # and radius
NUM = len(CENTRES)


def truth_labels():
    """(90, 120) int32, nine discs."""
    return sum(disc(SHAPE, *centre) * number for number, centre in enumerate(CENTRES, 1))


def rings():
    """The outline of each disc as points [x, y]."""
    return [circle(*centre) for centre in CENTRES]


def flat(ring):
    return [number for point in ring for number in point]


def runs(mask, compressed=False):
    """COCO's run lengths of a mask, as numbers or as the text of pycocotools."""
    from pycocotools import mask as coco_mask

    from nuclei.polygons import pack_runs

    if not compressed:
        return {"size": list(mask.shape), "counts": pack_runs(mask)}
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def coco(segmentations, image=None, **keys):
    """COCO JSON of one image."""
    image = image or {"id": 1, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}
        | {"segmentation": drawing}
        | keys
        for number, drawing in enumerate(segmentations, 1)
    ]
    return {"images": [image], "categories": [], "annotations": annotations}


def write_json(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path
