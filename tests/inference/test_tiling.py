"""Tiles: their cores partition any image, and maps put together equal those of the whole."""

import numpy as np
import pytest
from inference_tools import model_of, model_of_unet

from nuclei.inference.tiling import (
    cut,
    dihedral,
    predict_strips,
    predict_tiled,
    read_window,
)
from unet import build_unet


@pytest.mark.parametrize("height", [1, 15, 16, 17, 97, 130, 257])
@pytest.mark.parametrize("width", [1, 33, 128, 301])
@pytest.mark.parametrize(("tile", "margin", "multiple"), [(96, 17, 16), (64, 8, 8), (128, 0, 16)])
def test_cores_partition_the_image(height, width, tile, margin, multiple):
    seen = np.zeros((height, width), int)
    windows = cut(height, width, tile, margin, multiple)
    for box, core in windows:
        seen[core.place] += 1
        for start, stop, core_start, core_stop, length in (
            (box.top, box.bottom, core.top, core.bottom, height),
            (box.left, box.right, core.left, core.right, width),
        ):
            assert start % multiple == 0 and stop % multiple == 0 and stop - start <= tile
            assert start <= core_start < core_stop <= stop
            assert (
                core_start == 0 or core_start - start >= margin
            )  # far from every cut that is not the image's edge
            assert core_stop == length or stop - core_stop >= margin
    assert (seen == 1).all()


def test_a_tile_without_core_is_refused():
    with pytest.raises(ValueError, match="--tile"):
        cut(500, 500, tile=64, margin=32, multiple=16)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (131, 77), (160, 301), (97, 240)])
def test_tiled_equals_whole(shape):
    model = model_of_unet(build_unet(width=8, depth=2, stem_stride=2), depth=2, stem_stride=2)
    image = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    whole = predict_tiled(model, image, tile_px=1024)
    tiled = predict_tiled(model, image, tile_px=136, batch_size=3)
    assert whole.shape == (*shape, model.num_maps)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    strips = list(predict_strips(model, image, tile_px=136))
    np.testing.assert_allclose(np.concatenate(strips), whole, atol=1e-5)
    assert len(strips) > 1 or shape[0] <= 136


def test_tiles_are_prepared():
    image = np.full((50, 70, 3), 255, np.uint8)
    model = model_of(lambda batch: batch[..., :1], num_maps=1, margin_px=4, multiple_px=8)
    maps = predict_tiled(model, image, lambda part: part / np.float32(255), tile_px=32)
    assert (maps == 1).all()


def test_filling_up_is_by_reflection():
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    window = cut(3, 4, tile=8, margin=0, multiple=8)[0]
    expected = np.pad(image[..., 0], ((0, 5), (0, 4)), "reflect")
    np.testing.assert_array_equal(read_window(image, window.box)[..., 0], expected)


def test_the_dihedral_mean_does_not_see_orientation():
    model = build_unet(width=4, depth=1, stem_stride=2)
    averaged = dihedral(model.predict_on_batch)
    batch = np.random.default_rng(2).random((2, 16, 24, 3)).astype(np.float32)
    straight = averaged(batch)
    for turns in range(4):
        turned = averaged(np.ascontiguousarray(np.rot90(batch, turns, (1, 2))[:, ::-1]))
        np.testing.assert_allclose(np.rot90(turned[:, ::-1], -turns, (1, 2)), straight, atol=1e-5)
    single = np.asarray(model.predict_on_batch(batch))
    assert np.abs(straight - single).max() > 1e-4  # and it is a mean of different looks
