"""Nuclei score above cytoplasm, spots and noise; a plane in focus above a blurred one."""

import numpy as np
import pytest
from scipy import ndimage
from stack_tools import focal_planes, nuclei_and_others

from nuclei.images.plane_scores import best_looking, bright_part, nuclear_likeness, sharpness


@pytest.mark.parametrize("seed", range(4))
def test_nuclei_look_like_nuclei(seed):
    nuclei, cytoplasm, spots, empty, labels = nuclei_and_others(seed=seed)
    others = [cytoplasm, spots, empty, 255 - nuclei, np.zeros_like(nuclei)]
    scores = [nuclear_likeness(*bright_part(plane)) for plane in (nuclei, *others)]
    assert scores[0] > 2 * max(scores[2:]) and best_looking([*others, nuclei]) == 5
    cells = 40 * ndimage.gaussian_filter((ndimage.binary_dilation(labels > 0, iterations=8)) * 5, 1)
    assert best_looking([cells + empty, nuclei]) == 1


def test_no_plane_is_named_where_none_has_nuclei():
    noise = np.random.default_rng(0).normal(100, 5, (2, 128, 128))
    assert best_looking([np.zeros((64, 64)), np.full((64, 64), np.nan, np.float32)]) is None
    assert best_looking([255.0 - plane * 0 for plane in noise]) is None


def test_the_stronger_of_two_copies_is_taken():
    nuclei = nuclei_and_others()[0]
    assert best_looking([nuclei // 4, nuclei]) == 1


@pytest.mark.parametrize("scale", [1, 100])
def test_the_plane_in_focus_is_the_sharpest_also_with_dust_in_another(scale):
    planes = focal_planes(nuclei_and_others()[0]).astype(np.uint16) * scale
    planes[0, 5:9, 5:9] = 255 * scale  # a grain in focus
    assert np.argmax([sharpness(plane) for plane in planes]) == 1


def test_a_large_plane_is_judged_by_an_average():
    nuclei = nuclei_and_others()[0]
    large = np.kron(nuclei, np.ones((8, 8), np.uint8))
    assert nuclear_likeness(*bright_part(large)) > 0
