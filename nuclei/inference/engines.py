"""Load a model file for prediction, on the fastest engine that this machine has.

    model = load_model("Saved_Model/pretrained.h5")              # engine "auto"
    model = load_model(engine="litert-int8", callers=4)          # 8 bits, for four threads

Keras runs any model as it was trained. The other engines are faster on a CPU. They get the network
with its batch normalisation folded into the convolutions; this form is made once for each model and
cached in the user's cache folder. It is compared with Keras when it is made, and used only if both
agree.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from nuclei.cli import ENGINES
from nuclei.files import first_line, replacing
from nuclei.inference.ready import ReadyNetworks
from nuclei.inference.runtimes import RUNTIMES, for_engines
from nuclei.inference.threads import share_network
from nuclei.inference.zooms import with_zooms
from nuclei.leftovers import writing_into
from nuclei.machine import (
    find_device,
    has_nvidia,
    is_installed,
    num_cores,
    set_up_backend,
    start_backend,
)
from nuclei.model_file import (
    DamagedModelError,
    Model,
    as_model,
    find_model,
    load_network,
    stored_model,
)
from nuclei.quiet import hold_noise
from nuclei.stored_model import StoredModel
from unet import network_geometry

# Packages that an engine needs: one of the alternatives in each text. TensorFlow makes the cached
# form.
ENGINE_PACKAGES = {
    "litert": ("ai_edge_litert tensorflow", "tensorflow"),
    "litert-int8": ("ai_edge_litert tensorflow", "tensorflow"),
    "openvino-half": ("openvino", "tensorflow"),
    "keras": ("keras",),
}
# Largest difference of a probability from Keras. Of the engines of fewer bits, 1 of 100 values may
# differ by more: AP@0.5 was at most 0.005 lower where single values differed by 0.43.
TOLERANCES = {
    "litert": 1e-4,  # 1e-5 is usual
    "litert-int8": 0.15,  # 0.002 to 0.08 is usual
    "openvino-half": 0.1,  # 0.001 to 0.03 is usual
}
COMPARED_PERCENT = {"litert": 100, "litert-int8": 99, "openvino-half": 99}
CACHE_SCHEME = 2  # version of the cached form; another number makes all of them anew
MAX_CACHED_MODELS = 12  # files in the cache folder, each about as large as its model


def load_model(
    path=None, engine="auto", callers=1, say: Callable[[str], object] = print, tta=False
) -> Model:
    """Load a model for prediction.

    Args:
        path: a file written by train.py, or a `StoredModel`; None takes the user's own model, else
            the shipped one.
        engine: one of ENGINES or COARSE_ENGINES. "auto" takes the first of ENGINES that is
            installed and agrees with Keras. On a GPU, and with another Keras backend than
            TensorFlow, it takes Keras.
        callers: number of threads that may call the model at the same time.
        say: called with each line for the user.
        tta: see each image at three sizes, and mirrored, for six times the work.

    Returns:
        A `Model`. Its network takes (B, h, w, 3) float32, with h and w multiples of `multiple_px`;
        its `device` names what runs it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no model, or the engine is not installed or differs from Keras.
    """
    path = stored_model(find_model(path))
    settings = path.settings
    set_up_backend()
    for name in candidates(engine):
        try:
            ready, device = start(name, path, settings, say)
        except DamagedModelError:
            raise
        except ValueError as error:
            if engine != "auto":
                raise
            say(f"{error}; going on without it")
        else:
            network = of_equal_size(share_network(ready, callers))
            model = as_model(network, settings, device)
            model = with_zooms(model) if tta else model
            is_kept = isinstance(ready, ReadyNetworks)
            return replace(model, free_memory=ready.drop_idle) if is_kept else model
    raise ValueError("no engine is installed: python -m pip install -r requirements.txt")


def of_equal_size(network: Callable) -> Callable:
    """A network that refuses maps of another size: an engine may return such for want of memory."""

    def call(batch):
        maps = network(batch)
        if maps.shape[:3] != batch.shape[:3]:
            raise MemoryError(
                f"the engine returned maps of {maps.shape} for images of {batch.shape}, as it does "
                "where memory is short; close other programs, or give predict.py a smaller --tile "
                "or --batch-size, or --engine keras"
            )
        return maps

    return call


def candidates(engine: str) -> tuple[str, ...]:
    """Engines to try, in order.

    Raises:
        ValueError: there is no such engine, or packages that it needs are missing.
    """
    if engine != "auto":
        if engine not in ENGINE_PACKAGES:
            expected = ", ".join(("auto", *ENGINE_PACKAGES))
            raise ValueError(f"there is no engine {engine}; expected {expected}")
        if packages := missing_packages(engine):
            raise ValueError(
                f"--engine {engine} needs packages that are missing: "
                f"python -m pip install {packages}"
            )
        return (engine,)
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return ("keras",)
    if has_nvidia() and keras_device().startswith("GPU"):
        return ("keras",)
    return tuple(name for name in ENGINES if not missing_packages(name))


def missing_packages(engine: str) -> str:
    """The packages that an engine needs and that are not installed, separated by blanks."""
    alternatives = [names.split() for names in ENGINE_PACKAGES[engine]]
    missing = [names[0] for names in alternatives if not any(map(is_installed, names))]
    return " ".join(dict.fromkeys(missing))


def keras_device() -> str:
    """Words for the user on the device that Keras runs on."""
    return find_device(start_backend())[0]


def start(engine: str, path: StoredModel, settings: dict, say) -> tuple[Callable, str]:
    """Start one engine: its network, and words on its device."""
    if engine == "keras":
        network, _ = load_network(path)
        return network.predict_on_batch, keras_device()
    network = cached_network(engine, path, settings, say)
    return network, f"CPU, {num_cores()} cores, with {engine}"


def cached_network(engine: str, path: StoredModel, settings: dict, say) -> ReadyNetworks:
    """Get the network for an engine other than Keras from the cache folder, or make it now.

    Raises:
        ValueError: the engine cannot run the network, or it differs too much from Keras.
    """
    file = cache_folder() / f"{cache_key(engine, path, settings)}.{engine}"
    comparison = file.with_suffix(".json")
    try:
        difference = json.loads(comparison.read_text(encoding="utf-8"))["difference"]
        network = RUNTIMES[engine].start(file.read_bytes())
        network(comparison_batches(settings["architecture"])[0])
    except FileNotFoundError:
        pass
    except Exception as error:  # each engine has exceptions of its own for a damaged file
        say(f"{file} cannot be used ({first_line(error)}); it is made anew")
    else:
        check_agreement(engine, difference)
        return network
    say(f"Preparing the network for {engine}, once for each model")
    model, _ = load_network(path)
    try:
        with hold_noise():
            content = RUNTIMES[engine].write(for_engines(model, settings["architecture"]))
        network = RUNTIMES[engine].start(content)
        percent = COMPARED_PERCENT[engine]
        difference = largest_difference(network, model, settings["architecture"], percent)
    except Exception as error:  # converters have exceptions of their own, and Keras still works
        raise ValueError(f"{engine} cannot run this network ({first_line(error)})") from error
    with contextlib.suppress(OSError):  # without a cache the next start takes longer, no more
        write_cache(file, content, comparison, difference)
    check_agreement(engine, difference)
    return network


def cache_folder() -> Path:
    """The folder of cached networks, within the user's cache folder of each system."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "histology_segmentation"


