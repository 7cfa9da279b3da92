"""Tiles: their cores partition any image, and maps put together equal those of the whole."""

import numpy as np
import pytest
from inference_tools import model_of
from scipy import ndimage

from nuclei.images.box import Box
from nuclei.inference.tiling import (
    cut,
    cut_axis,
    predict_scaled,
    predict_strips,
    predict_tiled,
    read_window,
)


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


@pytest.mark.parametrize(("margin", "multiple"), [(17, 16), (8, 8), (0, 16), (5, 1)])
@pytest.mark.parametrize("tile", [80, 96, 131])
def test_tiles_are_few_and_then_small(margin, multiple, tile):
    rounded = -(-margin // multiple) * multiple
    for length in [*range(1, 600, 37), 80, 96, 128, 131]:
        cuts = cut_axis(length, tile, margin, multiple)
        sizes = {stop - start for start, stop, _, _ in cuts}
        assert len(sizes) == 1
        size = sizes.pop()
        padded = -(-length // multiple) * multiple
        largest = tile // multiple * multiple

        def reach(num_tiles, side):
            return side if num_tiles == 1 else num_tiles * (side - 2 * rounded) + 2 * rounded

        assert cuts[-1][1] == padded <= reach(len(cuts), size)
        assert len(cuts) == 1 or reach(len(cuts) - 1, largest) < padded
        assert reach(len(cuts), size - multiple) < padded


@pytest.mark.parametrize(("margin", "multiple"), [(32, 16), (33, 16), (10, 8), (7, 1)])
def test_a_tile_without_core_is_refused_and_the_advice_helps(margin, multiple):
    rounded = -(-margin // multiple) * multiple
    least = 2 * rounded + multiple
    assert len(cut_axis(5000, least, margin, multiple)) > 2
    message = (
        f"^a tile of {least - multiple} px has no core between margins of {rounded} px; give "
        f"--tile {3 * rounded} or more$"
    )
    with pytest.raises(ValueError, match=message):
        cut(9, 5000, least - 1, margin, multiple)
    if multiple <= rounded:
        assert cut(9, 5000, 3 * rounded, margin, multiple)


def looking_around(margin, multiple, log=None):
    """A model without a network that sees `margin` px far, and blocks of `multiple` px."""

    def network(batch):
        assert batch.dtype == np.float32
        num, height, width, _ = batch.shape
        blocks = batch[..., 0].reshape(num, height // multiple, multiple, -1, multiple)
        pooled = blocks.mean((2, 4)).repeat(multiple, 1).repeat(multiple, 2)
        side = 2 * margin + 1
        near = ndimage.uniform_filter(batch[..., 1], (0, side, side), mode="constant")
        if log is not None:
            log.append(batch.shape)
        return np.stack([pooled, near], -1)

    return model_of(network, 2, margin, multiple)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (131, 77), (160, 301), (97, 240)])
@pytest.mark.parametrize(("tile", "batch_size"), [(64, 1), (79, 2), (120, 3)])
def test_tiled_equals_whole(shape, tile, batch_size):
    log = []
    model = looking_around(11, 8, log)
    image = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    whole = predict_tiled(model, image)
    assert whole.shape == (*shape, 2) and len(log) == 1
    log.clear()
    tiled = predict_tiled(model, image, tile_px=tile, batch_size=batch_size)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    num_tiles = len(cut(*shape, tile, 11, 8))
    assert [num for num, *_ in log[:-1]] == [batch_size] * ((num_tiles - 1) // batch_size)
    assert max(max(height, width) for _, height, width, _ in log) <= tile
    log.clear()
    strips = list(predict_strips(model, image, tile_px=tile, batch_size=batch_size))
    np.testing.assert_array_equal(np.concatenate(strips), tiled)
    assert {maps.dtype for maps in (whole, tiled, *strips)} == {np.dtype(np.float32)}
    assert max(num for num, *_ in log) <= batch_size
    assert len(strips) == len(cut(shape[0], 1, tile, 11, 8))


@pytest.mark.parametrize("scale", [1, 0.5, 2])
def test_maps_of_another_scale_have_the_size_of_the_image(scale):
    log = []
    image = np.full((60, 90, 3), 51, np.uint8)
    image[:30, :45] = 255  # a quarter
    maps = predict_scaled(
        model_of(lambda batch: log.append(batch.shape) or batch[..., :2], 2, 4, 8),
        image,
        scale,
        lambda part: part / np.float32(255),
        tile_px=32,
        batch_size=2,
    )
    assert maps.shape == (60, 90, 2)
    assert max(height for _, height, _, _ in log) <= 32 and max(num for num, *_ in log) == 2
    assert (maps[:25, :40] == 1).all() and np.allclose(maps[35:, 50:], 0.2)
    area = sum(num * height * width for num, height, width, _ in log)
    assert area > 0.9 * image[..., 0].size * scale**2


def test_tiles_are_prepared():
    image = np.full((50, 70, 3), 255, np.uint8)
    model = model_of(lambda batch: batch[..., :1], num_maps=1, margin_px=4, multiple_px=8)
    prepare = lambda part: part / np.float32(255)
    assert (predict_tiled(model, image, prepare, tile_px=32) == 1).all()
    assert all((strip == 1).all() for strip in predict_strips(model, image, prepare, tile_px=32))


@pytest.mark.parametrize("beyond", [(0, 0), (5, 0), (0, 4), (2, 3)])
def test_filling_up_is_by_reflection(beyond):
    image = np.arange(42, dtype=np.float32).reshape(6, 7, 1)
    filled = read_window(image, Box(2, 6 + beyond[0], 3, 7 + beyond[1]))
    expected = np.pad(image[2:, 3:, 0], tuple((0, more) for more in beyond), "reflect")
    np.testing.assert_array_equal(filled[..., 0], expected)
