"""A model with zooms returns maps of each size, mirrored ones averaged, and tiles meet."""

import numpy as np
import pytest
from inference_tools import model_of

from nuclei.inference.tiling import predict_tiled
from nuclei.inference.zooms import ZOOMS, mirrored, tile_geometry, with_zooms
from nuclei.model_file import as_model

BLOCK_PX = 16


def smooth_image(height, width, seed=0):
    """(height, width, 3) float32 in [0, 1], so smooth that any zoom shows the same."""
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    rows, columns = np.mgrid[:height, :width][..., None] / 40
    return (0.5 + 0.5 * np.sin(rows + phases) * np.cos(columns + phases)).astype(np.float32)


def block_means(batch):
    """A network that sees in blocks, as one with pooling does: (B, h, w, 2)."""
    num, height, width, _ = batch.shape
    blocks = batch.reshape(num, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX, 3)
    means = blocks.mean(axis=(2, 4))[..., :2]
    return means.repeat(BLOCK_PX, 1).repeat(BLOCK_PX, 2).astype(np.float32)


def test_the_mirrored_mean_does_not_see_left_from_right():
    def network(batch):
        assert batch.flags.c_contiguous
        return np.stack([batch[..., 0].cumsum(2), batch[..., 1].cumsum(1)], -1)

    batch = np.random.default_rng(2).random((2, 16, 24, 3)).astype(np.float32)
    straight, mirror_image = mirrored(network)(batch), mirrored(network)(batch[:, :, ::-1].copy())
    np.testing.assert_allclose(mirror_image[:, :, ::-1], straight, rtol=1e-4)
    assert straight.dtype == np.float32
    assert (mirrored(lambda batch: 2 * batch)(np.full((1, 4, 4, 1), 0.5)) == 1).all()  # no sum


def test_each_zoom_shows_the_network_another_size_and_returns_its_maps():
    sizes = []

    def network(batch):
        sizes.append(batch.shape[1:3])
        return np.stack([batch[..., 0], np.full(batch.shape[:3], np.float32(len(batch[0])))], -1)

    plain = model_of(network, margin_px=12, multiple_px=16)
    model = with_zooms(plain)
    assert model.zooms == ZOOMS and model.zooms[0] == 1 and plain.zooms == (1.0,)
    image = smooth_image(2 * model.multiple_px, model.multiple_px)
    maps = model(image[None])
    assert maps.shape == (1, *image.shape[:2], model.num_maps) and maps.dtype == np.float32
    for zoom, view in zip(ZOOMS, np.split(maps[0], len(ZOOMS), -1), strict=True):
        height, width = (int(length * zoom) for length in image.shape[:2])
        assert sizes.count((height, width)) == 2 and not (height % 16 or width % 16)
        np.testing.assert_allclose(view[..., 0], image[..., 0], atol=0.02)
        assert (view[..., 1] == height).all()


@pytest.mark.parametrize("shape", [(300, 410), (256, 256), (40, 530)])
def test_tiles_equal_the_whole_at_every_zoom(shape):
    model = with_zooms(model_of(block_means, margin_px=BLOCK_PX, multiple_px=BLOCK_PX))
    image = smooth_image(*shape)
    whole = predict_tiled(model, image, tile_px=4096)
    np.testing.assert_allclose(predict_tiled(model, image, tile_px=192), whole, atol=1e-5)
    assert np.abs(whole[..., :2] - whole[..., 2:4]).max() > 1e-3  # the zooms differ


def test_the_geometry_that_flags_are_checked_by_is_that_of_the_model():
    architecture = {"heads": ["nucleus"], "width": 8, "depth": 3}
    plain = as_model(lambda batch: batch, {"architecture": architecture})
    for model, tta in ((plain, False), (with_zooms(plain), True)):
        geometry = {"margin": model.margin_px, "multiple": model.multiple_px}
        assert tile_geometry(architecture, tta) == geometry


def test_a_margin_covers_the_smallest_zoom():
    for margin_px in (0, 17, 100):
        model = with_zooms(model_of(block_means, margin_px=margin_px))
        assert model.margin_px * min(ZOOMS) >= margin_px
