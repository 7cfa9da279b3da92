"""The tables of a folder that predict.py wrote: images, slides, and the fields of slides.

    predictions = read_predictions(Path("predictions"))

Tables that contradict one another are refused here, before anything is drawn.
"""

import math
from pathlib import Path
from typing import NamedTuple

from nuclei.csv_cells import plain_table
from nuclei.files import named, reading_own_table
from nuclei.results.tables import read_table

OUT_OF_DISTRIBUTION = "out_of_distribution"  # column of summary.csv: 1, 0, or empty where unknown
INTENSITIES = ("intensity_low", "intensity_high")
NEEDED = ("height_px", "width_px", "nuclei", *INTENSITIES)  # numbers without which nothing is shown
NUMBERS = (*NEEDED, "median_diameter_px", "nucleus_share")
OPTIONAL_NUMBERS = (OUT_OF_DISTRIBUTION, "scale", "mpp", "positive_share")
IMAGE, SLIDE, FIELD = "image", "slide", "field"  # kinds of rows
FIELDS = "fields"  # folder of the fields of slides, in the folder of the results
FIELD_NAME = "_field_"  # between the stem of a slide and the number of its field
ROWS_AT_ONCE = 100_000  # of nuclei.csv, where slides may have millions


class Predictions(NamedTuple):
    """The tables of a folder that predict.py wrote.

    Attributes:
        folder: the folder, which also holds `labels/`.
        rows: summary.csv as a list of dicts, numbers as numbers (NaN where a cell is empty). The
            fields of slides have rows, too. Beside the columns a row has: `part` (IMAGE, SLIDE or
            FIELD), `results` (the folder that holds its `labels/`), and `shown` (how many of its
            nuclei are in `nuclei`: all, but none of a slide).
        nuclei: nuclei.csv as a pandas DataFrame, all cells as text; without those of slides.
    """

    folder: Path
    rows: list
    nuclei: object

    @property
    def num_nuclei(self):
        """Number of nuclei in all images and slides; those of a field are among its slide's."""
        return sum(int(row["nuclei"]) for row in self.rows if row["part"] != FIELD)

    @property
    def num_images(self):
        """Number of images and slides."""
        return sum(row["part"] != FIELD for row in self.rows)


def read_predictions(folder):
    """Read both tables of a folder that predict.py has written, and those of its slides' fields.

    Args:
        folder: Path of the folder.

    Returns:
        Predictions.

    Raises:
        FileNotFoundError, ValueError: predict.py did not write the folder, or its tables
            contradict one another.
    """
    import pandas as pd  # late, here and below: --help does not need it

    predictions = read_tables(folder)
    slides = {row["image"] for row in predictions.rows if row["part"] == SLIDE}
    if not slides or not (folder / FIELDS / "summary.csv").is_file():
        return predictions
    fields = read_tables(folder / FIELDS)
    rows = [{**row, "part": FIELD} for row in fields.rows if slide_of(row["image"]) in slides]
    nuclei = fields.nuclei[fields.nuclei["image"].isin([row["image"] for row in rows])]
    return predictions._replace(
        rows=predictions.rows + rows, nuclei=pd.concat([predictions.nuclei, nuclei])
    )


def slide_of(stem):
    """The stem of the slide to which a field belongs."""
    return stem.rpartition(FIELD_NAME)[0]


def slide_pictures(rows):
    """Where the pictures of slides and their fields lie: dict of stem -> path."""
    pictures = {}
    for row in rows:
        if row["part"] == SLIDE:
            pictures[row["image"]] = overview_path(row["results"], row["image"])
        elif row["part"] == FIELD:
            pictures[row["image"]] = row["results"] / "raw" / row["file"]
    return {stem: path for stem, path in pictures.items() if path.is_file()}


def overview_path(folder, stem):
    """The picture of a whole slide with its nuclei."""
    return folder / "overlays" / f"{stem}.jpg"


