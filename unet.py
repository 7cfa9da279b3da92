"""The network: a U-Net whose decoder upsamples by transposed convolution, and the file it lives in.

    model = build_unet()                                          # the default: for a laptop's minutes
    model = build_unet(width=64, depth=4, stem_stride=1)          # the network of the paper

    save_model("Saved_Model/trained_model.h5", model, {"thresholds": ...})
    model, settings = load_model("Saved_Model/trained_model.h5")
    network, words = engine("Saved_Model/trained_model.h5")       # (B, h, w, 3) -> (B, h, w, K), the fastest way there is

The figure, for the default (stem_stride=2, depth=4); numbers are filters, every row is half the size of the row above:

    image 3 ------------------------------------------------------------- skip --> [8 + 3] 8 -> maps
      stem, stride 2: 16                                                           ^ transposed convolution
          16 16 --------------------------------------------- skip --> [16 + 16] 16 16
              32 32 --------------------------------- skip --> [32 + 32] 32 32
                  64 64 --------------------- skip --> [64 + 64] 64 64
                      128 128 ------- skip --> [128 + 128] 128 128
                          256 256 (bottleneck) ^ transposed convolution

The layers are Keras's own, so that `keras.models.load_model` opens the file too, and nothing here depends on
TensorFlow: KERAS_BACKEND=jax or torch runs the same code.
"""

import atexit
import contextlib
import functools
import hashlib
import importlib.util
import json
import math
import os
import pickle
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np

HEADS = ("nucleus", "distance", "contact")  # what the network can paint, in this order; `augment.targets` says what it means
WIDTH = 16  # filters of the first level, doubled at each level below
DEPTH = 4  # number of times that the encoder halves the size, after the stem
STEM_STRIDE = 2  # 2: the first convolution halves the size, because full-resolution levels take most of a CPU's time
HEAD_FILTERS = 8  # filters of the one full-resolution convolution of a network with stem_stride 2
START_LOGIT = -1.5  # of every map: training starts at a probability of 0.18, near the share of nuclei (0.14 in BBBC038)
MOMENTUM = 0.95  # of the batch statistics: Keras's 0.99 lags behind in runs of a few hundred steps
ENGINES = ("openvino", "litert", "tensorflow", "onnx", "keras")  # exact; "auto" takes the first that is there
COARSE_ENGINES = ("litert-int8", "openvino-half")  # in 8 bits, in half precision: only if asked for
ENGINE_PACKAGES = {  # any one of the alternatives of each; the last ones only to prepare a model
    "litert": ("ai_edge_litert tensorflow", "tensorflow"),
    "litert-int8": ("ai_edge_litert tensorflow", "tensorflow"),
    "openvino": ("openvino", "tensorflow"),
    "openvino-half": ("openvino", "tensorflow"),
    "onnx": ("onnxruntime", "tensorflow", "tf2onnx", "onnx"),
    "tensorflow": ("tensorflow",),
    "keras": ("keras",),
}
ENGINE_TOLERANCE = 1e-4  # of a probability, by which an engine may differ from Keras; measured: 1e-5
COARSE_TOLERANCE = 0.15  # the same of COARSE_ENGINES; measured by `proofs`: 0.03 to 0.07
ENGINE_SCHEME = 1  # of the prepared files; another number prepares all of them anew
PREPARED_MODELS = 12  # files of engines that are kept in the user's cache folder, each about as large as its model
SHARED_ENGINES = ("litert", "litert-int8", "openvino", "openvino-half", "onnx")  # each caller has cores of its own
READY_PIXELS = 1_500_000  # of the shapes that the networks of an engine keep ready together, some 200 bytes each
SETTINGS = "histology_segmentation"  # the HDF5 attribute that holds everything needed to use the file
SCHEMA = 1  # of that attribute; a reader refuses a higher one
MEETING_SECONDS = 300  # that the processes of a training on several hosts wait for one another at its start
SILENT_SECONDS = 30  # after which a process that gives no sign of life is taken for dead, and the others end


