"""Stains: what takes which light, and where DAB is."""

import numpy as np
import pytest
from stains_tools import BLUE, BROWN, PINK, immunostained, stained

from nuclei.images.stains import has_dab, stain_densities


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
