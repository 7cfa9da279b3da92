"""Score predicted nuclei against the truth: pixels, objects, and how sure the numbers are.

    python evaluate.py                                # predictions/ against data/test_gt/
    python evaluate.py PRED TRUTH                     # any two folders of masks with the same stems
    python evaluate.py --groups predictions/summary.csv   # and for each modality
    python evaluate.py PRED TRUTH --split split.csv --subset validation --groups split.csv --group-column modality

PRED and TRUTH hold masks in any form that `import_data.py` reads: binary, instance labels, one colour per nucleus.
A folder written by predict.py may be named as it is: its `labels/` are then taken. Where a mask is only binary, its
connected components count as the nuclei, so that touching ones are one.

Writes `evaluation.csv` (one row per image, worst first) and `evaluation.json` (everything, with the definitions)
into PRED, or into the folder given by --out; those of an earlier evaluation are replaced.
"""

import argparse
import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from nuclei.cli import PREDICTIONS_DIR, TRUTH_DIR, user_errors_in_one_line
from nuclei.files import named, replacing
from nuclei.images.masks import read_truth
from nuclei.images.pairs import find_images, find_truths
from nuclei.images.reading import IMAGE_SUFFIXES
from nuclei.images.split import read_split
from nuclei.instances.confidence import expected_calibration_error
from nuclei.instances.matching import IOU_THRESHOLDS, match, matched_pairs
from nuclei.scores import COUNTS, DEFINITIONS, LEVELS, NO_GROUP, image_rows, summarise, tally, without_nan

NUM_WORST = 5  # images named at the end of the table
COUNT_HEADER = ("true", "predicted", "merges", "splits", "misses", "extras")
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


def mask_folder(folder):
    """Take `folder/labels` where `folder` was written by predict.py, else the folder itself."""
    labels = Path(folder) / "labels"
    return labels if labels.is_dir() else Path(folder)


