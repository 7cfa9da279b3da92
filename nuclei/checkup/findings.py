"""What a checkup finds: one `Finding` for each line that doctor.py prints.

Each `check_...` looks at one thing. They import late and in this order, so that a package that is
missing or broken is named and does not stop the checkup.
"""

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nuclei.checkup.gpu import gpu_advice
from nuclei.checkup.packages import (
    FOR_TESTS,
    NEEDED,
    OPTIONAL,
    installed_version,
    missing_and_misfits,
    read_requirements,
)
from nuclei.checkup.probe import try_out
from nuclei.cli import INPUT_DIR
from nuclei.files import first_line, named
from nuclei.machine import memory_bytes, num_cores
from nuclei.version import PYPROJECT, program_version

PROJECT = PYPROJECT.parent
GIGABYTE = 10**9
LOW_DISK_BYTES = 1 * GIGABYTE  # an overlay, masks and labels of 500 images of 2 megapixels
LOW_MEMORY_BYTES = 4 * GIGABYTE  # TensorFlow and a slide take 2 to 3
INSTALL = "python -m pip install -r requirements.txt"


class Finding(NamedTuple):
    """One line of the checkup.

    Attributes:
        name: what was looked at, such as "model".
        text: what was found.
        advice: what would make it better; empty where nothing is to be done.
        is_fault: whether predict.py cannot work like this.
    """

    name: str
    text: str
    advice: str = ""
    is_fault: bool = False


def examine(model=None, image=None, engine="auto") -> Iterator[Finding]:
    """Look at everything, from Python to the nuclei of one image.

    Args:
        model: the model file; None takes the one that predict.py takes.
        image: the image to try; None takes one of the shipped test images.
        engine: as of predict.py.

    Yields:
        A `Finding` after the other, as soon as it is known.
    """
    yield Finding("program", f"{program_version()} in {PROJECT}")
    yield check_python()
    packages = check_packages()
    yield packages
    yield from check_optional()
    yield check_disk()
    yield check_memory()
    if packages.is_fault:  # without them the rest would fail, too, and say less
        return
    model_path, finding = check_model(model)
    yield finding
    if model_path is None:
        return
    image = image or next(iter(sorted((PROJECT / INPUT_DIR).glob("*.png"))), None)
    if image is None:
        yield Finding("image", f"none in {PROJECT / INPUT_DIR}", "give one with --image", True)
        return
    yield from check_results(try_out(model_path, image, engine), image)


def check_python() -> Finding:
    """Python and the system."""
    text = f"{platform.python_version()}, {sys.executable}, on {platform.platform()}"
    if sys.maxsize <= 2**32:
        return Finding("Python", f"{text}, 32-bit", "install a 64-bit Python", True)
    return Finding("Python", text)


def check_packages() -> Finding:
    """The packages of requirements.txt."""
    requirements = read_requirements(NEEDED)
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        requirements.pop("tensorflow")
    missing, misfits = missing_and_misfits(requirements)
    if missing:
        return Finding("packages", f"missing: {named(missing)}", INSTALL, True)
    if misfits:
        return Finding("packages", named(misfits), INSTALL)
    return Finding("packages", f"all {len(requirements)} of requirements.txt are installed")


def check_optional() -> Iterator[Finding]:
    """The packages of single formats and runs: which are there, and what the others are for."""
    ranges = read_requirements(FOR_TESTS)
    there = [name for name in OPTIONAL if installed_version(name)]
    yield Finding("optional", f"installed: {', '.join(there) or 'none'}")
    purposes = {}
    for name, purpose in OPTIONAL.items():
        if name not in there:
            purposes.setdefault(purpose, []).append(name)
    for purpose, names in purposes.items():
        yield Finding("", f"not installed: {' '.join(names)}, for {purpose}")
    _, misfits = missing_and_misfits({name: ranges.get(name, "") for name in there})
    if misfits:
        yield Finding("", named(misfits), "python -m pip install -r requirements-dev.txt")


def check_disk() -> Finding:
    """Free space where results are written."""
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / GIGABYTE:,.0f} GB free in {Path.cwd()}"
    return Finding("disk", text, "free some space" if free < LOW_DISK_BYTES else "")


