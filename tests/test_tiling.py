"""Windows: their cores partition any image, and stitched maps equal those of the whole."""

import numpy as np
import pytest

import tiling
import unet


@pytest.mark.parametrize("height", [1, 15, 16, 17, 97, 130, 257])
@pytest.mark.parametrize("width", [1, 33, 128, 301])
@pytest.mark.parametrize(("tile", "margin", "multiple"), [(96, 17, 16), (64, 8, 8), (128, 0, 16)])
def test_cores_partition_the_image(height, width, tile, margin, multiple):
    seen = np.zeros((height, width), int)
    windows = tiling.cut(height, width, tile, margin, multiple)
    for w in windows:
        seen[w.core_top : w.core_bottom, w.core_left : w.core_right] += 1
        for start, stop, core_start, core_stop, length in (
            (w.top, w.bottom, w.core_top, w.core_bottom, height),
            (w.left, w.right, w.core_left, w.core_right, width),
        ):
            assert start % multiple == 0 and stop % multiple == 0 and stop - start <= tile
            assert start <= core_start < core_stop <= stop
            assert core_start == 0 or core_start - start >= margin  # far from every cut that is not the image's edge
            assert core_stop == length or stop - core_stop >= margin
    assert (seen == 1).all()


def test_a_tile_without_core_is_refused():
    with pytest.raises(ValueError, match="--tile"):
        tiling.cut(500, 500, tile=64, margin=32, multiple=16)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (131, 77), (160, 301), (97, 240)])
def test_tiled_equals_whole(shape):
    model = unet.build_unet(width=8, depth=2, stem_stride=2)
    geometry = {"margin": unet.receptive_radius(2, 2), "multiple": unet.size_multiple(2, 2)}
    image = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    whole = tiling.predict_tiled(model.predict_on_batch, image, 2, tile=1024, **geometry)
    tiled = tiling.predict_tiled(model.predict_on_batch, image, 2, tile=136, batch_size=3, **geometry)
    assert whole.shape == (*shape, 2)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_the_default_margin_fits_the_default_network():
    assert unet.receptive_radius() <= tiling.MARGIN_PX
    assert unet.size_multiple() == tiling.MULTIPLE_PX


def test_windows_are_prepared_and_counted():
    done = []
    image = np.full((50, 70, 3), 255, np.uint8)
    maps = tiling.predict_tiled(
        lambda batch: batch[..., :1], image, 1, prepare=lambda part: part / np.float32(255), tile=32, margin=4, multiple=8,
        on_window=done.append,
    )  # fmt: skip
    assert (maps == 1).all() and sum(done) == 50 * 70


def test_filling_up_is_by_reflection():
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    window = tiling.cut(3, 4, tile=8, margin=0, multiple=8)[0]
    np.testing.assert_array_equal(tiling.read_window(image, window)[..., 0], np.pad(image[..., 0], ((0, 5), (0, 4)), "reflect"))
