"""The check of a data set as a record for other programs, see docs/formats.md.

write_check("check.json", check_record("data", check, status=0))
"""

import contextlib
import json
import os
from pathlib import Path

import numpy as np

from nuclei.datasets.check import Check
from nuclei.files import replacing

SCHEMA = 1  # raised when a key changes its meaning or goes; new keys do not raise it


def check_record(folder, check: Check, status: int, suspects=None) -> dict:
    """What a check found.

    Args:
        folder: that was checked.
        check: of it.
        status: exit status of the program.
        suspects: of an `Agreement`; None where nothing was compared.
    """
    pairs = [
        {
            "stem": stem,
            "image": pair.image,
            "truth": pair.truth,
            "modality": pair.modality,
            "height_px": pair.height,
            "width_px": pair.width,
            "dtype": pair.dtype,
            "form": pair.form,
            "repaired": round(float(pair.repaired), 6),
            "left_out": pair.left_out,
            "nuclei": len(pair.diameters_px),
            "median_diameter_px": (
                round(float(np.median(pair.diameters_px)), 2) if len(pair.diameters_px) else None
            ),
        }
        for stem, pair in check.pairs.items()
    ]
    warnings = [{"message": kind, "files": names} for kind, names in check.problems]
    compared = [suspect._asdict() for suspect in suspects or ()]
    comparison = {} if suspects is None else {"compared": compared}
    return {
        **failed_record(folder, status, *check.broken, *check.stops),
        "can_train": not check.stops,
        "counts": {"pairs": len(pairs), "nuclei": sum(pair["nuclei"] for pair in pairs)},
        "pairs": pairs,
        "warnings": warnings,
        "meanings": check.meanings,
        **comparison,
    }


def failed_record(folder, status: int, *errors: str) -> dict:
    """The record of a check that ended with errors before any pair was read."""
    return {
        "schema": SCHEMA,
        "folder": str(folder),
        "exit_status": status,
        "can_train": False,
        "counts": {"pairs": 0, "nuclei": 0},
        "pairs": [],
        "warnings": [],
        "meanings": [],
        "errors": list(errors),
    }


def require_place(path) -> None:
    """Raise ValueError where the file for a record is there and holds anything but a record."""
    path = Path(path)
    if not os.path.lexists(path):
        return
    try:
        if not path.is_file():  # a pipe would be waited for without end
            raise ValueError
        is_ours = json.loads(path.read_text(encoding="utf-8")).keys() >= set(failed_record("", 0))
    except (OSError, ValueError, AttributeError, RecursionError):
        is_ours = False
    if not is_ours:
        raise ValueError(
            f"{path} is there and is no check of this program; give --json another file"
        )


def write_check(path, record: dict) -> None:
    """Write a record as JSON: ASCII, since names may hold what no encoding can write."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="ascii")


@contextlib.contextmanager
def recording_failure(json_path, data_dir):
    """Let the file for programs, None without one, say so where the work inside fails."""
    if json_path is None:
        yield
        return
    require_place(json_path)  # before the work
    try:
        yield
    except (OSError, ValueError) as error:
        write_check(json_path, failed_record(Path(data_dir), 1, " ".join(str(error).split())))
        raise
