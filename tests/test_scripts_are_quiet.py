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
TWO = "test_raw/test_tissue_01.png test_raw/test_tissue_02.png"
CHAINS = {  # commands in their order: one may need what an earlier one has written
    "model": [f"train.py --out runs/a {TINY}", "graph.py runs/a"]
    + ["exports.py --model-out onnx --model runs/a"],
    "images": [f"predict.py {TWO} --model shipped", "evaluate.py --allow-missing", "report.py"],
    "data": ["data/synthetic.py --out more --num 2", "import_data.py", "doctor.py"],
}
WITHOUT = {"unet.py", "google_colab.py", "app.py"}  # no command line, or it serves pages for ever


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What the scripts need of the checkout, where they may write, and an empty cache."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("data", "test_raw", "nuclei"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for pattern in ("*.py", "*.toml", "*.txt"):
        for path in ROOT.glob(pattern):
            shutil.copy(path, folder)
    (folder / "Saved_Model").mkdir()
    shutil.copy(ROOT / "Saved_Model" / "pretrained.h5", folder / "Saved_Model")
    return folder


def test_every_script_is_run():
    scripts = {command.split()[0] for chain in CHAINS.values() for command in chain}
    assert scripts == {path.name for path in ROOT.glob("*.py")} - WITHOUT | {"data/synthetic.py"}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_script_that_succeeds_writes_nothing_to_stderr(chain, checkout):
    unwanted = ("PYTHONWARNINGS", "TF_CPP_MIN_LOG_LEVEL")  # a user has set neither
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment |= dict.fromkeys(("XDG_CACHE_HOME", "LOCALAPPDATA"), str(checkout / "cache"))
    for command in CHAINS[chain]:
        done = subprocess.run(
            [sys.executable, *command.split()],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{command}\n{done.stdout[-2000:]}"
