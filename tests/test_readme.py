"""The commands of README.md and docs/ are true: each ```sh block is run, in its order, in a copy of
the checkout.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nuclei.results.tables import read_table

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETUP = (["-m", "pip"], ["-m", "venv"], ["-m", "pytest"])  # .ci/run runs these
SHIPPED = ("data", "test_raw", "nuclei", "experiments", "Saved_Model")
SHORT_TRAINING = "--epochs 1 --crops-per-image 1 --crop 64 --batch-size 4 --width 8 --depth 1"
SHORT_BENCHMARK = "--repeats 1 --num-images 1 --window 64 --parts network --no-classic"
ONE_AFTER_ANOTHER = """
import json, runpy, sys

for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    is_module = words[0] == "-m"
    start = runpy.run_module if is_module else runpy.run_path
    sys.argv = words[is_module:]
    try:
        start(words[is_module], run_name="__main__")
    except SystemExit as end:
        if end.code and words[0] not in ("interrupted.py", "served.py"):
            raise
"""
INTERRUPTED = """
import signal, sys

import train
from nuclei.machine import start_backend

start_backend()
from nuclei.training.bookkeeping import Bookkeeper

usual = Bookkeeper.on_epoch_begin

def begin(self, epoch, logs=None):
    usual(self, epoch, logs)
    if epoch:  # a checkpoint is there
        Bookkeeper.on_epoch_begin = usual  # the next command is not stopped
        signal.raise_signal(signal.SIGINT)  # as Ctrl-C does

Bookkeeper.on_epoch_begin = begin
sys.exit(train.main(sys.argv[1:]))
"""
SERVED = """
import _thread, sys, threading, webbrowser

import app

def close(address):
    timer = threading.Timer(1, _thread.interrupt_main)  # the user looks at the page, then Ctrl-C
    timer.daemon = True
    timer.start()

webbrowser.open = close
sys.exit(app.main(sys.argv[1:]))
"""


def commands(page):
    """Each command of the shell blocks of a page that starts Python, as words without the first."""
    result = []
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words and Path(words[0]).name == "python" and words[1:3] not in SETUP:
                    result.append(words[1:])
    return result


def make_checkout(folder, trained):
    """Copy what the repository ships to where commands may write, and add the folders of the
    examples.

    Args:
        folder: a new folder.
        trained: whether a training has been made there before.
    """
    unwanted = shutil.ignore_patterns(
        "__pycache__", "previous", "trained_model.h5", "checkpoint.h5", "history.csv", "dsb2018"
    )
    for name in SHIPPED:
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for pattern in ("*.py", "pyproject.toml", "requirements*.txt"):
        for path in ROOT.glob(pattern):
            shutil.copy(path, folder)
    if trained:
        shutil.copy(
            folder / "Saved_Model" / "pretrained.h5", folder / "Saved_Model" / "trained_model.h5"
        )
        shutil.copy(
            folder / "Saved_Model" / "pretrained_history.csv",
            folder / "Saved_Model" / "history.csv",
        )
    for example in ("my_data", "few_images"):
        for part in ("raw", "gt"):
            (folder / example / part).mkdir(parents=True)
            for path in sorted((folder / "data" / part).glob("tissue_0[1-4].*")):
                shutil.copy(path, folder / example / part)
    shutil.copytree(folder / "my_data" / "raw", folder / "my_images")
    for number in (
        1,
        2,
        3,
    ):  # the layout of the Data Science Bowl: ID/images/ID.png, ID/masks/*.png
        public = folder / "stage1_train" / f"id{number}"
        (public / "images").mkdir(parents=True)
        (public / "masks").mkdir()
        image = folder / "my_images" / f"tissue_0{number}.png"
        shutil.copy(image, public / "images" / f"id{number}.png")
        labels = np.array(Image.open(folder / "my_data" / "gt" / f"tissue_0{number}.png"))
        for nucleus in range(1, 4):
            mask = (labels == nucleus).astype(np.uint8) * 255
            Image.fromarray(mask).save(public / "masks" / f"{nucleus}.png")
    shutil.make_archive(str(folder / "stage1_train"), "zip", folder / "stage1_train")


def run(all_words, folder):
    """Run these commands one after another in one process, until one of them fails."""
    unwanted = ("PYTHONWARNINGS", "TF_CPP_MIN_LOG_LEVEL")  # a user has set neither
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment["MPLBACKEND"] = "agg"
    return subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(all_words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )


def test_the_test_command_of_the_readme_is_what_ci_runs():
    blocks = re.findall(r"```sh\n(.*pytest -q.*)\n```", PAGES[0].read_text(encoding="utf-8"))
    assert len(blocks) == 1 and "requirements-dev.txt" in blocks[0]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "grep -m1 'pytest -q' README.md" in ci
    assert ci.index("pip install --quiet --require-hashes -r requirements.lock") < ci.index("eval")


def test_readme_and_docs_run_every_script():
    scripts = {words[0] for page in PAGES for words in commands(page)}
    without_commands = {"unet.py", "google_colab.py"}
    assert scripts >= {path.name for path in ROOT.glob("*.py")} - without_commands
    assert "data/synthetic.py" in scripts


def test_every_link_leads_somewhere():
    for page in (*PAGES, ROOT / "Saved_Model" / "README.md", ROOT / "experiments" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: page.name
)
def test_the_commands_run_in_their_order(page, tmp_path):
    """As they stand, but with short trainings; --resume continues an interrupted training, and
    app.py ends after its page was opened.

    Each ends well, and without a line on stderr: the libraries are quiet.
    """
    make_checkout(tmp_path, trained=page.name != "README.md")
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    (tmp_path / "served.py").write_text(SERVED)
    all_words = []
    for words in commands(page):
        if "--resume" in words:
            all_words.append(["interrupted.py", *SHORT_TRAINING.split(), "--epochs", "5"])
        elif words[0] == "train.py":
            words = words + SHORT_TRAINING.split()
        elif words[0] == "app.py":
            words = ["served.py", *words[1:]]
        if words[:2] == ["-m", "experiments.benchmark"]:
            words = words + SHORT_BENCHMARK.split()
        all_words.append(words)
    done = run(all_words, tmp_path)
    noise = [line for line in done.stderr.splitlines() if "stopped by Ctrl-C" not in line]
    assert (done.returncode, noise) == (0, []), f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    if page.name == "README.md":
        assert (tmp_path / "predictions" / "summary.csv").exists()
        assert (tmp_path / "runs" / "demo" / "Training_Graph.html").exists()
        demo = tmp_path / "runs" / "demo" / "predictions"
        for folder, model in ((tmp_path / "predictions", "pretrained"), (demo, "trained_model")):
            models = read_table(folder / "summary.csv")["model"]
            assert {Path(name).stem for name in models} == {model}
