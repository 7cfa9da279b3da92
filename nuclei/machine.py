"""What this machine has: cores, memory, GPUs, installed packages.

Only `start_backend` and `find_device` import a backend.
"""

import contextlib
import importlib.util
import logging
import math
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from nuclei.quiet import hold_noise, is_wanted

BFLOAT16_CAPABILITY = (8, 0)  # NVIDIA compute capability from which tensor cores take bfloat16
FLOAT16_CAPABILITY = (7, 0)  # the same for float16; half precision does not pay below

NEEDED_BYTES = 1e9  # of memory for the smallest images, with any engine
NEEDED_ADDRESSES = 4e9  # the libraries of the backend alone take 2 GB


def num_cores() -> int:
    """Count the cores that this process may use: the system's limit, or a lower OMP_NUM_THREADS."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores


def has_nvidia() -> bool:
    """Whether this machine has an NVIDIA GPU."""
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").exists()


def num_gpus() -> int:
    """Count the NVIDIA GPUs of this machine."""
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def set_up_backend() -> None:
    """Set the environment of TensorFlow, before Keras is imported. What the user has set stays.

    Raises:
        MemoryError: this process may use less memory than any engine needs.
    """
    require_memory()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # off by default on AMD, and much faster
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its messages at the start bury ours


def start_backend() -> str:
    """Import Keras and its backend, and let it look for GPUs, without the lines it writes then.

    Returns:
        The name of the backend: "tensorflow", "torch" or "jax".
    """
    set_up_backend()
    with hold_noise():
        import keras

        backend = keras.backend.backend()
        find_gpu(backend)  # the first look is the one that writes
    if not is_wanted():  # TensorFlow warns where images have many sizes
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return backend


def memory_bytes() -> float:
    """Bytes of memory that this process may use; infinite where unknown.

    This is the memory of the machine, or the limit of a container or of `ulimit` if that is lower.
    """
    limits = [math.inf]
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limits.append(int(Path(path).read_text(encoding="utf-8")))
    with contextlib.suppress(ImportError):
        import resource

        soft = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
        limits += [limit for limit in soft if limit != resource.RLIM_INFINITY]
    return min(limits)


def require_memory() -> None:
    """Check that an engine can start: some wait for ever, or crash, where they get no memory.

    Raises:
        MemoryError: a limit is lower than NEEDED_BYTES, or that of addresses than NEEDED_ADDRESSES.
    """
    limits = [(memory_bytes(), NEEDED_BYTES, "memory")]
    with contextlib.suppress(ImportError):
        import resource

        addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
        if addresses != resource.RLIM_INFINITY:
            limits.append((addresses, NEEDED_ADDRESSES, "addresses (ulimit -v)"))
    for limit, needed, what in limits:
        if limit < needed:
            raise MemoryError(
                f"this process may use {limit / 1e6:,.0f} MB of {what}, and the network needs "
                f"{needed / 1e6:,.0f} MB or more; raise the limit of the container or of `ulimit`"
            )


def find_device(backend: str) -> tuple[str, str]:
    """Find the device that a Keras backend will use.

    Args:
        backend: "tensorflow", "torch" or "jax", as `keras.backend.backend()` returns.

    Returns:
        (words, precision): words for the user, which start with "GPU" or "CPU", and the name of
        the Keras dtype policy that is fastest there. Half precision pays only on GPUs with tensor
        cores.
    """
    name, capability = find_gpu(backend)
    if name:
        precision = "float32"
        if capability >= FLOAT16_CAPABILITY:
            precision = "mixed_float16"
        if capability >= BFLOAT16_CAPABILITY:
            precision = "mixed_bfloat16"
        return f"GPU {name} with {backend}", precision
    words = f"CPU, {os.cpu_count()} cores, with {backend}"
    if has_nvidia():
        words += (
            f". WARNING: this machine has an NVIDIA GPU that {backend} does not see; "
            "python doctor.py names what is to be installed"
        )
    return words, "float32"


def find_gpu(backend: str) -> tuple[str | None, tuple[int, ...]]:
    """Name and compute capability of the first GPU of a backend; (None, (0, 0)) without one."""
    if backend == "tensorflow":
        import tensorflow

        if gpus := tensorflow.config.list_physical_devices("GPU"):
            details = tensorflow.config.experimental.get_device_details(gpus[0])
            return details.get("device_name", "GPU"), details.get("compute_capability", (0, 0))
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
        if torch.backends.mps.is_available():  # Keras takes it by itself
            return "of Apple", (0, 0)
    elif backend == "jax":
        import jax

        device = jax.local_devices()[0]
        if device.platform == "gpu":
            capability = getattr(device, "compute_capability", "0.0").split(".")
            return device.device_kind, tuple(int(part) for part in capability)
    return None, (0, 0)


def is_installed(package: str) -> bool:
    """Whether a package could be imported; it is looked for without an import."""
    parent = package.rpartition(".")[0]  # find_spec("a.b") fails without a
    return (not parent or is_installed(parent)) and importlib.util.find_spec(package) is not None


def require(packages: Iterable[str | None], purpose: str) -> None:
    """Stop before any work where a package is missing.

    Args:
        packages: names of packages; None and "" are left out.
        purpose: what needs them, for the message.

    Raises:
        ValueError: with the command that installs what is missing.
    """
    missing = [package for package in packages if package and not is_installed(package)]
    if missing:
        names = " ".join(missing)
        raise ValueError(
            f"{purpose} needs {names}, which is not installed: python -m pip install {names}"
        )
