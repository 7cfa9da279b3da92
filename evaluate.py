"""Score predicted nuclei against the truth: pixels, objects, and how sure the numbers are.

    python evaluate.py                                # predictions/ against data/test_gt/
    python evaluate.py PRED TRUTH                     # any two folders of masks with the same stems
    python evaluate.py --groups predictions/summary.csv   # and for each modality
    python evaluate.py --stress RAW TRUTH             # what the model bears: the images darker, blurred, smaller ...
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
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

import augment
from import_data import (
    IMAGE_SUFFIXES,
    find_images,
    find_pairs,
    find_truths,
    named,
    read_pair,
    read_split,
    read_truth,
    replacing,
    user_errors_in_one_line,
)
from instances import (
    IOU_THRESHOLDS,
    average_precision,
    count_matches,
    expected_calibration_error,
    match,
    matched_pairs,
    merges_and_splits,
    one_to_one,
)

PREDICTIONS_DIR = "predictions"
RAW_DIR = "test_raw"
TRUTH_DIR = "data/test_gt"
NUM_RESAMPLES = 1000  # bootstrap samples; the ends of a 95 % interval then rest on 25 samples each
SEED = 0  # of the bootstrap, so that an evaluation repeated prints the same intervals
NUM_WORST = 5  # images named at the end of the table
NO_GROUP = "(no group)"

COUNTS = ("num_truth", "num_predicted", "merges", "splits", "misses", "extras")
COUNT_HEADER = ("true", "predicted", "merges", "splits", "misses", "extras")
LEVELS = tuple(f"{threshold * 100:.0f}" for threshold in IOU_THRESHOLDS)  # "50", "55" … "95"

DEFINITIONS = {
    "pooled": "computed from the sums over all images, as if they were one large image",
    "mean_of_images": "computed for each image, then averaged; images where a score is undefined are left out of it",
    "low, high": f"95 % percentile bootstrap over images, {NUM_RESAMPLES} samples, seed {SEED} (Efron 1979)",
    "dice": "2|A∩B| / (|A|+|B|) over nucleus pixels (Dice 1945); 1 where both are empty",
    "iou": "|A∩B| / |A∪B| over nucleus pixels (Jaccard 1901); 1 where both are empty",
    "pixel_accuracy": "share of pixels on which truth and prediction agree about nucleus or background",
    "background_accuracy": "the pixel accuracy of a prediction that is all background: the baseline of the row above",
    "ap_50 … ap_95": "TP/(TP+FP+FN), TP = one-to-one pairs with IoU >= 0.50 … 0.95, as stardist.matching has it; "
    "1 where there is no nucleus in either",
    "mean_ap": "mean of ap_50 … ap_95; its mean_of_images is the score of Kaggle's Data Science Bowl 2018",
    "f1, f1_70": "2TP/(2TP+FP+FN) at IoU 0.5 and at 0.7 (Caicedo et al. 2019); 1 where there is no nucleus in either",
    "precision": "TP/(TP+FP) at IoU 0.5; undefined where nothing is predicted",
    "recall": "TP/(TP+FN) at IoU 0.5; undefined where the truth is empty",
    "aji": "aggregated Jaccard index (Kumar et al. 2017): each truth nucleus with its best-IoU prediction, which may "
    "serve again; sum of intersections / (sum of unions + area of unused predictions); 1 where both are empty",
    "aji_plus": "AJI with one-to-one pairs of largest total IoU (Graham et al. 2019); 1 where both are empty",
    "pq": "panoptic quality DQ x SQ = sum of the IoU of the TP / (TP+FP/2+FN/2) at IoU 0.5 (Kirillov et al. 2019); "
    "1 where there is no nucleus in either",
    "dq": "detection quality TP/(TP+FP/2+FN/2) at IoU 0.5, which is f1",
    "sq": "segmentation quality, mean IoU of the TP at IoU 0.5; undefined where there is none",
    "count_error": "predicted nuclei minus true nuclei",
    "count_error_absolute": "|count_error|; its mean_of_images is the mean absolute error per image",
    "count_error_relative": "count_error / true nuclei; undefined where the truth is empty",
    "merges": "predicted nuclei that hold more than half of each of two or more true nuclei (Matula et al. 2015)",
    "splits": "true nuclei that hold more than half of each of two or more predicted nuclei",
    "misses": "true nuclei of which more than half was left as background",
    "extras": "predicted nuclei of which more than half lies on true background",
}

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


# --- What is compared with what --------------------------------------------------------------------------------------


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


# --- One image -------------------------------------------------------------------------------------------------------


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
        (error, rows) as `instances.expected_calibration_error` at IoU 0.5; None without such a table or column.
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


def jaccard_sums(matching, pairs):
    """Sum intersections and unions over the chosen pairs, nuclei without a partner adding to the unions.

    Args:
        matching: Matching.
        pairs: indices of pairs in which each truth nucleus stands at most once.

    Returns:
        Two ints, in pixels: their quotient is AJI for best-IoU pairs, AJI+ for one-to-one pairs.
    """
    shared = matching.intersections[pairs].sum()
    partners = matching.predicted_ids[pairs]
    predicted = matching.predicted_areas[partners].sum()
    unused = matching.predicted_areas[1:].sum() - matching.predicted_areas[np.unique(partners)].sum()
    return shared, matching.truth_areas[1:].sum() + predicted - shared + unused


def tally(matching):
    """Reduce one image to sums, which may be added over images and from which `score` computes every score.

    Args:
        matching: Matching of the image.

    Returns:
        dict of numbers: pixels, nuclei, true positives at each IoU, sums of IoU and areas, mistakes of separation.
    """
    by_truth = np.lexsort((-matching.iou, matching.truth_ids))
    best = by_truth[np.unique(matching.truth_ids[by_truth], return_index=True)[1]]
    aji_shared, aji_union = jaccard_sums(matching, best)
    aji_plus_shared, aji_plus_union = jaccard_sums(matching, one_to_one(matching, matching.iou))
    merges, splits, misses, extras = merges_and_splits(matching)
    return {
        "num_pixels": matching.truth_areas.sum(),
        "truth_px": matching.truth_areas[1:].sum(),
        "predicted_px": matching.predicted_areas[1:].sum(),
        "shared_px": matching.intersections.sum(),
        "num_truth": matching.num_truth,
        "num_predicted": matching.num_predicted,
        **{f"tp_{level}": row[0] for level, row in zip(LEVELS, count_matches(matching), strict=True)},
        "tp_iou": matching.iou[matched_pairs(matching, 0.5)].sum(),
        "aji_shared": aji_shared,
        "aji_union": aji_union,
        "aji_plus_shared": aji_plus_shared,
        "aji_plus_union": aji_plus_union,
        "merges": merges,
        "splits": splits,
        "misses": misses,
        "extras": extras,
    }


def ratio(numerator, denominator, empty):
    """Divide array by array; `empty` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(denominator.shape, float(empty)), where=denominator > 0)