def build_unet(heads=HEADS, width=WIDTH, depth=DEPTH, stem_stride=STEM_STRIDE, normalisation="batch", num_channels=3):
    """Build the encoder-decoder.

    Args:
        heads: names of the output maps, one sigmoid channel each: the first one, two or three of HEADS.
        width: filters of the first level; level k has `width * 2**k`.
        depth: how many times the encoder halves the size after the stem.
        stem_stride: 2 halves the size in the very first convolution, 1 is the classic network.
        normalisation: "batch", "group" (of 8 channels; independent of the batch) or "none".
        num_channels: channels of the image.

    Returns:
        An uncompiled `keras.Model` from (B, H, W, num_channels) float32 in [0, 1] to (B, H, W, len(heads)) float32
        in [0, 1]. H and W must be multiples of `size_multiple(depth, stem_stride)`; `tiling.py` pads any image.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Ronneberger, Fischer, Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation".
    """
    import keras
    from keras import layers

    if not heads or width < 1 or depth < 1 or stem_stride not in (1, 2):
        raise ValueError(
            f"build_unet got heads={heads}, width={width}, depth={depth}, stem_stride={stem_stride}; "
            "it wants one head or more, width and depth of at least 1, and stem_stride 1 or 2"
        )
    if tuple(heads) != HEADS[: len(heads)]:
        raise ValueError(f"heads are {' '.join(heads)}; they must be the first one, two or three of {' '.join(HEADS)}")
    if normalisation not in ("batch", "group", "none"):
        raise ValueError(f'normalisation is "{normalisation}"; it must be "batch", "group" or "none"')
    if normalisation == "group" and width % 8:
        raise ValueError(f"group normalisation takes groups of 8 channels; width is {width}, not a multiple of 8")

    def convolve(x, filters, strides=1):
        x = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=normalisation == "none", kernel_initializer="he_normal"
        )(x)
        if normalisation == "batch":
            x = layers.BatchNormalization(momentum=MOMENTUM)(x)
        elif normalisation == "group":
            x = layers.GroupNormalization(groups=filters // 8)(x)
        return layers.ReLU()(x)

    def upsample(x, filters):
        return layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer="he_normal")(x)

    image = keras.Input((None, None, num_channels), name="image")
    x = image
    if stem_stride == 2:
        x = convolve(x, width, strides=2)

    skips = []
    for level in range(depth):
        filters = width * 2**level
        x = convolve(convolve(x, filters), filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)

    filters = width * 2**depth
    x = convolve(convolve(x, filters), filters)

    for level in reversed(range(depth)):
        filters = width * 2**level
        x = layers.Concatenate()([upsample(x, filters), skips[level]])
        x = convolve(convolve(x, filters), filters)

    if stem_stride == 2:  # back at full resolution the skip is the image itself: edges stay sharp at next to no cost
        x = layers.Concatenate()([upsample(x, HEAD_FILTERS), image])
        x = convolve(x, HEAD_FILTERS)

    # A sigmoid for each map and no ReLU before it: a ReLU on two filters dies, and the masks come out black. It stays
    # in float32 under mixed precision, because half precision cannot tell probabilities near 1 apart.
    maps = layers.Conv2D(
        len(heads),
        1,
        activation="sigmoid",
        bias_initializer=keras.initializers.Constant(START_LOGIT),
        dtype="float32",
        name="maps",
    )(x)
    model = keras.Model(image, maps, name="unet")
    # Left to itself Keras has TensorFlow compile the network anew, by XLA, for every size of image: seconds for each.
    model.jit_compile = keras.backend.backend() == "jax"
    return model


def fuse_normalisation(model):
    """Have TensorFlow normalise batches while training by a kernel of its own, where Keras takes twenty operations.

    Weights and results stay what they are but for rounding. On two cores, training steps take 14 to 23 % less time.

    Args:
        model: of `build_unet`, with batch normalisation or without; changed in place, not to be saved.
    """
    import keras
    import tensorflow as tf

    def normalise(layer, inputs, training=None, mask=None):
        if not training or not layer.trainable or layer.synchronized:
            return type(layer).call(layer, inputs, training=training, mask=mask)
        scale, offset = tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, "float32"), scale=scale, offset=offset, mean=[], variance=[], epsilon=layer.epsilon
        )
        variance *= 1 - tf.cast(tf.size(mean) / tf.size(inputs), "float32")  # the kernel's is the unbiased one, Keras's is not
        for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + value * (1 - layer.momentum))
        return tf.cast(outputs, layer.compute_dtype)

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.call = functools.partial(normalise, layer)


