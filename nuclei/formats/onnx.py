"""nuclei.formats.onnx"""

import numpy as np

from nuclei.files import replacing
from nuclei.machine import require
from unet import receptive_radius, size_multiple

MODEL_TOLERANCE = 1e-3  # of a probability, between Keras and an exported model; measured: 1e-6


def geometry_of(settings):
    """Of a model's settings: pixels that sizes must be a multiple of, and how far the network sees."""

    architecture = settings["architecture"]
    shape = {name: architecture[name] for name in ("depth", "stem_stride") if name in architecture}
    return size_multiple(**shape), receptive_radius(**shape)


def check_same(what, expected, came):
    """Compare an exported model's maps with Keras's: the largest difference. Raises: ValueError where it is too large."""
    difference = float(np.abs(np.asarray(expected, float) - np.asarray(came, float)).max())
    if not difference <= MODEL_TOLERANCE:
        raise ValueError(f"{what} differs from Keras by {difference:.2g}, more than {MODEL_TOLERANCE}; nothing was written")
    return difference


def export_onnx(model, settings, path):
    """Write the network as ONNX, (batch, height, width, 3) -> (batch, height, width, maps), run it and compare it.

    Returns: the largest difference from Keras, on two sizes and batches.
    Raises: ValueError where a package is missing, Keras's backend cannot export, or the two differ.
    """
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(f"Keras runs on {backend}; ONNX is exported from TensorFlow: set KERAS_BACKEND=tensorflow")
    require(("tf2onnx", "onnx", "onnxruntime"), "the export to ONNX")
    import onnx
    import onnxruntime

    multiple, _ = geometry_of(settings)
    channels = model.inputs[0].shape[-1]
    random = np.random.default_rng(0)
    inputs = [random.random((1, 2 * multiple, 3 * multiple, channels), np.float32)]
    inputs.append(random.random((2, 4 * multiple, 2 * multiple, channels), np.float32))
    expected = [model.predict_on_batch(batch) for batch in inputs]  # a model that was never called is not exported
    with replacing(path) as temporary:
        model.export(str(temporary), format="onnx", verbose=False)
        written = onnx.load(str(temporary))
        # Names of the axes and of the output instead of the converter's "unk__861" and "Identity:0".
        graph = written.graph
        produced = graph.output[0].name
        for node in graph.node:
            node.output[:] = ["maps" if name == produced else name for name in node.output]
            node.input[:] = ["maps" if name == produced else name for name in node.input]
        graph.output[0].name = "maps"
        for tensor in (graph.input[0], graph.output[0]):
            for axis, name in zip(tensor.type.tensor_type.shape.dim, ("batch", "height", "width"), strict=False):
                axis.dim_param = name
        onnx.checker.check_model(written)
        onnx.save(written, str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return max(
            check_same("the ONNX file", maps, session.run(["maps"], {name: batch})[0])
            for batch, maps in zip(inputs, expected, strict=True)
        )
