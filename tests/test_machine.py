"""The machine: its device is named, and missing packages are named with the way out."""

import logging
import sys
from types import SimpleNamespace

import keras
import pytest
from training_tools import write_pair

import predict
from nuclei.machine import (
    find_device,
    find_gpu,
    is_installed,
    memory_bytes,
    num_cores,
    require,
    require_memory,
    start_backend,
)

BACKEND = keras.backend.backend()


def test_the_device_is_named():
    words, precision = find_device(BACKEND)
    assert words.startswith(("CPU", "GPU")) and BACKEND in words
    assert precision in ("float32", "mixed_float16", "mixed_bfloat16")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 1), "float32"), ((7, 5), "mixed_float16"), ((9, 0), "mixed_bfloat16")],
)
def test_half_precision_is_for_gpus_with_tensor_cores(capability, expected, monkeypatch):
    monkeypatch.setattr("nuclei.machine.find_gpu", lambda backend: ("T1000", capability))
    assert find_device("torch") == ("GPU T1000 with torch", expected)


def test_a_gpu_that_the_backend_does_not_see_is_reported(monkeypatch):
    monkeypatch.setattr("nuclei.machine.find_gpu", lambda backend: (None, (0, 0)))
    monkeypatch.setattr("nuclei.machine.shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert "does not see" in find_device(BACKEND)[0]


def test_the_gpu_of_apple_is_seen_by_torch(monkeypatch):
    def answer(value):
        return SimpleNamespace(is_available=lambda: value)

    torch = SimpleNamespace(cuda=answer(False), backends=SimpleNamespace(mps=answer(True)))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert find_device("torch") == ("GPU of Apple with torch", "float32")
    torch.backends.mps = answer(False)
    assert find_gpu("torch") == (None, (0, 0))


def test_cores_are_limited_by_the_usual_variable(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert num_cores() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert num_cores() >= 1
    assert memory_bytes() > 1e8


def test_too_little_memory_is_told_before_an_engine_waits_for_it(tmp_path, monkeypatch, capsys):
    require_memory()
    monkeypatch.setattr("nuclei.machine.memory_bytes", lambda: 5e8)
    with pytest.raises(MemoryError, match="may use 500 MB of memory, and the network needs 1,000"):
        require_memory()
    write_pair(tmp_path, "a")
    command = [str(tmp_path / "raw"), "--model", "shipped", "--out", str(tmp_path / "out")]
    assert predict.main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("predict.py: this process may use") and error.count("\n") == 1


def test_missing_packages_are_named_with_the_command_that_installs_them():
    assert is_installed("numpy.linalg") and not is_installed("nothing_such.at_all")
    require(["numpy", None, ""], "the test")
    with pytest.raises(ValueError, match="the test needs nothing_such.*pip install nothing_such"):
        require(["numpy", "nothing_such"], "the test")


@pytest.mark.parametrize(("level", "is_shown"), [("2", False), ("0", True)])
def test_tensorflow_does_not_warn_of_many_sizes_unless_the_user_wants_it(
    level, is_shown, monkeypatch
):
    logger = logging.getLogger("tensorflow")
    logger.setLevel(logging.WARNING)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    assert start_backend() == BACKEND
    assert logger.isEnabledFor(logging.WARNING) == is_shown and logger.isEnabledFor(logging.ERROR)
    logger.setLevel(logging.ERROR)
