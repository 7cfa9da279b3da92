"""The network: its shapes and its figure, its geometry, and that a step of training helps."""

import itertools

import keras
import numpy as np
import pytest
from inference_tools import model_of_unet

from nuclei.inference.tiling import predict_tiled
from nuclei.training.losses import SegmentationLoss, pixel_metrics
from unet import HEADS, build_unet, network_geometry, receptive_radius, size_multiple


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_any_size_that_is_a_multiple_keeps_its_size(stem_stride, normalisation):
    shape = {"stem_stride": stem_stride, "normalisation": normalisation}
    model = build_unet(width=8, depth=2, heads=("nucleus",), **shape)
    multiple = size_multiple(depth=2, stem_stride=stem_stride)
    maps = model.predict_on_batch(random_images(2, multiple * 3, multiple * 5, 3))
    assert maps.shape == (2, multiple * 3, multiple * 5, 1)
    assert maps.min() >= 0 and maps.max() <= 1


def test_the_classic_network_is_one_call():
    model = build_unet(width=64, depth=4, stem_stride=1)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    filters = [layer.filters for layer in convolutions if layer.kernel_size == (3, 3)]
    levels = (64, 128, 256, 512, 1024, 512, 256, 128, 64)
    assert filters == [number for number in levels for _ in range(2)]
    assert sum(isinstance(layer, keras.layers.Conv2DTranspose) for layer in model.layers) == 4
    assert sum(isinstance(layer, keras.layers.Concatenate) for layer in model.layers) == 4


def test_equal_layers_do_not_start_equal():
    keras.utils.set_random_seed(1)
    model = build_unet(width=8, depth=1)
    kernels = [w for w in model.get_weights() if w.ndim == 4]
    pairs = itertools.combinations(kernels, 2)
    same_shape = [(a, b) for a, b in pairs if a.shape == b.shape]
    assert same_shape
    assert all(np.abs(a - b).max() > 1e-3 for a, b in same_shape)


@pytest.mark.parametrize(
    "arguments", [{"width": 0}, {"depth": 0}, {"stem_stride": 3}, {"heads": ()}]
)
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        build_unet(**arguments)


def test_normalisations_are_checked():
    with pytest.raises(ValueError, match="layer"):
        build_unet(normalisation="layer")


@pytest.mark.parametrize(("depth", "stem_stride"), [(2, 2), (2, 1), (3, 2)])
def test_nothing_beyond_the_receptive_radius_matters(depth, stem_stride):
    model = build_unet(width=8, depth=depth, stem_stride=stem_stride)
    radius = receptive_radius(depth, stem_stride)
    size = 2 * 128
    image = random_images(1, size, 64, 3)
    before = model.predict_on_batch(image)
    row = size // 2 + 3
    image[0, row] = 1 - image[0, row]
    change = np.abs(model.predict_on_batch(image) - before)[0].max((1, 2))
    touched = np.flatnonzero(change > 0)
    assert touched.size
    reach = max(row - touched.min(), touched.max() - row)
    assert radius - size_multiple(depth, stem_stride) <= reach <= radius  # and it is tight


def test_a_step_of_training_lowers_the_loss_on_its_batch():
    keras.utils.set_random_seed(0)
    model = build_unet(width=8, depth=1)
    optimizer = keras.optimizers.AdamW(1e-2)
    model.compile(optimizer, loss=SegmentationLoss(HEADS), metrics=pixel_metrics())
    images = random_images(4, 32, 32, 3)
    truth = np.repeat((images[..., :1] > 0.5).astype(np.float32), len(HEADS), -1)
    first = model.train_on_batch(images, truth, return_dict=True)
    for _ in range(15):
        last = model.train_on_batch(images, truth, return_dict=True)
    assert last["loss"] < first["loss"]
    assert set(last) == {"loss", "accuracy", "dice", "iou"}


@pytest.mark.parametrize("heads", [["distance"], ["nucleus", "contact"], ["contact", "nucleus"]])
def test_heads_come_in_their_order(heads):
    with pytest.raises(ValueError, match="must be the first one, two or three"):
        build_unet(heads=heads, width=4, depth=1)


def test_the_geometry_follows_from_the_architecture():
    architecture = {"heads": ["nucleus"], "width": 8, "depth": 2, "stem_stride": 1}
    expected = {"margin": receptive_radius(2, 1), "multiple": size_multiple(2, 1)}
    assert network_geometry(architecture) == expected
    assert network_geometry({}) == {"margin": receptive_radius(), "multiple": size_multiple()}


def test_tiles_of_a_network_equal_the_whole():
    """Its margin is as wide as what it sees, and its multiple that of its pooling."""
    model = model_of_unet(build_unet(width=4, depth=2, stem_stride=2), depth=2, stem_stride=2)
    image = np.random.default_rng(0).random((131, 170, 3)).astype(np.float32)
    whole = predict_tiled(model, image)
    np.testing.assert_allclose(predict_tiled(model, image, tile_px=136), whole, atol=1e-5)