def read_tables(folder):
    """`read_predictions` of one folder alone."""
    path = folder / "summary.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; run python predict.py first, or name the folder it wrote"
        )
    summary = read_table(path)
    if summary.empty:
        raise ValueError(f"{path} holds no image; run python predict.py to its end")
    parts = parts_of(summary, folder)
    images = {stem for stem, part in zip(summary["image"], parts, strict=True) if part == IMAGE}
    nuclei = read_nuclei(folder / "nuclei.csv", None if len(images) == len(parts) else images)
    rows = [
        {**row, "part": part, "results": folder, "shown": 0 if part == SLIDE else row["nuclei"]}
        for row, part in zip(numbers_in(summary, path).to_dict("records"), parts, strict=True)
    ]
    counts = nuclei["image"].value_counts()
    wrong = [row["image"] for row in rows if counts.get(row["image"], 0) != row["shown"]]
    if wrong:
        raise ValueError(
            f"{folder}: summary.csv and nuclei.csv count differently in {named(wrong)}; predict "
            "with --overwrite"
        )
    return Predictions(folder, rows, nuclei)


def parts_of(summary, folder):
    """Whether each row is an IMAGE or a SLIDE, which has no labels but a picture of the whole.

    Args:
        summary: DataFrame of texts.
        folder: that predict.py wrote.

    Returns:
        A list.

    Raises:
        ValueError: a row has neither labels and csv, nor a picture.
    """
    if "formats" not in summary:
        return [IMAGE] * len(summary)
    parts, without = [], []
    for stem, formats in zip(summary["image"], summary["formats"].str.split(), strict=True):
        is_image = {"labels", "csv"} <= set(formats)
        parts.append(IMAGE if is_image else SLIDE)
        if not is_image and ("labels" in formats or not overview_path(folder, stem).is_file()):
            without.append(stem)
    if without:
        raise ValueError(
            f"{folder} has no labels or no csv of {named(without)}; run python predict.py again "
            "with --formats labels,csv to add them; slides need --formats overlays"
        )
    return parts


def read_nuclei(path, stems):
    """Read the nuclei of some images from nuclei.csv, however many it holds of others.

    Args:
        path: the table.
        stems: the images; None means all.

    Returns:
        DataFrame, all cells as text.
    """
    import pandas as pd

    if stems is None or not path.is_file():
        return read_table(path)
    settings = {"dtype": str, "keep_default_na": False, "chunksize": ROWS_AT_ONCE}
    with reading_own_table(path), pd.read_csv(path, **settings) as raw_parts:
        parts = map(plain_table, raw_parts)
        return pd.concat([part[part["image"].isin(stems)] for part in parts])


def numbers_in(summary, path):
    """summary.csv with numbers as numbers, after its columns are checked.

    Args:
        summary: DataFrame of texts.
        path: names the file in messages.

    Raises:
        ValueError: a column or a number is missing.
    """
    import pandas as pd  # late: --help does not need it

    missing = [name for name in ("file", "modality", *NUMBERS) if name not in summary]
    if missing:
        raise ValueError(
            f"{path} has no column {named(missing)}; run python predict.py --overwrite to write "
            "it again"
        )
    summary = summary.copy()
    for name in (*NUMBERS, *OPTIONAL_NUMBERS):
        if name in summary:
            numbers = pd.to_numeric(summary[name], errors="coerce")
            summary[name] = numbers.where(numbers.abs() < math.inf)
    broken = summary["image"][summary[list(NEEDED)].isna().any(axis=1)]
    if len(broken):
        raise ValueError(
            f"{path}: a size, count or intensity of {named(broken)} is no number; predict with "
            "--overwrite"
        )
    if OUT_OF_DISTRIBUTION in summary and summary[OUT_OF_DISTRIBUTION].isna().all():
        summary = summary.drop(columns=OUT_OF_DISTRIBUTION)  # the model has no limit for it
    return summary