def size_multiple(depth=DEPTH, stem_stride=STEM_STRIDE):
    """Pixels of which the network's input height and width must be a multiple."""
    return stem_stride * 2**depth


def receptive_radius(depth=DEPTH, stem_stride=STEM_STRIDE):
    """Pixels beyond which an input pixel cannot change an output pixel: the overlap that makes tiles seamless.

    Counts one pixel of each level's size for every 3x3 convolution on the longest path, and one size step for each
    pooling and each transposed convolution.
    """
    radius = 3 if stem_stride == 2 else 0  # the stem, the head's convolution and the last upsampling
    for level in range(depth + 1):
        pixel = stem_stride * 2**level
        radius += 2 * pixel if level == depth else 4 * pixel + pixel
    return radius


def geometry(architecture):
    """What `tiling` has to know of a network: {"margin": receptive radius, "multiple": size multiple}, in px.

    Args:
        architecture: the keyword arguments of `build_unet`.
    """
    shape = {name: architecture[name] for name in ("depth", "stem_stride") if name in architecture}
    return {"margin": receptive_radius(**shape), "multiple": size_multiple(**shape)}


def save_model(path, model, settings):
    """Write weights, architecture and settings into one HDF5 file, atomically.

    Args:
        path: the `.h5` file to write; a file of that name is replaced.
        model: a network of `build_unet`, never compiled (saving a compiled one to HDF5 damages its optimiser).
        settings: a dict for JSON with at least "architecture", the keyword arguments of `build_unet`.
    """
    import absl.logging
    import h5py

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".h5")
    os.close(handle)
    verbosity = absl.logging.get_verbosity()
    try:
        absl.logging.set_verbosity(absl.logging.ERROR)  # Keras calls .h5 a legacy format; here it is the product's format
        model.save(temporary, include_optimizer=False)
        with h5py.File(temporary, "r+") as file:
            file.attrs[SETTINGS] = json.dumps({"schema": SCHEMA, **settings})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        absl.logging.set_verbosity(verbosity)
        Path(temporary).unlink(missing_ok=True)


