"""Normalised images fill 0 to 1, except blank ones."""

import numpy as np
import pytest
from images_tools import COLOUR, GREY

from nuclei.images.intensity import intensity_range, normalise, percentiles


def test_normalised_images_fill_0_to_1_and_forget_gain_offset_and_depth():
    plain = normalise(np.dstack([GREY] * 3))
    assert plain.dtype == np.float32 and plain.min() == 0 and plain.max() == 1
    deep = np.dstack([GREY] * 3).astype(np.uint16) * 300 + 777
    np.testing.assert_allclose(normalise(deep), plain, atol=1e-5)


def test_one_range_for_all_channels_and_for_all_tiles():
    low, high = intensity_range(COLOUR)
    expected = np.clip((COLOUR.astype(float) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(normalise(COLOUR), expected, atol=1e-6)
    tile = normalise(COLOUR[:20, 30:], intensity=intensity_range(COLOUR))
    np.testing.assert_array_equal(tile, normalise(COLOUR)[:20, 30:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_histogram_gives_exact_percentiles_in_any_order_and_any_bands(dtype, monkeypatch):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (37, 29, 3)).astype(dtype)
    expected = np.percentile(image, (0.5, 50, 99.8), method="inverted_cdf")
    np.testing.assert_array_equal(percentiles(image, (0.5, 50, 99.8)), expected)
    monkeypatch.setattr("nuclei.images.intensity.BAND_PIXELS", 100)
    np.testing.assert_array_equal(percentiles(image[::-1, ::-1], (0.5, 50, 99.8)), expected)
    with pytest.raises(ValueError, match="float64 came"):
        percentiles(image / 2, (1,))


@pytest.mark.parametrize(("dtype", "noise"), [(np.uint8, 1), (np.uint16, 2)])
@pytest.mark.parametrize("level", [3, 100, 240])
def test_blank_images_are_not_blown_up_and_keep_their_polarity(dtype, noise, level):
    white = np.iinfo(dtype).max / 255
    blank = np.random.default_rng(0).normal(level * white, noise, (64, 64, 3)).clip(0).astype(dtype)
    normalised = normalise(blank)
    assert normalised.std() < 0.2
    assert (normalised.mean() > 0.5) == (level > 128)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_single_pixel_normalises(value, dtype):
    normalised = normalise(np.full((1, 1, 3), value, dtype))
    assert (
        normalised.shape == (1, 1, 3)
        and np.isfinite(normalised).all()
        and 0 <= normalised.min() <= 1
    )
