"""Synthetic training samples for tests of the rooms that draw crops."""

from functools import lru_cache

from synthetic import draw

from nuclei.training.geometry import random_coordinates, sample_at
from nuclei.training.samples import Sample


def example(kind="fluorescence", height=160, width=200):
    """An image (height, width, 3) uint8 and its labels; copies, so a test may change them."""
    image, labels = drawn(kind, height, width)
    return image.copy(), labels.copy()


@lru_cache
def drawn(kind, height, width):
    return draw(kind, height, width, num_nuclei=14, diameter=22, seed=0, touching=0.4)


def sample(kind="fluorescence", **changes):
    """A `Sample` of `example`, with some attributes changed."""
    image, labels = example(kind)
    values = {
        "image": image,
        "intensity_range": (0.0, 255.0),
        "labels": labels,
        "group": kind,
        "diameter_px": 22.0,
    }
    return Sample(**(values | changes))


def random_crop(image, labels, rng, size, diameter_px=22.0):
    """A random crop of an image and its labels."""
    return sample_at(image, labels, *random_coordinates(labels, rng, size, diameter_px))