def read_settings(path):
    """The settings of a model file as a dict, without building the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no HDF5 file, or not one of ours, or from a later schema than this program knows.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file; train one with `python train.py` or give --model FILE")
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get(SETTINGS)
            is_keras = "model_weights" in file or "layer_names" in file.attrs
    except OSError as error:
        raise ValueError(
            f"{path}: not a model file (HDF5 says: {error}); expected a trained_model.h5 written by train.py"
        ) from None
    if text is None:
        what = "a Keras model of another program" if is_keras else "an HDF5 file without a Keras model"
        raise ValueError(f"{path}: {what}; expected a trained_model.h5 written by train.py")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: its settings are damaged ({error}); copy it again or train anew") from None
    if "architecture" not in settings:
        raise ValueError(f"{path}: its settings name no architecture; expected a trained_model.h5 written by train.py")
    if settings.get("schema", 0) > SCHEMA:
        raise ValueError(f"{path}: written by a later version (schema {settings['schema']}, this one reads {SCHEMA}); update")
    return settings


def load_model(path, heads=None):
    """Rebuild the network of a model file and load its weights: works across Keras 3 versions and backends.

    Args:
        path: a file of `save_model`.
        heads: maps that the network shall paint, if not those of the file: new ones start untrained, the others stay.

    Returns:
        The uncompiled `keras.Model` and the settings dict.

    Raises:
        FileNotFoundError, ValueError: as `read_settings`, or the weights do not fit the stored architecture.
    """
    settings = read_settings(path)
    model = build_unet(**settings["architecture"])
    try:
        model.load_weights(str(path))
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path}: the weights do not fit the architecture stored beside them ({error})") from None
    if heads is None or list(heads) == list(settings["architecture"]["heads"]):
        return model, settings
    settings = {**settings, "architecture": {**settings["architecture"], "heads": list(heads)}}
    changed = build_unet(**settings["architecture"])
    shared = min(len(heads), model.output_shape[-1])  # both are beginnings of HEADS
    arrays = model.get_weights()
    for old, new in zip(arrays[-2:], changed.get_weights()[-2:], strict=True):  # kernel and bias of the maps
        new[..., :shared] = old[..., :shared]
        arrays.append(new)
    changed.set_weights(arrays[:-4] + arrays[-2:])
    return changed, settings


# --- Engines: the same network, run by what is fastest on a CPU ---------------------------------------------------------


def engine(path, name="auto", say=print, callers=1):
    """The network of a model file, to be called with images.

    Keras paints each map as it was trained to. The other engines are two to three times faster on a CPU: they get the
    network with its batch normalisation folded into the convolutions, once prepared and then kept in the user's cache
    folder. Each is compared with Keras when a model is prepared for it, and used only if it agrees: to ENGINE_TOLERANCE, and
    those of COARSE_ENGINES, which nobody gets unasked, to COARSE_TOLERANCE.

    Args:
        path: a file of `save_model`.
        name: of ENGINES or COARSE_ENGINES; "auto" takes the first of ENGINES that is installed and agrees with Keras, and Keras
            where it runs on a GPU, or on another backend than TensorFlow.
        say: called with each line for the user.
        callers: threads that may call the network at the same time; `shared` says how.

    Returns:
        (network, words): network from (B, h, w, num_channels) float32 to (B, h, w, K) float32, for sizes that are multiples
        of `size_multiple`; words say for the user what it runs on.

    Raises:
        FileNotFoundError, ValueError: as `load_model`; an engine asked for is not installed, or differs from Keras.
    """
    settings = read_settings(path)
    set_up_backend()
    other_backend = os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow"
    if name == "auto" and (other_backend or has_nvidia() and find_device()[0].startswith("GPU")):
        name = "keras"
    for choice in ENGINES if name == "auto" else (name,):
        if lacking(choice) and name == "auto":
            continue
        if lacking(choice):
            raise ValueError(f"--engine {choice} needs packages that are missing: python -m pip install {lacking(choice)}")
        if choice == "keras":
            model, _ = load_model(path)
            return shared(choice, model.predict_on_batch, None, callers), find_device()[0]
        try:
            network, content = prepared(Path(path), settings, choice, say)
        except ValueError as error:
            if name != "auto":
                raise
            say(f"{error}; going on without it")
        else:
            return shared(choice, network, content, callers), f"CPU, {num_cores()} cores, with {choice}"
    raise ValueError("neither Keras nor any other engine is installed: python -m pip install -r requirements.txt")


def shared(name, network, content, callers):
    """A network that several threads may call at the same time.

    Two cores paint two images sooner, each its own, than both together one after the other: neither waits for the other.
    Where an engine can be told how many cores to use, each call has a share of them, unless there is but one caller or the
    batch is large; else one call waits for the one before.

    Args:
        name: of the engine.
        network: with all cores, by one thread at a time.
        content: the bytes that the engine starts from.
        callers: threads; for one, `network` is all it takes.
    """
    if callers == 1:
        return network
    whole, cores, number = one_at_a_time(network), num_cores(), min(callers, num_cores())
    most = 3 * READY_PIXELS // number
    if name not in SHARED_ENGINES or number == 1:
        return whole
    free = queue.LifoQueue()  # the one used last has the shapes ready that are used now
    for place in range(number):
        free.put(RUNTIMES[name][1](content, cores // number + (place < cores % number)))

    def shared_network(batch):
        if batch.size > most:
            return whole(batch)
        one = free.get()
        try:
            return one(batch)
        finally:
            free.put(one)

    return shared_network


def one_at_a_time(network):
    """The network, called by one thread after the other."""
    lock = threading.Lock()

    def locked(batch):
        with lock:
            return network(batch)

    return locked


def lacking(name):
    """The packages, with blanks between them, that an engine needs and that are not installed."""
    alternatives = [names.split() for names in ENGINE_PACKAGES[name]]
    return " ".join(dict.fromkeys(names[0] for names in alternatives if not any(map(is_installed, names))))


def is_installed(package):
    """Whether a package could be imported, found without importing it."""
    return importlib.util.find_spec(package) is not None


def num_cores():
    """Cores that this process may use: those that the system lets it have, or fewer by the usual OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(said)) if said.isdigit() and int(said) else cores


def has_nvidia():
    """Whether this machine has an NVIDIA GPU, told without importing anything."""
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").exists()


