"""Tiny data and tiny trainings for the tests of training."""

import csv

import numpy as np
from PIL import Image
from synthetic import draw

import train
from nuclei.written import RECORD

TINY_NETWORK = ["--width", "8", "--depth", "1"]
TINY_CROPS = ["--crop", "32", "--batch-size", "2", "--crops-per-image", "1"]
TINY = [*TINY_NETWORK, *TINY_CROPS]
# Files that a training leaves, sorted
RESULTS = ["Training_Graph.html", "history.csv", "preview.jpg", "settings.json"]
RESULTS += ["trained_model.h5", RECORD]


def write_pair(folder, stem, kind="fluorescence", seed=0, binary=False):
    """Write an image of 48 x 56 px and its mask into raw/ and gt/ of a folder."""
    image, labels = draw(kind, 48, 56, num_nuclei=5, diameter=14, seed=seed, touching=0.5)
    truth = (labels > 0).astype(np.uint8) * 255 if binary else labels.astype(np.uint16)
    for part, array in (("raw", image), ("gt", truth)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / part / f"{stem}.png")


def write_data(folder, num_pairs=4):
    """Write pairs of fluorescence (f0, f1 ...) and of tissue (t0, t1 ...). Returns: folder."""
    for number in range(num_pairs):
        write_pair(folder, f"f{number}", "fluorescence", number)
        write_pair(folder, f"t{number}", "tissue", number)
    return folder


def run(data, out, *more):
    """Run train.py with a tiny network. Returns: its exit status."""
    return train.main(["--data-dir", str(data), "--out", str(out), *TINY, *map(str, more)])


def history(out):
    """The rows of history.csv, all values as text."""
    with open(out / "history.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(rows):
    """Rows of history.csv without the only column that differs between equal trainings."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def interrupted(*arguments, **keywords):
    """Take the place of a function during which the user presses Ctrl-C."""
    raise KeyboardInterrupt
