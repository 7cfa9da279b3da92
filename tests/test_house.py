"""How the project is built: who imports whom, what opens at once, and that the README's commands are true."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {path.stem: path for path in sorted(ROOT.glob("*.py"))}
LIBRARIES = {"import_data", "augment", "unet", "losses", "tiling", "instances", "slides", "exports", "graph"}
SCRIPTS = {"train", "predict", "evaluate"}
COLAB = {"google_colab", "sync_colab"}  # a copy of the others that stands alone, and the tool that makes it
# Arrows between libraries: exports.py is a script besides, which reads its files and ends its errors as all do, measures
# by instances.py and, for the model out, loads one by unet.py. It reads nothing back: corrected outlines are a form of
# truth, so that import_data.py has their readers and needs nothing of exports.py.
# slides.py stands over four: a slide's windows are tiling's, its nuclei instances', its files exports', one unit at a time.
ARROWS = {"exports": {"import_data", "instances", "unet"}, "slides": {"import_data", "tiling", "instances", "exports"}}
RENDERERS = {"report", "benchmark"}  # they show what scripts have made, so they alone may import them
WITH_KERAS = {"unet", "losses", "train", "exports", "benchmark", "google_colab"}
HEAVY = {"tensorflow", "keras", "jax", "torch"}
SLOW = {"pandas", "scipy", "skimage", "plotly"}


def imports_of(path):
    """Names of the modules that a file imports anywhere, and those that it imports at its top level."""
    anywhere, at_top = set(), set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )  # fmt: skip
        anywhere.update(name.split(".")[0] for name in names)
        if node in tree.body:
            at_top.update(name.split(".")[0] for name in names)
    return anywhere, at_top


def test_every_file_has_a_room():
    assert set(MODULES) == LIBRARIES | SCRIPTS | RENDERERS | COLAB
    assert set(ARROWS) <= LIBRARIES
    assert len(MODULES) <= 16


@pytest.mark.parametrize("name", sorted(MODULES))
def test_arrows_point_one_way(name):
    anywhere, at_top = imports_of(MODULES[name])
    ours = anywhere & set(MODULES) - {name}  # predict.py names itself, for processes that have it as a module
    if name in LIBRARIES | {"google_colab"}:
        assert ours == ARROWS.get(name, set())
    assert not ours & RENDERERS
    if name not in RENDERERS:
        assert not ours & SCRIPTS
    if anywhere & HEAVY:
        assert name in WITH_KERAS
    if name != "losses":  # which is nothing but Keras, and is itself imported late
        assert not at_top & (HEAVY | {"losses"})


def test_the_data_contract_opens_without_the_packages_of_other_formats():
    code = (
        "import sys, import_data; print(*sorted({'roifile', 'zarr', 'pyarrow', 'pandas', 'cv2', 'exports'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout.strip(), done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_happens_at_import(name):
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.If)
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant)  # the docstring
    for node in tree.body[1:]:
        assert isinstance(node, allowed), f"{name}.py line {node.lineno}"
        if isinstance(node, ast.If):
            assert "__main__" in ast.unparse(node.test) or "TYPE_CHECKING" in ast.unparse(node.test)


@pytest.mark.parametrize(
    "name", sorted((SCRIPTS | RENDERERS | {"import_data", "exports", "graph", "sync_colab"}) & set(MODULES))
)
def test_help_opens_without_keras(name):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['{name}.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path(r'{MODULES[name]}', run_name='__main__')\n"
        "except SystemExit as stopped:\n"
        "    assert not stopped.code\n"
        f"assert not {HEAVY!r} & set(sys.modules), 'Keras was imported'\n"
        f"assert '{name}' != 'predict' or not {SLOW!r} & set(sys.modules), 'what takes half a second was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


# --- The README's commands ------------------------------------------------------------------------------------------


def readme_commands():
    """Every `python SCRIPT ...` of the README's shell blocks, without the comment behind it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = []
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if len(words) > 1 and Path(words[0]).name.startswith("python") and words[1].endswith(".py"):
                    commands.append(words[1:])
    return commands


def test_the_readme_runs_every_script():
    assert {Path(words[0]).stem for words in readme_commands()} >= SCRIPTS | RENDERERS | {"import_data", "exports", "graph"}


def test_the_test_command_of_the_readme_is_what_ci_runs():
    found = re.findall(r"```sh\n(.*pytest -q.*)\n```", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) == 1 and "requirements-dev.txt" in found[0]
    assert "grep -m1 'pytest -q' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what the repository ships, where commands may write; with two small folders for the README's examples."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("data", "test_raw", "tests", "Saved_Model"):
        if (ROOT / name).exists():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "previous", "trained_model.h5")
            )
    for path in (*MODULES.values(), ROOT / "report_page.html"):
        shutil.copy(path, folder)
    for example in ("my_data", "few_images"):
        for part in ("raw", "gt"):
            (folder / example / part).mkdir(parents=True)
            for path in sorted((folder / "data" / part).glob("tissue_0[1-4].*")):
                shutil.copy(path, folder / example / part)
    shutil.copytree(folder / "my_data" / "raw", folder / "my_images")
    import numpy as np
    from PIL import Image

    for number in (1, 2, 3):  # the layout of the Data Science Bowl: ID/images/ID.png, ID/masks/*.png
        public = folder / "stage1_train" / f"id{number}"
        (public / "images").mkdir(parents=True)
        (public / "masks").mkdir()
        shutil.copy(folder / "my_images" / f"tissue_0{number}.png", public / "images" / f"id{number}.png")
        labels = np.array(Image.open(folder / "my_data" / "gt" / f"tissue_0{number}.png"))
        for nucleus in range(1, 4):
            Image.fromarray((labels == nucleus).astype(np.uint8) * 255).save(public / "masks" / f"{nucleus}.png")
    shutil.make_archive(str(folder / "stage1_train"), "zip", folder / "stage1_train")
    return folder


SHORT_BENCHMARK = ["--repeats", "1", "--images", "1", "--window", "64", "--parts", "network", "--no-classic"]
SHORT = ["--epochs", "1", "--crops-per-image", "1", "--crop", "64", "--batch-size", "4", "--width", "8", "--depth", "1"]


def test_the_commands_of_the_readme_run_in_their_order(checkout):
    """As they stand, but for the length of the trainings; --resume is run on a training that was stopped."""
    environment = {**os.environ, "PYTHONWARNINGS": "default", "MPLBACKEND": "agg"}
    for words in readme_commands():
        if "--download" in words:
            continue  # served from loopback in test_import_data.py
        command = [sys.executable, *words]
        if words[0] == "benchmark.py":
            command += SHORT_BENCHMARK
        if words[0] == "train.py":
            command += SHORT
            if "--resume" in words:
                subprocess.run(
                    [sys.executable, "-c", "import sys, train\n"
                     "def stop(*_): raise KeyboardInterrupt\n"
                     "train.score_validation = stop\n"
                     f"sys.exit(train.main({['--out', 'Saved_Model', *SHORT]!r}))"],
                    cwd=checkout, env=environment, capture_output=True, timeout=300,
                )  # fmt: skip
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert (checkout / "predictions" / "summary.csv").exists()
    assert (checkout / "Saved_Model" / "Training_Graph.html").exists()