def num_gpus():
    """NVIDIA GPUs of this machine, counted without importing anything."""
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def cache_folder():
    """Where prepared networks are kept: the user's cache folder, as each system has it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "histology_segmentation"


def engine_key(path, settings, name):
    """What a prepared network depends on, as a hash: weights, architecture, and the installed packages."""
    import h5py

    digest = hashlib.sha256(json.dumps([ENGINE_SCHEME, name, settings["architecture"]], sort_keys=True).encode())

    def add(item, data):
        if isinstance(data, h5py.Dataset):
            digest.update(item.encode())
            digest.update(np.ascontiguousarray(data[()]))

    with h5py.File(path, "r") as file:
        file.visititems(add)
    for package in sorted({package for names in ENGINE_PACKAGES[name] for package in names.split()}):
        found = importlib.util.find_spec(package)
        if found:  # the time of its installation tells one version from another without importing it
            place = found.origin or next(iter(found.submodule_search_locations))
            digest.update(f"{package} {place} {os.stat(place).st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


def prepared(path, settings, name, say=print):
    """The network of a model file for an engine other than Keras, from the cache folder or made and compared now.

    Returns:
        The network, by one thread at a time, and the bytes that the engine can be started from again.

    Raises:
        ValueError: the engine does not run the network, or differs from Keras by more than its tolerance.
    """
    file = cache_folder() / f"{engine_key(path, settings, name)}.{name}"
    proof = file.with_suffix(".json")
    try:
        difference = json.loads(proof.read_text(encoding="utf-8"))["difference"]
        content = file.read_bytes()
        network = RUNTIMES[name][1](content)
        network(proofs(settings["architecture"])[0])
    except FileNotFoundError:
        pass
    except Exception as error:  # each engine raises classes of its own on a file that it cannot use
        say(f"{file} cannot be used ({first_line(error)}); it is made anew")
    else:
        check_agreement(name, difference)
        return network, content
    say(f"Preparing the network for {name}, once for each model")
    model, _ = load_model(path)
    try:
        network, content = converted(for_engines(model, settings["architecture"]), name)
        difference = disagreement(network, model, settings["architecture"])
    except Exception as error:  # converters raise classes of their own; whatever it is, Keras still works
        raise ValueError(f"{name} cannot run this network ({first_line(error)})") from error
    with contextlib.suppress(OSError):  # a folder that cannot be written costs the next start these seconds again
        keep(content, difference, file, proof)
    check_agreement(name, difference)
    return network, content


def first_line(error):
    """The message of an error in one short line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def check_agreement(name, difference):
    """Raise ValueError where an engine differs from Keras by more than ENGINE_TOLERANCE, or COARSE_TOLERANCE."""
    tolerance = COARSE_TOLERANCE if name in COARSE_ENGINES else ENGINE_TOLERANCE
    if not difference <= tolerance:
        raise ValueError(f"{name} differs from Keras by {difference:.2g}, more than {tolerance:g}")


def proofs(architecture):
    """Two batches on which an engine is compared with Keras, of different sizes: noise, and blots."""
    multiple = geometry(architecture)["multiple"]
    channels = architecture.get("num_channels", 3)
    random = np.random.default_rng(0)
    noise = random.random((1, 2 * multiple, 3 * multiple, channels), np.float32)
    blots = random.random((2, 4, 2, channels), np.float32).repeat(multiple, axis=1).repeat(multiple, axis=2)
    return noise, blots


def disagreement(network, model, architecture):
    """The largest difference between an engine and Keras on `proofs`; infinite where sizes differ, NaN where one is."""
    differences = []
    for batch in proofs(architecture):
        came, expected = network(batch), model.predict_on_batch(batch)
        differences.append(np.abs(came - expected).max() if came.shape == expected.shape else np.inf)
    return float(np.max(differences))