def score(sums):
    """Compute all scores from sums: of single images, of a whole folder, or of bootstrap samples.

    The definitions stand in DEFINITIONS. Sources: Caicedo et al. 2019, https://doi.org/10.1038/s41592-019-0612-7
    (AP, mean AP and F1 on the Data Science Bowl 2018); Schmidt et al. 2018, https://arxiv.org/abs/1806.03535 (AP as
    StarDist has it); Kumar et al. 2017, https://doi.org/10.1109/TMI.2017.2677499 (AJI); Graham et al. 2019,
    https://doi.org/10.1016/j.media.2019.101563 (AJI+, in the metrics of hover_net); Kirillov et al. 2019,
    https://arxiv.org/abs/1801.00868 (PQ, DQ, SQ).

    An image that is empty in truth and prediction is a correct answer and scores 1, except for precision, recall, SQ
    and the relative count error, which are undefined there.

    Args:
        sums: dict of equal-length arrays, as `tally` names them.

    Returns:
        dict of float64 arrays of that length; NaN where a score is undefined.
    """
    num_truth, num_predicted = np.asarray(sums["num_truth"], float), np.asarray(sums["num_predicted"], float)
    tp = {level: np.asarray(sums[f"tp_{level}"], float) for level in LEVELS}
    precisions = {
        f"ap_{level}": average_precision(np.stack([hits, num_predicted - hits, num_truth - hits], axis=-1))
        for level, hits in tp.items()
    }
    nucleus_px = sums["truth_px"] + sums["predicted_px"]  # those of both counted twice
    return {
        "dice": ratio(2 * sums["shared_px"], nucleus_px, 1),
        "iou": ratio(sums["shared_px"], nucleus_px - sums["shared_px"], 1),
        "pixel_accuracy": ratio(sums["num_pixels"] - nucleus_px + 2 * sums["shared_px"], sums["num_pixels"], 1),
        "background_accuracy": ratio(sums["num_pixels"] - sums["truth_px"], sums["num_pixels"], 1),
        **precisions,
        "mean_ap": np.mean(list(precisions.values()), axis=0),
        "f1": ratio(2 * tp["50"], num_truth + num_predicted, 1),
        "f1_70": ratio(2 * tp["70"], num_truth + num_predicted, 1),
        "precision": ratio(tp["50"], num_predicted, np.nan),
        "recall": ratio(tp["50"], num_truth, np.nan),
        "aji": ratio(sums["aji_shared"], sums["aji_union"], 1),
        "aji_plus": ratio(sums["aji_plus_shared"], sums["aji_plus_union"], 1),
        "pq": ratio(2 * sums["tp_iou"], num_truth + num_predicted, 1),
        "dq": ratio(2 * tp["50"], num_truth + num_predicted, 1),
        "sq": ratio(sums["tp_iou"], tp["50"], np.nan),
        "count_error": num_predicted - num_truth,
        "count_error_absolute": np.abs(num_predicted - num_truth),
        "count_error_relative": ratio(num_predicted - num_truth, num_truth, np.nan),
    }


