"""nuclei.inference.runtimes"""

import functools
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np

from nuclei.machine import is_installed, num_cores
from unet import build_unet

READY_PIXELS = 1_500_000  # of the shapes that the networks of an engine keep ready together, some 200 bytes each


def for_engines(model, architecture):
    """The same function as `model` with fewer and simpler layers, for TensorFlow and its converters.

    Batch normalisation is folded into the convolutions before it. A transposed convolution of 2 x 2 with stride 2 becomes
    a convolution of 1 x 1 to four times the filters, laid out as 2 x 2 pixels: engines know it for any size of image.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"it is made from TensorFlow, and Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=tensorflow"
        )
    import tensorflow

    arrays = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gain, offset, mean, variance = layer.get_weights()
            gain = gain / np.sqrt(variance + layer.epsilon)
            arrays[-1] = arrays[-1] * gain  # of the convolution, whose last axis are the filters
            arrays.append(offset - mean * gain)
        elif isinstance(layer, keras.layers.Conv2DTranspose):
            kernel, bias = layer.get_weights()  # (2, 2, filters, channels)
            arrays += [kernel.transpose(3, 0, 1, 2).reshape(1, 1, kernel.shape[3], -1), np.tile(bias, 4)]
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
    """A Keras model as one TensorFlow graph for batches and images of any size, its weights in it as constants: only so
    can convolution, bias and ReLU be fused, and LiteRT's converter leaves out weights that are variables of Keras 3."""
    import tensorflow
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    channels = model.inputs[0].shape[-1]
    signature = [tensorflow.TensorSpec((None, None, None, channels), tensorflow.float32)]
    function = tensorflow.function(lambda image: model(image, training=False), input_signature=signature)
    return convert_variables_to_constants_v2(function.get_concrete_function())


def converted(model, name):
    """A model of `for_engines` as an engine runs it, and the bytes from which that engine can be started without Keras."""
    write, run = RUNTIMES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"  # the suffix is what Keras's export to ONNX asks for
        write(model, path)
        content = path.read_bytes()
    return run(content), content


def write_tensorflow(model, path):
    """A file for `run_tensorflow`: the names of input and output, and the graph."""
    function = as_function(model)
    names = [function.inputs[0].name, function.outputs[0].name]
    path.write_bytes(json.dumps(names).encode() + b"\n" + function.graph.as_graph_def().SerializeToString())


def run_tensorflow(file):
    """Plain TensorFlow, on all cores. file: the bytes that `write_tensorflow` wrote."""
    import tensorflow

    names, _, graph = file.partition(b"\n")
    image, maps = json.loads(names)
    definition = tensorflow.compat.v1.GraphDef.FromString(graph)
    wrapped = tensorflow.compat.v1.wrap_function(lambda: tensorflow.graph_util.import_graph_def(definition, name=""), [])
    function = wrapped.prune(wrapped.graph.as_graph_element(image), wrapped.graph.as_graph_element(maps))
    return lambda batch: function(tensorflow.constant(batch)).numpy()


def write_litert(model, path, int8=False):
    """A file for LiteRT, TensorFlow's runtime for small devices; OpenVINO reads it, too.

    Args:
        int8: weights of 8 bits, one scale for each filter, and 8 bits for what flows between the layers, whose scale LiteRT
            takes from each image as it comes ("dynamic range quantisation"): nothing has to be calibrated.
    """
    import tensorflow

    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([as_function(model)], tensorflow.Module())
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT] if int8 else []
    path.write_bytes(converter.convert())


def run_litert(file, cores=None):
    """LiteRT, from its own package or as a part of TensorFlow.

    Args:
        file: the bytes that `write_litert` wrote.
        cores: to use; the default is all.
    """
    if is_installed("ai_edge_litert"):  # starts without TensorFlow
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tensorflow.lite.python.interpreter import Interpreter

        # It announces at each start that ai_edge_litert will replace it, which is what the lines above are for.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")

    def start(shape, interpreter=None):
        interpreter = interpreter or Interpreter(model_content=file, num_threads=cores or num_cores())
        image, maps = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        interpreter.resize_tensor_input(image, shape)
        interpreter.allocate_tensors()

        def call(batch):
            interpreter.set_tensor(image, batch)
            interpreter.invoke()
            return interpreter.get_tensor(maps)

        return call, interpreter

    return by_shape(start, cores)


def run_openvino(file, cores=None, precision="f32"):
    """Intel's runtime, which reads LiteRT's files. file, cores: as `run_litert`. precision: "f16" for half, if there."""
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # so that the file may go
    with tempfile.TemporaryDirectory() as folder:  # such files are known by their suffix only, not from memory
        path = Path(folder) / "model.tflite"
        path.write_bytes(file)
        model = core.read_model(path)
    options = {
        "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": cores or num_cores(),
        "ENABLE_CPU_PINNING": cores is None,  # several networks would be pinned to the same cores
    }  # fmt: skip

    # For one shape alone it is 5 % faster, but takes a tenth of a second to compile for each.
    model.reshape([-1, -1, -1, model.input(0).partial_shape[3].get_length()])
    compiled = core.compile_model(model, "CPU", options)
    return lambda batch: compiled(np.ascontiguousarray(batch))[0]


def write_onnx(model, path):
    """A file for ONNX Runtime."""
    as_function(model)  # a model that was never called is not exported
    model.export(str(path), format="onnx", verbose=False)


def run_onnx(file, cores=None):
    """ONNX Runtime. file: the bytes that `write_onnx` wrote. cores: as `run_litert`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores or num_cores()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0].name
    return lambda batch: session.run(None, {image: batch})[0]


def by_shape(start, cores=None):
    """A network made of networks for one shape each. Those used last are kept ready.

    Args:
        start: from a shape, and what it returned beside a network that is no longer needed (or None), to a network of this
            shape and something by which it can be turned into one of another shape, which is sooner done (or None).
        cores: that it uses, with which goes its share of READY_PIXELS; the default is all.
    """
    most = 3 * READY_PIXELS * (cores or num_cores()) // num_cores()
    ready = {}  # shape -> network, what it can be turned into another one by, and the largest it was; last used at the end

    def network(batch):
        found = ready.pop(batch.shape, None)
        if found is None:
            old, size = None, batch.size
            while ready and sum(largest for *_, largest in ready.values()) + size > most:
                _, old, largest = ready.pop(next(iter(ready)))
                size = batch.size if old is None else max(batch.size, largest)  # what is turned keeps its memory
            found = (*start(batch.shape, old), size)
        ready[batch.shape] = found
        return found[0](np.ascontiguousarray(batch))

    return network


RUNTIMES = {  # of each engine but Keras: what writes its file from a model of `for_engines`, and what runs that file
    "litert": (write_litert, run_litert),
    "litert-int8": (functools.partial(write_litert, int8=True), run_litert),
    "openvino": (write_litert, run_openvino),
    "openvino-half": (write_litert, functools.partial(run_openvino, precision="f16")),
    "onnx": (write_onnx, run_onnx),
    "tensorflow": (write_tensorflow, run_tensorflow),
}
