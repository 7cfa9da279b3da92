"""Split stems between training and validation, or read a split that the user gives.

    split = split_stems({"a": "tissue", "b": "fluorescence"}, validation_share=0.2, seed=0)
    split = read_split("split.csv")

Both give {stem: part}.
"""

import csv
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

from nuclei.files import first_line, named, text_of_table
from nuclei.images.reading import IMAGE_SUFFIXES
from nuclei.images.stems import tabled_stem

PARTS = ("train", "validation", "test")


def split_stems(groups: dict[str, str], validation_share: float, seed: int) -> dict[str, str]:
    """Divide every group between "train" and "validation".

    The place of a stem depends on the seed and its own name only: a new image moves few others, and
    the order of `groups` none. Of two or more stems, each part gets at least one where the share is
    above 0. No group is all validation, unless every group has only one stem.

    Args:
        groups: {stem: group}; the group is for example the modality.
        validation_share: 0 or more and less than 1, of all stems and nearly of each group.
        seed: another seed gives another split.

    Returns:
        {stem: "train" or "validation"}, sorted by stem.

    Raises:
        ValueError: the share is out of range.
    """
    if not 0 <= validation_share < 1:
        raise ValueError(
            f"a validation share of {validation_share} came; expected 0 or more and less than 1"
        )
    members: dict[str, list[str]] = {}
    for stem in shuffled(groups, seed):
        members.setdefault(groups[stem], []).append(stem)
    num_validation = round(validation_share * len(groups))
    if validation_share > 0 and len(groups) > 1:
        num_validation = max(1, num_validation)
    # Largest remainder: whole numbers per group that add up to `num_validation`.
    exact = {group: validation_share * len(stems) for group, stems in members.items()}
    taken = {group: min(int(exact[group]), len(members[group]) - 1) for group in members}
    for group in sorted(members, key=lambda group: (taken[group] - exact[group], group)):
        if sum(taken.values()) < num_validation and taken[group] < len(members[group]) - 1:
            taken[group] += 1
    if num_validation and not sum(taken.values()) and len(members) > 1:  # groups of one stem each
        taken[max(sorted(members), key=lambda group: len(members[group]))] = 1
    validation = {stem for group, stems in members.items() for stem in stems[: taken[group]]}
    return {stem: "validation" if stem in validation else "train" for stem in sorted(groups)}


def shuffled(stems: Iterable[str], seed: int) -> list[str]:
    """Stems in an order that depends on the seed and each stem alone."""
    return sorted(stems, key=lambda stem: hashlib.sha256(f"{seed}/{stem}".encode()).digest())


def read_split(csv_path) -> dict[str, str]:
    """Read a split from a CSV file with the columns `stem` and `split`.

    Returns:
        {stem: "train", "validation" or "test"}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a value is none of PARTS or a stem stands in two parts.
    """
    csv_path = Path(csv_path)
    if not csv_path.exists():
        raise FileNotFoundError(
            f"{csv_path} does not exist; expected a CSV file with the columns stem and split"
        )
    try:
        text = text_of_table(csv_path, "a table with the columns stem and split")
        split = split_of_rows(csv.DictReader(io.StringIO(text, newline="")), csv_path)
    except csv.Error as error:
        raise ValueError(f"{csv_path} is no CSV text in UTF-8 ({first_line(error)})") from error
    if not split:
        raise ValueError(
            f"{csv_path} holds no row below its header; expected one row for each stem"
        )
    return split


def split_of_rows(rows: csv.DictReader, csv_path: Path) -> dict[str, str]:
    """The rows of a split file as {stem: part}. Raises: as `read_split`."""
    if not {"stem", "split"} <= set(rows.fieldnames or ()):
        raise ValueError(
            f"{csv_path} has the columns {named(rows.fieldnames or ['(none)'])}; expected stem and "
            "split among them"
        )
    split: dict[str, str] = {}
    for row in rows:
        stem = tabled_stem(row["stem"], IMAGE_SUFFIXES)
        part = (row["split"] or "").strip().lower()
        if part not in PARTS or not stem:
            raise ValueError(
                f"{csv_path} line {rows.line_num}: stem {stem!r:.80}, split {part!r:.80}; expected "
                "a stem and train, validation or test"
            )
        if split.setdefault(stem, part) != part:
            raise ValueError(
                f"{csv_path} line {rows.line_num}: {stem} is in {split[stem]} and in {part}"
            )
    return split
