"""train.py as a process of its own: started, watched by the files that it writes, stopped.

training = TrainingProcess(home, model, out, split, epochs=30)
training.progress()             # {"epoch": 4, "epochs": 30, "seconds_left": 80.0, "curve": ...}
training.stop()
"""

import contextlib
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from nuclei.model_file import PROJECT
from nuclei.results.history import read_history

LOG = "training.log"  # what train.py prints
SECONDS_TO_END = 10  # for train.py to write what it has; then it is killed
LOG_BYTES = 4000  # of the end of the log that are read


class TrainingProcess:
    """A training that goes on.

    Args:
        home: the data set.
        model: to start from.
        out: folder of the results; it is there.
        split: the table of train.py.
        epochs: at most.
    """

    def __init__(self, home: Path, model: Path, out: Path, split: Path, epochs: int) -> None:
        self.out, self.epochs = out, epochs
        self.started = time.monotonic()
        words = [sys.executable, str(PROJECT / "train.py"), *flags(home, model, out, split, epochs)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        with open(out / LOG, "wb") as log:
            self.process = subprocess.Popen(
                words,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for the server, which stops it
            )

    @property
    def model(self) -> Path:
        """The file that it leaves."""
        return self.out / "trained_model.h5"

    def status(self) -> int | None:
        """The exit status; None while it runs.

        It is 0, too, where train.py came to its end without pairs that it could not read: the
        checkpoint is gone, then.
        """
        status = self.process.poll()
        is_whole = self.model.is_file() and not (self.out / "checkpoint.h5").exists()
        return 0 if status == 1 and is_whole else status

    def stop(self) -> None:
        """End it, and wait for that."""
        self.process.terminate()
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def progress(self) -> dict:
        """How far it is: epoch, epochs, seconds_left (None before the first epoch), curve."""
        columns = {"epoch": []}
        with contextlib.suppress(OSError, ValueError):  # there is no epoch yet
            columns = read_history(self.out / "history.csv")
        number = len(columns["epoch"])
        seconds = [it for it in columns.get("seconds", []) if math.isfinite(it)]
        left = None
        if seconds:
            left = round(statistics.median(seconds) * max(0, self.epochs - number), 1)
        names = ("epoch", "loss", "val_loss")
        rows = zip(*(columns.get(name, [math.nan] * number) for name in names), strict=True)
        curve = [
            {name: finite_or_none(value) for name, value in zip(names, row, strict=True)}
            for row in rows
        ]
        return {"epoch": number, "epochs": self.epochs, "seconds_left": left, "curve": curve}

    def doing(self) -> str:
        """What it does now, in its own words; "" among the epochs, which `progress` tells."""
        words = self.last_words() or "The training starts."
        return "" if words.startswith("Epoch ") else words

    def last_words(self) -> str:
        """The last line that it printed: what it does, or why it failed; "" before the first."""
        with open(self.out / LOG, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES))
            lines = log.read().decode("utf-8", "replace").split("\n")
        lines = [line.strip() for line in lines if line.strip()]
        return lines[-1] if lines else ""


def flags(home: Path, model: Path, out: Path, split: Path, epochs: int) -> list[str]:
    """The command line of train.py; see `TrainingProcess`."""
    paths = {"--data-dir": home, "--init": model, "--out": out, "--split": split}
    words = [word for flag, path in paths.items() for word in (flag, str(path.resolve()))]
    return [*words, "--epochs", str(epochs)]


def finite_or_none(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return value if math.isfinite(value) else None
