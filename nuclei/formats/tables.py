"""The table of one image as a file of its own: CSV or Parquet.

CSV is for a spreadsheet, Parquet for pandas, polars and R. Both hold the same columns. Programs
that read Parquet take the folder of all images as one table.
"""

from nuclei.csv_cells import safe_table
from nuclei.files import replacing


def write_csv(path, nuclei):
    """Write the table of a `Nuclei` as CSV: UTF-8, commas, lines that end with "\\n"."""
    with replacing(path) as temporary:
        safe_table(nuclei.table).to_csv(temporary, index=False, lineterminator="\n")


def write_parquet(path, nuclei):
    """Write the table of a `Nuclei` as Parquet (needs pyarrow)."""
    with replacing(path) as temporary:
        nuclei.table.to_parquet(temporary, index=False)
