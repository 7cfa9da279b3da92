"""What runs the network beside Keras: the simplified network, and networks for one shape each."""

import keras
import numpy as np
import pytest
from engine_tools import HEADS_AND_SIZE, random_images, save_trained

from nuclei.inference.runtimes import by_shape, for_engines, start_litert, write_litert


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_the_network_for_engines_is_the_same_function(tmp_path, stem_stride, normalisation):
    architecture = {"depth": 2, "stem_stride": stem_stride, "normalisation": normalisation}
    _, network = save_trained(tmp_path / "model.h5", **architecture)
    simple = for_engines(network, {**HEADS_AND_SIZE, **architecture})
    images = random_images(2, 40, 24, 3)
    expected = network.predict_on_batch(images)
    np.testing.assert_allclose(simple.predict_on_batch(images), expected, atol=1e-5)
    complex_layers = keras.layers.BatchNormalization | keras.layers.Conv2DTranspose
    assert not any(isinstance(layer, complex_layers) for layer in simple.layers)


def test_litert_runs_as_a_part_of_tensorflow_too(tmp_path, monkeypatch):
    _, network = save_trained(tmp_path / "model.h5")
    content = write_litert(for_engines(network, HEADS_AND_SIZE))
    monkeypatch.setattr(
        "nuclei.inference.runtimes.is_installed", lambda package: package != "ai_edge_litert"
    )
    images = random_images(2, 16, 48, 3)
    expected = network.predict_on_batch(images)
    np.testing.assert_allclose(start_litert(content)(images), expected, atol=1e-5)


def test_few_shapes_are_kept_ready_and_the_oldest_becomes_the_next(monkeypatch):
    monkeypatch.setattr("nuclei.inference.runtimes.READY_PIXELS", 100)
    started = []

    def start(shape, reusable=None):
        started.append((shape, reusable))
        return lambda batch: batch, shape

    network = by_shape(start)
    shapes = ((1, 4, 4, 3), (1, 4, 8, 3), (1, 16, 16, 3))
    small, other, large = (np.zeros(shape, np.float32) for shape in shapes)
    for batch in (small, other, small, large, small):
        network(batch)
    assert started == [
        (small.shape, None),
        (other.shape, None),
        (large.shape, small.shape),
        (small.shape, large.shape),
    ]
