"""The table of one image as a file of its own: CSV or Parquet.

CSV is for a spreadsheet, Parquet for pandas, polars and R. Programs that read Parquet take the
folder of all images as one table.
"""

import numpy as np

from nuclei.csv_cells import safe_table
from nuclei.files import replacing
from nuclei.instances.measure import in_microns

WHOLE_NUMBERS = (
    *("id", "box_top_px", "box_left_px", "box_height_px", "box_width_px", "area_px"),
    *("touching_nuclei", "nuclei_nearby", "nearest_id", "touches_border", "slide_id"),
)


def write_csv(path, nuclei):
    """Write the table of a `Nuclei` as CSV: UTF-8, commas, lines that end with "\\n"."""
    with replacing(path) as temporary:
        safe_table(nuclei.table).to_csv(temporary, index=False, lineterminator="\n")


def write_parquet(path, nuclei):
    """Write the table of a `Nuclei` as Parquet (needs pyarrow); see `parquet_table`."""
    import pyarrow.parquet

    table = parquet_table(nuclei.table)
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def parquet_table(table):
    """A table of nuclei for Parquet, with the same columns and types whatever its image holds.

    Columns in µm are there without a pixel size, too, then empty. Numbers are float64, but for
    WHOLE_NUMBERS: an image without nuclei, or without stains, does not tell their types. What else
    is there, as a column of yours, is text.

    Args:
        table: a DataFrame with the columns of `measure`.

    Returns:
        A `pyarrow.Table`.
    """
    import pyarrow

    unknown = in_microns(table, np.nan)
    table = table.assign(**{name: unknown[name] for name in unknown if name not in table})
    types = {}
    for name, dtype in table.dtypes.items():
        types[name] = pyarrow.float64() if dtype.kind in "biuf" else pyarrow.string()
        if dtype.kind == "O":  # such as True and blanks
            table[name] = table[name].map(str, na_action="ignore")
    types.update({name: pyarrow.int64() for name in WHOLE_NUMBERS if name in table})
    schema = pyarrow.schema(types.items())
    return pyarrow.Table.from_pandas(table, schema, preserve_index=False)
