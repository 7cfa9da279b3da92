"""Bands: the tiles that are cut from incoming maps partition the image and have the right maps."""

from types import SimpleNamespace

import numpy as np
import pytest
from slides_tools import MODEL

from nuclei.images.resize import Resized, resize_maps
from nuclei.inference.tiling import predict_strips, predict_tiled
from nuclei.slides import bands
from nuclei.slides.bands import MirroredBorder, tiles_of_bands


@pytest.mark.parametrize("scale", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("side_px", [72, 136, 2048])
def test_tiles_have_the_maps_of_the_whole_image(tissue, scale, side_px, monkeypatch):
    monkeypatch.setattr(bands, "CORE_PX", 100)
    image = (tissue[:301, :407] / 255).astype(np.float32)
    seen = Resized(image, scale) if scale != 1 else image
    shape = image.shape[:2]
    setup = SimpleNamespace(shape=shape, seen_shape=seen.shape[:2], overlap_px=37)
    expected = resize_maps(predict_tiled(MODEL, seen, tile_px=2048), shape)
    owners = np.zeros(shape, int)
    strips = predict_strips(MODEL, seen, tile_px=side_px, batch_size=2)
    for number, (tile, maps) in enumerate(tiles_of_bands(strips, setup)):
        assert tile.index == number
        owners[tile.core.place] += 1
        np.testing.assert_allclose(maps, expected[tile.region.place], atol=1e-5)
        for axis, length in enumerate(shape):  # the region reaches far enough, or to the border
            core, region = tile.core.place[axis], tile.region.place[axis]
            assert region.start == max(0, core.start - 37)
            assert region.stop == min(length, core.stop + 37)
    assert (owners == 1).all()


def test_only_a_band_of_the_maps_is_at_hand(tissue):
    image = (np.concatenate([tissue[:400]] * 5) / 255).astype(np.float32)
    setup = SimpleNamespace(shape=image.shape[:2], seen_shape=image.shape[:2], overlap_px=30)
    strips = predict_strips(MODEL, image, tile_px=136)
    heights = [tile.window.shape[0] for tile, _ in tiles_of_bands(strips, setup)]
    assert max(heights) < 136 + 2 * 30 + 8 < len(image)


def test_a_border_is_mirrored_where_it_is_read(tissue):
    image, inside = tissue[:200, :200].copy(), np.ones((200, 200), bool)
    inside[:, :60], image[:, :60] = False, 0
    mirrored = MirroredBorder(image, inside)
    assert mirrored.shape == image.shape
    np.testing.assert_array_equal(mirrored[:, 60:], image[:, 60:])
    np.testing.assert_array_equal(mirrored[:50, :50], 0)  # nothing is near: it is dropped anyway
    np.testing.assert_array_equal(mirrored[:, 30:95][:, :30], image[:, 61:91][:, ::-1])
