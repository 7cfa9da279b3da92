"""The trial names the step that is broken, also where the process ends or waits for ever."""

import json
import sys

import pytest
from blob_model import write_blob_model
from inference_tools import write_blobs

from nuclei.checkup import probe
from nuclei.checkup.probe import STEPS, run_steps, try_out
from nuclei.cli import ENGINES


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    write_blobs(folder / "in", 1)
    return write_blob_model(folder / "model.h5"), folder / "in" / "image0.png"


def script(code):
    """A command that runs this code and gets the arguments of the trial."""
    return (sys.executable, "-c", f"import json, os, signal, sys, time\n{code}")


def test_all_steps_pass(paths, capsys):
    assert probe.main([*map(str, paths), "keras"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines] == list(STEPS)
    backend, engine, image = lines
    assert backend["device"].startswith(("CPU", "GPU")) and engine["auto"] in ENGINES
    assert image["nuclei"] > 2 and image["seconds"] >= 0


@pytest.mark.parametrize(
    ("change", "step", "error"),
    [
        ({"engine": "nothing"}, "engine", "there is no engine nothing; expected auto, litert"),
        ({"model": "nothing.h5"}, "engine", "there is no such model file"),
        ({"image": "nothing.png"}, "image", "nothing.png"),
    ],
)
def test_what_cannot_be_used_ends_its_step(paths, change, step, error):
    given = {"model": paths[0], "image": paths[1], "engine": "keras"} | change
    *_, last = run_steps(given["model"], given["image"], given["engine"])
    assert last["step"] == step and error in last["error"]


def test_a_package_that_cannot_be_imported_is_the_fault_of_the_backend(paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    (only,) = run_steps(*paths, "keras")
    assert only["step"] == "backend" and "keras" in only["error"]


def test_results_are_those_of_the_other_process(tmp_path):
    code = "print('noise'); print(json.dumps({'step': 'backend', 'device': sys.argv[1:]}))"
    code += "\nprint(json.dumps({'step': 'engine', 'error': 'E'}))"
    results = try_out(tmp_path / "m.h5", tmp_path / "a.png", "auto", script(code))
    expected = [str((tmp_path / "m.h5").resolve()), str((tmp_path / "a.png").resolve()), "auto"]
    assert results["backend"]["device"] == expected
    assert results["engine"]["error"] == "E" and "image" not in results


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_process_that_is_ended_names_the_signal(tmp_path):
    results = try_out("m", "a", "auto", script("os.kill(os.getpid(), signal.SIGILL)"))
    assert "SIGILL" in results["backend"]["error"]


def test_a_process_that_fails_names_its_last_line():
    results = try_out("m", "a", "auto", script("raise ImportError('libcuda.so is missing')"))
    assert results["backend"]["error"] == "ImportError: libcuda.so is missing"
    results = try_out("m", "a", "auto", script("sys.exit(3)"))
    assert results["backend"]["error"] == "Python ended with status 3"


def test_a_process_that_waits_for_ever_is_ended(monkeypatch):
    monkeypatch.setattr(probe, "MAX_SECONDS", 1)
    code = "print(json.dumps({'step': 'backend', 'device': 'CPU'}), flush=True); time.sleep(60)"
    results = try_out("m", "a", "auto", script(code))
    assert results["backend"]["device"] == "CPU"
    assert results["engine"]["error"] == "no answer within 1 seconds"
