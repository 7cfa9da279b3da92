"""Each system and backend has its way to the GPU."""

import platform
import sys

import pytest

from nuclei.checkup import gpu
from nuclei.checkup.gpu import gpu_advice
from nuclei.checkup.packages import NEEDED, read_requirements


@pytest.fixture
def machine(monkeypatch):
    def become(system, processor, nvidia):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: processor)
        monkeypatch.setattr(gpu, "has_nvidia", lambda: nvidia)

    return become


@pytest.mark.parametrize(
    ("system", "processor", "backend", "expected"),
    [
        ("linux", "x86_64", "tensorflow", 'python -m pip install "tensorflow[and-cuda]>='),
        ("linux", "x86_64", "jax", 'python -m pip install "jax[cuda13]"'),
        ("linux", "x86_64", "torch", "python -m pip install torch"),
        ("linux", "aarch64", "tensorflow", "KERAS_BACKEND=jax"),
        ("win32", "AMD64", "tensorflow", "WSL2"),
        ("win32", "AMD64", "torch", "CUDA build of PyTorch"),
        ("darwin", "arm64", "tensorflow", "KERAS_BACKEND=torch"),
    ],
)
def test_the_way_to_a_gpu_is_said(machine, system, processor, backend, expected):
    machine(system, processor, nvidia=system != "darwin")
    assert expected in gpu_advice(backend)


def test_the_command_stays_in_the_range_of_the_requirements(machine):
    machine("linux", "x86_64", True)
    assert read_requirements(NEEDED)["tensorflow"] in gpu_advice("tensorflow")


@pytest.mark.parametrize(
    ("system", "processor", "backend"),
    [
        ("linux", "x86_64", "tensorflow"),
        ("win32", "AMD64", "tensorflow"),
        ("darwin", "x86_64", "tensorflow"),  # an Intel Mac
        ("darwin", "arm64", "torch"),  # sees Apple's GPU by itself
    ],
)
def test_without_a_gpu_nothing_is_advised(machine, system, processor, backend):
    machine(system, processor, nvidia=False)
    assert gpu_advice(backend) == ""