def check_memory() -> Finding:
    """Memory and cores that this process may use."""
    memory = memory_bytes()
    advice = "large images and slides need 4 GB" if memory < LOW_MEMORY_BYTES else ""
    size = f"{memory / GIGABYTE:,.0f} GB" if memory < float("inf") else "unknown"
    return Finding("memory", f"{size}, {num_cores()} cores", advice)


def check_model(given) -> tuple[Path | None, Finding]:
    """The model file that predict.py takes: its path, or None where it cannot be used or read."""
    try:
        for package in ("h5py", "pydantic"):  # which `read_settings` imports late
            importlib.import_module(package)
        from nuclei.model_file import find_model, read_settings
    except Exception as error:  # of any kind, as where a package was built for another NumPy
        fault = f"one is broken ({type(error).__name__}: {first_line(error)})"
        return None, Finding("packages", fault, repair_advice("tensorflow", ""), True)
    try:
        path = find_model(given)
        settings = read_settings(path)
    except (OSError, ValueError) as error:
        return None, Finding("model", str(error), "give another with --model", True)
    kinds = settings.get("data", {}).get("train", {})
    score = settings.get("scores", {}).get("validation", {}).get("all", {}).get("ap50")
    text = f"{path}: trained on {sum(kinds.values()):,} images" if kinds else str(path)
    if score is not None:
        text += f", validation AP@0.5 {score:.2f}"
    return path, Finding("model", text)


def check_results(results, image) -> Iterator[Finding]:
    """What came of the trial in another process.

    Args:
        results: as of `try_out`.
        image: the image that was tried.
    """
    from nuclei.cli import COARSE_ENGINES, ENGINES

    def fault(name, step, advice):
        return Finding(name, results[step]["error"], advice, True)

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if "error" in results["backend"]:
        yield fault("backend", "backend", repair_advice(backend, results["backend"]["error"]))
        return
    device = results["backend"]["device"].partition(". WARNING")[0]  # the advice says more
    advice = "" if device.startswith("GPU") else gpu_advice(backend)
    yield Finding("backend", device, advice)
    if not device.startswith("GPU") and not advice:
        yield Finding("", "no GPU that could be used: all works without one, training takes longer")
    if "error" in results["engine"]:
        yield fault("engine", "engine", "try --engine keras, or another --model")
        return
    from nuclei.inference.engines import cache_folder, missing_packages  # late: the trial ran them

    for engine in (*ENGINES, *COARSE_ENGINES):
        packages = missing_packages(engine)
        state = f"python -m pip install {packages}" if packages else "installed"
        chosen = ", taken by auto" if engine == results["engine"]["auto"] else ""
        yield Finding("engine", f"{engine}: {state}{chosen}")
    yield check_cache(cache_folder())
    if "error" in results["image"]:
        yield fault("trial", "image", "give another --image")
        return
    trial = results["image"]
    text = f"{trial['nuclei']} nuclei in {Path(image).name} in {trial['seconds']:.1f} s, on "
    yield Finding("trial", text + results["engine"]["device"])


def repair_advice(backend, error) -> str:
    """What to do where a backend cannot be imported.

    Args:
        backend: "tensorflow", "torch" or "jax".
        error: how the import ended.
    """
    if backend == "tensorflow" and "SIGILL" in error:
        return (
            "this processor lacks instructions that TensorFlow needs (AVX): take another machine, "
            "or python -m pip install torch and set KERAS_BACKEND=torch"
        )
    packages = "-r requirements.txt" if backend == "tensorflow" else f"{backend} keras"
    return f"python -m pip install --force-reinstall {packages}, or see docs/install.md"


def check_cache(folder) -> Finding:
    """The folder of prepared networks: its size, and whether it can be written to."""
    size = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    text = f"{folder}, {size / 10**6:,.0f} MB"
    if os.access(existing, os.W_OK):
        return Finding("cache", text)
    advice = "every start takes longer: set XDG_CACHE_HOME to a folder that can be written to"
    return Finding("cache", f"{text}, cannot be written to", advice)
