"""The server of app.py with known nuclei, and what tests do to its page in a browser."""

import contextlib
import functools
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import uvicorn
from browser_tools import wait
from inference_tools import model_of
from PIL import Image
from synthetic import draw

from nuclei.app.files import find_files
from nuclei.app.guarding import Guard
from nuclei.app.predictions import Prediction, write_prediction
from nuclei.app.routes import make_app
from nuclei.app.server import make_desk, open_socket
from nuclei.images.labels import read_labels
from nuclei.images.writing import find_labels
from nuclei.polygons import fill
from nuclei.written import recording

MADE_BY = "the tests"
SIZE = (200, 260)  # px, of the images


class KnownModel:
    """Stands for `ModelInUse`: a network that takes bright pixels for nuclei."""

    made_by, name, settings, diameter_px = MADE_BY, "tests/model.keras", {}, 24
    path, threshold = Path("model.keras"), 0.5

    def get(self):
        model = model_of(lambda batch: np.repeat(batch.mean(-1, keepdims=True) * 2 - 0.1, 2, -1))
        return replace(model, thresholds={"min_area_px": 15})


@functools.cache
def drawn(seed):
    """An image and its labels."""
    return draw("fluorescence", *SIZE, num_nuclei=14, diameter=26, seed=seed)


def write_images(folder, num_images=3):
    """Write images with their predictions into a new set; {stem: labels} as predicted."""
    (folder / "raw").mkdir(parents=True)
    predicted = {}
    for number in range(num_images):
        image, labels = drawn(number)
        stem = f"image{number}"
        Image.fromarray(image).save(folder / "raw" / f"{stem}.png")
        write_known(folder, stem, labels, uncertainty=0.5 - number / 10)
        predicted[stem] = labels
    return predicted


def write_known(folder, stem, labels, uncertainty=0.2):
    """Write a prediction as the app keeps it; the first nuclei are the least certain ones."""
    num_nuclei = int(labels.max())
    confidences = np.linspace(0.3, 0.99, num_nuclei).round(3).tolist()
    known = Prediction(
        MADE_BY, *labels.shape, num_nuclei, uncertainty, False, 1.0, [0, 255], None, confidences
    )
    cache = folder / ".nuclei"
    cache.mkdir(exist_ok=True)
    write_prediction(cache, stem, labels, known)


