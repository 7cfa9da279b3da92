"""The network as ONNX, for programs without Keras.

`export_onnx` has Keras write the file, gives its axes plain names, runs it by onnxruntime and
compares the maps with those of Keras. A file that differs is not written.
"""

import warnings

import numpy as np

from nuclei.files import replacing
from nuclei.machine import require
from unet import network_geometry

MODEL_TOLERANCE = 1e-3  # largest difference of a probability; rounding alone makes about 1e-6
AXES = ("batch", "height", "width")  # names of the axes whose length is free


def check_same(what, expected, actual):
    """Compare the maps of an exported model with those of Keras.

    Returns:
        The largest difference.

    Raises:
        ValueError: it is larger than MODEL_TOLERANCE, or not a number.
    """
    difference = float(np.abs(np.asarray(expected, float) - np.asarray(actual, float)).max())
    if not difference <= MODEL_TOLERANCE:
        raise ValueError(
            f"{what} differs from Keras by {difference:.2g}; expected at most {MODEL_TOLERANCE}. "
            "Nothing was written"
        )
    return difference


def name_axes(model):
    """Rename the output of an ONNX model to "maps" and its free axes to AXES, in place.

    The converter calls them "Identity:0" and "unk__861".
    """
    graph = model.graph
    converter_name = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["maps" if name == converter_name else name for name in node.output]
        node.input[:] = ["maps" if name == converter_name else name for name in node.input]
    graph.output[0].name = "maps"
    for tensor in (graph.input[0], graph.output[0]):
        for axis, name in zip(tensor.type.tensor_type.shape.dim, AXES, strict=False):
            axis.dim_param = name


def export_onnx(network, settings, path):
    """Write the network as ONNX, run it and compare it with Keras.

    It goes from (batch, height, width, 3) to (batch, height, width, maps), both float32.

    Args:
        network: a `keras.Model`.
        settings: of its model file; "architecture" is read.
        path: the file to write.

    Returns:
        The largest difference from Keras, over two sizes and two batches.

    Raises:
        ValueError: a package is missing, Keras's backend cannot export, or the maps differ.
    """
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"Keras runs on {backend}; ONNX is exported from TensorFlow: set "
            "KERAS_BACKEND=tensorflow"
        )
    require(("tf2onnx", "onnx", "onnxruntime"), "the export to ONNX")
    import onnx
    import onnxruntime

    multiple = network_geometry(settings["architecture"])["multiple"]
    num_channels = network.inputs[0].shape[-1]
    random = np.random.default_rng(0)
    shapes = ((1, 2 * multiple, 3 * multiple), (2, 4 * multiple, 2 * multiple))
    batches = [random.random((*shape, num_channels), np.float32) for shape in shapes]
    # Before the export, because Keras exports only a model that has run.
    expected = [network.predict_on_batch(batch) for batch in batches]
    with replacing(path) as temporary:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"In the future `np.object`", FutureWarning)
            network.export(str(temporary), format="onnx", verbose=False)  # Keras asks for np.object
        model = onnx.load(str(temporary))
        name_axes(model)
        onnx.checker.check_model(model)
        onnx.save(model, str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        image = session.get_inputs()[0].name
        return max(
            check_same("the ONNX file", maps, session.run(["maps"], {image: batch})[0])
            for batch, maps in zip(batches, expected, strict=True)
        )
