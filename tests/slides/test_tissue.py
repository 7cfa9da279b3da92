"""Tissue is found, and background is not, in bright field and in fluorescence."""

import numpy as np
import pytest
from synthetic import draw

from nuclei.slides.tissue import find_tissue


def test_tissue_is_found_and_background_is_not(tissue):
    mask = find_tissue(tissue, 8)
    assert mask.shape == (50, 75) and mask[:, :50].mean() > 0.97 and not mask[:, 56:].any()
    assert find_tissue(tissue[:, :400], 8).mean() > 0.97  # no background in the picture


def test_empty_background_has_no_tissue():
    random = np.random.default_rng(0)
    background = np.clip(random.normal(240, 2, (300, 400, 3)), 0, 255).astype(np.uint8)
    assert not find_tissue(background, 4).any()
    assert not find_tissue(background.astype(np.uint16) * 257, 4).any()


def test_black_areas_that_were_never_scanned_are_no_tissue(tissue):
    unscanned = np.concatenate([tissue, np.zeros((400, 900, 3), np.uint8)], axis=1)
    mask = find_tissue(unscanned, 8)
    assert mask[:, :50].mean() > 0.97 and not mask[:, 80:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tissue_of_fluorescence_is_light(dtype):
    image = draw("fluorescence", 200, 200, num_nuclei=20, diameter=20, seed=1, touching=0)[0]
    dark = np.pad(image, ((0, 0), (0, 400), (0, 0)), constant_values=5)
    dark = (dark.astype(np.uint16) * 16 + 100).astype(dtype) if dtype == np.uint16 else dark
    mask = find_tissue(dark, 8)
    assert mask[:, :25].mean() > 0.5 and not mask[:, 40:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_empty_fluorescence_slide_has_no_tissue(dtype):
    assert not find_tissue(np.full((90, 90, 3), 7, dtype), 8).any()
    level = 100 if dtype == np.uint16 else 6
    noise = np.random.default_rng(0).normal(level, 1, (300, 300, 3)).astype(dtype)
    assert not find_tissue(noise, 8).any()
