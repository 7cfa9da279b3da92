"""The command that makes a GPU seen, for each system and backend.

Sources: https://www.tensorflow.org/install/pip, https://docs.jax.dev/en/latest/installation.html,
https://pytorch.org/get-started/locally/ and https://github.com/tensorflow/tensorflow/issues/84167
(tensorflow-metal). docs/install.md explains each.
"""

import platform
import sys

from nuclei.checkup.packages import NEEDED, read_requirements
from nuclei.machine import has_nvidia

MORE = "docs/install.md"


def gpu_advice(backend: str) -> str:
    """What makes the GPU of this machine seen by a backend that sees none.

    Args:
        backend: "tensorflow", "torch" or "jax".

    Returns:
        A command or a sentence; empty where this machine has no GPU that could be used.
    """
    if sys.platform == "darwin":
        return advice_for_mac(backend)
    if not has_nvidia():
        return ""
    if sys.platform == "win32":
        return advice_for_windows(backend)
    return advice_for_linux(backend)


def advice_for_linux(backend: str) -> str:
    """The command for an NVIDIA GPU on Linux, also within Windows (WSL2)."""
    if backend == "torch":
        return "python -m pip install torch, whose build for Linux has CUDA"
    if backend == "jax":
        return 'python -m pip install "jax[cuda13]"'
    if platform.machine() not in ("x86_64", "AMD64"):
        return (
            "TensorFlow has no GPU build for this processor: "
            'python -m pip install "jax[cuda13]", then set KERAS_BACKEND=jax'
        )
    versions = read_requirements(NEEDED)["tensorflow"]
    return f'python -m pip install "tensorflow[and-cuda]{versions}"'


def advice_for_windows(backend: str) -> str:
    """The way to an NVIDIA GPU on Windows."""
    if backend == "torch":
        return f"install the CUDA build of PyTorch, see {MORE}"
    return (
        f"{backend} uses no GPU on Windows itself: install WSL2 (wsl --install) and the project "
        f"in it, see {MORE}"
    )


def advice_for_mac(backend: str) -> str:
    """The way to the GPU of an Apple processor."""
    if platform.machine() != "arm64" or backend == "torch":
        return ""
    return (
        f"{backend} uses no GPU on macOS here: python -m pip install torch, then set "
        f"KERAS_BACKEND=torch, see {MORE}"
    )
