"""Every script does a small job as a user starts it, and writes nothing to stderr.

Each runs in a process of its own, since the libraries write while they are imported.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = "--epochs 1 --crops-per-image 1 --crop 64 --batch-size 4 --width 8 --depth 1"
JOBS = {  # in this order: a job may need what an earlier one has written
    "import_data.py": "",
    "train.py": f"--out runs/a {TINY}",
    "graph.py": "runs/a",
    "predict.py": "test_raw/test_tissue_01.png test_raw/test_tissue_02.png --model shipped",
    "evaluate.py": "--allow-missing",
    "report.py": "",
    "exports.py": "--model-out onnx --model runs/a",
    "data/synthetic.py": "--out more --num 2",
}
LONG_RUNNING = {"app.py"}  # serves pages until it is stopped
OTHERS = {path.name for path in ROOT.glob("*.py")} - {"unet.py", "google_colab.py"} - LONG_RUNNING


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What the jobs need of the checkout, where they may write, and an empty cache."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("data", "test_raw", "nuclei"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.py"), *ROOT.glob("*.toml")):
        shutil.copy(path, folder)
    (folder / "Saved_Model").mkdir()
    shutil.copy(ROOT / "Saved_Model" / "pretrained.h5", folder / "Saved_Model")
    return folder


@pytest.mark.parametrize("script", [*JOBS, *sorted(OTHERS - set(JOBS))])
def test_a_script_that_succeeds_writes_nothing_to_stderr(script, checkout):
    unwanted = ("PYTHONWARNINGS", "TF_CPP_MIN_LOG_LEVEL")  # a user has set neither
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    cache = str(checkout / "cache")
    done = subprocess.run(
        [sys.executable, script, *JOBS.get(script, "").split()],
        cwd=checkout,
        env=environment | {"XDG_CACHE_HOME": cache, "LOCALAPPDATA": cache},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:]
