"""What runs the network beside Keras: the simplified network, and LiteRT from both packages."""

import keras
import numpy as np
import pytest
from engine_tools import HEADS_AND_SIZE, random_images, save_trained

from nuclei.inference.runtimes import for_engines, start_litert, write_litert


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
