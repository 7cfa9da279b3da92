"""nuclei.inference.engines"""

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np

from nuclei.files import first_line
from nuclei.inference.runtimes import RUNTIMES, converted, for_engines
from nuclei.inference.threads import share_network
from nuclei.machine import find_device, has_nvidia, is_installed, num_cores, set_up_backend
from nuclei.model_file import load_network, read_settings
from unet import network_geometry

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


def start_engine(path, name="auto", say=print, callers=1):
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
        callers: threads that may call the network at the same time; `share_network` says how.

    Returns:
        (network, words): network from (B, h, w, num_channels) float32 to (B, h, w, K) float32, for sizes that are multiples
        of `size_multiple`; words say for the user what it runs on.

    Raises:
        FileNotFoundError, ValueError: as `load_network`; an engine asked for is not installed, or differs from Keras.
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
            model, _ = load_network(path)
            return share_network(choice, model.predict_on_batch, None, callers), find_device()[0]
        try:
            network, content = prepared(Path(path), settings, choice, say)
        except ValueError as error:
            if name != "auto":
                raise
            say(f"{error}; going on without it")
        else:
            return share_network(choice, network, content, callers), f"CPU, {num_cores()} cores, with {choice}"
    raise ValueError("neither Keras nor any other engine is installed: python -m pip install -r requirements.txt")


def lacking(name):
    """The packages, with blanks between them, that an engine needs and that are not installed."""
    alternatives = [names.split() for names in ENGINE_PACKAGES[name]]
    return " ".join(dict.fromkeys(names[0] for names in alternatives if not any(map(is_installed, names))))


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
    model, _ = load_network(path)
    try:
        network, content = converted(for_engines(model, settings["architecture"]), name)
        difference = disagreement(network, model, settings["architecture"])
    except Exception as error:  # converters raise classes of their own; whatever it is, Keras still works
        raise ValueError(f"{name} cannot run this network ({first_line(error)})") from error
    with contextlib.suppress(OSError):  # a folder that cannot be written costs the next start these seconds again
        cache_network(content, difference, file, proof)
    check_agreement(name, difference)
    return network, content


def check_agreement(name, difference):
    """Raise ValueError where an engine differs from Keras by more than ENGINE_TOLERANCE, or COARSE_TOLERANCE."""
    tolerance = COARSE_TOLERANCE if name in COARSE_ENGINES else ENGINE_TOLERANCE
    if not difference <= tolerance:
        raise ValueError(f"{name} differs from Keras by {difference:.2g}, more than {tolerance:g}")


def proofs(architecture):
    """Two batches on which an engine is compared with Keras, of different sizes: noise, and blots."""
    multiple = network_geometry(architecture)["multiple"]
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


def cache_network(content, difference, file, proof):
    """Put a prepared network and the proof of it into the cache folder, the proof last, and remove the oldest ones."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for target, part in ((file, content), (proof, json.dumps({"difference": difference}).encode())):
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_bytes(part)
        os.replace(temporary, target)
    for old in sorted(file.parent.glob("*.json"), key=os.path.getmtime)[:-PREPARED_MODELS]:
        for path in file.parent.glob(f"{old.stem}.*"):
            path.unlink(missing_ok=True)