# --- All images ------------------------------------------------------------------------------------------------------


def as_columns(sums):
    """Turn a list of dicts of numbers into a dict of float64 arrays."""
    return {name: np.array([row[name] for row in sums], float) for name in sums[0]}


def summarise(sums):
    """Score a set of images, pooled and as the mean of images, with 95 % intervals.

    The bootstrap draws whole images, since nuclei of one image succeed and fail together (Efron 1979,
    https://doi.org/10.1214/aos/1176344552). Of one image alone there is no interval.

    Args:
        sums: list of dicts as `tally` gives them, one per image, at least one.

    Returns:
        dict: the counts, and `pooled` and `mean_of_images`: score name → {"value", "low", "high"}, floats or NaN.
    """
    num_images = len(sums)
    columns = as_columns(sums)
    images = score(columns)
    # One row of weights per sample: how often each image was drawn. The first row is the set itself.
    draws = np.random.default_rng(SEED).multinomial(num_images, np.full(num_images, 1 / num_images), NUM_RESAMPLES)
    weights = np.concatenate([np.ones((1, num_images)), draws])
    pooled = score({name: weights @ column for name, column in columns.items()})
    means = {}
    for name, values in images.items():
        defined = np.isfinite(values)
        means[name] = ratio(weights @ np.where(defined, values, 0), weights @ defined, np.nan)

    def with_interval(samples):
        drawn = samples[1:][np.isfinite(samples[1:])]
        low, high = np.percentile(drawn, [2.5, 97.5]) if num_images > 1 and len(drawn) else (np.nan, np.nan)
        return {"value": samples[0], "low": low, "high": high}

    return {
        "num_images": num_images,
        **{name: int(columns[name].sum()) for name in COUNTS},
        "pooled": {name: with_interval(samples) for name, samples in pooled.items()},
        "mean_of_images": {name: with_interval(samples) for name, samples in means.items()},
    }


def image_rows(sums, groups):
    """Make one row of scores per image, worst mean AP first, ties by Dice."""
    scores = score(as_columns(list(sums.values())))
    rows = []
    for index, (stem, row) in enumerate(sums.items()):
        rows.append({"stem": stem, "group": groups.get(stem, NO_GROUP)} | {name: int(row[name]) for name in COUNTS})
        rows[-1] |= {name: float(values[index]) for name, values in scores.items()}
    return sorted(rows, key=lambda row: (row["mean_ap"], row["dice"], row["stem"]))


# --- What the user gets ----------------------------------------------------------------------------------------------


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


