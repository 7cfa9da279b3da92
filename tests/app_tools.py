"""What tests of the app share: drawn labels, a folder of images, a server without its threads."""

import json

import numpy as np
from PIL import Image

from nuclei.app.canvas import Canvas
from nuclei.app.corrected import CorrectedImage, Start
from nuclei.app.edit_log import EditLog, encode_labels
from nuclei.app.predictions import Prediction
from nuclei.model_file import SETTINGS

ARCHITECTURE = {"heads": ["nucleus", "distance"], "width": 8, "depth": 1, "stem_stride": 1}


def drawn_labels(seed=0, size=120, num=25, radius=8):
    """Round nuclei of a random size at random places; some touch, none lies under another."""
    random = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.int32)
    rows, columns = np.mgrid[:size, :size]
    for index in range(1, num + 1):
        row, column = random.integers(0, size, 2)
        disk = np.hypot(rows - row, columns - column) < random.uniform(0.5, 1) * radius
        labels[disk & (labels == 0)] = index
    return labels


def two_disks(touching=True):
    """Labels with two nuclei beside each other, 1 left and 2 right."""
    rows, columns = np.mgrid[:40, :60]
    labels = np.zeros((40, 60), np.int32)
    labels[np.hypot(rows - 20, columns - 20) < 9] = 1
    far = 37 if touching else 46
    labels[(np.hypot(rows - 20, columns - far) < 9) & (labels == 0)] = 2
    return labels


def canvas_of(labels):
    """A canvas of a copy of some labels."""
    return Canvas(labels.copy())


def corrected_image(folder, labels, stem="a"):
    """An image under correction whose log lies in a folder."""
    start = Start(labels.copy(), encode_labels(labels), "drawn")
    return CorrectedImage(EditLog(folder / f"{stem}.edits.jsonl"), start)


def reopened(image):
    """The same image as the next run of the program sees it: from its log alone."""
    return CorrectedImage(EditLog(image.log.path))


def random_edit(image, random):
    """Do one random edit through the same requests as the page; a refused one does nothing."""
    from nuclei.app.actions import do_edit
    from nuclei.app.edits import Refused
    from nuclei.app.requests import read_edit

    try:
        do_edit(image, read_edit(json.dumps(random_request(image, random)).encode()), *[None] * 3)
    except Refused:
        return False
    return True


def random_request(image, random):
    """A random edit of some nucleus, as the page would send it."""
    ids, boxes = sorted(image.canvas.boxes), image.canvas.boxes
    height, width = image.canvas.labels.shape
    index = int(random.choice(ids)) if ids else 1
    box = boxes[index] if ids else None
    place = [float(value) for value in random.uniform(0, min(height, width), 2)]
    stroke = [*place, place[0] + 9, place[1] + 4]
    middle = [(box.left + box.right) / 2, (box.top + box.bottom) / 2] if box else place
    across = [box.left - 2, middle[1], box.right + 2, middle[1]] if box else stroke
    near = min(ids, key=lambda other: distance(boxes, index, other)) if len(ids) > 1 else index
    requests = [
        {"kind": "delete", "ids": [index]},
        {"kind": "merge", "ids": [index, near]},
        {"kind": "split", "id": index, "stroke": across},
        {"kind": "draw", "outline": [*place, place[0] + 12, place[1], place[0], place[1] + 12]},
        {"kind": "brush", "stroke": stroke, "radius": 4},
        {"kind": "brush", "stroke": middle * 2, "radius": 3, "id": index, "erase": True},
        {"kind": "brush", "stroke": across, "radius": 3, "id": index},
        {"kind": "grow", "ids": [index, near]},
        {"kind": "shrink", "ids": [index]},
        {"kind": "undo"},
        {"kind": "redo"},
    ]
    return {"base": image.revision, **requests[random.integers(len(requests))]}


def distance(boxes, index, other):
    """Between the corners of two nuclei; infinite from a nucleus to itself."""
    if index == other:
        return np.inf
    return abs(boxes[index].top - boxes[other].top) + abs(boxes[index].left - boxes[other].left)


def write_settings_only(path):
    """A model file with settings and no network: enough where nothing is predicted."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs[SETTINGS] = json.dumps({"schema": 1, "architecture": ARCHITECTURE})
        file.create_group("model_weights")
    return path


def write_images(folder, stems=("a", "b"), size=120):
    """Grey images of drawn nuclei, and the labels of each: {stem: labels}."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {stem: drawn_labels(seed, size) for seed, stem in enumerate(stems)}
    for stem, labels in drawn.items():
        Image.fromarray(np.where(labels, 180, 20).astype(np.uint8)).save(folder / f"{stem}.png")
    return drawn


def predict_by_truth(workspace, drawn):
    """Let the drawn labels be what the network has found."""
    for entry in list(workspace.entries.values()):
        labels = drawn[entry.stem]
        num = len(np.unique(labels)) - 1
        values = [0.9] * int(labels.max())
        prediction = Prediction(
            workspace.models.made_by,
            *labels.shape,
            num,
            0.1,
            False,
            1.0,
            [0.0, 200.0],
            None,
            values,
        )
        workspace.put_prediction(entry, labels, prediction)


def bright_model(calls=None):
    """A `Model` that takes bright pixels for nuclei; no backend is needed."""
    from nuclei.model_file import as_model

    def network(batch):
        if calls is not None:
            calls.append(batch.shape)
        return np.repeat(1 / (1 + np.exp(-30 * (batch[..., :1] - 0.5))), 2, axis=-1)

    return as_model(network, {"architecture": ARCHITECTURE})


def make_workspace(folder, drawn=None):
    """A workspace of a folder of images, whose nuclei are found if `drawn` holds them."""
    from nuclei.app.events import Events
    from nuclei.app.files import find_files
    from nuclei.app.model_in_use import ModelInUse
    from nuclei.app.workspace import Workspace

    models = ModelInUse(write_settings_only(folder.parent / "model.h5"), print)
    models.model = bright_model()
    workspace = Workspace(find_files(folder), models, Events())
    if drawn is not None:
        predict_by_truth(workspace, drawn)
    return workspace


def nuclei_of(workspace, key):
    """What the page is told of an image when it opens it."""
    from nuclei.app import corrections

    return json.loads(corrections.nuclei(workspace, key))
