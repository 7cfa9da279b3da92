"""A training history: history.csv as columns of numbers, its best epoch, and one line about it.

    columns = read_history("Saved_Model/history.csv")  # {"loss": [0.9, 0.5], "epoch": [1.0, 2.0]}
    row, monitored = best_row(columns)                 # (1, "loss")

Columns are found by name, in any order. Files of older programs are read too: Keras once wrote
`acc`, CSVLogger writes `lr`, and pandas adds a row number without a name. `panel_of` says in which
panel of a graph a column belongs.
"""

import csv
import io
import math
from pathlib import Path

from nuclei.cli import MODEL_DIR
from nuclei.files import text_of_table

HISTORY = f"{MODEL_DIR}/history.csv"
SHIPPED_HISTORY = f"{MODEL_DIR}/pretrained_history.csv"  # of the shipped weights
ALIASES = {"acc": "accuracy", "val_acc": "val_accuracy", "lr": "learning_rate"}  # older names
NOT_DRAWN = {"", "epoch", "seconds", "Unnamed: 0"}  # columns that no graph shows
KNOWN = {"loss", "val_loss", "accuracy", "val_accuracy"}  # a history has at least one of them


def read_history(path):
    """Read one history.csv as it is now. Training may still be writing to it.

    Args:
        path: the CSV file, with a header line.

    Returns:
        dict of column name -> list of floats, one for each epoch; NaN where a cell is empty or no
        number. "epoch" is always there, as of `numbered`. Where an epoch occurs twice, the later
        row counts, and a row whose epoch is a word does not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no training history, or holds no number; says the way out.
    """
    header, rows = read_rows(Path(path))
    columns, cells = {}, [row[header.index("epoch")] for row in rows if "epoch" in header]
    for name, values in zip(header, zip(*rows, strict=True), strict=True):
        # The first column counts where `acc` repeats `accuracy`.
        columns.setdefault(name, [to_number(value) for value in values])
    columns["epoch"] = numbered(cells, len(rows))
    last = {epoch: row for row, epoch in enumerate(columns["epoch"]) if not math.isnan(epoch)}
    columns = {
        name: [values[last[epoch]] for epoch in sorted(last)] for name, values in columns.items()
    }
    drawn = [name for name in columns if name not in NOT_DRAWN | {"learning_rate"}]
    if not any(has_numbers(columns, name) for name in drawn):
        raise ValueError(
            f"{path}: holds no number to draw; if training stopped at NaN, its last lines say why"
        )
    return columns


def numbered(cells, num_rows):
    """The epoch of each row, the first one 1 or more; NaN for a word, as in a row of means.

    An empty cell is one more than the row before. Without any number the rows are counted.

    Args:
        cells: texts as in the file, none without such a column. Keras counts from 0
            (google_colab.py).
        num_rows: of the file.
    """
    epochs = [to_number(cell) for cell in cells]
    known = [epoch for epoch in epochs if not math.isnan(epoch)]
    if not known:
        return [float(number) for number in range(1, num_rows + 1)]
    shift, last, result = float(min(known) == 0), 0.0, []
    for cell, epoch in zip(cells, epochs, strict=True):
        is_word = math.isnan(epoch) and cell.strip().lower() not in ("", "nan")
        last = last if is_word else last + 1 if math.isnan(epoch) else epoch + shift
        result.append(math.nan if is_word else last)
    return result


def read_rows(path):
    """The header with today's names, and the complete rows below it, all cells as text.

    Raises:
        FileNotFoundError, ValueError: as `read_history`.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file; train first (python train.py), or name the history.csv to draw"
        )
    try:
        text = text_of_table(path, "a history.csv, a text with commas")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise ValueError(
            f"{path}: expected a history.csv, a text with commas; this is none ({error})"
        ) from error
    if len(rows) > 1 and not text.endswith(("\n", "\r")) and not is_complete(rows[-1], rows[0]):
        rows.pop()  # training is writing this row at the moment
    if not rows:
        raise ValueError(
            f"{path}: the file is empty; wait until training has finished its first epoch"
        )
    header = [ALIASES.get(name.strip(), name.strip()) for name in rows.pop(0)]
    # Spreadsheets add rows of commas alone.
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not KNOWN & set(header):
        names = ", ".join(repr(name[:30]) for name in header[:6])
        raise ValueError(
            f"{path}: not a training history: no column is called loss or accuracy; "
            f"the first are {names}"
        )
    if not rows:
        raise ValueError(f"{path}: holds no epoch yet; wait until training has finished one")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(
                f"{path}: row {number} has {len(row)} columns, the header has {len(header)}; "
                "correct the row"
            )
    return header, rows


def is_complete(row, header):
    """Whether the last row of a file that ends without a line break has all its numbers."""
    return len(row) == len(header) and all(not math.isnan(to_number(value)) for value in row)


def to_number(value):
    """The float in a cell; NaN where it holds no finite number, and a graph leaves a gap there."""
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def has_numbers(columns, name):
    """Whether a column is there and holds at least one number."""
    return not all(math.isnan(value) for value in columns.get(name, []))


def best_row(columns):
    """The epoch with the lowest validation loss, or else with the lowest loss.

    Returns:
        (row, name of that column), or None where neither column holds a number.
    """
    for name in ("val_loss", "loss"):
        rows = [row for row, value in enumerate(columns.get(name, [])) if not math.isnan(value)]
        if rows:
            return min(rows, key=lambda row: columns[name][row]), name
    return None


def describe_history(name, columns):
    """One line about one training: its name, how many epochs, the best epoch and its scores."""
    text = f"{name}: {len(columns['epoch'])} epochs"
    best = best_row(columns)
    if best is None:
        return text
    row, monitored = best
    scores = [monitored, *(name for name in columns if panel_of(name, [columns]) == "scores")]
    if any(column.startswith("val_") for column in scores):
        scores = [column for column in scores if column.startswith("val_")]
    scores = [column for column in scores if not math.isnan(columns[column][row])]
    values = ", ".join(f"{column} {columns[column][row]:.4f}" for column in scores)
    return f"{text}, best {columns['epoch'][row]:.0f}: {values}"


def panel_of(column, histories):
    """The panel in which a column is drawn.

    Args:
        column: its name, with or without `val_`.
        histories: list of columns as `read_history` returns them, drawn in one graph.

    Returns:
        "loss", "scores" (all values within 0 to 1), "learning rate", "other", or None where the
        column is not drawn.
    """
    base = column.removeprefix("val_")
    names = (base, f"val_{base}")
    values = [value for columns in histories for name in names for value in columns.get(name, [])]
    values = [value for value in values if not math.isnan(value)]
    if base in NOT_DRAWN or not values:
        return None
    if base == "learning_rate":
        return "learning rate"
    if base == "loss" or base.endswith("_loss"):
        return "loss"
    return "scores" if min(values) >= 0 and max(values) <= 1 else "other"
