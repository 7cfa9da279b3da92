"""Resizing: a part equals that part of the whole, and nothing moves."""

import cv2
import numpy as np
import pytest
from inference_tools import model_of

from nuclei.images.box import Box
from nuclei.images.resize import Resized, resize_maps, taps
from nuclei.inference.tiling import predict_scaled


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.9, 1.3, 2.5])
def test_a_part_of_a_resized_image_is_that_part_of_the_whole(scale):
    image = np.random.default_rng(1).integers(0, 65535, (113, 190, 3)).astype(np.uint16)
    resized = Resized(image, scale)
    height, width = resized.shape[:2]
    assert (height, width) == (round(113 * scale), round(190 * scale))
    whole = resized[0:height, 0:width]
    part = resized[height // 3 : height // 3 + 11, width // 2 : width + 5]
    np.testing.assert_array_equal(part, whole[height // 3 : height // 3 + 11, width // 2 :])
    sized = Resized(image, size=(height, width))
    np.testing.assert_array_equal(sized[0:height, 0:width], whole)


@pytest.mark.parametrize("shape", [(60, 81), (113, 190), (130, 500), (340, 191)])
def test_a_part_of_resized_maps_is_that_part_of_the_whole(shape):
    maps = np.random.default_rng(1).random((113, 190, 3)).astype(np.float32)
    whole = resize_maps(maps, shape)
    assert whole.shape == (*shape, 3) and whole.dtype == np.float32
    way = cv2.INTER_AREA if shape[0] < 113 else cv2.INTER_LINEAR
    if (shape[0] < 113) == (shape[1] < 190):  # OpenCV goes one way for both axes
        np.testing.assert_allclose(
            whole, cv2.resize(maps, shape[::-1], interpolation=way), atol=1e-5
        )
    box = Box(shape[0] // 3, shape[0] // 2, 7, shape[1])
    needed = [
        taps(span.start, span.stop, maps.shape[axis], shape[axis])[0]
        for axis, span in enumerate(box.place)
    ]
    top, left = (indices.min() for indices in needed)
    part = maps[top : needed[0].max() + 1, left : needed[1].max() + 1]
    part = resize_maps(part, shape, maps.shape[:2], (top, left), box)
    np.testing.assert_array_equal(part, whole[box.place])


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
def test_resizing_keeps_places_and_brightness(scale):
    """A smooth hill stays where it is and as high as it is: no shift by half a pixel, no gain."""
    rows, columns = np.mgrid[:120, :160]
    hill = np.exp(-((rows - 47.0) ** 2 + (columns - 90.0) ** 2) / (2 * 14.0**2))
    hill = hill.astype(np.float32)[..., None].repeat(3, -1)
    model = model_of(lambda batch: batch[..., :2], margin_px=8, multiple_px=8)
    maps = predict_scaled(model, hill, scale, tile_px=96)
    assert maps.shape == (120, 160, 2)
    assert np.abs(maps - hill[..., :2]).max() < 0.02
    total = maps[..., 0].sum()
    centre = (maps[..., 0] * rows).sum() / total, (maps[..., 0] * columns).sum() / total
    centre_row = (hill[..., 0] * rows).sum() / hill[..., 0].sum()
    np.testing.assert_allclose(centre, [centre_row, 90.0], atol=0.15)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_one_pixel_survives_any_scale(scale):
    model = model_of(lambda batch: batch[..., :2], margin_px=224, multiple_px=32)
    assert predict_scaled(model, np.ones((1, 1, 3), np.float32), scale).shape == (1, 1, 2)
