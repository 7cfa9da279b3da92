"""The kind of microscopy is told by colours and shapes, whatever the depth, border or crowd."""

import numpy as np
import pytest
from images_tools import GREY, discs, fluorescence, tissue
from scipy import ndimage
from stains_tools import immunostained
from synthetic import draw

from nuclei.images.modality import modality


@pytest.mark.parametrize("gain", [1, 16, 200])
def test_modality_by_colour_whatever_the_depth(gain):
    labels = discs()
    blue = np.dstack([np.zeros_like(GREY)] * 2 + [GREY])
    bright = 255 - np.dstack([fluorescence(labels, dark=30, light=120)] * 3)
    for image, expected in (
        (np.dstack([GREY] * 3), "fluorescence"),
        (blue, "fluorescence"),
        (tissue(labels), "tissue"),
        (bright, "brightfield"),
    ):
        assert modality(image if gain == 1 else image.astype(np.uint16) * gain) == expected
    assert modality(np.full((9, 9, 3), 240, np.uint8)) == "brightfield"
    assert modality(np.full((1, 1, 3), 3, np.uint8)) == "fluorescence"
    assert modality(np.full((9, 9, 3), 100, np.uint16)) == "fluorescence"  # a blank camera frame


def crowd(diameter=20, size=140, seed=0):
    """Nuclei of irregular sizes in a honeycomb, which cover most of the picture: 0 to 1."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    light = np.zeros((size, size))
    for line in range(int(size / diameter * 1.2) + 2):
        for place in range(int(size / diameter) + 2):
            row = line * 0.87 * diameter + random.normal() * 0.5
            column = (place + line % 2 / 2) * diameter + random.normal() * 0.5
            distance = np.hypot(rows - row, columns - column)
            inside = np.clip(0.46 * diameter - distance + 0.5, 0, 1)
            light = np.maximum(light, inside * random.uniform(0.75, 1))
    light = 0.1 + 0.7 * ndimage.gaussian_filter(light, 1.0)
    return np.clip(light + random.normal(size=light.shape) * 0.02, 0, 1)


@pytest.mark.parametrize("diameter", [12, 20, 34])
@pytest.mark.parametrize("border_px", [0, 30])
@pytest.mark.parametrize("full", [255, 4095])
def test_a_field_full_of_nuclei_is_told_by_their_shape(diameter, border_px, full):
    dtype = np.uint8 if full == 255 else np.uint16
    light = crowd(diameter)
    assert (light > 0.45).mean() > 0.6 and np.median(light) > 0.5  # light as bright field is
    for values, edge, expected in (
        (light, 0, "fluorescence"),
        (1 - light, 1, "brightfield"),
        (1 - light, 0, "brightfield"),
    ):
        framed = np.pad(values, border_px, constant_values=edge)
        image = np.repeat((framed * full).astype(dtype)[..., None], 3, axis=2)
        assert modality(image) == expected


@pytest.mark.parametrize("dye", [(0, 0, 1), (0, 1, 0), (0.05, 0.1, 1), (1, 0, 0.8)])
def test_crowded_nuclei_of_one_dye_are_fluorescence_though_coloured(dye):
    image = (crowd()[..., None] * 255 * np.array(dye)).astype(np.uint8)
    assert modality(image) == "fluorescence"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("light", [1.0, 0.6])
def test_each_part_of_a_stained_section_is_tissue_also_without_white(seed, light):
    image, labels = draw("tissue", 160, 160, diameter=20, seed=seed, touching=0.6)
    image = (image * light).astype(np.uint8)
    for row, column in ((0, 0), (0, 80), (80, 0), (80, 80)):
        part = image[row : row + 80, column : column + 80]
        if (labels[row : row + 80, column : column + 80] > 0).any():
            assert modality(part) == "tissue"
    assert modality(immunostained(seed=seed)[0]) == "tissue"


@pytest.mark.parametrize("tint", [(1, 1, 1), (1, 0.96, 0.92), (0.93, 0.97, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_a_tint_of_the_lamp_is_no_stain(tint, seed):
    image, _ = draw("brightfield", 140, 140, diameter=20, seed=seed)
    assert modality((image * np.array(tint)).astype(np.uint8)) == "brightfield"
