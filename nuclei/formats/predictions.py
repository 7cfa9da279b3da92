"""A folder of predictions, read again as the `Nuclei` that the writers of this wing take.

    folder = open_predictions("predictions")
    for stem in folder.labels:
        nuclei = load_nuclei(folder, stem)

The label images are needed. nuclei.csv and summary.csv add measurements, file names and the size of
a pixel; with the images at hand, the nuclei are measured again.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.csv_cells import plain_table
from nuclei.files import named, reading_own_table
from nuclei.formats.registry import Nuclei
from nuclei.images.folder import find_images
from nuclei.images.labels import read_labels
from nuclei.images.modality import modality
from nuclei.images.reading import read_image
from nuclei.images.stains import has_dab
from nuclei.images.stems import text_of
from nuclei.instances.measure import in_microns, measure
from nuclei.truth.exact_truth import are_grey_levels

# Only the network knows them.
PROBABILITIES = ("confidence", "mean_probability", "std_probability")
UNITS = ("_px", "_um", "_um2", "_degrees")  # ends of the names of columns that hold numbers


class Predictions(NamedTuple):
    """What a folder of predictions holds, each as {stem: ...}.

    Attributes:
        labels: paths of the label images, one for every stem.
        images: paths of the images; empty where no folder of images was given.
        tables: rows of nuclei.csv, without the column "image"; empty where there is no such file.
        file_names: names of the image files, from summary.csv.
        mpp: µm per pixel, from summary.csv, of the images where it is known.
        choices: (channel, plane) that was read of an image, from summary.csv; None for no choice.
    """

    labels: dict
    images: dict
    tables: dict
    file_names: dict
    mpp: dict
    choices: dict


def open_predictions(folder, images_dir=None):
    """Read the tables of a folder of predictions and find its images.

    Args:
        folder: as predict.py writes it. A folder without labels/ is taken as a folder of label
            images.
        images_dir: folder of the images, or None.

    Returns:
        A `Predictions`.

    Raises:
        FileNotFoundError, ValueError: there are no label images, or an image is missing.
    """

    folder = Path(folder)
    labels = find_images(labels_dir(folder))
    images = {} if images_dir is None else find_images(images_dir)
    if images_dir is not None and (missing := [stem for stem in labels if stem not in images]):
        raise ValueError(
            f"{images_dir} lacks the images of {len(missing)} label images: {named(missing)}"
        )
    tables = tables_of(folder / "nuclei.csv", labels)
    return Predictions(labels, images, tables, *facts_of(folder / "summary.csv"))


def tables_of(path, labels):
    """The rows of nuclei.csv as {stem: DataFrame}; empty where there is no such file.

    Args:
        path: of the table.
        labels: {stem: path of the label image}.

    Raises:
        ValueError: the table is damaged.
    """
    if not path.is_file():
        return {}
    with reading_own_table(path):
        rows = read_rows(path)
        groups = {stem: group for stem, group in rows.groupby("image", sort=False)}
        tables = {}
        for stem in labels:
            table = groups.get(stem, rows.iloc[:0]).reset_index(drop=True)
            tables[stem] = table.drop(columns="image")
            table["id"]  # which every reader needs
    return tables


def facts_of(path):
    """What summary.csv says: (file_names, mpp, choices) of `Predictions`.

    Raises:
        ValueError: the table is damaged.
    """
    import pandas as pd

    file_names, mpp, choices = {}, {}, {}
    if not path.is_file():
        return file_names, mpp, choices
    with reading_own_table(path):
        summary = plain_table(pd.read_csv(path, dtype=str, keep_default_na=False))
        file_names = dict(zip(summary["image"], summary["file"], strict=True))
        if "mpp" in summary:
            pairs = zip(summary["image"], summary["mpp"], strict=True)
            mpp = {stem: pixel_size(text) for stem, text in pairs if text}
        if {"channel", "plane"} <= set(summary):
            columns = zip(summary["image"], summary["channel"], summary["plane"], strict=True)
            choices = {stem: (channel or None, plane or None) for stem, channel, plane in columns}
    return file_names, mpp, choices


def pixel_size(text):
    """µm per pixel of a cell of summary.csv. Raises: ValueError."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(f"{text} µm per pixel")
    return value


