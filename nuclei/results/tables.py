"""The tables that all images share: nuclei.csv and summary.csv.

nuclei.csv has a row for each nucleus, summary.csv has a row for each image.

An image is finished when summary.csv has its row, which is written last. Its column `formats` names
what was written. So a run that was stopped leaves whole images only, and the next run continues.
Rows that replace others, since a format was added, wait in a file of their own until the run ends:
to rewrite the table for each image would take the square of the number of images.
"""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path

from nuclei.csv_cells import plain, plain_table, safe, safe_table
from nuclei.files import append, named, reading_own_table, remove, replacing
from nuclei.written import Protected

CHANGED = ".summary_changed.csv"  # rows that wait to replace those of summary.csv
SUMMARY = (  # columns of summary.csv
    "image",
    "file",
    "folder",
    "model",
    "height_px",
    "width_px",
    "modality",
    "nuclei",
    "median_diameter_px",
    "scale",
    "scale_spread",
    "uncertainty",
    "out_of_distribution",
    "nucleus_share",
    "positive_share",
    "intensity_low",
    "intensity_high",
    "seconds",
    "mpp",
    "channel",
    "plane",
    "made_by",
    "version",
    "formats",
)


def positive_share(positive) -> float | str:
    """Share of positive nuclei among all, from a column of 1, 0 and NaN; "" where none is known."""
    known = positive[positive == positive]  # not NaN
    return round(float(known.mean()), 4) if len(known) else ""


def read_table(path: Path):
    """Read a table, all cells as text. A last row that was cut off is left out.

    Args:
        path: of nuclei.csv or summary.csv; it may be missing.

    Returns:
        A pandas DataFrame.

    Raises:
        ValueError: the file is no table of this program.
    """
    import pandas as pd  # late, here and below: --help does not need it

    with reading_own_table(path):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = text[: text.rfind("\n") + 1]
    if not text:
        return pd.DataFrame(columns=["image", "made_by", "formats"], dtype=str)
    try:
        table = plain_table(pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False))
    except ValueError as error:
        raise ValueError(
            f"{path} is no table of predict.py ({error}); give --out another folder"
        ) from None
    needed = {"image", "made_by", "formats"} if path.name == "summary.csv" else {"image"}
    if not needed <= set(table):
        refuse(path, table)
    return table


def refuse(path: Path, columns: Iterable[str]) -> None:
    """Raise ValueError on a file of other columns."""
    raise ValueError(
        f"{path} is no table of predict.py: it has the columns {named(columns)}; give --out "
        "another folder"
    )


def write_table(path: Path, table) -> None:
    """Replace a table by these rows, a DataFrame; without rows, remove it."""
    if table.empty:
        remove(path)
        return
    with replacing(path) as temporary:
        safe_table(table).to_csv(temporary, index=False, lineterminator="\n")


def append_table(path: Path, table) -> None:
    """Add rows at the end of a table, with a header where the file is new.

    Columns are matched by name. Tables of images with and without µm, or of calibrated and other
    models, have different columns: the file gets all of them, and missing cells stay empty.

    Args:
        path: of the table.
        table: a DataFrame.
    """
    columns = None
    if path.is_file() and path.stat().st_size:
        with reading_own_table(path), open(path, newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
    if columns is not None:
        if new_columns := [name for name in table if name not in columns]:
            rewrite_rows(path, lambda row: row, new_columns)
        if list(table) != columns + new_columns:
            table = table.reindex(columns=columns + new_columns)
    text = safe_table(table).to_csv(header=columns is None, index=False, lineterminator="\n")
    append(path, text.encode("utf-8"))


def replace_row(out: Path, row: dict) -> None:
    """Put a row into summary.csv, in the place of an earlier one of the same image.

    The row waits in CHANGED until `merge_changed_rows`: summary.csv is written once for all rows.

    Args:
        out: the folder of the results.
        row: of summary.csv.
    """
    import pandas as pd

    append_table(out / CHANGED, pd.DataFrame([row]))


def merge_changed_rows(out: Path) -> None:
    """Bring the rows of `replace_row` into summary.csv, also those of a run that was killed.

    Raises:
        Protected: the user has changed summary.csv. The rows are dropped: without them the formats
            are only written once more.
    """
    import pandas as pd

    if not (out / CHANGED).is_file():
        return
    path = out / "summary.csv"
    rows = pd.concat([read_table(path), read_table(out / CHANGED)])
    try:
        write_table(path, rows.drop_duplicates("image", keep="last").fillna(""))
    except Protected:
        remove(out / CHANGED)
        raise
    remove(out / CHANGED)


def rewrite_rows(
    path: Path, change: Callable[[dict], dict | None], new_columns: Iterable[str] = ()
) -> None:
    """Pass each whole row of a table through a function, one at a time: slides have millions.

    A file without rows is removed. A file in which nothing would change is left alone. A last row
    that was cut off is dropped.

    Args:
        path: of the table; it may be missing.
        change: from a row, a dict of texts, to the row to write, or None to drop it.
        new_columns: added at the end.

    Raises:
        ValueError: the file is no table of this program.
    """

    def reader(file):
        return csv.DictReader((line for line in file if line.endswith("\n")), restval="")

    def rows(file):
        for row in reader(file):
            row["image"] = plain(row["image"])
            if (row := change(row)) is not None:
                row["image"] = safe(row["image"])
                yield row

    new_columns = list(new_columns)
    if not path.is_file():
        return
    with reading_own_table(path), open(path, newline="", encoding="utf-8") as old:
        header = reader(old).fieldnames or []
        if header and "image" not in header:
            refuse(path, header)
        old.seek(0)
        num_lines = sum(bool(line) for line in old) - 1
        old.seek(0)
        num_rows = sum(1 for _ in rows(old))
        if num_rows == num_lines and not new_columns:
            return
        if not num_rows and not new_columns:
            remove(path)
            return
        old.seek(0)
        with (
            replacing(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as new,
        ):
            columns = [*header, *new_columns]
            writer = csv.DictWriter(
                new, columns, restval="", extrasaction="ignore", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows(old))


def finished_before(
    out: Path, made_by: str, overwrite: bool, stems: Iterable[str], changed: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Find what an earlier run has finished, and reduce both tables to whole images.

    Args:
        out: the folder of the results.
        made_by: of this run.
        overwrite: the rows of these stems are removed, since they are done again.
        stems: of the images and slides of this run.
        changed: those among them that are other images now: their rows are removed, too.

    Returns:
        {stem: names of the formats written}.

    Raises:
        ValueError: the folder holds results for these stems that were made by another model or
            with other settings.
    """
    merge_changed_rows(out)
    summary = read_table(out / "summary.csv")
    is_wanted = summary["image"].isin(list(stems))
    wanted = summary[is_wanted]
    others = wanted["image"][wanted["made_by"] != made_by]
    if len(others) and not overwrite:
        raise ValueError(
            f"{out} holds results for {named(others)} by another model or other settings; give "
            "--out another folder, or --overwrite to replace them"
        )
    staying = summary[~(is_wanted if overwrite else summary["image"].isin(list(changed)))]
    with_rows = {image for image, formats in formats_of(staying) if "csv" in formats}
    # This one first, since it may refuse the file.
    rewrite_rows(out / "nuclei.csv", lambda row: row if row["image"] in with_rows else None)
    write_table(out / "summary.csv", staying)
    return dict(formats_of(wanted))


def formats_of(summary) -> list[tuple[str, list[str]]]:
    """(stem, formats) of each row of summary.csv."""
    rows = summary[["image", "formats"]].itertuples(index=False)
    return [(image, formats.split()) for image, formats in rows]
