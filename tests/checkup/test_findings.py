"""A checkup goes on after what is missing or broken, names it and says what to do."""

import os
import sys
from collections import namedtuple

import pytest
from blob_model import write_blob_model

from nuclei.checkup import findings
from nuclei.checkup.findings import (
    LOW_DISK_BYTES,
    check_cache,
    check_disk,
    check_memory,
    check_model,
    check_optional,
    check_packages,
    check_python,
    check_results,
    examine,
)

SOUND = {
    "backend": {"device": "CPU, 2 cores, with tensorflow"},
    "engine": {"auto": "litert", "device": "CPU, 2 cores, with litert"},
    "image": {"nuclei": 12, "seconds": 0.4},
}


@pytest.fixture
def missing(monkeypatch):
    """Makes packages look as if they were not installed."""

    def lack(*names):
        present = findings.installed_version
        without = lambda name: None if name in names else present(name)
        monkeypatch.setattr(findings, "installed_version", without)
        monkeypatch.setattr("nuclei.checkup.packages.installed_version", without)

    return lack


def names_and_faults(found):
    return [(finding.name, finding.is_fault) for finding in found]


def test_a_missing_package_ends_the_checkup_with_the_command_that_installs_it(missing):
    missing("keras")
    *_, last = found = list(examine())
    (fault,) = [finding for finding in found if finding.is_fault]
    assert fault.name == "packages" and "keras" in fault.text
    assert fault.advice == "python -m pip install -r requirements.txt"
    assert last.name == "memory"  # what needs no package was still looked at


def test_tensorflow_is_not_missed_where_another_backend_is_chosen(missing, monkeypatch):
    missing("tensorflow")
    assert check_packages().is_fault
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert not check_packages().is_fault


def test_other_versions_are_named_and_no_fault(monkeypatch):
    misfit = "numpy 1.26.4 (expected >=2,<3)"
    monkeypatch.setattr(findings, "missing_and_misfits", lambda ranges: ([], [misfit]))
    assert check_packages() == ("packages", misfit, "python -m pip install -r requirements.txt", 0)
    assert list(check_optional())[-1].text == misfit


def test_optional_packages_are_named_with_their_purpose(missing):
    missing("tf2onnx", "onnx", "zarr")
    texts = [finding.text for finding in check_optional()]
    assert "not installed: tf2onnx onnx, for exports.py --model-out onnx" in texts
    assert any("not installed: zarr, for slides" in text for text in texts)


def test_the_checkup_of_a_sound_machine_has_no_fault(tmp_path, monkeypatch):
    model = write_blob_model(tmp_path / "model.h5")
    monkeypatch.setattr(findings, "try_out", lambda model, image, engine: SOUND)
    found = list(examine(model))
    assert not any(finding.is_fault for finding in found)
    assert [finding.name for finding in found if finding.name][-1] == "trial"
    engines = [finding.text for finding in found if finding.name == "engine"]
    assert len(engines) == 4 and [text for text in engines if "taken by auto" in text] == [
        engines[0]
    ]


@pytest.mark.parametrize("step", ["backend", "engine", "image"])
def test_a_step_that_fails_is_a_fault_with_its_error(step):
    results = SOUND | {step: {"error": "it is broken"}}
    *_, last = check_results(results, "a.png")
    assert last.is_fault and last.text == "it is broken" and last.advice


def test_an_error_of_the_trial_is_said_where_the_engines_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "nuclei.inference.engines", None)
    (fault,) = check_results({"backend": {"error": "numpy is broken"}}, "a.png")
    assert fault.is_fault and fault.text == "numpy is broken"


def test_a_processor_that_is_too_old_is_told_apart(monkeypatch):
    results = {"backend": {"error": "Python was ended by the signal SIGILL"}}
    (fault,) = check_results(results, "a.png")
    assert "AVX" in fault.advice
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    (fault,) = check_results(results, "a.png")
    assert "--force-reinstall torch keras" in fault.advice


def test_a_gpu_that_is_not_seen_has_its_command(monkeypatch):
    monkeypatch.setattr(findings, "gpu_advice", lambda backend: f"the command for {backend}")
    backend, *_ = check_results(SOUND, "a.png")
    assert backend.advice == "the command for tensorflow" and not backend.is_fault
    seen = SOUND | {"backend": {"device": "GPU T4 with tensorflow"}}
    assert not any(finding.advice for finding in check_results(seen, "a.png"))


def test_a_model_that_is_no_model_is_a_fault(tmp_path):
    (tmp_path / "a.h5").write_text("no model")
    for name in ("a.h5", "nothing.h5"):
        path, finding = check_model(tmp_path / name)
        assert path is None and finding.is_fault and name in finding.text
        assert list(examine(tmp_path / name))[-1] == finding


def test_a_copy_without_test_images_asks_for_one(tmp_path, monkeypatch):
    model = write_blob_model(tmp_path / "model.h5")
    monkeypatch.setattr(findings, "PROJECT", tmp_path)
    *_, last = examine(model)
    assert last.is_fault and "--image" in last.advice


def test_little_disk_memory_and_a_locked_cache_are_said(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(findings.shutil, "disk_usage", lambda path: usage(LOW_DISK_BYTES - 1))
    assert check_disk().advice
    for memory, has_advice in ((1e9, True), (8e9, False), (float("inf"), False)):
        monkeypatch.setattr(findings, "memory_bytes", lambda memory=memory: memory)
        assert bool(check_memory().advice) is has_advice
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    assert check_cache(tmp_path).text.endswith("3 MB")
    assert not check_cache(tmp_path / "not" / "yet").advice
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "XDG_CACHE_HOME" in check_cache(tmp_path).advice


def test_a_python_of_32_bits_is_a_fault(monkeypatch):
    assert not check_python().is_fault
    monkeypatch.setattr(findings.sys, "maxsize", 2**31 - 1)
    assert check_python().is_fault