def labels_dir(folder):
    """The folder of the label images in a folder of predictions, or a folder of label images.

    Raises:
        FileNotFoundError: predict.py has written this folder, but no label images.
    """
    if (folder / "labels").is_dir():
        return folder / "labels"
    if not (folder / "summary.csv").is_file():
        return folder
    ways = "predict the images again with --formats labels"
    if (folder / "fields").is_dir():
        ways = "for a slide give predict.py the --formats that you want; its sampled fields lie in "
        ways += f"{folder / 'fields'}, and can be exported from there"
    raise FileNotFoundError(f"{folder} has no labels/, which an export reads: {ways}")


def read_rows(path):
    """The rows of nuclei.csv: numbers, and the column "image" as text.

    Pandas alone takes images called NA, null or nan for missing values.

    Raises:
        ValueError: the table is damaged. The message names it.
    """
    import pandas as pd

    with reading_own_table(path):
        numbers = [name for name in pd.read_csv(path, nrows=0) if name != "image"]
        rows = pd.read_csv(
            path,
            dtype={"image": str},
            keep_default_na=False,
            na_values={name: ["", "NA", "nan", "NaN"] for name in numbers},
        )
        for name in numbers:
            if name.endswith(UNITS):
                rows[name] = pd.to_numeric(rows[name])
        if rows.empty:  # no cell tells the types
            rows = rows.astype(dict.fromkeys(numbers, float))
        return plain_table(rows)


def load_nuclei(predictions, stem, mpp=None, editable=False):
    """The nuclei of one image.

    Args:
        predictions: a `Predictions`.
        stem: one of `predictions.labels`.
        mpp: µm per pixel; None takes what summary.csv says, if anything.
        editable: as in `Nuclei`.

    Returns:
        A `Nuclei`; its table starts with the column "image".

    Raises:
        ValueError: the label image is none, or it, the image and the table do not belong together.
    """
    labels, stored = read_labels(predictions.labels[stem]), predictions.tables.get(stem)
    if stored is None and are_grey_levels(labels):
        raise ValueError(
            f"{predictions.labels[stem]} holds the grey levels of an image; expected one id per "
            "nucleus: find its nuclei first, by python predict.py, and export what that writes"
        )
    image_path, image = predictions.images.get(stem), None
    if image_path is not None:
        image = read_image(image_path, *predictions.choices.get(stem, ()))
        if image.shape[:2] != labels.shape:
            raise ValueError(
                f"{image_path} has {image.shape[:2]} px and {predictions.labels[stem]} "
                f"{labels.shape}; expected equal sizes"
            )
    mpp = predictions.mpp.get(stem) if mpp is None else mpp
    table = measurements(stem, labels, image, stored)
    if mpp is not None:
        table = table.assign(**in_microns(table, mpp))
    table.insert(0, "image", stem)
    if image_path is not None:
        file_name = text_of(image_path.name)
    else:
        label_name = text_of(predictions.labels[stem].name)  # where no table names the image
        file_name = predictions.file_names.get(stem, label_name)
    return Nuclei(stem, file_name, labels, table, mpp, editable)


def measurements(stem, labels, image, stored):
    """The table of one image: as stored, or measured again.

    It is measured again where the image is given, or where there is no stored table.

    Args:
        stem: for messages.
        labels: (H, W) integer.
        image: (H, W, 3), or None.
        stored: its rows of nuclei.csv, or None. What only the network knows is taken from them.

    Raises:
        ValueError: the ids in the table and in the label image differ.
    """
    import pandas as pd

    ids = np.unique(labels[labels > 0])
    if stored is not None and not np.array_equal(stored["id"], ids):
        raise ValueError(
            f"labels/{stem} has {len(ids)} nuclei and nuclei.csv {len(stored)} rows for it, or "
            "other ids. If you edited the labels, export them from a folder of their own, without "
            "nuclei.csv"
        )
    if stored is not None and image is None:
        return stored
    is_tissue = image is not None and modality(image) == "tissue"
    is_immunostained = is_tissue and has_dab(image)
    table = pd.DataFrame(measure(labels, image, stained=is_tissue, dab=is_immunostained))
    if stored is not None:
        for name in PROBABILITIES:
            if name in stored:
                table[name] = stored[name].to_numpy()
    return table