def keep(content, difference, file, proof):
    """Put a prepared network and the proof of it into the cache folder, the proof last, and remove the oldest ones."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for target, part in ((file, content), (proof, json.dumps({"difference": difference}).encode())):
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_bytes(part)
        os.replace(temporary, target)
    for old in sorted(file.parent.glob("*.json"), key=os.path.getmtime)[:-PREPARED_MODELS]:
        for path in file.parent.glob(f"{old.stem}.*"):
            path.unlink(missing_ok=True)


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


# --- The machine ----------------------------------------------------------------------------------------------------


def set_up_backend():
    """Environment for TensorFlow, to be set before Keras is imported; what the user has set himself stays."""
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # off by default on AMD, where it makes a step 1.7 times faster
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its start-up notices bury ours


def memory_bytes():
    """Memory that this process may use: the machine's, or less by a container's limit or `ulimit`; infinite if unknown."""
    limits = [math.inf]
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limits.append(int(Path(path).read_text()))
    with contextlib.suppress(ImportError):
        import resource

        soft = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
        limits += [limit for limit in soft if limit != resource.RLIM_INFINITY]
    return min(limits)


def find_device():
    """The device that Keras's backend will use: (words for the user, precision that is fastest there).

    Half precision pays on GPUs with tensor cores only: bfloat16 from compute capability 8, float16 from 7.
    """
    import keras

    backend = keras.backend.backend()
    name, capability = None, (0, 0)
    if backend == "tensorflow":
        import tensorflow

        gpus = tensorflow.config.list_physical_devices("GPU")
        if gpus:
            details = tensorflow.config.experimental.get_device_details(gpus[0])
            name, capability = details.get("device_name", "GPU"), details.get("compute_capability", (0, 0))
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            name, capability = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    elif backend == "jax":
        import jax

        device = jax.local_devices()[0]
        if device.platform == "gpu":
            name = device.device_kind
            capability = tuple(int(part) for part in getattr(device, "compute_capability", "0.0").split("."))
    if name:
        precision = "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
        return f"GPU {name} with {backend}", precision
    words = f"CPU, {os.cpu_count()} cores, with {backend}"
    if has_nvidia():
        words += f". WARNING: this machine has an NVIDIA GPU that {backend} does not see; install its CUDA build"
    return words, "float32"


# --- Several devices, several hosts ---------------------------------------------------------------------------------
#
# On the engines that Keras has, and data-parallel: every device holds the whole network and computes its part of each
# batch, and the gradients of all parts are added up, so that a step is what one device would make of the whole batch.
# TensorFlow does it for the GPUs of one machine; JAX also for several machines, where one process runs on each and all of
# them make the same calls.


class Spread(NamedTuple):
    """How a training is spread over devices, by default over one.

    `places` are those of each batch that this process makes. `building` is entered to make network and optimiser, `fitting`
    for `fit`. `prepare` is called with the compiled model, and `feed` makes what `fit` takes of a function that returns a
    generator of batches.
    """

    places: range
    building: AbstractContextManager = nullcontext()
    fitting: AbstractContextManager = nullcontext()
    prepare: Callable = lambda model: None
    feed: Callable = lambda make_batches: make_batches()


def local_devices():
    """What Keras's backend can train on in this process, as its own objects: GPUs, or where there are none CPUs."""
    import keras

    if keras.backend.backend() == "tensorflow":
        from tensorflow import config

        return config.list_logical_devices("GPU") or config.list_logical_devices("CPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.local_devices()
    return ["the one that PyTorch chooses"]


def spread(batch_size, devices=1, num_processes=1, process_id=0):
    """Spread a training over `devices` devices of each of `num_processes` processes, of which this is `process_id`.

    Args:
        batch_size: crops in one step, over all devices of all processes.

    Returns:
        A Spread.

    Raises:
        ValueError: the batch does not part evenly, or there are fewer devices.
    """
    import keras

    backend, total = keras.backend.backend(), devices * num_processes
    if batch_size % total:
        larger = -(-batch_size // total) * total
        raise ValueError(f"--batch-size {batch_size} does not part evenly among {total} devices; take {larger}, for instance")
    part = batch_size // num_processes
    places = range(process_id * part, (process_id + 1) * part)
    if total == 1:
        return Spread(places)
    found = local_devices()
    if len(found) < devices:
        raise ValueError(f"--devices {devices}: KERAS_BACKEND={backend} can train on {len(found)} here; give at most that")
    if backend == "tensorflow":
        return spread_by_tensorflow(found[:devices], places)
    import jax

    by_process = [[d for d in jax.devices() if d.process_index == k][:devices] for k in range(num_processes)]
    names = [f"{device.platform}:{device.id}" for part in by_process for device in part]
    if len(names) < total:
        raise ValueError(f"--devices {devices}: the processes have {', '.join(str(len(part)) for part in by_process)} devices")
    distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)  # `places` has shared it out
    return Spread(places, distribution.scope(), distribution.scope())


def spread_by_tensorflow(devices, places):
    """Spread over devices of one machine by `tf.distribute.MirroredStrategy`."""
    import keras
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])

    def prepare(model):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True  # statistics of the whole batch; left alone, each device takes those of its part
        apply = model.optimizer.apply

        def apply_sum(gradients, variables=None):
            # Left alone, Keras clips the gradients of each part and adds them up then. Clipping is for their sum: the first
            # device hands it on, the others nothing, and adding up changes it no more.
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group == 0
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
            apply([gradient * tf.cast(is_first, gradient.dtype) for gradient in total], variables)

        model.optimizer.apply = apply_sum

    def feed(make_batches):
        # Under a strategy, `fit` looks at some batches first and begins anew, which a generator cannot: some would be lost.
        signature = tuple(tf.TensorSpec(array.shape, array.dtype) for array in next(make_batches()))
        return tf.data.Dataset.from_generator(make_batches, output_signature=signature)

    return Spread(places, strategy.scope(), nullcontext(), prepare, feed)


