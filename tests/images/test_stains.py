"""Stains: what takes which light, and where DAB is."""

import numpy as np
import pytest
from stains_tools import BLUE, BROWN, PINK, immunostained, stained

from nuclei.images.intensity import scaled_to_uint16
from nuclei.images.stains import has_dab, stain_densities, white_of


@pytest.mark.parametrize("white", [255, 4095])
def test_stains_that_are_mixed_are_told_apart(white):
    amounts = np.array([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.3, 0.2, 0.4], [0, 0, 0]])
    colours = (white + 1) * 10.0 ** -(amounts @ np.array([BLUE, PINK, BROWN])) - 1
    np.testing.assert_allclose(stain_densities(colours, white), amounts, atol=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_dab_is_seen_where_some_nuclei_or_membranes_are_brown(dtype):
    brown, _, _ = immunostained(share=0.2, dtype=dtype)
    none, _, _ = immunostained(share=0.0, dtype=dtype)
    assert has_dab(brown) and not has_dab(none)
    membranes = np.zeros((90, 90, 3))
    membranes[::9] = 0.5 * np.array(BROWN)
    assert has_dab(stained(membranes + 0.1 * np.array(BLUE), dtype))


def test_haematoxylin_and_eosin_are_not_dab_however_dense(tissue_image):
    assert not has_dab(tissue_image)
    assert not has_dab((tissue_image * 0.6).astype(np.uint8))  # underexposed
    assert not has_dab(np.full((9, 9, 3), 250, np.uint8))
    assert not has_dab(np.zeros((0, 3), np.uint8), 255)


@pytest.fixture(params=range(4))
def tissue_image(request):
    from synthetic import draw

    return draw("tissue", 160, 160, diameter=20, seed=request.param)[0]


@pytest.mark.parametrize("full_scale", [1.0, 255.0, 4095.0])
def test_one_picture_has_one_density_whatever_its_numbers(tissue_image, full_scale):
    pixels = (tissue_image / 255 * full_scale).astype(np.float32)
    floats = scaled_to_uint16(pixels, "a.tif")
    camera = (tissue_image.astype(np.uint16) + 1) * 16 - 1  # 12 bits
    camera[0, 0] = 65535  # a broken pixel
    expected = stain_densities(tissue_image, np.percentile(tissue_image, 99.8))
    for came in (floats, camera):
        densities = stain_densities(came, white_of(came))
        is_usual = tissue_image.min(axis=-1) > 30  # the darkest differ by the 1 that is added
        assert np.abs(densities - expected)[1:][is_usual[1:]].mean() < 0.01
    assert white_of(np.zeros((0, 3), np.uint16)) == 255 and white_of(floats[:0]) == 255
