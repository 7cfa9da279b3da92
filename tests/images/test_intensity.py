"""Normalised images fill 0 to 1, except blank ones."""

import numpy as np
import pytest
from images_tools import COLOUR, GREY

from nuclei.images.intensity import (
    FLOAT_PERCENTILES,
    intensity_range,
    normalise,
    percentiles,
    scaled_to_uint16,
)


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
    before = COLOUR.astype(np.float32)
    kept = normalise(before, (0, 200))
    assert kept.max() == 1 and (before == COLOUR).all()  # a range that is given counts


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_histogram_gives_exact_percentiles_in_any_order_and_any_bands(dtype, monkeypatch):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (37, 29, 3)).astype(dtype)
    expected = np.percentile(image, (0.5, 50, 99.8), method="inverted_cdf")
    np.testing.assert_array_equal(percentiles(image, (0.5, 50, 99.8)), expected)
    monkeypatch.setattr("nuclei.images.intensity.BAND_PIXELS", 100)
    np.testing.assert_array_equal(percentiles(image[::-1, ::-1], (0.5, 50, 99.8)), expected)
    assert percentiles(image, (0, 100)) == [image.min(), image.max()]
    single = np.array([[7], [200], [200]], dtype)
    assert percentiles(single, (0, 1, 34, 100)) == [7, 7, 200, 200]
    top = np.full((3, 1), np.iinfo(dtype).max, dtype)
    assert percentiles(top, (50,)) == [np.iinfo(dtype).max]
    with pytest.raises(ValueError, match="float64 came; expected uint8 or uint16, as read_image"):
        percentiles(image / 2, (1,))


@pytest.mark.parametrize("white", [200, 4000])
def test_a_range_at_the_floor_stays_and_a_smaller_one_grows(white):
    dtype = np.uint8 if white < 256 else np.uint16
    floor = 8 if white < 256 else 4000 * 8 / 255
    for span in (floor / 2, np.ceil(floor), 2 * floor):
        image = np.full((10, 10, 3), white, dtype)
        image[:5] -= dtype(span)
        low, high = intensity_range(image)
        assert high - low == pytest.approx(max(span, floor), abs=1)
        assert low <= image.min() and high >= image.max()
        pixels = image.reshape(-1, 3)  # the same values without their places
        assert intensity_range(pixels) == (low, high)


RAMP = np.tile(np.linspace(0, 1, 4000), (6, 1))


@pytest.mark.parametrize(
    ("scale", "shift", "dtype"),
    [
        (1, 0, np.float32),
        (0.2, 0.7, np.float64),
        (2, -1, np.float64),
        (3000, 20, np.float32),
        (90_000, -50_000, np.int32),
        (2**32 - 1, 0, np.uint32),
    ],
)
@pytest.mark.parametrize("band", [None, 4000])
def test_other_depths_are_stretched_up_to_a_percentile_and_0_stays_0(
    scale, shift, dtype, band, monkeypatch
):
    if band:
        monkeypatch.setattr("nuclei.images.intensity.BAND_PIXELS", band)
    values = (RAMP * scale + shift).astype(dtype)
    looked_at = values[:: values.size // band] if band else values  # rows are enough
    low, high = np.percentile(looked_at.astype(float), FLOAT_PERCENTILES)
    seen = np.clip(values.astype(float), low, high)
    low = min(low, 0)
    expected = (seen - low) / (high - low) * 65535
    came = scaled_to_uint16(values, "a.tif")
    assert came.dtype == np.uint16 and came.shape == values.shape
    np.testing.assert_allclose(came, expected, atol=0.51)
    colour = scaled_to_uint16(np.dstack([values] * 3), "a.tif")
    np.testing.assert_allclose(colour, np.dstack([came] * 3), atol=30)


@pytest.mark.parametrize(
    ("level", "noise", "dtype", "counts"),
    [
        (0.5, 0.01, np.float64, 64 * 0.01 / (0.5 * 8 / 255)),
        (-0.5, 0.01, np.float64, 64 * 0.01 / (0.5 * 8 / 255)),
        (0, 64 / 65535 / 2, np.float64, 32),
        (0, 64 / 65535 * 1.01, np.float64, 65535),
        (4000, 100, np.float64, 64 * 100 / (4100 * 8 / 255)),
        (10, 32, np.int32, 32),
        (0, 1, np.int32, 1),
        (2, 1, np.float64, 1),
    ],
)
def test_a_blank_image_of_another_depth_stays_blank(level, noise, dtype, counts):
    values = np.full((40, 50), level, dtype)
    values[::2] += dtype(noise)
    assert np.ptp(scaled_to_uint16(values, "a.tif")) == pytest.approx(counts, rel=0.02, abs=0.5)


@pytest.mark.parametrize("pedestal", [0, 3])
def test_what_is_no_number_is_dark_or_bright(pedestal):
    whole = (RAMP + pedestal) / (1 + pedestal)
    values = whole.copy()
    values[0, :3] = np.nan, np.inf, -np.inf
    came = scaled_to_uint16(values, "a.tif")
    assert came[0, :3].tolist() == [came[1:].min(), 65535, came[1:].min()]
    assert came.min() == pytest.approx(65535 * pedestal / (pedestal + 1), abs=30)
    np.testing.assert_allclose(came[1:], scaled_to_uint16(whole, "a.tif")[1:], atol=30)
    assert scaled_to_uint16(np.array([[np.nan, 5.0]]), "a.tif").shape == (1, 2)
    for nothing in (np.full((3, 3), np.nan), np.array([[np.inf, -np.inf]])):
        with pytest.raises(ValueError, match="^a.tif holds no finite number .*; export it again$"):
            scaled_to_uint16(nothing, "a.tif")
    with pytest.raises(ValueError, match="^a.tif holds complex numbers; expected grey levels$"):
        scaled_to_uint16(RAMP * 1j, "a.tif")


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
