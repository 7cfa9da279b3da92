"""Holes are bright, lie in stained tissue and outside of nuclei."""

import numpy as np
import pytest
from training_samples import example

from nuclei.training.holes import GAP_PX, add_holes


def stained(kind="tissue"):
    image, labels = example(kind)
    return (image[:128, :128] / np.float32(255)).astype(np.float32), labels[:128, :128]


@pytest.mark.parametrize("seed", range(5))
def test_holes_brighten_the_background_and_leave_nuclei_alone(seed):
    crop, labels = stained()
    result = add_holes(crop, labels, np.random.default_rng(seed))
    assert result.shape == crop.shape and result.dtype == np.float32
    assert result.min() >= 0 and result.max() <= 1
    assert np.abs(result - crop)[labels > 0].mean() < 0.01
    assert result[labels == 0].mean() > crop[labels == 0].mean() - 0.01


def test_a_hole_is_nearly_white():
    crop, labels = stained()
    changes = [add_holes(crop, labels, np.random.default_rng(seed)) for seed in range(20)]
    brightest = [image[image[..., 1] - crop[..., 1] > 0.2] for image in changes]
    bright = np.concatenate([part for part in brightest if len(part)])
    assert len(bright) > 500 and np.median(bright) > 0.7


def test_fluorescence_gets_no_holes():
    crop, labels = stained("fluorescence")
    assert add_holes(crop, labels, np.random.default_rng(0)) is crop
    dark = np.full((64, 64, 3), 0.1, np.float32)
    assert add_holes(dark, np.zeros((64, 64), np.int32), np.random.default_rng(0)) is dark
    full = np.ones((64, 64), np.int32)
    assert add_holes(dark, full, np.random.default_rng(0)) is dark
    assert GAP_PX > 0


def test_tissue_without_nuclei_gets_holes_too():
    crop = np.full((64, 64, 3), (0.8, 0.5, 0.7), np.float32)
    result = add_holes(crop, np.zeros((64, 64), np.int32), np.random.default_rng(3))
    assert np.abs(result - crop).max() > 0.1