def join_processes(coordinator, num_processes, process_id):
    """Meet the other processes of a training on several hosts; with one process, or a second time, nothing happens.

    Args:
        coordinator: "HOST:PORT" at which process 0 can be reached by all.

    Raises:
        ValueError: JAX is not there or not Keras's backend, or the others did not come.
    """
    if num_processes == 1:
        return
    set_up_backend()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if importlib.util.find_spec("jax") is None:
        raise ValueError('several processes train on JAX: pip install jax (for NVIDIA GPUs: pip install "jax[cuda13]")')
    import jax
    import keras

    if keras.backend.backend() != "jax":
        raise ValueError(f"several processes train on JAX, not on {keras.backend.backend()}: set KERAS_BACKEND=jax")
    if jax.distributed.is_initialized():
        return
    if process_id == 0:
        print(f"Process 0 waits up to {MEETING_SECONDS} s for the {num_processes - 1} others at {coordinator}", flush=True)
    else:
        await_port(coordinator, process_id)  # since JAX would end this process without a word of ours
    try:
        # What keras.distribution.initialize calls; that one has no word on how long a silent process counts as alive.
        jax.distributed.initialize(
            coordinator, num_processes, process_id,
            initialization_timeout=MEETING_SECONDS, heartbeat_timeout_seconds=SILENT_SECONDS,
        )  # fmt: skip
    except RuntimeError as error:
        raise ValueError(
            f"process {process_id} of {num_processes} could not join at {coordinator} ({str(error).splitlines()[0]}); is each "
            "started once, with a --process-id of its own, and is the port free?"
        ) from None
    atexit.register(end_at_once)


def await_port(coordinator, process_id):
    """Wait until process 0 can be reached. Raises: ValueError, after MEETING_SECONDS."""
    host, port = coordinator.rsplit(":", 1)
    end = time.monotonic() + MEETING_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ValueError(
                    f"process {process_id} did not reach process 0 at {coordinator} within {MEETING_SECONDS} s ({error}); is "
                    "it running, and is the port open between the machines?"
                ) from None
            time.sleep(0.5)


def end_at_once():
    """End a process that has failed: left alone, JAX would wait here for the others, which are dead or wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def leave_processes(num_processes):
    """Part from the other processes, once all of them have come this far."""
    if num_processes > 1:
        import jax

        jax.distributed.shutdown()
        atexit.unregister(end_at_once)


def tell_all(make, num_processes, process_id):
    """What `make()` gives in process 0, in all processes: only that one is sure to have the files of a training."""
    if num_processes == 1:
        return make()
    from jax.experimental.multihost_utils import broadcast_one_to_all

    told = np.frombuffer(pickle.dumps(make() if process_id == 0 else None), np.uint8)
    size = int(broadcast_one_to_all(np.array(len(told), np.int32)))
    return pickle.loads(broadcast_one_to_all(np.resize(told, size)).tobytes())
