"""docs/teaching.ipynb: eight short cells that run from a clone, from the data to what fails."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "teaching.ipynb"
MAX_LINES = 25  # of a cell: one screen of a projector
# In a process of its own: the client leaves sockets open, which would be errors here.
CLIENT = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
place = {"metadata": {"path": sys.argv[2]}}
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
nbformat.write(notebook, sys.argv[3])
"""


def code_cells(path):
    cells = nbformat.read(path, as_version=4).cells
    assert [cell.cell_type for cell in cells] == ["markdown", "code"] * 8
    return cells[1::2]


def test_the_cells_are_short_and_committed_without_outputs():
    for cell in code_cells(NOTEBOOK):
        assert len(cell.source.splitlines()) <= MAX_LINES
        assert not cell.outputs and cell.execution_count is None


def test_the_notebook_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    executed = tmp_path / "executed.ipynb"
    words = [sys.executable, "-c", CLIENT, str(NOTEBOOK), str(NOTEBOOK.parent), str(executed)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = [[output.get("data", {}) for output in cell.outputs] for cell in code_cells(executed)]
    has_picture = [any("image/png" in data for data in cell) for cell in shown]
    assert has_picture == [True, True, False, False, False, True, False, True]
    assert any("application/vnd.plotly.v1+json" in data for data in shown[4])
    streams = [
        output
        for cell in code_cells(executed)
        for output in cell.outputs
        if output.output_type == "stream"
    ]
    assert {stream.name for stream in streams} == {"stdout"}, streams  # no noise of TensorFlow
    printed = "".join(stream.text for stream in streams)
    first, last = map(float, re.findall(r"steps ([\d.]+), of the last ten ([\d.]+)", printed)[0])
    assert last < first
    ours, shipped = map(float, re.findall(r"(?:one epoch|shipped): AP@0.5 ([\d.]+)", printed))
    assert 0 < ours < shipped <= 1
