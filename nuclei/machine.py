"""nuclei.machine"""

import contextlib
import importlib.util
import math
import os
import shutil
import subprocess
from pathlib import Path


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


def is_installed(package):
    """Whether a package could be imported, found without importing it."""
    above = package.rpartition(".")[0]  # find_spec("a.b") itself fails without a
    return (not above or is_installed(above)) and importlib.util.find_spec(package) is not None


def require(packages, what):
    """Stop before any work where a package is missing. Raises: ValueError with the command that installs it."""
    missing = [package for package in packages if package and not is_installed(package)]
    if missing:
        names = " ".join(missing)
        raise ValueError(f"{what} needs {names}, which is not installed: python -m pip install {names}")
