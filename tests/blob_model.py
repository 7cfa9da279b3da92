"""A model file for tests: a network that finds bright blobs, without any training."""

import numpy as np

from nuclei.model_file import save_model
from unet import build_unet

ARCHITECTURE = {
    "heads": ["nucleus", "distance"],
    "width": 8,
    "depth": 1,
    "stem_stride": 1,
    "normalisation": "none",
}


def write_blob_model(path):
    """Write a model file whose maps are the brightness of the image, and return its path."""
    import keras

    network = build_unet(**ARCHITECTURE)
    network.set_weights([np.zeros_like(weights) for weights in network.get_weights()])
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    first, second, last = convolutions[0], convolutions[1], convolutions[-1]
    kernel, bias = first.get_weights()
    kernel[1, 1, :, 0] = 1 / 3
    first.set_weights([kernel, bias])
    kernel, bias = second.get_weights()
    kernel[1, 1, 0, 0] = 1
    second.set_weights([kernel, bias])
    for layer in convolutions[4:-1]:  # the decoder: the skip's first channel follows 8 upsampled
        kernel, bias = layer.get_weights()
        kernel[1, 1, 8 if layer is convolutions[4] else 0, 0] = 1
        layer.set_weights([kernel, bias])
    kernel, bias = last.get_weights()
    kernel[0, 0, 0, :], bias[:] = 30, -10
    last.set_weights([kernel, bias])
    save_model(path, network, {"architecture": ARCHITECTURE, "thresholds": {"min_area_px": 15}})
    return path
