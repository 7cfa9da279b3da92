"""nuclei.report.inputs"""

import json
import math
from pathlib import Path

import pandas as pd

from nuclei.files import first_line, named
from nuclei.model_file import MODELS
from nuclei.results.history import HISTORY
from nuclei.results.tables import read_table

OUT_OF_DISTRIBUTION = "out_of_distribution"  # column of summary.csv: 1 where the image is unlike the training data; empty where unknown
CERTAINTY = {"confidence": "mean confidence", "mean_probability": "mean probability"}  # of an image; the first there is
SUMMARY_COLUMNS = ("file", "height_px", "width_px", "modality", "nuclei", "median_diameter_px", "nucleus_share")
INTENSITIES = ("intensity_low", "intensity_high")


def read_predictions(folder):
    """Read both tables of a folder that predict.py has written.

    Returns:
        The rows of summary.csv as a list of dicts, numbers as numbers (NaN where a cell is empty), and nuclei.csv as a
        DataFrame in the order of these rows, reduced to finished images.

    Raises:
        FileNotFoundError, ValueError: the folder is not one of predict.py, or its tables contradict one another.
    """
    path = folder / "summary.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run python predict.py first, or name the folder it wrote")
    summary, nuclei = read_table(path), read_table(folder / "nuclei.csv")
    if summary.empty:
        raise ValueError(f"{path} holds no image; run python predict.py to its end")
    missing = [name for name in (*SUMMARY_COLUMNS, *INTENSITIES) if name not in summary]
    if missing:
        raise ValueError(f"{path} has no column {named(missing)}; run python predict.py --overwrite to write it anew")
    if "formats" in summary:
        partly = summary["image"][[not {"labels", "csv"} <= set(formats.split()) for formats in summary["formats"]]]
        if len(partly):
            raise ValueError(
                f"{folder} has no labels or no csv of {named(partly)}; run python predict.py again with --formats labels,csv, "
                "which adds them; whole slides have no such labels: predict images into a folder of their own"
            )
    for name in ("height_px", "width_px", "nuclei", "median_diameter_px", "nucleus_share", *INTENSITIES, OUT_OF_DISTRIBUTION, "scale", "mpp"):
        if name in summary:
            summary[name] = pd.to_numeric(summary[name], errors="coerce")
    broken = summary["image"][summary[["height_px", "width_px", "nuclei", *INTENSITIES]].isna().any(axis=1)]
    if len(broken):
        raise ValueError(f"{path}: a size, count or intensity of {named(broken)} is no number; predict with --overwrite")
    if OUT_OF_DISTRIBUTION in summary and summary[OUT_OF_DISTRIBUTION].isna().all():
        summary = summary.drop(columns=OUT_OF_DISTRIBUTION)  # the model cannot tell, so nothing is said
    rows = summary.to_dict("records")
    counts = nuclei["image"].value_counts()
    wrong = [row["image"] for row in rows if counts.get(row["image"], 0) != row["nuclei"]]
    if wrong:
        raise ValueError(f"{folder}: summary.csv and nuclei.csv count differently in {named(wrong)}; predict with --overwrite")
    return rows, nuclei


def read_evaluation(path, rows):
    """Read evaluation.json, or return None and why the page has no scores.

    Scores of other predictions than these (another number of nuclei, or no image in common) are left out.

    Returns:
        The record of evaluate.py or None, and a sentence or "".
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        scored = {image["stem"]: image["num_predicted"] for image in record["images"]}
        record["all"]["pooled"], record["groups"], record["definitions"]
    except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected an evaluation.json of evaluate.py ({first_line(error)})") from None
    counts = {row["image"]: row["nuclei"] for row in rows}
    shared = scored.keys() & counts.keys()
    if not shared:
        return None, f"{path} scores other images ({named(sorted(scored))}), so no scores are shown."
    changed = sorted(stem for stem in shared if scored[stem] != counts[stem])
    if changed:
        return None, (
            f"{path} was made of other predictions (another number of nuclei in {named(changed)}), so no scores are "
            "shown. Run evaluate.py again."
        )
    return record, ""


def by_attention(rows, nuclei, scores):
    """Order the images by how much they need a look, and say by what.

    Flagged images come first; then the lowest mean AP, images without a truth last. Where there is no truth at all,
    the lowest mean of the nuclei's confidence or, without that column, probability comes first. On 77 images held out
    from the training of the shipped weights the rank correlation of the latter with mean AP was 0.63 (Spearman), that of
    the uncertainty in summary.csv -0.50.

    Returns:
        The rows in that order, each with `certainty` (mean of its nuclei; NaN without any), and a sentence.
    """
    certainty, column = {}, certainty_column(nuclei)
    if column:
        certainty = pd.to_numeric(nuclei[column], errors="coerce").groupby(nuclei["image"]).mean().to_dict()
    rows = [{**row, "certainty": certainty.get(row["image"], math.nan)} for row in rows]
    flagged = any(row.get(OUT_OF_DISTRIBUTION) == 1 for row in rows)
    words = ["those unlike the training data"] if flagged else []
    if scores:
        words.append("those of the lowest mean AP")
        rank = {stem: score["mean_ap"] for stem, score in scores.items()}
    else:
        name = f" ({CERTAINTY[column]})" if column else ""
        words.append(f"those with the least certain nuclei{name}, since there is no truth to compare with")
        rank = certainty
    known = [value for value in rank.values() if value is not None and math.isfinite(value)]
    last = max(known, default=0) + 1

    def key(row):
        value = rank.get(row["image"])
        return row.get(OUT_OF_DISTRIBUTION) != 1, last if value is None or math.isnan(value) else value

    return sorted(rows, key=key), "First come " + ", then ".join(words) + "."


def certainty_column(nuclei):
    """The column of nuclei.csv that says how sure the network is of a nucleus, or None."""
    return next((name for name in CERTAINTY if name in nuclei), None)


def find_history(model_path):
    """The history that lies beside a model: history.csv of trained_model.h5, NAME_history.csv of NAME.h5, or None."""
    own = model_path.with_name(f"{model_path.stem}_history.csv")
    if own.is_file():
        return own
    usual = model_path.with_name(Path(HISTORY).name)
    return usual if usual.is_file() and model_path.name == Path(MODELS[0]).name else None


def find_pictures(rows, folders):
    """Find the image of each row in the folders by the file name in the table.

    Returns:
        dict, stem → path, of those that are there.

    Raises:
        FileNotFoundError: a folder is missing, or holds none of the images with any other.
    """
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; give the folders with the images that were predicted: --images")
    found = {}
    for row in rows:
        for folder in folders:
            path = folder / row["file"]
            if path.is_file():
                found.setdefault(row["image"], path)
    if not found:
        files = named(row["file"] for row in rows)
        raise FileNotFoundError(
            f"{named(folders)}: none of the predicted images is there ({files}); give the folders that hold them: --images"
        )
    return found