def without_nan(value):
    """Replace NaN by None, which JSON can say, and round to six digits, beyond which no score means anything."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    if isinstance(value, float):
        return round(float(value), 6) if np.isfinite(value) else None
    return value


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


# --- Stress test: the same images under fixed changes ----------------------------------------------------------------


def run_stress(raw_dir, truth_dir, out_dir, model=None, stems=None):
    """Change images in the ways of `augment.STRESSES`, have predict.py find their nuclei, compare with the truth.

    Args:
        raw_dir, truth_dir: folders of images and masks with the same stems.
        out_dir: folder for `stress.csv`.
        model: file for predict.py; None for its own choice.
        stems: set of stems to take; None for all.

    Returns:
        A list of rows {"change", "images", "ap_50", "loss"}: pooled AP at IoU 0.5, and what the change costs against the
        same images as they are.

    Raises:
        FileNotFoundError, ValueError: as `find_pairs`, no image is left, or predict.py failed.
    """
    pairs = {stem: pair for stem, pair in find_pairs(raw_dir, truth_dir).items() if stems is None or stem in stems}
    if not pairs:
        raise ValueError(f"{raw_dir}: none of its images is in the chosen subset")
    with tempfile.TemporaryDirectory() as folder:
        raw, found, truths, sources = Path(folder) / "raw", Path(folder) / "found", {}, {}
        raw.mkdir()
        for stem, paths in pairs.items():
            image, truth = read_pair(*paths)
            for number, name in enumerate(augment.STRESSES):
                changed = augment.stress(name, image, truth.labels)
                if changed is not None:
                    key = f"{stem}-{number:02d}"
                    cv2.imwrite(str(raw / f"{key}.png"), changed[0][..., ::-1])  # OpenCV: blue first
                    truths[key], sources[key] = changed[1], (stem, number)
        predict = Path(__file__).with_name("predict.py")
        command = [sys.executable, str(predict), str(raw), "--out", str(found), *(["--model", str(model)] if model else [])]
        if subprocess.run(command).returncode:
            raise ValueError("predict.py failed on the changed images; its message is above")
        labels = find_images(found / "labels")
        counts = {key: count_matches(match(truth, read_truth(labels[key]).labels))[0] for key, truth in truths.items()}
    rows = []
    for number, name in enumerate(augment.STRESSES):
        keys = [key for key, source in sources.items() if source[1] == number]
        if keys:
            plain = average_precision(np.sum([counts[f"{sources[key][0]}-00"] for key in keys], axis=0))
            changed = average_precision(np.sum([counts[key] for key in keys], axis=0))
            rows.append(
                {
                    "change": name,
                    "images": len(keys),
                    "ap_50": round(float(changed), 4),
                    "loss": round(float(plain - changed), 4),
                }
            )
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    with replacing(Path(out_dir) / "stress.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def print_stress(rows):
    """The table of the stress test, and its worst and mean loss."""
    print_columns(
        ("change", "images", "AP50", "loss"),
        [(r["change"], str(r["images"]), as_text(r["ap_50"]), as_text(r["loss"])) for r in rows],
    )
    losses = [row["loss"] for row in rows[1:]]
    print(f"AP at IoU 0.5, pooled. Worst loss {max(losses):.3f}, mean loss {np.mean(losses):.3f}.")


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
    parser.add_argument(
        "--stress",
        action="store_true",
        help=f"score a model on changed images: PRED is then their folder ({RAW_DIR}), stress.csv goes to {PREDICTIONS_DIR}",
    )
    parser.add_argument("--model", metavar="FILE", help="model of --stress (that of predict.py)")
    args = parser.parse_args(argv)
    if args.model and not args.stress:
        parser.error("--model belongs to --stress; predictions are scored as they lie in PRED")

    stems = None
    if args.split:
        split = read_split(args.split)
        stems = {stem for stem, subset in split.items() if subset == args.subset}
        if not stems:
            raise ValueError(
                f"{args.split}: no image is {args.subset!r}; found {', '.join(sorted(set(split.values())))}. "
                "Choose one of them with --subset."
            )
    if args.stress:
        raw_dir = Path(RAW_DIR if args.predictions == PREDICTIONS_DIR else args.predictions)
        out_dir = Path(args.out) if args.out else Path(PREDICTIONS_DIR)
        print_stress(run_stress(raw_dir, args.truth, out_dir, args.model, stems))
        print(f"Wrote {out_dir / 'stress.csv'}.")
        return 0
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
