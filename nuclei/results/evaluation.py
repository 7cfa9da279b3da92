"""An evaluation for the eye and on disk: the printed tables, evaluation.csv and evaluation.json.

    print_scores(everything, groups, images, num_worst=5)    # on stdout
    write_evaluation(out, record)                            # both files, whole or not at all

`print_columns` prints any table of texts.
"""

import csv
import json
import math
from pathlib import Path

from nuclei.csv_cells import safe
from nuclei.files import plural, replacing
from nuclei.instances.matching import IOU_THRESHOLDS
from nuclei.scores import COUNTS, LEVELS

DIGITS = 6  # after the point in the files; beyond them no score means anything
COUNT_HEADER = ("true", "predicted", "merges", "splits", "misses", "extras")
KINDS = ("pooled", "mean_of_images")
TABLE = {  # rows of the printed table
    "dice": "Dice",
    "iou": "IoU",
    "pixel_accuracy": "pixel accuracy",
    "background_accuracy": "  of all background",
    "ap_50": "AP at IoU 0.50",
    "ap_75": "AP at IoU 0.75",
    "mean_ap": "mean AP 0.50:0.95",
    "f1": "F1 at IoU 0.50",
    "f1_70": "F1 at IoU 0.70",
    "precision": "precision at 0.50",
    "recall": "recall at 0.50",
    "aji": "AJI",
    "aji_plus": "AJI+",
    "pq": "PQ",
    "dq": "DQ",
    "sq": "SQ",
    "count_error_relative": "count error, share",
}


def as_text(value, digits=3):
    """Format a number; a dash where it is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def print_columns(header, rows):
    """Print a table of texts: the first column is flush left, the others are flush right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    print()


def print_scores(everything, groups, images, num_worst):
    """Print the scores of all images, then of each group, then the worst images.

    Args:
        everything: summary of all images, as `summarise` gives it.
        groups: dict of group → summary.
        images: rows as `image_rows` gives them, worst first.
        num_worst: how many of the rows to print.
    """
    print(
        f"{plural(everything['num_images'], 'image')}, "
        f"{plural(everything['num_truth'], 'nucleus', 'nuclei')} in the truth, "
        f"{everything['num_predicted']:,} predicted. In brackets: 95 % interval over images.\n"
    )
    count_error = everything["mean_of_images"]["count_error_absolute"]
    print_columns(
        ("", "pooled", "mean of images"),
        [
            *(
                (label, *(interval(everything[kind][name]) for kind in KINDS))
                for name, label in TABLE.items()
            ),
            ("count error, nuclei", "", interval(count_error, digits=1)),
        ],
    )
    precisions = [f"ap_{level}" for level in LEVELS]
    print_columns(
        ("AP at IoU", *(f"{threshold:.2f}" for threshold in IOU_THRESHOLDS)),
        [(kind.replace("_", " "), *values_of(everything[kind], precisions)) for kind in KINDS],
    )
    print_groups({"all": everything, **groups})
    if num_worst > 0:
        rows = []
        for image in images[:num_worst]:
            scores = [as_text(image[name]) for name in ("mean_ap", "ap_50", "dice")]
            rows.append((image["stem"], image["group"], *scores, *counts_of(image)))
        print_columns(("worst images", "group", "mAP", "AP50", "Dice", *COUNT_HEADER), rows)


def print_groups(summaries):
    """Print one line for each group: dict of group → summary."""
    pooled, means = ("dice", "ap_50", "f1"), ("ap_50", "mean_ap", "aji", "pq")
    headings = ("Dice", "AP50", "F1", "AP50/image", "mAP/image", "AJI/image", "PQ/image")
    rows = []
    for group, summary in summaries.items():
        scores = values_of(summary["pooled"], pooled) + values_of(summary["mean_of_images"], means)
        rows.append((group, str(summary["num_images"]), *scores, *counts_of(summary)))
    print_columns(("group", "images", *headings, *COUNT_HEADER), rows)


def interval(score, digits=3):
    """A score with its interval in brackets, where it has one."""
    value, low, high = (as_text(score[key], digits) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if low != "-" else value


def values_of(scores, names):
    """The values of some scores as texts."""
    return [as_text(scores[name]["value"]) for name in names]


def counts_of(row):
    """The counts of a row or a summary as texts, in the order of COUNT_HEADER."""
    return [str(row[name]) for name in COUNTS]


def print_calibration(error, bins):
    """Print how the confidence agrees with the share of right nuclei.

    Args:
        error: expected calibration error.
        bins: rows of (nuclei, mean confidence, share of right nuclei).
    """
    print_columns(
        ("confidence", "right", "nuclei"),
        [(as_text(confidence), as_text(right), str(number)) for number, confidence, right in bins],
    )
    print(f"Expected calibration error of the confidence at IoU 0.5: {error:.3f}")


def without_nan(value):
    """Replace NaN by None, which JSON can express, and round to DIGITS, in dicts and lists."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, float):
        return round(float(value), DIGITS) if math.isfinite(value) else None
    return value


def evaluation_files(out):
    """The paths of the two files of an evaluation in a folder."""
    return Path(out) / "evaluation.csv", Path(out) / "evaluation.json"


def write_evaluation(out, record):
    """Write `evaluation.csv` (the rows of record["images"]) and `evaluation.json` (all of it).

    Files of an earlier evaluation are replaced.

    Args:
        out: folder, made if need be.
        record: dict for JSON, which may hold NaN.

    Returns:
        The two paths.
    """
    record = without_nan(record)
    csv_path, json_path = evaluation_files(out)
    with (
        replacing(csv_path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(record["images"][0]))
        writer.writeheader()
        # An undefined score is an empty cell.
        writer.writerows({key: safe(cell) for key, cell in row.items()} for row in record["images"])
    with replacing(json_path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    return csv_path, json_path
