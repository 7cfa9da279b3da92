"""doctor.py prints the findings, ends with what to do, and its status says whether all works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import doctor
from nuclei.checkup import findings
from nuclei.checkup.findings import Finding

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("found", "status", "last"),
    [
        ([Finding("model", "a.h5")], 0, "All is well: python predict.py"),
        ([Finding("backend", "CPU", "get a GPU")], 0, "predict.py works: python predict.py. The"),
        (
            [Finding("", "b", "c"), Finding("model", "none", "train one", True)],
            1,
            "predict.py cannot work yet (model): train one",
        ),
    ],
)
def test_the_last_line_says_what_to_do(found, status, last, tmp_path, monkeypatch, capsys):
    given, model, image = [], str(tmp_path), str(tmp_path / "a.png")
    Path(image).touch()
    monkeypatch.setattr(findings, "examine", lambda *values: given.append(values) or iter(found))
    flags = ["--model", model, "--image", image, "--engine", "keras"]
    assert doctor.main(flags) == status and given == [(model, image, "keras")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(last)
    for finding in found:
        assert f"{finding.name:10}{finding.text}" in lines
        assert not finding.advice or f"{'':10}-> {finding.advice}" in lines


def test_another_python_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "PYTHONS", ((3, 98), (3, 99)))
    assert doctor.main([]) == 1
    assert "install Python 3.98 to 3.99" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--image", "--model", "--engine"])
def test_what_is_not_there_is_refused_before_the_checkup(flag, monkeypatch, capsys):
    monkeypatch.setattr(findings, "examine", lambda *_: pytest.fail("the checkup has begun"))
    with pytest.raises(SystemExit) as stopped:
        doctor.main([flag, "nosuch"])
    out, errors = capsys.readouterr()
    assert stopped.value.code == 2 and not out
    assert f"argument {flag}: " in errors and "nosuch" in errors


def run_without_packages(*flags, blocked=False):
    """doctor.py in a process that has no package, or, if `blocked`, whose packages are broken."""
    command = ["-c", BLOCK] if blocked else ["-S", "-E", "doctor.py"]
    return subprocess.run(
        [sys.executable, *command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


BLOCK = """
import runpy, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "nuclei":
            raise (ValueError if top == "h5py" else ImportError)(f"{top} was built for another")

sys.meta_path.insert(0, Block())
runpy.run_path("doctor.py", run_name="__main__")
"""


def test_without_any_package_it_says_what_is_missing():
    done = run_without_packages()
    assert done.returncode == 1 and not done.stderr
    assert "missing: tensorflow, keras" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.endswith("(packages): python -m pip install -r requirements.txt")


def test_packages_that_are_broken_are_named():
    done = run_without_packages(blocked=True)
    assert done.returncode == 1 and not done.stderr
    assert "one is broken (ValueError: h5py was built for another)" in done.stdout
    assert "--force-reinstall -r requirements.txt" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("blocked", [False, True])
def test_its_help_needs_no_package(blocked):
    done = run_without_packages("--help", blocked=blocked)
    assert done.returncode == 0 and "usage:" in done.stdout and not done.stderr


def test_a_tensorflow_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "tensorflow").mkdir()
    error = "raise ImportError('libtensorflow_cc.so.2: cannot open shared object file')"
    (tmp_path / "tensorflow" / "__init__.py").write_text(error)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, str(ROOT / "doctor.py")]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1 and not done.stderr
    assert "libtensorflow_cc.so.2: cannot open" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert "pip install --force-reinstall -r requirements.txt" in last
