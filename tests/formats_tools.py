"""Nuclei for the tests of formats: drawn examples, outlines drawn by hand, missing packages."""

import importlib.util
import json
import uuid

import numpy as np
import pandas as pd
from PIL import Image
from results_tools import write_predictions
from synthetic import draw

import exports
from nuclei.formats.registry import Nuclei
from nuclei.inference.find import Found
from nuclei.instances.matching import match
from nuclei.instances.measure import measure


def odd_shapes():
    """Labels (40, 50) with holes, pieces that share a corner, a single pixel, a ring around a
    nucleus.
    """
    labels = np.zeros((40, 50), np.int32)
    labels[2:9, 2:9] = 1
    labels[4:6, 4:6] = 0  # a hole
    labels[6, 6] = 0  # and one that shares a corner with it
    labels[12, 3] = labels[13, 4] = 2  # two pixels that share a corner
    labels[20, 20] = 3
    labels[25:34, 25:34] = 4
    labels[27:32, 27:32] = 0
    labels[28:31, 28:31] = 5  # in the ring
    labels[35:40, 40:50] = 6  # at the border
    labels[0, 0] = labels[0, 30] = 7  # two pieces far apart
    return labels


def draw_examples():
    """{stem: (image, labels)}: tissue, fluorescence, and the odd shapes."""
    labels = odd_shapes()
    image = np.where(labels[..., None] > 0, 200, 30).repeat(3, axis=2).astype(np.uint8)
    return {
        "tissue": draw("tissue", 120, 150, num_nuclei=14, diameter=20, seed=3, touching=0.6),
        "cells": draw("fluorescence", 90, 130, num_nuclei=9, diameter=16, seed=4, touching=0.4),
        "odd": (image, labels),
    }


def write_example_predictions(folder):
    """Write folder/raw with the images and folder/out as predict.py leaves it.

    The nucleus probability is 0.9 in all nuclei.
    """
    (folder / "raw").mkdir()
    for stem, (image, labels) in draw_examples().items():
        Image.fromarray(image).save(folder / "raw" / f"{stem}.png")
        maps = np.stack([np.where(labels > 0, 0.9, 0.1)] * 2, axis=-1).astype(np.float32)
        found = Found(image, (0.0, 255.0), labels, maps, 1.0)
        write_predictions(folder / "out", found, stem, formats=("labels", "csv"))


def nuclei_of(stem, image, labels, mpp=None):
    """A `Nuclei` as predict.py makes it, without a network."""
    table = pd.DataFrame(measure(labels, image, stained=stem == "tissue", mpp=mpp))
    return Nuclei(stem, f"{stem}.png", labels, table, mpp)


def run(*arguments):
    """The exit status of exports.py."""
    return exports.main([str(argument) for argument in arguments])


def worst_overlap(truth, labels):
    """IoU of each true nucleus with the one that has most of it; the smallest of all."""
    matching = match(truth, labels)
    best = np.zeros(truth.max() + 1)
    np.maximum.at(best, matching.truth_ids, matching.iou)
    return best[1:].min()


def as_qupath_saves(features):
    """A list of Features as QuPath's "Export as GeoJSON" writes it: indented, with unknown keys."""
    for feature in features:
        feature["properties"]["isLocked"] = False
    return json.dumps(features, indent=2)


def correct(path, change):
    """Pass the Features of a file through `change` and write them as QuPath does."""
    features = json.loads(path.read_text())["features"]
    path.write_text(as_qupath_saves(change(features)))


def feature(points, kind="annotation", name="Nucleus"):
    """A Feature with one ring of [x, y] points."""
    ring = [*points, points[0]]
    return {
        "type": "Feature",
        "id": str(uuid.uuid4()),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": kind, "classification": {"name": name}},
    }


def circle(row, column, radius, corners=40):
    """Corners [x, y] of a circle, with two decimals."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.round(
        np.stack([column + radius * np.cos(angle), row + radius * np.sin(angle)], axis=1), 2
    ).tolist()


def disc(shape, row, column, radius):
    """The pixels whose centres lie in a circle: (H, W) bool."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def without(monkeypatch, *packages):
    """Make packages look as if they were not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in packages else find_spec(name, *rest),
    )
