"""Which group each image belongs to: treated or control, a patient, a modality.

groups = read_groups("groups.csv")             # {"image_01": "treated", ...}
groups = read_groups("summary.csv", "modality")
groups = groups_by_folder(pictures)            # the names of the folders of the images
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from nuclei.csv_cells import plain
from nuclei.files import named, text_of_table
from nuclei.images.reading import IMAGE_SUFFIXES
from nuclei.images.stems import tabled_stem
from nuclei.scores import NO_GROUP

USUAL_COLUMNS = ("group", "modality")  # the first one that the table has


def read_groups(csv_path, column: str | None = None) -> dict[str, str]:
    """Read which group each image belongs to.

    Args:
        csv_path: CSV with a header line and the columns `stem` (or `image`, as in summary.csv) and
            `column`.
        column: name of the column with the group; None takes the first of USUAL_COLUMNS.

    Returns:
        {stem: group}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no CSV, a column is missing, or a stem has two groups.
    """
    groups, with_two = {}, {}
    try:
        rows = csv.DictReader(io.StringIO(text_of_table(csv_path), newline=""))
        columns = rows.fieldnames or ()
        key = "image" if "image" in columns and "stem" not in columns else "stem"
        if column is None:
            column = next((name for name in USUAL_COLUMNS if name in columns), USUAL_COLUMNS[0])
        if not {key, column} <= set(columns):
            raise ValueError(
                f"{csv_path} has the columns {named(columns) or '(none)'}; expected stem "
                f"and {column} among them: name the column of groups with --group-column"
            )
        for row in rows:
            stem = tabled_stem(row[key], IMAGE_SUFFIXES)
            group = plain((row[column] or "").strip()) or NO_GROUP
            if stem and groups.setdefault(stem, group) != group:
                with_two[stem] = f"{stem} ({groups[stem]}, {group})"
    except csv.Error as error:
        raise ValueError(f"{csv_path} is no CSV text in UTF-8 ({error})") from error
    if with_two:
        raise ValueError(
            f"{csv_path} gives two groups to {named(with_two.values())}; expected one for each "
            "stem, which is a name without suffix: correct the table"
        )
    return groups


def groups_of(stems: Iterable[str], csv_path, column: str | None = None) -> dict[str, str]:
    """Read the groups of these images: {stem: group}, as of `read_groups`.

    Raises:
        FileNotFoundError, ValueError: as `read_groups`; ValueError also where it names no image.
    """
    groups, stems = read_groups(csv_path, column), list(stems)
    if not groups.keys() & set(stems):
        raise ValueError(
            f"{csv_path} names none of the images ({named(stems)}), but {named(groups) or 'none'}; "
            "its column stem or image holds their names: correct the table, or give another"
        )
    return groups


def groups_by_folder(pictures: Mapping[str, Path]) -> dict[str, str]:
    """Group images by the folders that they lie in, such as treated/ and control/.

    Args:
        pictures: {stem: path of the image}.

    Returns:
        {stem: name of the folder}; empty where all images lie in one folder. Folders of one name
        are told apart by the folders above them.
    """
    folders = sorted({path.resolve().parent for path in pictures.values()})
    if len(folders) < 2:
        return {}
    length = 1
    while len({folder.parts[-length:] for folder in folders}) < len(folders):
        length += 1
    return {
        stem: "/".join(path.resolve().parent.parts[-length:]) for stem, path in pictures.items()
    }
