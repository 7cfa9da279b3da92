"""Are the tests of a room able to fail? Its code is changed in one place at a time, and they must.

    python -m pip install mutmut
    python -m experiments.mutants                                   # the rooms of ROOMS
    python -m experiments.mutants images/labels --out mutants       # one of them

Each mutant is tested with the file of tests that mirrors its room, so a survivor says that this
file has a gap, not that the whole suite has one. OUT/mutants.csv has a line for each room,
OUT/ROOM.txt the survivors as differences. A room that is in the table is not done again.

mutmut changes a copy of the project in OUT/tree and runs each mutant in a fork of a process that
has imported everything, so a mutant costs no more than its tests. Keras computes with NumPy there:
TensorFlow's threads are missing in a fork, and a mutant that hangs would count as killed.
"""

import contextlib
import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

from nuclei.cli import add_overwrite_flag, command_line, user_errors_in_one_line
from nuclei.files import named, replacing
from nuclei.machine import require
from nuclei.written import recording

PROJECT = Path(__file__).resolve().parents[1]
ROOMS = {  # rooms whose faults nobody would see in a picture, and their tests
    "instances/separate": ("instances/test_separate",),
    "instances/matching": ("instances/test_matching",),
    "inference/tiling": ("inference/test_tiling",),
    "training/losses": ("training/test_losses",),
    "training/muon": ("training/test_muon",),
    "images/intensity": ("images/test_intensity", "images/test_outliers"),
    "images/labels": ("images/test_labels",),
    "datasets/divided_mask": ("datasets/test_divided_mask",),
    "results/tables": ("results/test_tables",),
    "formats/tables": ("formats/test_tables",),
    "report/page": ("report/test_page",),
    "report/sections": ("report/test_sections",),
}
COPIED = ("nuclei", "tests", "data", "docs", "experiments", "Saved_Model", "test_raw")
FIELDS = ("room", "mutants", "killed", "share", "without_test")
KILLED = ("killed", "timeout", "suspicious", "segfault")
CONFIG = """
[tool.mutmut]
source_paths = ["nuclei"]
only_mutate = ["nuclei/{room}.py"]
also_copy = {copied}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts={mode}"]
"""


def copy_project(tree: Path) -> None:
    """Copy what the tests of a room need."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    skip = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        shutil.copytree(PROJECT / name, tree / name, ignore=skip)
    for pattern in ("*.py", "*.txt", "*.md", "pyproject.toml"):
        for path in PROJECT.glob(pattern):
            shutil.copy(path, tree)


def configure(tree: Path, room: str, tests) -> None:
    """Tell mutmut what to change and which tests to run."""
    copied = [path.name for path in tree.iterdir() if path.name not in ("nuclei", "mutants")]
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    files = [f"tests/{name}.py" for name in tests]
    text += CONFIG.format(room=room, tests=files, copied=copied, mode="--import-mode=importlib")
    (tree / "pyproject.toml").write_text(text, encoding="utf-8")


def mutate(tree: Path, room: str, tests) -> dict[str, str]:
    """Run all mutants of a room.

    Returns:
        {name of the mutant: its end, as mutmut calls it}.

    Raises:
        ValueError: the tests fail without any mutant, or mutmut does.
    """
    configure(tree, room, tests)
    shutil.rmtree(tree / "mutants", ignore_errors=True)
    settings = {"cwd": tree, "capture_output": True, "text": True}
    settings["env"] = {**os.environ, "KERAS_BACKEND": "numpy"}
    mutmut = [sys.executable, "-m", "mutmut"]
    run = subprocess.run([*mutmut, "run", "--max-children", "1"], **settings)
    listed = subprocess.run([*mutmut, "results", "--all", "true"], **settings)
    lines = [line.strip().rpartition(": ") for line in listed.stdout.splitlines()]
    ends = {name: end for name, _, end in lines if "__mutmut_" in name}
    if run.returncode or not ends or "not checked" in ends.values():
        last = "\n".join((run.stdout + run.stderr).splitlines()[-12:])
        raise ValueError(f"nuclei/{room}.py could not be tested with {named(tests)}: {last}")
    return ends


def differences(tree: Path, names) -> str:
    """What each of these mutants changes, as text."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    with contextlib.chdir(tree):
        return "\n".join(f"# {name}\n{get_diff_for_mutant(name)}" for name in names)


def finished_rooms(table: Path) -> list[dict]:
    """The rows of an earlier run."""
    if not table.is_file():
        return []
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(table: Path, rows) -> None:
    """Write the table of all rooms."""
    with (
        replacing(table) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@user_errors_in_one_line
def main(argv=None):
    """Mutate the rooms, and return 1 where the tests let more than a tenth of one pass."""
    parser = command_line(__doc__)
    text = f"rooms of nuclei/ (default {' '.join(ROOMS)})"
    parser.add_argument("rooms", nargs="*", default=list(ROOMS), metavar="ROOM", help=text)
    parser.add_argument(
        "--out", type=Path, default=Path("mutants"), help="folder of the table (default mutants)"
    )
    add_overwrite_flag(parser.add_argument)
    args = parser.parse_args(argv)
    if unknown := [room for room in args.rooms if room not in ROOMS]:
        parser.error(f"{named(unknown)}: no room of {', '.join(ROOMS)}")
    require(["mutmut"], "the mutants")
    table, tree = args.out / "mutants.csv", args.out / "tree"
    lists = {room: args.out / f"{room.replace('/', '_')}.txt" for room in args.rooms}
    with recording(args.out, args.overwrite) as record:
        record.require(table)  # before the work
        rows = finished_rooms(table)
        todo = [room for room in args.rooms if room not in [row["room"] for row in rows]]
        for room in todo:
            record.require(lists[room])
        for room in todo:
            copy_project(tree)
            ends = mutate(tree, room, ROOMS[room])
            alive = [name for name, end in ends.items() if end not in KILLED]
            share = 1 - len(alive) / len(ends)
            untested = sum(end == "no tests" for end in ends.values())
            row = (room, len(ends), len(ends) - len(alive), f"{share:.3f}", untested)
            rows.append(dict(zip(FIELDS, row, strict=True)))
            survivors = differences(tree.resolve(), alive)
            with replacing(lists[room]) as temporary:
                temporary.write_text(survivors, encoding="utf-8")
            write_rows(table, rows)
            print(*row)
    return int(any(float(row["share"]) < 0.9 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
