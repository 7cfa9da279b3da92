"""nuclei.images.split"""

import csv
import hashlib
from pathlib import Path

from nuclei.files import first_line
from nuclei.images.reading import IMAGE_SUFFIXES


def split_stems(groups: dict[str, str], validation_share: float, seed: int) -> dict[str, str]:
    """Part every group between "train" and "validation": {stem: part}, sorted by stem.

    A stem's place depends on the seed and its own name only, so an image more moves few others, and the order of
    `groups` none. Of two stems or more each part gets at least one, where the share is above 0; no group is all
    validation, unless each has but one stem.

    groups: {stem: group}, for example its modality. validation_share: 0...1, of all stems and nearly of each group.
    Raises: ValueError where the share is not in 0...1.
    """
    if not 0 <= validation_share < 1:
        raise ValueError(f"a validation share of {validation_share} came; expected 0 or more and less than 1")
    members: dict[str, list[str]] = {}
    for stem in sorted(groups, key=lambda stem: hashlib.sha256(f"{seed}/{stem}".encode()).digest()):
        members.setdefault(groups[stem], []).append(stem)
    wanted = round(validation_share * len(groups))
    if validation_share > 0 and len(groups) > 1:
        wanted = max(1, wanted)
    # Largest remainder: whole numbers per group that add up to `wanted`.
    exact = {group: validation_share * len(stems) for group, stems in members.items()}
    taken = {group: min(int(exact[group]), len(members[group]) - 1) for group in members}
    for group in sorted(members, key=lambda group: (taken[group] - exact[group], group)):
        if sum(taken.values()) < wanted and taken[group] < len(members[group]) - 1:
            taken[group] += 1
    if wanted and not sum(taken.values()) and len(members) > 1:
        taken[max(sorted(members), key=lambda group: len(members[group]))] = 1  # every group has one member
    validation = {stem for group, stems in members.items() for stem in stems[: taken[group]]}
    return {stem: "validation" if stem in validation else "train" for stem in sorted(groups)}


def read_split(csv_path) -> dict[str, str]:
    """A split given as CSV with the columns `stem` and `split` (train, validation or test): {stem: split}.

    Raises: FileNotFoundError; ValueError naming the file where a column is missing, a value is another or a stem is
    in two parts.
    """
    csv_path = Path(csv_path)
    if not csv_path.is_file():
        raise FileNotFoundError(f"{csv_path} does not exist; expected a CSV file with the columns stem and split")
    split: dict[str, str] = {}
    try:
        with open(csv_path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"stem", "split"} <= set(rows.fieldnames or ()):
                raise ValueError(f"{csv_path} has the columns {rows.fieldnames}; expected stem and split among them")
            for row in rows:
                stem, part = (row["stem"] or "").strip(), (row["split"] or "").strip().lower()
                if Path(stem).suffix.lower() in IMAGE_SUFFIXES:
                    stem = Path(stem).stem
                if part not in ("train", "validation", "test") or not stem:
                    raise ValueError(
                        f"{csv_path} line {rows.line_num}: stem {stem!r}, split {part!r}; expected a stem and train, "
                        "validation or test"
                    )
                if split.setdefault(stem, part) != part:
                    raise ValueError(f"{csv_path} line {rows.line_num}: {stem} is in {split[stem]} and in {part}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{csv_path} is no CSV text in UTF-8 ({first_line(error)})") from error
    if not split:
        raise ValueError(f"{csv_path} holds no row below its header; expected one row for each stem")
    return split
