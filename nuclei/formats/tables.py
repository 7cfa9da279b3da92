"""The table of one image as a file of its own: CSV or Parquet.

CSV is for a spreadsheet, Parquet for pandas, polars and R. Programs that read Parquet take the
folder of all images as one table.
"""

import numpy as np

from nuclei.csv_cells import safe_table
from nuclei.files import replacing
from nuclei.instances.measure import in_microns


def write_csv(path, nuclei):
    """Write the table of a `Nuclei` as CSV: UTF-8, commas, lines that end with "\\n"."""
    with replacing(path) as temporary:
        safe_table(nuclei.table).to_csv(temporary, index=False, lineterminator="\n")


def write_parquet(path, nuclei):
    """Write the table of a `Nuclei` as Parquet (needs pyarrow).

    Columns in µm are there without a pixel size, too, then empty: all files have the same columns.
    """
    table = nuclei.table
    unknown = in_microns(table, np.nan)
    table = table.assign(**{name: unknown[name] for name in unknown if name not in table})
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