@contextlib.contextmanager
def served(folder, port=0, predicts=False):
    """The server on a folder: yields its `Guard`, whose address() opens the page once.

    predicts: whether images without a prediction are predicted, and slides are read.
    """
    files = find_files(folder)
    with recording(files.home, False, list(files.images.values())):
        listener = open_socket(port)
        desk = make_desk(files, KnownModel(), lambda text: None)
        guard = Guard(make_app(desk), listener.getsockname()[1], lambda text: None)
        server = uvicorn.Server(
            uvicorn.Config(guard, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        if predicts:
            desk.predictor.start()
        try:
            yield guard
        finally:
            desk.events.close()
            desk.predictor.stop()
            if predicts:
                desk.predictor.join(60)
            server.should_exit = True
            thread.join(10)
            listener.close()


class Student:
    """Works on the page as a user does: by mouse and keys.

    Args:
        page: of playwright, on which the app is open.
    """

    def __init__(self, page):
        self.page = page
        self.settle()

    def ask(self, code, *argument):
        """The value of an expression in which `session`, `viewer` and `desk` are known."""
        return self.page.evaluate(
            "async (argument) => { const { session, desk } = await import('/page/start.js');"
            f" const viewer = desk.viewer; return {code}; }}",
            *argument,
        )

    def settle(self):
        """Wait until the image is there and each edit is answered."""
        wait(self.page, "document.documentElement.dataset.shown !== undefined")
        for _ in range(500):
            if self.ask("!session.unsent.items.length && session.nuclei !== null"):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError("an edit was not answered")

    def open(self, name):
        self.page.get_by_role("button", name=name).click()
        wait(self.page, "name => document.documentElement.dataset.shown === name", name)

    def spot(self, row, column):
        """Where a pixel of the image is on the screen."""
        x, y = self.ask(
            "(() => { const box = viewer.canvas.getBoundingClientRect(), [x, y] = argument;"
            " return [box.left + box.width / 2 + (x - viewer.x) * viewer.scale,"
            " box.top + box.height / 2 + (y - viewer.y) * viewer.scale]; })()",
            [float(column), float(row)],
        )
        return x, y

    def click(self, row, column, key=None):
        """Click a pixel of the image, with a key held."""
        with self.held(key):
            self.page.mouse.click(*self.spot(row, column))

    def drag(self, places, key=None):
        """Drag along (row, column) places of the image."""
        with self.held(key):
            self.page.mouse.move(*self.spot(*places[0]))
            self.page.mouse.down()
            for place in places[1:]:
                self.page.mouse.move(*self.spot(*place), steps=4)
            self.page.mouse.up()
        self.settle()

    @contextlib.contextmanager
    def held(self, key):
        if key:
            self.page.keyboard.down(key)
        yield
        if key:
            self.page.keyboard.up(key)

    def press(self, key):
        self.page.keyboard.press(key)
        self.settle()

    def ids(self):
        """Ids of all nuclei of the open image that the page shows."""
        return sorted(self.ask("[...session.nuclei.all.keys()]"))

    def selected(self):
        return sorted(self.ask("[...session.selected]"))

    def hears(self, text):
        """Wait until the page says something."""
        wait(self.page, "text => document.getElementById('said').textContent.includes(text)", text)


class Deltas:
    """What the server told a page about the nuclei of each image, in raw form."""

    def __init__(self, page):
        self.nuclei = {}  # key of the image -> {id: outlines}
        page.on("requestfinished", self.note)

    def note(self, request):
        parts = request.url.split("/api/images/")[-1].split("/")
        if len(parts) < 2 or not parts[1].startswith(("nuclei", "edits")):
            return
        response = request.response()
        if response is None or response.status != 200:
            return
        told = response.json()
        known = self.nuclei.setdefault(parts[0], {})
        if "nuclei" in told:
            known.clear()
        for nucleus in told.get("nuclei", []) + told.get("changed", []):
            known[nucleus["id"]] = [nucleus["outline"], *nucleus.get("more", [])]
        for index in told.get("removed", []):
            known.pop(index, None)

    def labels(self, key, shape):
        """The nuclei as (H, W) int32, in the order of their ids without gaps."""
        labels = np.zeros(shape, np.int32)
        for rank, index in enumerate(sorted(self.nuclei[key]), start=1):
            rings = [np.reshape(flat, (-1, 2))[:, ::-1] for flat in self.nuclei[key][index]]
            labels.flat[fill([rings], shape)] = rank  # by the even-odd rule
        return labels


def truth(folder, stem):
    """The labels of gt/."""
    return read_labels(find_labels(folder / "gt", stem))


def middle(labels, index):
    """A pixel in the middle of a nucleus: (row, column), at its centre."""
    depth = cv2.distanceTransform((labels == index).astype(np.uint8), cv2.DIST_L2, 5)
    row, column = np.unravel_index(depth.argmax(), labels.shape)
    return row + 0.5, column + 0.5


def isolated(labels):
    """Ids of nuclei that touch no other one and no border, the largest first."""
    ids = []
    for index in range(1, labels.max() + 1):
        wide = cv2.dilate((labels == index).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        rows, columns = np.nonzero(wide)
        is_inside = rows.min() > 4 and columns.min() > 4
        is_inside &= rows.max() < labels.shape[0] - 5 and columns.max() < labels.shape[1] - 5
        if is_inside and set(np.unique(labels[wide])) <= {0, index}:
            ids.append(index)
    return sorted(ids, key=lambda index: -np.count_nonzero(labels == index))


def touching(labels):
    """Two nuclei with a common edge."""
    for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        edge = (first != second) & (first > 0) & (second > 0)
        if edge.any():
            return int(first[edge][0]), int(second[edge][0])
    raise AssertionError("no nuclei touch")


def span(labels, index):
    """A line across the middle of a nucleus, from background to background."""
    rows, columns = np.nonzero(labels == index)
    row = middle(labels, index)[0]
    return [(row, columns.min() - 3), (row, columns.max() + 4)]


def circle(row, column, radius):
    angles = np.linspace(0, 2 * np.pi, 16)
    return [(row + radius * np.sin(angle), column + radius * np.cos(angle)) for angle in angles]


def free_place(labels, radius=12):
    """The middle of a square of background."""
    free = cv2.erode((labels == 0).astype(np.uint8), np.ones((2 * radius + 9,) * 2, np.uint8))
    free[: radius + 5], free[:, : radius + 5] = 0, 0
    free[-radius - 5 :], free[:, -radius - 5 :] = 0, 0
    row, column = np.argwhere(free)[0]
    return row + 0.5, column + 0.5
