"""nuclei.formats.tables"""

from nuclei.files import replacing


def write_csv(path, nuclei):
    """The table as CSV."""
    with replacing(path) as temporary:
        nuclei.table.to_csv(temporary, index=False, lineterminator="\n")


def write_parquet(path, nuclei):
    """The table as Parquet."""
    with replacing(path) as temporary:
        nuclei.table.to_parquet(temporary, index=False, engine="pyarrow")
