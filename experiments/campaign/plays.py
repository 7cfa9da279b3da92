"""Whole runs of the programs that a campaign interrupts, and what their results are.

perform(PLAYS["predict"].argv, room, log)   # in a process of its own
results_of(room / "out")                    # without times, to be compared
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from experiments.campaign.stage import MODEL, TINY, program
from experiments.campaign.workers import text_stream
from nuclei.contents import hash_of
from nuclei.stopping import stop_while_importing

TIMES = ("seconds", "date", "time", "created", "versions")  # keys and columns that may differ
HIDDEN = ("written.jsonl", "previous")


class Play(NamedTuple):
    """A run.

    Attributes:
        parts: of the templates that it needs.
        argv: the script and its arguments; the results go to out/.
        resume: the command that goes on where out/checkpoint.h5 lies, or None.
        files: names of originals that it needs.
    """

    parts: str
    argv: list[str]
    resume: list[str] | None = None
    files: tuple[str, ...] = ()

    def next(self, room: Path) -> list[str]:
        """The command that a user would give now."""
        is_unfinished = self.resume and (room / "out" / "checkpoint.h5").exists()
        return self.resume if is_unfinished else self.argv


EVERY_FORMAT = "masks,labels,overlays,csv,geojson,imagej,coco,ometiff"
SLIDE = ["--tile", "272", "--diameter", "16"]
PLAYS = {
    "predict": Play(
        "data model", ["predict", "data/raw", "--out", "out", "--formats", EVERY_FORMAT, *MODEL]
    ),
    "slides": Play("slides model", ["predict", "slides", "--out", "out", *SLIDE, *MODEL]),
    "exports": Play(
        "data found",
        ["exports", "found", "--out", "out", "--formats", "geojson,imagej,coco,ometiff"],
    ),
    "report": Play("data found model", ["report", "found", *MODEL, "--out", "out/report.html"]),
    "evaluate": Play("data found", ["evaluate", "found", "data/gt", "--out", "out"]),
    "graph": Play("model", ["graph", "model/history.csv", "--out", "out"]),
    "import": Play(
        "", ["import_data", "--from", "dsb2018.zip", "--out", "out"], None, ("dsb2018.zip",)
    ),
    "train": Play(
        "data",
        ["train", "--data-dir", "data", "--out", "out", "--epochs", "3", *TINY],
        ["train", "--resume", "--out", "out"],
    ),
    "workers": Play(
        "data model",
        ["predict", "data/raw", "--out", "out", "--engine", "keras", "--workers", "2", *MODEL],
    ),
    "app": Play("data model", ["experiments.campaign.user", "data/raw", "out", *MODEL]),
}


def perform(argv, room: Path, log: Path):
    """Run a program to its end in this process, which gets a group of its own, and exit."""
    os.setsid()
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = text_stream(1), text_stream(2)
    os.chdir(room)
    stop_while_importing()
    sys.exit(program(argv[0])(argv[1:]))


def results_of(folder: Path) -> dict[str, str]:
    """{relative path: what counts of its content} of all results in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parts = Path(name).parts
        is_hidden = any(part.startswith(".") or part in HIDDEN for part in parts)
        if path.is_file() and not is_hidden:
            found[name] = essence(path)
    return found


def essence(path: Path) -> str:
    """The content of a result without times, as a hash; of a page only that it is whole."""
    if path.suffix == ".html":
        return str(path.read_text(encoding="utf-8").rstrip().endswith("</html>"))
    if path.suffix == ".csv":
        import pandas as pd

        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = table.drop(columns=[name for name in TIMES if name in table])
        rows = sorted(map(str, table.itertuples(index=False)))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()
    if path.suffix == ".json":
        values = without_times(json.loads(path.read_text(encoding="utf-8")))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    if path.suffix == ".h5":
        return arrays_of(path)
    return hash_of(path).hexdigest()


def without_times(value):
    """A JSON without the keys of TIMES."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def arrays_of(path: Path) -> str:
    """A hash of all arrays of an HDF5 file."""
    import h5py

    hasher = hashlib.sha256()

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            hasher.update(item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(add)
    return hasher.hexdigest()
