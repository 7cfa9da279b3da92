"""How the project is laid out: who imports whom, what opens at once, lengths and words."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {path.stem: path for path in sorted(ROOT.glob("*.py"))}
ROOMS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "nuclei").rglob("*.py"))
}
PROGRAMS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for folder in ("experiments", "data")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MODULES = {**SCRIPTS, **ROOMS, **PROGRAMS}
WITH_FLAGS = {name for name, path in MODULES.items() if "parse_args(" in path.read_text("utf-8")}

TOP = [
    "train",
    "predict",
    "import_data",
    "unet",
    "graph",
    "google_colab",
    "evaluate",
    "report",
    "exports",
    "app",
    "doctor",
]
LIBRARIES = {"unet", "import_data"}  # the scripts that may be imported
FLOORS = (  # from the ground up: a room imports its own wing and lower floors
    {
        "version",
        "quiet",
        "schema",
        "hdf5",
        "contents",
        "stopping",
        "streams",
        "full_disk",
    },
    {"leftovers", "csv_cells", "own_files"},
    {"written"},
    {
        "files",
        "folder_lock",
        "archives",
        "cli",
        "machine",
        "polygons",
        "progress",
        "model_settings",
    },
    {"stored_model"},
    {"images", "model_file"},
    {"truth", "instances"},
    {"datasets", "scores"},
    {"formats"},
    {"results"},
    {"inference", "training"},
    {"slides", "report", "checkup"},
    {"app", "napari_widget"},
    {""},  # nuclei/__init__.py, the Python API
)
HEAVY = {"tensorflow", "keras", "jax", "torch"}
SLOW = {"pandas", "scipy", "skimage", "plotly"}
KERAS_CLASSES = {  # rooms of classes derived from Keras's: Keras at the top, imported late
    "nuclei.training.losses",
    "nuclei.training.muon",
    "nuclei.training.bookkeeping",
    "nuclei.training.display",
    "nuclei.training.normalisation",
}
WITH_HEAVY = KERAS_CLASSES | {  # all rooms that import Keras or a backend
    "unet",
    "nuclei.machine",  # finds the device
    "nuclei.training.fit",
    "nuclei.training.network",
    "nuclei.training.checkpoint",
    "nuclei.training.devices",
    "nuclei.training.hosts",
    "nuclei.inference.runtimes",
    "nuclei.formats.onnx",
}
MAX_COLUMNS, MAX_ROOM, MAX_COLAB, MAX_README = 100, 300, 400, 130
WORDS = re.compile(
    r"\b(hearts?|doubts?|paint(?:s|ed|ing)?|parted|zoom_to|whoever|as those|of that[,;.]|"
    r"unlike_training|glass|"
    r"restain\w*|crowd\(|tell_all|draw_nothing|other_look)\b"
)


@functools.cache
def tree(name):
    """The syntax tree of a module."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def wing(name):
    """The wing of a room: "images" of nuclei.images.reading, "files" of nuclei.files."""
    return [*name.split("."), ""][1]


def floor(name):
    """The number of a room's floor; unet stands on the ground."""
    if name in LIBRARIES:
        return 0 if name == "unet" else len(FLOORS)
    return next(number for number, wings in enumerate(FLOORS) if wing(name) in wings)


