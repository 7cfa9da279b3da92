"""What a page is made of beside the tables of predict.py: scores, training history, and images.

    evaluation = read_evaluation(Path("predictions/evaluation.json"), predictions.rows)
    predictions, order = by_attention(predictions, evaluation.by_stem)

`PageInputs` holds it all. Files that contradict one another are refused here, before anything is
drawn.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nuclei.files import named
from nuclei.model_file import MODELS
from nuclei.report.predictions import FIELD, OUT_OF_DISTRIBUTION, Predictions, slide_of
from nuclei.results.evaluation_record import read_evaluation_record
from nuclei.results.history import HISTORY
from nuclei.scores import NO_GROUP

# What says how certain the nuclei of an image are: column of nuclei.csv -> words. The first counts.
CERTAINTY = {"confidence": "mean confidence", "mean_probability": "mean probability"}


class Evaluation(NamedTuple):
    """The record of evaluate.py, or None; and a sentence why there are no scores, or ""."""

    record: dict | None = None
    note: str = ""

    @property
    def by_stem(self):
        """Scores of each image: dict of stem -> row."""
        return {image["stem"]: image for image in self.record["images"]} if self.record else {}


@dataclass(frozen=True)
class PageInputs:
    """Everything that one page shows.

    Attributes:
        predictions: in the order of the page.
        order: a sentence about this order.
        evaluation: scores, if there are any.
        settings: what the model file says about itself.
        model_path: the model file.
        history_path: training history of the model, or None.
        image_folders: folders with the images that were predicted.
        pictures: dict of stem -> path of the image, where it was found.
        groups: dict of stem -> group, to compare them; empty without groups.
        command: the command that makes the page.
    """

    predictions: Predictions
    order: str
    evaluation: Evaluation
    settings: dict
    model_path: Path
    history_path: Path | None
    image_folders: list
    pictures: dict
    groups: dict
    command: str

    @property
    def missing(self):
        """Stems of the images that were not found."""
        stems = [row["image"] for row in self.predictions.rows]
        return [stem for stem in stems if stem not in self.pictures]

    def group_of(self, row):
        """The group of a row of summary.csv: a field is in that of its slide; "" without groups."""
        stem = slide_of(row["image"]) if row["part"] == FIELD else row["image"]
        return self.groups.get(stem, NO_GROUP) if self.groups else ""


def read_evaluation(path, rows):
    """Read evaluation.json, unless it scores other predictions than these.

    Args:
        path: the file.
        rows: of summary.csv. Predictions are others where no image is shared, or where an image
            has another number of nuclei.

    Returns:
        Evaluation.

    Raises:
        FileNotFoundError, ValueError: evaluate.py did not write the file.
    """
    record = read_evaluation_record(path)
    # Nuclei in void are not scored, so there may be more in the file.
    scored = {
        image["stem"]: image.get("num_in_file", image["num_predicted"])
        for image in record["images"]
    }
    counts = {row["image"]: row["nuclei"] for row in rows}
    shared = scored.keys() & counts.keys()
    if not shared:
        images = named(sorted(scored))
        return Evaluation(note=f"{path} scores other images ({images}): no scores are shown.")
    changed = sorted(stem for stem in shared if scored[stem] != counts[stem])
    if changed:
        return Evaluation(
            note=f"{path} was made of other predictions (another number of nuclei in "
            f"{named(changed)}): no scores are shown. Run evaluate.py again."
        )
    return Evaluation(record)


def certainty_column(nuclei):
    """The column of nuclei.csv that says how certain the network is of a nucleus, or None."""
    return next((name for name in CERTAINTY if name in nuclei), None)


def by_attention(predictions, scores):
    """Order the images by how much they need a look.

    Images out of distribution come first, then the lowest mean AP. Without any truth, the lowest
    mean confidence (or else probability) of the nuclei comes first. Images for which the value is
    unknown come last.

    Args:
        predictions: Predictions.
        scores: dict of stem -> row of evaluate.py; empty without truth.

    Returns:
        Predictions in that order, where each row has a `certainty` too (the mean of its nuclei, NaN
        without any), and a sentence about the order.
    """
    import pandas as pd

    rows, nuclei = predictions.rows, predictions.nuclei
    certainty, column = {}, certainty_column(nuclei)
    if column:
        values = pd.to_numeric(nuclei[column], errors="coerce")
        certainty = values.groupby(nuclei["image"]).mean().to_dict()
    rows = [{**row, "certainty": certainty.get(row["image"], math.nan)} for row in rows]
    steps = []
    if any(row.get(OUT_OF_DISTRIBUTION) == 1 for row in rows):
        steps.append("images out of distribution")
    if scores:
        steps.append("images with the lowest mean AP")
        ranks = {stem: score["mean_ap"] for stem, score in scores.items()}
    else:
        ranks = certainty
        if column:
            steps.append(f"images with the lowest {CERTAINTY[column]} of their nuclei")
    known = [value for value in ranks.values() if value is not None and math.isfinite(value)]
    last = max(known, default=0) + 1

    def key(row):
        value = ranks.get(row["image"])
        is_unknown = value is None or math.isnan(value)
        return row.get(OUT_OF_DISTRIBUTION) != 1, last if is_unknown else value

    order = f"First {', then '.join(steps)}." if steps else "In the order of summary.csv."
    return predictions._replace(rows=fields_last(sorted(rows, key=key))), order


def fields_last(rows):
    """Rows of summary.csv in their order, the fields of a slide right behind it."""
    fields = {}
    for row in rows:
        if row["part"] == FIELD:
            fields.setdefault(slide_of(row["image"]), []).append(row)
    whole = [row for row in rows if row["part"] != FIELD]
    return [
        one
        for row in whole
        for one in [row, *sorted(fields.get(row["image"], ()), key=lambda row: row["image"])]
    ]


def find_history(model_path):
    """The history beside a model, or None.

    history.csv belongs to trained_model.h5, NAME_history.csv to NAME.h5.
    """
    own = model_path.with_name(f"{model_path.stem}_history.csv")
    if own.is_file():
        return own
    usual = model_path.with_name(Path(HISTORY).name)
    is_trained = model_path.name == Path(MODELS[0]).name
    return usual if usual.is_file() and is_trained else None
