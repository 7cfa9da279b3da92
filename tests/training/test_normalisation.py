"""Batch normalisation by one kernel: the training is that of Keras's own."""

import keras
import numpy as np
import pytest

from nuclei.training.losses import SegmentationLoss
from nuclei.training.normalisation import FusedBatchNormalization, with_fused_normalisation
from unet import build_unet

NORMALISATION = keras.layers.BatchNormalization
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the kernel is TensorFlow's"
)


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def train_a_little(fused, frozen):
    """Three steps. Returns: weights before, weights after and maps."""
    keras.utils.set_random_seed(2)
    model = build_unet(width=8, depth=2, heads=("nucleus",))
    for layer in model.layers:
        layer.trainable = not (frozen and isinstance(layer, NORMALISATION))
    model = with_fused_normalisation(model) if fused else model
    model.compile(keras.optimizers.SGD(0.1), SegmentationLoss(("nucleus",)))
    before = model.get_weights()
    for seed in range(3):
        truth = (random_images(2, 64, 64, 1, seed=10 + seed) > 0.7).astype(np.float32)
        model.train_on_batch(random_images(2, 64, 64, 3, seed=seed), truth)
    maps = model.predict_on_batch(random_images(2, 64, 64, 3))
    return before, [*model.get_weights(), maps]


@pytest.mark.parametrize("frozen", [False, True])
def test_normalising_by_one_kernel_trains_the_same_network(frozen):
    before, expected = train_a_little(fused=False, frozen=frozen)
    fused_before, fused = train_a_little(fused=True, frozen=frozen)
    changed = [np.abs(a - b).max() > 1e-3 for a, b in zip(before, expected, strict=False)]
    assert sum(changed) > 10
    for ours, theirs in zip([*fused_before, *fused], [*before, *expected], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_copy_has_the_same_layers_and_leaves_the_network_as_it_was():
    model = build_unet(width=8, depth=1)
    copy = with_fused_normalisation(model)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    assert any(isinstance(layer, FusedBatchNormalization) for layer in copy.layers)
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in model.layers)
    weights = zip(copy.get_weights(), model.get_weights(), strict=True)
    assert all(np.array_equal(ours, theirs) for ours, theirs in weights)