def imports_of(nodes):
    """The modules, ours and others, that some syntax nodes import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: import rooms by their full names"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def our_imports(name):
    return (imports_of(ast.walk(tree(name))) & set(MODULES)) - {name, "nuclei", *parents(name)}


def parents(name):
    parts = name.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def other_imports(nodes):
    return {name.split(".")[0] for name in imports_of(nodes)}


def test_the_top_level_holds_the_named_scripts_only():
    assert set(SCRIPTS) <= set(TOP)
    assert {wing(name) for name in ROOMS} == set().union(*FLOORS)
    assert set(SCRIPTS) - WITH_FLAGS == {"unet", "google_colab"}  # the network, and a cell


@pytest.mark.parametrize("name", sorted({**SCRIPTS, **ROOMS}))
def test_no_module_imports_a_script(name):
    scripts = our_imports(name) & set(SCRIPTS) - LIBRARIES
    assert not scripts
    if name in ROOMS:
        assert not our_imports(name) & (set(SCRIPTS) - {"unet"})
        assert not our_imports(name) & set(PROGRAMS)


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_a_room_imports_its_own_wing_or_lower_floors(name):
    wrong = [
        other
        for other in our_imports(name)
        if wing(other) != wing(name) and floor(other) >= floor(name) and other != "unet"
    ]
    assert not wrong


def test_training_and_inference_never_import_each_other():
    for name in ROOMS:
        wings = {wing(other) for other in our_imports(name)} | {wing(name)}
        if wing(name) in ("training", "inference"):
            assert not {"training", "inference"} <= wings, name


def test_no_circle_of_imports():
    finished = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path, name])
        if name not in finished:
            for other in sorted(our_imports(name)):
                visit(other, [*path, name])
            finished.add(name)

    for name in sorted(MODULES):
        visit(name, [])


def test_keras_and_the_backends_stay_in_the_named_rooms():
    names = {*SCRIPTS, *ROOMS} - {"google_colab"}  # one cell that stands alone
    assert {name for name in names if other_imports(ast.walk(tree(name))) & HEAVY} == WITH_HEAVY


@pytest.mark.parametrize("name", sorted({*SCRIPTS, *ROOMS} - {"google_colab"} - KERAS_CLASSES))
def test_keras_is_imported_late(name):
    assert not other_imports(tree(name).body) & HEAVY
    assert not imports_of(tree(name).body) & KERAS_CLASSES


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_happens_at_import(name):
    if name == "google_colab":
        return  # a cell runs from top to bottom
    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.AnnAssign,
        ast.If,
    )
    first, *others = tree(name).body
    assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant), (
        "the docstring is missing"
    )
    for node in others:
        assert isinstance(node, allowed), f"line {node.lineno}"
        if isinstance(node, ast.If):
            condition = ast.unparse(node.test)
            assert "__main__" in condition or "TYPE_CHECKING" in condition, f"line {node.lineno}"


@pytest.mark.parametrize("name", sorted(WITH_FLAGS))
def test_help_opens_without_keras(name):
    unwanted = HEAVY | (SLOW if name == "predict" else set())
    code = (
        "import runpy, sys\n"
        "sys.argv = ['script', '--help']\n"
        "try:\n"
        f"    runpy.run_module({name!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stopped:\n"
        "    assert not stopped.code\n"
        f"loaded = {unwanted!r} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_import_data_opens_without_the_packages_of_single_formats():
    code = (
        "import sys, import_data\n"
        "print(*{'roifile', 'zarr', 'pyarrow', 'pandas', 'exports'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout.strip(), done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(MODULES))
def test_lines_and_rooms_are_short_and_words_plain(name):
    text = MODULES[name].read_text(encoding="utf-8")
    lines = text.splitlines()
    assert not [number for number, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS]
    assert "fmt: " + "skip" not in text and "fmt: " + "off" not in text
    docstring = ast.get_docstring(tree(name)) or ""
    has_reason = any(line.startswith("Long because") for line in docstring.splitlines())
    limit = MAX_COLAB if name == "google_colab" else MAX_ROOM
    assert len(lines) <= limit or has_reason, f"{len(lines)} lines"
    assert not WORDS.findall(text)


def test_the_readme_fits_three_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README


def test_tests_run_coroutines_beside_the_loop_of_playwright():
    """Else a test fails on the worker that has opened a browser before."""
    call = "asyncio" + ".run"
    tests = (ROOT / "tests").rglob("*.py")
    assert [path.name for path in tests if call in path.read_text("utf-8")] == ["loop_tools.py"]