def cache_key(engine: str, path: StoredModel, settings: dict) -> str:
    """A hash of what a cached network depends on: weights, architecture, installed packages."""
    import h5py

    scheme = json.dumps([CACHE_SCHEME, engine, settings["architecture"]], sort_keys=True)
    digest = hashlib.sha256(scheme.encode())

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(item[()]))

    with h5py.File(path.open(), "r") as file:
        file.visititems(add)
    packages = {package for names in ENGINE_PACKAGES[engine] for package in names.split()}
    for package in sorted(packages):
        spec = importlib.util.find_spec(package)
        if spec:  # the time of its installation tells versions apart without an import
            location = spec.origin or next(iter(spec.submodule_search_locations))
            digest.update(f"{package} {location} {os.stat(location).st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


def check_agreement(engine: str, difference: float) -> None:
    """Raise ValueError where an engine differs from Keras by more than its tolerance."""
    tolerance = TOLERANCES[engine]
    if not difference <= tolerance:
        raise ValueError(
            f"{engine} differs from Keras by {difference:.2g}, more than {tolerance:g}"
        )


def comparison_batches(architecture: dict) -> tuple[np.ndarray, np.ndarray]:
    """Two batches of different sizes on which an engine is compared with Keras: noise and blots."""
    multiple = network_geometry(architecture)["multiple"]
    random = np.random.default_rng(0)
    noise = random.random((1, 2 * multiple, 3 * multiple, 3), np.float32)
    blots = random.random((2, 4, 2, 3), np.float32)
    return noise, blots.repeat(multiple, axis=1).repeat(multiple, axis=2)


def largest_difference(network: Callable, model, architecture: dict, percent: float) -> float:
    """The difference between an engine and Keras that so many per cent of all values do not exceed.

    Infinite where the sizes differ, NaN where a value is NaN.
    """
    differences = []
    for batch in comparison_batches(architecture):
        maps, expected = network(batch), model.predict_on_batch(batch)
        if maps.shape != expected.shape:
            return np.inf
        differences.append(np.abs(maps - expected).ravel())
    return float(np.percentile(np.concatenate(differences), percent))


def write_cache(file: Path, content: bytes, comparison: Path, difference: float) -> None:
    """Write a network to the cache folder, and after it its comparison; remove the oldest ones."""
    with writing_into(file.parent):
        with replacing(file) as temporary:
            temporary.write_bytes(content)
        with replacing(comparison) as temporary:
            temporary.write_text(json.dumps({"difference": difference}), encoding="utf-8")
    by_age = sorted(file.parent.glob("[!.]*.json"), key=os.path.getmtime)
    for old in by_age[:-MAX_CACHED_MODELS]:
        for path in file.parent.glob(f"{old.stem}.*"):
            path.unlink(missing_ok=True)
