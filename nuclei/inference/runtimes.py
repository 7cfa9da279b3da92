"""The programs other than Keras that can run the network on a CPU, and the network as they need it.

A trained network is first simplified (`for_engines`), then written as the bytes of a LiteRT file
(`Runtime.write`). From these bytes an engine starts without Keras (`Runtime.start`). OpenVINO reads
the files of LiteRT.
"""

import functools
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.inference.ready import ReadyNetworks
from nuclei.machine import is_installed, num_cores
from nuclei.quiet import hold_noise
from unet import build_unet


def for_engines(model, architecture):
    """Build the same function as a network, of fewer and simpler layers.

    Batch normalisation is folded into the convolution before it. A transposed convolution of 2 x 2
    with stride 2 becomes a convolution of 1 x 1 to four times the filters, laid out as 2 x 2
    pixels: engines know this for any size of image.

    Args:
        model: a network of `build_unet`.
        architecture: the keyword arguments of `build_unet` that it was built with.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: Keras runs on another backend than TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "engines are prepared from TensorFlow, but Keras runs on "
            f"{keras.backend.backend()}: set KERAS_BACKEND=tensorflow"
        )
    import tensorflow

    arrays = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gain, offset, mean, variance = layer.get_weights()
            gain = gain / np.sqrt(variance + layer.epsilon)
            arrays[-1] = arrays[-1] * gain  # the convolution's kernel; filters are its last axis
            arrays.append(offset - mean * gain)
        elif isinstance(layer, keras.layers.Conv2DTranspose):
            kernel, bias = layer.get_weights()  # (2, 2, filters, channels)
            kernel = kernel.transpose(3, 0, 1, 2).reshape(1, 1, kernel.shape[3], -1)
            arrays += [kernel, np.tile(bias, 4)]
        else:
            arrays += layer.get_weights()
    is_batch = architecture.get("normalisation", "batch") == "batch"
    folded = {**architecture, "normalisation": "none"} if is_batch else architecture

    def simpler(layer, *inputs, **options):
        if not isinstance(layer, keras.layers.Conv2DTranspose):
            return layer(*inputs, **options)
        x = keras.layers.Conv2D(4 * layer.filters, 1)(*inputs)
        return keras.layers.Lambda(lambda x: tensorflow.nn.depth_to_space(x, 2))(x)

    simple = keras.models.clone_model(build_unet(**folded), call_function=simpler)
    simple.set_weights(arrays)
    return simple


def as_function(model):
    """Turn a Keras model into a TensorFlow graph whose weights are constants, for any image size.

    Convolution, bias and ReLU can be fused only with constants. LiteRT's converter also drops
    weights that are variables of Keras 3.
    """
    import tensorflow
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    channels = model.inputs[0].shape[-1]
    signature = [tensorflow.TensorSpec((None, None, None, channels), tensorflow.float32)]
    function = tensorflow.function(
        lambda image: model(image, training=False), input_signature=signature
    )
    return convert_variables_to_constants_v2(function.get_concrete_function())


def write_litert(model, int8=False) -> bytes:
    """Convert a model of `for_engines` to a file of LiteRT, TensorFlow's runtime for small devices.

    Args:
        model: a `keras.Model`.
        int8: 8 bits for the weights, with one scale for each filter, and 8 bits between the layers.
            LiteRT takes the scale between the layers from each image ("dynamic range
            quantisation"), so that nothing is calibrated.
    """
    import tensorflow

    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions(
        [as_function(model)], tensorflow.Module()
    )
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT] if int8 else []
    return converter.convert()


def start_litert(content: bytes) -> ReadyNetworks:
    """Start LiteRT, from its own package or as a part of TensorFlow.

    Args:
        content: what `write_litert` returned.

    Returns:
        The network: from (B, h, w, C) float32 to (B, h, w, K) float32.
    """
    if is_installed("ai_edge_litert"):  # starts without TensorFlow
        from ai_edge_litert.interpreter import Interpreter
    else:
        with hold_noise():
            from tensorflow.lite.python.interpreter import Interpreter

        # At each start TensorFlow announces ai_edge_litert, which the lines above prefer.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")

    def start(shape, cores, interpreter):
        with hold_noise():
            interpreter = interpreter or Interpreter(model_content=content, num_threads=cores)
            image = interpreter.get_input_details()[0]["index"]
            maps = interpreter.get_output_details()[0]["index"]
            interpreter.resize_tensor_input(image, shape)
            interpreter.allocate_tensors()

        def call(batch):
            interpreter.set_tensor(image, batch)
            interpreter.invoke()
            return interpreter.get_tensor(maps)

        return call, interpreter

    return ReadyNetworks(start)


def start_openvino_half(content: bytes) -> ReadyNetworks:
    """Start OpenVINO, Intel's runtime, in half precision where the CPU has it.

    Argument and result are those of `start_litert`.
    """
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # the file below is removed at once
    with tempfile.TemporaryDirectory() as folder:  # OpenVINO knows this kind of file by its suffix
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        model = core.read_model(path)
    # Compiled once for any shape: one shape alone is hardly faster and is compiled each time.
    model.reshape([-1, -1, -1, model.input(0).partial_shape[3].get_length()])

    def start(shape, cores, reusable):
        options = {
            "INFERENCE_PRECISION_HINT": "f16",
            "INFERENCE_NUM_THREADS": cores,
            # Several networks would be pinned to the same cores.
            "ENABLE_CPU_PINNING": cores == num_cores(),
        }
        with hold_noise():
            compiled = core.compile_model(model, "CPU", options)
        return (lambda batch: compiled(batch)[0]), None

    return ReadyNetworks(start, any_shape=True)


class Runtime(NamedTuple):
    """An engine other than Keras.

    Attributes:
        write: from a model of `for_engines` to the bytes that the engine starts from.
        start: from these bytes to the network.
    """

    write: Callable
    start: Callable[[bytes], ReadyNetworks]


RUNTIMES = {
    "litert": Runtime(write_litert, start_litert),
    "litert-int8": Runtime(functools.partial(write_litert, int8=True), start_litert),
    "openvino-half": Runtime(write_litert, start_openvino_half),
}
