"""Pairs of label images for tests of matching and scores."""

import numpy as np
from PIL import Image


def discs(shape, centres, radius):
    """(H, W) int32 labels: one disc per centre, later ones on top."""
    labels = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    for label, (row, column) in enumerate(centres, start=1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = label
    return labels


def random_pair(rng):
    """A random pair of label images: unrelated, disturbed, or tiny and full of exact ties."""
    kind = rng.integers(3)
    if kind == 0:
        shape = tuple(rng.integers(1, 6, 2))
        return tuple(rng.integers(0, rng.integers(1, 7), shape).astype(np.int32) for _ in range(2))
    shape = tuple(rng.integers(20, 70, 2))
    truth = discs(shape, rng.uniform(0, shape, (rng.integers(0, 25), 2)), rng.uniform(3, 9))
    if kind == 1:
        return truth, discs(
            shape, rng.uniform(0, shape, (rng.integers(0, 25), 2)), rng.uniform(3, 9)
        )
    predicted = np.roll(truth, rng.integers(-2, 3, 2), axis=(0, 1))
    for label in range(1, truth.max() + 1):
        fate = rng.uniform()
        if fate < 0.15:
            predicted[predicted == label] = 0  # missed
        elif fate < 0.3:
            predicted[predicted == label] = rng.integers(1, truth.max() + 1)  # merged
        elif fate < 0.45:
            half = np.argwhere(predicted == label)[::2]
            predicted[half[:, 0], half[:, 1]] = truth.max() + label  # split
    return truth, predicted


def dense_iou(truth, predicted):
    """The full (n, m) table of intersections, unions and IoU, pixel set by pixel set."""
    truths = [truth == label for label in np.unique(truth) if label]
    predictions = [predicted == label for label in np.unique(predicted) if label]
    shape = (len(truths), len(predictions))
    shared = np.array(
        [[(one & other).sum() for other in predictions] for one in truths], float
    ).reshape(shape)
    union = np.array(
        [[(one | other).sum() for other in predictions] for one in truths], float
    ).reshape(shape)
    return shared, union, shared / np.maximum(union, 1)


def write_masks(folder, masks, dtype=np.uint16):
    """Write {stem: (H, W) or (H, W, 3) array} as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, labels in masks.items():
        Image.fromarray(labels.astype(dtype)).save(folder / f"{stem}.png")
