"""google_colab.py as the cell of a notebook: cut off on one machine, gone on with on the next."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from training_tools import write_data

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {"EPOCHS": 6, "BATCH_SIZE": 2, "WIDTH": 4, "CROP_PX": 32, "DEPTH": 1}
STUB = {  # what the cell calls of Colab; a google/__init__.py would hide google.protobuf
    "__init__.py": "",
    "drive.py": """
import os
from pathlib import Path

def mount(mountpoint):
    Path(mountpoint).mkdir(parents=True)
    (Path(mountpoint) / "MyDrive").symlink_to(os.environ["TEST_DRIVE"])
""",
    "files.py": """
import os
import shutil

def download(path):
    shutil.copy(path, os.environ["TEST_DOWNLOADS"])
""",
}
# In a process of its own: the client leaves sockets open, which would be errors here.
CLIENT = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", allow_errors=True)
client.execute()
nbformat.write(notebook, sys.argv[1])
"""


class Runtime:
    """Colab: a Drive that stays, and machines with a kernel and a disk that can be cut off."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.drive, self.downloads = folder, folder / "drive", folder / "downloads"
        stub = folder / "stub" / "google" / "colab"
        for path in (stub, self.drive, self.downloads):
            path.mkdir(parents=True)
        for name, text in STUB.items():
            (stub / name).write_text(text)
        environment = {"PYTHONPATH": "stub", "TEST_DRIVE": "drive", "TEST_DOWNLOADS": "downloads"}
        environment |= {"IPYTHONDIR": "ipython", "JUPYTER_RUNTIME_DIR": "jupyter"}
        for name, part in (environment | {"JUPYTER_CONFIG_DIR": "jupyter"}).items():
            monkeypatch.setenv(name, str(folder / part))

    def run(self, number, cut_off_when=None):
        """Run the cell on a new machine, or kill it as soon as `cut_off_when()`."""
        machine = self.folder / f"machine_{number}"
        machine.mkdir()
        source = (ROOT / "google_colab.py").read_text(encoding="utf-8")
        for name, value in (SETTINGS | {"MOUNT_POINT": str(machine / "drive")}).items():
            source, count = re.subn(rf"(?m)^{name} = [^#\n]*", f"{name} = {value!r}  ", source)
            assert count == 1, name
        pid, path = machine / "pid", machine / "notebook.ipynb"
        first = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid()))"
        cells = [nbformat.v4.new_code_cell(text) for text in (first, source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        command = [sys.executable, "-c", CLIENT, path]
        client = subprocess.Popen(command, cwd=machine, stderr=subprocess.PIPE, text=True)
        while cut_off_when and client.poll() is None:
            if cut_off_when():
                os.kill(int(pid.read_text()), signal.SIGKILL)
                break
            time.sleep(0.01)
        errors = client.communicate(timeout=600)[1]
        if cut_off_when:
            assert client.returncode == 1 and "DeadKernelError" in errors, errors
            return shutil.rmtree(machine)
        assert client.returncode == 0, errors
        return nbformat.read(path, as_version=4).cells[1].outputs


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    return Runtime(tmp_path, monkeypatch)


def printed(outputs):
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_a_cell_that_was_cut_off_goes_on_and_hands_over_both_files(runtime):
    results = write_data(runtime.drive / "Unet_Data", 3) / "Saved_Model"
    state = results / "backup" / "training_metadata.json"
    runtime.run(1, cut_off_when=state.exists)
    assert not list(runtime.downloads.iterdir()) and (results / "trained_model.h5").exists()

    outputs = runtime.run(2)
    assert not [output.evalue for output in outputs if output.output_type == "error"]
    text = printed(outputs)
    assert "An unfinished training goes on" in text and "WARNING: no GPU" in text
    assert "Epoch 1/6" not in text and "Epoch 6/6" in text and " holds predictions" in text
    figures = [output for output in outputs if output.output_type == "display_data"]
    assert len(figures) == 2  # one that is renewed, and the prediction of a whole image
    assert all("image/png" in figure.data for figure in figures)
    names = ["history.csv", "trained_model.h5"]
    assert {path.name for path in results.iterdir()} == {*names, "preview.png", "prediction_1.png"}
    for name in names:
        assert (runtime.downloads / name).read_bytes() == (results / name).read_bytes()


def test_a_mistake_is_one_line_in_the_cell(runtime):
    (error,) = [output for output in runtime.run(1) if output.output_type == "error"]
    assert error.ename == "SystemExit" and "Unet_Data: 0 images in raw" in error.evalue