def read_groups(csv_path, column):
    """Read which group each image belongs to.

    Args:
        csv_path: CSV with a header line and the columns `stem` (or `image`, as in summary.csv) and `column`.
        column: name of the column that holds the group.

    Returns:
        dict, stem → group.

    Raises:
        FileNotFoundError; ValueError: no CSV, or a column that is not there.
    """
    groups = {}
    try:
        with open(csv_path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or ()
            key = "image" if "image" in columns and "stem" not in columns else "stem"
            if not {key, column} <= set(columns):
                raise ValueError(
                    f"{csv_path} has the columns {', '.join(columns) or '(none)'}; expected stem and {column} among "
                    "them: name the column of groups with --group-column"
                )
            for row in rows:
                stem = (row[key] or "").strip()
                stem = Path(stem).stem if Path(stem).suffix.lower() in IMAGE_SUFFIXES else stem
                groups[stem] = (row[column] or "").strip() or NO_GROUP
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{csv_path} is no CSV text in UTF-8 ({error})") from error
    return groups


def pair_masks(predicted_dir, truth_dir, stems=None, allow_missing=False):
    """Pair predicted masks with true ones by stem.

    Args:
        predicted_dir, truth_dir: folders of masks.
        stems: the stems to score; None for all that have a truth.
        allow_missing: leave out images without a prediction, instead of refusing to score the others alone.

    Returns:
        dict, stem → (predicted file, truth file), and a list of notes for the user.

    Raises:
        FileNotFoundError, ValueError: no masks, a folder compared with itself, no stem in common, no prediction for
            some of the images.
    """
    predicted_files, truth_files = find_images(predicted_dir), find_truths(truth_dir)
    if os.path.samefile(predicted_dir, truth_dir):
        raise ValueError(
            f"{predicted_dir} and {truth_dir} are the same folder: a folder compared with itself scores 1 and says "
            "nothing. Expected predictions and truth in two folders."
        )
    notes = []
    if stems is not None:
        if without := set(stems) - set(truth_files):
            notes.append(f"No truth for {len(without)} images of the subset, left out: {named(sorted(without))}.")
        truth_files = {stem: path for stem, path in truth_files.items() if stem in stems}
    elif extra := set(predicted_files) - set(truth_files):
        notes.append(f"No truth for {len(extra)} predictions, not scored: {named(sorted(extra))}.")
    pairs = {stem: (predicted_files[stem], path) for stem, path in truth_files.items() if stem in predicted_files}
    if not pairs:
        raise ValueError(
            f"{predicted_dir} and {truth_dir} have no stem in common among the images to score; found "
            f"{named(predicted_files)} and {named(truth_files) or 'no truth'}. A prediction is named like its "
            "truth, apart from the ending."
        )
    if missing := set(truth_files) - set(pairs):
        message = f"No prediction in {predicted_dir} for {len(missing)} of {len(truth_files)} images"
        if not allow_missing:
            raise ValueError(
                f"{message}: {named(sorted(missing))}. Predict them, or leave them out of the scores with --allow-missing."
            )
        notes.append(f"{message}, left out: {named(sorted(missing))}.")
    return pairs, notes


def tally_folders(pairs, allow_missing=False):
    """Read every pair of masks and take its sums.

    Args:
        pairs: dict, stem → (predicted file, truth file).
        allow_missing: leave out pairs with a file that cannot be read, instead of refusing to score the others alone.

    Returns:
        dict, stem → sums as `tally` gives them, and a list of notes for the user.

    Raises:
        ValueError: sizes that differ, one file under two names, files that cannot be read.
    """
    sums, unreadable, notes = {}, [], []
    forms = {"predicted": Counter(), "true": Counter()}
    for stem, paths in pairs.items():
        if os.path.samefile(*paths):
            raise ValueError(f"{paths[0]} and {paths[1]} are one file: expected a prediction and a truth of its own.")
        try:
            predicted = read_truth(paths[0])
            truth = read_truth(paths[1], predicted.labels.shape)  # outlines do not hold the size
        except (OSError, ValueError) as error:
            unreadable.append(str(error))
            continue
        if predicted.labels.shape != truth.labels.shape:
            sizes = ["{1}×{0} px".format(*side.labels.shape) for side in (predicted, truth)]
            raise ValueError(
                f"{paths[0]} has {sizes[0]} and its truth {paths[1]} has {sizes[1]}: expected equal sizes. Predict at "
                "the size of the image."
            )
        for side, mask in (("predicted", predicted), ("true", truth)):
            if mask.labels.max() > 1:  # a label image of a single nucleus looks binary, and nothing is lost by it
                forms[side][mask.form] += 1
        sums[stem] = tally(match(truth.labels, predicted.labels))
    if unreadable:
        message = f"{len(unreadable)} of {len(pairs)} pairs cannot be read: {named(unreadable)}"
        if not allow_missing or not sums:
            raise ValueError(f"{message}. Mend them, or leave them out of the scores with --allow-missing.")
        notes.append(f"{message}; left out.")
    for side, count in forms.items():
        if binary := count["binary"] + count["binary (lossy JPEG)"]:
            notes.append(f"{binary} of {len(sums)} {side} masks are binary: touching nuclei count as one in them.")
        if lossy := count["binary (lossy JPEG)"]:
            notes.append(f"{lossy} of {len(sums)} {side} masks are lossy JPEG, thresholded: their edges are not exact.")
    return sums, notes


def reliability(pairs, nuclei_csv):
    """Compare the confidence that predict.py wrote for each nucleus with how many of them are right.

    Args:
        pairs: dict, stem → (predicted file, truth file).
        nuclei_csv: table with columns image, id, confidence.

    Returns:
        (error, rows) as `expected_calibration_error` at IoU 0.5; None without such a table or column.
    """
    if not nuclei_csv.is_file():
        return None
    with open(nuclei_csv, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"image", "id", "confidence"} <= set(reader.fieldnames or ()):
            return None
        said = {(row["image"], int(row["id"])): float(row["confidence"]) for row in reader if row["confidence"]}
    confidences, hits = [], []
    for stem, paths in pairs.items():
        predicted, truth = (read_truth(path).labels for path in paths)
        matching = match(truth, predicted)
        right = set(matching.predicted_ids[matched_pairs(matching)].tolist())
        for number in range(1, int(predicted.max()) + 1):
            if (stem, number) in said:
                confidences.append(said[stem, number])
                hits.append(number in right)
    return expected_calibration_error(np.array(confidences), np.array(hits)) if hits else None


def as_text(value, digits=3):
    """Format a number; a dash where it is undefined."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def print_columns(header, rows):
    """Print a table whose first column is flush left and the others flush right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    print()


def print_report(everything, groups, images, num_worst):
    """Print the scores of all images, then of the groups, then the worst images."""
    print(
        f"{everything['num_images']} images, {everything['num_truth']:,} nuclei in the truth, "
        f"{everything['num_predicted']:,} predicted. In brackets: 95 % interval over images.\n"
    )

    def cell(summary, kind, name, digits=3):
        value, low, high = (as_text(summary[kind][name][key], digits) for key in ("value", "low", "high"))
        return f"{value} [{low}, {high}]" if low != "-" else value

    kinds = ("pooled", "mean_of_images")
    print_columns(
        ("", "pooled", "mean of images"),
        [(label, *(cell(everything, kind, name) for kind in kinds)) for name, label in TABLE.items()]
        + [("count error, nuclei", "", cell(everything, "mean_of_images", "count_error_absolute", digits=1))],
    )
    print_columns(
        ("AP at IoU", *(f"{threshold:.2f}" for threshold in IOU_THRESHOLDS)),
        [(kind.replace("_", " "), *(as_text(everything[kind][f"ap_{level}"]["value"]) for level in LEVELS)) for kind in kinds],
    )
    means = ("ap_50", "mean_ap", "aji", "pq")
    print_columns(
        ("group", "images", "Dice", "AP50", "F1", "AP50/image", "mAP/image", "AJI/image", "PQ/image", *COUNT_HEADER),
        [
            (
                group,
                str(summary["num_images"]),
                *(as_text(summary["pooled"][name]["value"]) for name in ("dice", "ap_50", "f1")),
                *(as_text(summary["mean_of_images"][name]["value"]) for name in means),
                *(str(summary[name]) for name in COUNTS),
            )
            for group, summary in {"all": everything, **groups}.items()
        ],
    )
    if num_worst > 0:
        shown = ("mean_ap", "ap_50", "dice")
        print_columns(
            ("worst images", "group", "mAP", "AP50", "Dice", *COUNT_HEADER),
            [
                (row["stem"], row["group"], *(as_text(row[key]) for key in shown), *(str(row[key]) for key in COUNTS))
                for row in images[:num_worst]
            ],
        )


def write_results(out_dir, images, record):
    """Write `evaluation.csv` and `evaluation.json`, replacing those of an earlier evaluation.

    Returns:
        The two paths.
    """
    csv_path, json_path = out_dir / "evaluation.csv", out_dir / "evaluation.json"
    with replacing(csv_path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(images[0]))
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in images)
    with replacing(json_path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    return csv_path, json_path


@user_errors_in_one_line
def main(argv=None):
    """Score a folder of predictions and return the exit status."""
    parser = argparse.ArgumentParser(description="Score predicted nuclei against the truth, by pixels and by objects.")
    parser.add_argument(
        "predictions",
        nargs="?",
        default=PREDICTIONS_DIR,
        metavar="PRED",
        help="folder of predicted masks, or the folder that predict.py wrote (%(default)s)",
    )
    parser.add_argument(
        "truth", nargs="?", default=TRUTH_DIR, metavar="TRUTH", help="folder of true masks with the same stems (%(default)s)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for evaluation.csv and evaluation.json (PRED)")
    parser.add_argument("--groups", metavar="CSV", help="CSV with a column `stem` or `image`: scores are also given per group")
    parser.add_argument("--group-column", default="modality", help="column of --groups that names it (%(default)s)")
    parser.add_argument("--split", metavar="CSV", help="CSV with columns `stem` and `split`: score one subset only")
    parser.add_argument("--subset", default="validation", help="value of `split` to score (%(default)s)")
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out images whose prediction is missing or unreadable, instead of stopping",
    )
    parser.add_argument(
        "--worst", type=int, default=NUM_WORST, metavar="N", help="how many of the worst images to print (%(default)s)"
    )
    args = parser.parse_args(argv)
    stems = None
    if args.split:
        split = read_split(args.split)
        stems = {stem for stem, subset in split.items() if subset == args.subset}
        if not stems:
            raise ValueError(
                f"{args.split}: no image is {args.subset!r}; found {', '.join(sorted(set(split.values())))}. "
                "Choose one of them with --subset."
            )
    groups = read_groups(args.groups, args.group_column) if args.groups else {}
    predicted_dir, truth_dir = mask_folder(args.predictions), mask_folder(args.truth)
    pairs, notes = pair_masks(predicted_dir, truth_dir, stems=stems, allow_missing=args.allow_missing)
    sums, more_notes = tally_folders(pairs, allow_missing=args.allow_missing)
    notes += more_notes

    everything, by_group = summarise(list(sums.values())), {}
    if args.groups:
        for name in sorted({groups.get(stem, NO_GROUP) for stem in sums}):
            by_group[name] = summarise([row for stem, row in sums.items() if groups.get(stem, NO_GROUP) == name])
    images = without_nan(image_rows(sums, groups))
    record = {
        "predictions": str(predicted_dir),
        "truth": str(truth_dir),
        "subset": {"split": args.split, "value": args.subset} if args.split else None,
        "notes": notes,
        "definitions": DEFINITIONS,
        "all": without_nan(everything),
        "groups": without_nan(by_group),
        "images": images,
    }
    print_report(everything, by_group, images, args.worst)
    sure = reliability({stem: pairs[stem] for stem in sums}, Path(args.predictions) / "nuclei.csv")
    if sure:
        record["calibration"] = without_nan({"expected_calibration_error": sure[0], "bins": [list(row) for row in sure[1]]})
        print_columns(
            ("confidence", "right", "nuclei"),
            [(as_text(said), as_text(right), str(number)) for number, said, right in sure[1]],
        )
        print(f"Expected calibration error of the confidence at IoU 0.5: {sure[0]:.3f}")
    for note in notes:
        print(note)
    paths = write_results(Path(args.out or args.predictions), images, record)
    print(f"Wrote {paths[0]} and {paths[1]}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
