"""nuclei.results.tables"""

import csv
import io

from nuclei.files import named, replacing

SUMMARY = (  # columns of summary.csv
    "image", "file", "height_px", "width_px", "modality", "nuclei", "median_diameter_px", "scale", "uncertainty", "out_of_distribution",
    "nucleus_share", "intensity_low", "intensity_high", "seconds", "mpp", "made_by", "formats",
)  # fmt: skip


def read_table(path):
    """The whole rows of a CSV file, all cells as text; a last row that was cut off is left out."""
    import pandas as pd  # here and below: its import takes half a second, which --help does not have

    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = text[: text.rfind("\n") + 1]
    if not text:
        return pd.DataFrame(columns=["image", "made_by"])
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise ValueError(f"{path} is no table of ours ({error}); give --out another folder") from None
    if "image" not in table or (path.name == "summary.csv" and "made_by" not in table):
        raise ValueError(f"{path} is no table of ours: it has the columns {named(table)}; give --out another folder")
    return table


def write_table(path, table):
    """Replace a CSV file by these rows; without rows, remove it."""
    if table.empty:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def append_table(path, table):
    """Add rows at the end of a CSV file, with the header where it is new. Columns are matched by name: of a table with
    other columns, such as that of an earlier version, both are kept and what is missing stays empty."""

    columns = None
    if path.is_file() and path.stat().st_size:
        with open(path, newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
    if columns is not None:
        if more := [name for name in table if name not in columns]:
            rewrite_rows(path, lambda row: row, more)
        if list(table) != columns + more:
            table = table.reindex(columns=columns + more)
    table.to_csv(path, mode="a", header=columns is None, index=False, lineterminator="\n")


def rewrite_rows(path, change, more_columns=()):
    """Pass each whole row of a CSV file, a dict of texts, through `change`, which drops it by None: one at a time, since
    slides have millions of rows. Columns are added at the end; a file without rows is removed, one that stays is left alone.

    Raises: ValueError where it is no table of ours.
    """

    def rows(file):  # a last line that was cut off is left out
        return csv.DictReader((line for line in file if line.endswith("\n")), restval="")

    if not path.is_file():
        return
    with open(path, newline="", encoding="utf-8") as old:
        header = rows(old).fieldnames or []
        if header and "image" not in header:
            raise ValueError(f"{path} is no table of ours: it has the columns {named(header)}; give --out another folder")
        old.seek(0)
        total = sum(bool(line) for line in old) - 1
        old.seek(0)
        kept = sum(change(row) is not None for row in rows(old))
        if kept == total and not more_columns:
            return
        if not kept and not more_columns:
            path.unlink()
            return
        old.seek(0)
        with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as new:
            writer = csv.DictWriter(new, [*header, *more_columns], restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for row in map(change, rows(old)) if row is not None)


def replace_row(path, row):
    """Put a row, a dict, into summary.csv, in the place of an earlier one of the same image."""
    import pandas as pd

    table = read_table(path)
    write_table(path, pd.concat([table[table["image"] != row["image"]], pd.DataFrame([row])]))


def finished_before(out, made_by, overwrite, stems):
    """What an earlier run has finished in `out`, after both tables are reduced to whole images: {stem: its formats}.

    An image is finished when summary.csv has its row, which is written last.

    Raises:
        ValueError: `out` holds results for these stems that were made by another model or with other settings.
    """
    summary = read_table(out / "summary.csv")
    asked = summary["image"].isin(list(stems))
    others = summary["image"][asked & (summary["made_by"] != made_by)]
    if len(others) and not overwrite:
        raise ValueError(
            f"{out} holds results for {named(others)} by another model or other settings; give --out another folder, "
            "or --overwrite to replace them"
        )
    with_table = summary["formats"].str.split().map(lambda formats: "csv" in formats).astype(bool)
    kept = summary[~asked] if overwrite else summary
    whole = set(kept["image"][with_table[kept.index]])
    rewrite_rows(out / "nuclei.csv", lambda row: row if row["image"] in whole else None)  # first, since it may refuse
    write_table(out / "summary.csv", kept)
    return {image: formats.split() for image, formats in zip(summary["image"][asked], summary["formats"][asked], strict=True)}
