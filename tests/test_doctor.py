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
def test_the_last_line_says_what_to_do(found, status, last, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(findings, "examine", lambda *values: given.append(values) or iter(found))
    flags = ["--model", "m.h5", "--image", "a.png", "--engine", "keras"]
    assert doctor.main(flags) == status and given == [("m.h5", "a.png", "keras")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(last)
    for finding in found:
        assert f"{finding.name:10}{finding.text}" in lines
        assert not finding.advice or f"{'':10}-> {finding.advice}" in lines


def test_another_python_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "PYTHONS", ((3, 98), (3, 99)))
    assert doctor.main([]) == 1
    assert "install Python 3.98 to 3.99" in capsys.readouterr().out


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
