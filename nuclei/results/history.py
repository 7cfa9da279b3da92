"""nuclei.results.history"""

import csv
import io
import math
from pathlib import Path

HISTORY = "Saved_Model/history.csv"
ALIASES = {"acc": "accuracy", "val_acc": "val_accuracy", "lr": "learning_rate"}  # older Keras and CSVLogger
NOT_DRAWN = {"", "epoch", "seconds", "Unnamed: 0"}


def read_history(path):
    """Read one history.csv as it is now, perhaps in the middle of being written.

    Returns:
        dict of column name -> list of floats, one for each epoch; NaN where a cell is empty or no number. "epoch" is
        always there: as in the file, else counted from 1. Of an epoch that occurs twice, the later row counts.

    Raises:
        FileNotFoundError, ValueError: with the file, what came and the way out.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; train first (python train.py), or name the history.csv to draw")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a history.csv, a text with commas; this is none ({error})") from error
    if len(rows) > 1 and not text.endswith("\n") and not is_whole(rows[-1], rows[0]):
        rows.pop()  # caught in the middle of being written
    if not rows:
        raise ValueError(f"{path}: the file is empty; wait until training has finished its first epoch")
    header = [ALIASES.get(name.strip(), name.strip()) for name in rows.pop(0)]
    known = {name for base in ("loss", "accuracy") for name in (base, f"val_{base}")}
    if not known & set(header):
        found = ", ".join(repr(name[:30]) for name in header[:6])
        raise ValueError(f"{path}: not a training history: no column is called loss or accuracy; the first are {found}")
    if not rows:
        raise ValueError(f"{path}: holds no epoch yet; wait until training has finished its first one")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number} has {len(row)} columns, the header has {len(header)}; mend the row")
    columns = {}
    for name, values in zip(header, zip(*rows, strict=True), strict=True):
        columns.setdefault(name, [to_number(value) for value in values])  # the first, should `acc` repeat `accuracy`
    columns.setdefault("epoch", [float(number) for number in range(1, len(rows) + 1)])
    last = {epoch: row for row, epoch in enumerate(columns["epoch"]) if not math.isnan(epoch)}
    columns = {name: [values[last[epoch]] for epoch in sorted(last)] for name, values in columns.items()}
    drawn = {name: values for name, values in columns.items() if name not in NOT_DRAWN | {"learning_rate"}}
    if all(math.isnan(value) for values in drawn.values() for value in values):
        raise ValueError(f"{path}: holds no number to draw; if training stopped at NaN, its last lines say why")
    return columns


def is_whole(row, header):
    """Whether the last row of a file that ends without a line break has all its numbers."""
    return len(row) == len(header) and all(value.strip() and not math.isnan(to_number(value)) for value in row)


def to_number(value):
    """Float of a cell; NaN for anything that is not a finite number, which a graph leaves out."""
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def best_row(columns):
    """Row of the lowest validation loss (else the lowest loss) and that column's name; None where there is neither."""
    for name in ("val_loss", "loss"):
        rows = [row for row, value in enumerate(columns.get(name, [])) if not math.isnan(value)]
        if rows:
            return min(rows, key=lambda row: columns[name][row]), name
    return None


def describe_history(name, columns):
    """One line on one training: how long, its best epoch, and the scores there."""
    text = f"{name}: {len(columns['epoch'])} epochs"
    best = best_row(columns)
    if best is None:
        return text
    row, monitored = best
    scores = [monitored] + [column for column in columns if panel_of(column, [columns]) == "scores"]
    if any(column.startswith("val_") for column in scores):
        scores = [column for column in scores if column.startswith("val_")]
    scores = [column for column in scores if not math.isnan(columns[column][row])]
    values = ", ".join(f"{column} {columns[column][row]:.4f}" for column in scores)
    return f"{text}, best {columns['epoch'][row]:.0f}: {values}"


def panel_of(column, histories):
    """In which panel a column belongs: "loss", "scores" (within 0 to 1), "learning rate", "other" or None."""
    base = column.removeprefix("val_")
    values = [value for columns in histories for name in (base, f"val_{base}") for value in columns.get(name, [])]
    values = [value for value in values if not math.isnan(value)]
    if base in NOT_DRAWN or not values:
        return None
    if base == "learning_rate":
        return "learning rate"
    if base == "loss" or base.endswith("_loss"):
        return "loss"
    return "scores" if min(values) >= 0 and max(values) <= 1 else "other"
