"""Which accepted images teach, and which are held out to compare the old model with the new one.

parts = divide(stems)                   # {stem: "train" or "validation"}
write_split(path, parts)                # for train.py --split
"""

import csv
import io
from collections.abc import Container
from pathlib import Path

from nuclei.datasets.field_names import origin_of
from nuclei.datasets.split import read_split, shuffled
from nuclei.files import replacing
from nuclei.images.reading import IMAGE_SUFFIXES

HELD_OUT_SHARE = 0.2  # of the accepted images; at least one of two or more
SEED = 0  # of the choice: an image stays on its side when others are added, with few exceptions
TRAIN, VALIDATION = "train", "validation"


def divide(
    stems: list[str], split_csv: Path | None = None, known: Container[str] = ()
) -> dict[str, str]:
    """Divide the accepted images. Fields of one image, and the image itself, stay together.

    Args:
        stems: of the accepted images.
        split_csv: the user's own division; what it does not know is divided as without it. A field
            goes where it, or else its image, is told to.
        known: stems of all images and slides of the folder. Where all stems are called like fields
            of one image that is not there, they are divided nevertheless.

    Returns:
        {stem: part}. A single image teaches with all its fields, and none is held out.
    """
    origins = {stem: origin_of(stem) for stem in sorted(stems)}
    if len(set(origins.values())) == 1 and not any(it in known for it in origins.values()):
        origins = {stem: stem for stem in origins}
    members: dict[str, list[str]] = {}
    for stem, origin in origins.items():
        members.setdefault(origin, []).append(stem)
    parts = dict.fromkeys(sorted(stems), TRAIN)
    if len(members) > 1:
        smallest = min(map(len, members.values()))
        room = max(1, smallest, round(HELD_OUT_SHARE * len(stems)))
        for origin in shuffled(members, SEED):
            if len(members[origin]) <= room:
                room -= len(members[origin])
                parts |= dict.fromkeys(members[origin], VALIDATION)
    if split_csv is not None and split_csv.is_file():
        given = read_split(split_csv)
        for stem in stems:
            parts[stem] = given.get(stem) or given.get(origin_of(stem)) or parts[stem]
    return parts


def write_split(path: Path, parts: dict[str, str]) -> None:
    """Write a division as train.py reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stem", "split"])
    for stem, part in sorted(parts.items()):  # a stem may end like a file name: s_1.tif
        name = f"{stem}.png" if stem.lower().endswith(IMAGE_SUFFIXES) else stem
        writer.writerow([name, part])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
