"""Which accepted images teach, and which are held out to compare the old model with the new one.

parts = divide(stems)                   # {stem: "train" or "validation"}
write_split(path, parts)                # for train.py --split
"""

import csv
import io
from pathlib import Path

from nuclei.datasets.split import read_split, split_stems
from nuclei.files import replacing

HELD_OUT_SHARE = 0.2  # of the accepted images; at least one of two or more
SEED = 0  # of the choice: an image stays on its side when others are added, with few exceptions
TRAIN, VALIDATION = "train", "validation"


def divide(stems: list[str], split_csv: Path | None = None) -> dict[str, str]:
    """Divide the accepted images.

    Args:
        stems: of the accepted images.
        split_csv: the user's own division; what it does not know is divided as without it.

    Returns:
        {stem: part}. A single image teaches, and none is held out.
    """
    parts = split_stems(dict.fromkeys(stems, ""), HELD_OUT_SHARE, SEED)
    if len(stems) == 1:
        parts = dict.fromkeys(stems, TRAIN)
    if split_csv is not None and split_csv.is_file():
        given = read_split(split_csv)
        parts |= {stem: given[stem] for stem in stems if stem in given}
    return parts


def write_split(path: Path, parts: dict[str, str]) -> None:
    """Write a division as train.py reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stem", "split"])
    writer.writerows(sorted(parts.items()))
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
