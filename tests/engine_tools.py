"""Small networks as they are after a training, for the tests of model files and engines."""

import keras
import numpy as np

from nuclei.model_file import save_model
from unet import build_unet

HEADS_AND_SIZE = {"heads": ["nucleus", "distance"], "width": 8, "depth": 1}


def random_images(*shape, seed=0):
    """float32 in [0, 1)."""
    return np.random.default_rng(seed).random(shape, np.float32)


def save_trained(path, seed=0, **architecture):
    """Save a network with batch statistics as after a training; the path and the network."""
    keras.utils.set_random_seed(seed)
    architecture = {**HEADS_AND_SIZE, **architecture}
    network, random = build_unet(**architecture), np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    save_model(path, network, {"architecture": architecture})
    return path, network


def silent(line):
    """Takes the lines for the user and drops them."""
