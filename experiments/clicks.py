"""How many corrections until a model is right: the loop of app.py, played by a program.

    python -m experiments.clicks RAW TRUTH --split split.csv --num 20 --budget 100 --out clicks

The program knows the truth and corrects as a user would. The first `--num` images marked `train`
are the user's new images; those marked `validation` judge. A model predicts the new images. The
user cuts one field from the middle of each, in the order of the page, the most uncertain first, and
corrects it, until the budget of corrections is spent. train.py learns from the fields that are
right then (--init, as the app starts it). For comparison it learns from the truth of all new
images, too. With `--field 0` whole images are corrected.

    clicks/fields.csv       corrections of each field, by kind
    clicks/scores.csv       AP@0.5, mAP, Dice and minutes: the first model, corrected, all

One correction is one edit of the page: deleting what a box selects, drawing, one cut of a split, a
merge, or moving an edge. A nucleus that overlaps its true one with an IoU of 0.7 or more looks
right, and stays as it is.
"""

import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects

from nuclei.app.comparing import scores_of, tally_model
from nuclei.app.held_out import divide, write_split
from nuclei.app.training_process import LOG, TrainingProcess
from nuclei.cli import (
    MODEL_HELP,
    SHIPPED,
    add_overwrite_flag,
    command_line,
    positive,
    user_errors_in_one_line,
)
from nuclei.datasets.pairs import find_pairs
from nuclei.datasets.split import read_split
from nuclei.images.labels import without_gaps
from nuclei.images.reading import open_image
from nuclei.images.writing import write_labels, write_png
from nuclei.inference.engines import load_model
from nuclei.inference.find import Options, find_nuclei
from nuclei.instances.matching import match, matched_pairs
from nuclei.model_file import find_model
from nuclei.progress import Progress
from nuclei.results.image import is_out_of_distribution, measure_nuclei
from nuclei.results.tables import write_table
from nuclei.training.recipe import Recipe
from nuclei.truth.masks import read_truth
from nuclei.written import recording

LOOKS_RIGHT = 0.7  # IoU with the true nucleus from which a user leaves an outline as it is
LOOKS_ALIKE = 0.3  # IoU from which he moves the edge, and does not delete and draw
KINDS = ("delete", "draw", "split", "merge", "edge")


def corrections(truth: np.ndarray, predicted: np.ndarray) -> tuple[Counter, np.ndarray]:
    """The edits that a user needs, and the labels after them.

    Args:
        truth, predicted: (H, W) int labels.

    Returns:
        (number of edits by KINDS, (H, W) int32 labels): nuclei that look right have their predicted
        pixels, all others their true ones.
    """
    matching, counts = match(truth, predicted), Counter()
    right = matched_pairs(matching, LOOKS_RIGHT)
    right_truth, right_predicted = matching.truth_ids[right], matching.predicted_ids[right]
    left = ~np.isin(matching.truth_ids, right_truth) & ~np.isin(
        matching.predicted_ids, right_predicted
    )
    truths, others = matching.truth_ids[left], matching.predicted_ids[left]
    shared, iou = matching.intersections[left], matching.iou[left]
    inside = 2 * shared > matching.truth_areas[truths]  # most of a true nucleus lies in this one
    pieces = 2 * shared > matching.predicted_areas[others]
    done_truth, done_predicted = {*right_truth.tolist()}, {*right_predicted.tolist()}

    def do(kind, number, true_ids, predicted_ids):
        counts[kind] += number
        done_truth.update(np.atleast_1d(true_ids).tolist())
        done_predicted.update(np.atleast_1d(predicted_ids).tolist())

    for index in np.unique(others):
        held = truths[inside & (others == index)]
        if len(held) > 1:
            do("split", len(held) - 1, held, index)
    for index in np.unique(truths):
        parts = others[pieces & (truths == index)]
        parts = parts[~np.isin(parts, list(done_predicted))]
        if len(parts) > 1 and index not in done_truth:
            do("merge", 1, index, parts)
    for place in np.argsort(-iou):
        is_free = truths[place] not in done_truth and others[place] not in done_predicted
        if is_free and iou[place] >= LOOKS_ALIKE:
            do("edge", 1, truths[place], others[place])
    present = lambda areas: set(np.flatnonzero(areas[1:]) + 1)
    boxes = dict(enumerate(find_objects(predicted), start=1))
    wrong = [
        boxes.pop(index) for index in sorted(present(matching.predicted_areas) - done_predicted)
    ]
    counts["delete"] += count_selections(wrong, [box for box in boxes.values() if box])
    counts["draw"] += len(present(matching.truth_areas) - done_truth)
    drawn = np.where(np.isin(truth, right_truth), 0, truth)
    kept = np.where(np.isin(predicted, right_predicted), predicted + truth.max(), 0)
    return counts, without_gaps(np.where(kept > 0, kept, drawn))


def count_selections(wrong: list, others: list) -> int:
    """How many boxes a user drags to select the nuclei that are wrong, and no other ones.

    Args:
        wrong, others: the bounding boxes of nuclei, as pairs of slices.

    Returns:
        A number of boxes that suffices: each grows to the nearest wrong nucleus while it can.
    """
    left = [edges(box) for box in wrong]
    obstacles = np.array([edges(box) for box in others]).reshape(-1, 4)
    number = 0
    while left:
        box, number = left.pop(0), number + 1
        for other in sorted(left, key=lambda other: np.abs(other - box).sum()):
            union = np.concatenate([np.minimum(box, other)[:2], np.maximum(box, other)[2:]])
            if not reaches(union, obstacles).any():
                box = union
        left = [other for other in left if not reaches(box, other[None]).all()]
    return number


def edges(box: tuple[slice, slice]) -> np.ndarray:
    """Top, left, bottom and right of a box."""
    return np.array([box[0].start, box[1].start, box[0].stop, box[1].stop])


def reaches(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether a box (4,) overlaps with each of others (n, 4): (n,) bool."""
    return ((others[:, :2] < box[2:]) & (others[:, 2:] > box[:2])).all(axis=1)


def middle(shape: tuple[int, int], side: int) -> tuple[slice, slice]:
    """The square of this side in the middle of an image (H, W); all of it for a side of 0."""
    starts = [max(0, (length - side) // 2) if side else 0 for length in shape]
    return tuple(slice(start, start + side if side else None) for start in starts)


def predict_all(pairs: dict, model_path: Path, field_px: int) -> pd.DataFrame:
    """Correct the field of each image: one row each, in the order of the page."""
    model, rows = load_model(model_path), []
    with Progress("Predicting", len(pairs), "images", log=True) as progress:
        for stem, (image_path, truth_path) in pairs.items():
            file = open_image(image_path)
            truth = read_truth(truth_path, file.image.shape[:2], stem=stem).labels
            found = find_nuclei(file.image, model, Options(mpp=file.mpp))
            field = middle(truth.shape, field_px)
            counts, labels = corrections(*map(without_gaps, (truth[field], found.labels[field])))
            numbers, num_nuclei = {kind: counts[kind] for kind in KINDS}, int(labels.max())
            row = {"stem": stem, "nuclei": num_nuclei, "uncertainty": found.uncertainty}
            nuclei = measure_nuclei(found, model)
            is_flagged = bool(is_out_of_distribution(found, nuclei, model))
            row |= {"flagged": is_flagged, **numbers, "corrections": counts.total()}
            whole = {"image": file.image, "truth": truth}
            rows.append(row | whole | {"field": file.image[field], "labels": labels})
            progress.add(1)
    table = pd.DataFrame(rows)
    return table.sort_values(["flagged", "uncertainty"], ascending=False, ignore_index=True)


def within(table: pd.DataFrame, budget: int) -> np.ndarray:
    """Which fields the user finishes, in their order, before the budget is spent; as bool."""
    chosen, spent = [], 0
    for number in table["corrections"]:
        chosen.append(spent + number <= budget)
        spent += number * chosen[-1]
    return np.array(chosen, bool)


def learn(home: Path, rows: pd.DataFrame, columns: tuple, model: Path, epochs: int) -> tuple:
    """Write a set of the images and labels in two columns and teach a model.

    Returns:
        (model file, minutes).
    """
    for stem, image, labels in zip(rows["stem"], *(rows[name] for name in columns), strict=True):
        write_png(home / "raw" / f"{stem}.png", image)
        write_labels(home / "gt", stem, labels)
    out = home / "runs"
    write_split(out / "split.csv", divide(sorted(rows["stem"])))
    started = time.monotonic()
    process = TrainingProcess(home, model, out, out / "split.csv", epochs)
    if process.process.wait():
        raise ValueError(f"the training failed, see {out / LOG}: {process.last_words()}")
    return process.model, (time.monotonic() - started) / 60


def parse_arguments(argv):
    """Read the command line."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("raw", metavar="RAW", help="folder of the images")
    add("truth", metavar="TRUTH", help="folder of their ground truth")
    add("--split", required=True, metavar="CSV", help="table with the columns stem and split")
    add("--model", default=SHIPPED, help=f"{MODEL_HELP} (default {SHIPPED})")
    add("--num", type=positive, default=20, help="number of new images (default %(default)s)")
    add("--budget", type=positive, default=100, help="corrections at most (default %(default)s)")
    add("--field", type=int, default=256, help="side of a field in px (default %(default)s)")
    add("--epochs", type=positive, default=Recipe.epochs, help="per training (default %(default)s)")
    add("--out", type=Path, default=Path("clicks"), help="folder of results (default %(default)s)")
    add_overwrite_flag(add)
    return parser.parse_args(argv)


@user_errors_in_one_line
def main(argv=None):
    """Play the user in a folder of results. Returns: the exit status."""
    args = parse_arguments(argv)
    with recording(args.out, args.overwrite, [args.split]) as record:
        for name in ("fields.csv", "scores.csv"):
            record.require(args.out / name)  # before the work
        play(args)
    return 0


def play(args):
    """Play the user, and compare what the model has learned."""
    pairs, split, model = find_pairs(args.raw, args.truth), read_split(args.split), args.model
    model = find_model(model)
    new = {stem: pair for stem, pair in pairs.items() if split.get(stem) == "train"}
    judges = {stem: pair for stem, pair in pairs.items() if split.get(stem) == "validation"}
    table = predict_all(dict(list(new.items())[: args.num]), model, args.field)
    table["corrected"] = within(table, args.budget)
    chosen = table[table["corrected"]]
    if not len(chosen):
        raise ValueError(f"no field is finished with {args.budget} corrections; give --budget more")
    pixels = ["image", "truth", "field", "labels"]
    write_table(args.out / "fields.csv", table.drop(columns=pixels))
    number = int(chosen["corrections"].sum())
    print(f"{len(chosen)} of {len(table)} fields are right after {number} corrections")
    models = {"first": (model, 0.0, 0)}
    path, minutes = learn(args.out / "corrected", chosen, ("field", "labels"), model, args.epochs)
    models["corrected"] = (path, minutes, number)
    path, minutes = learn(args.out / "all", table, ("image", "truth"), model, args.epochs)
    models["all"] = (path, minutes, "")
    rows = []
    for name, (path, minutes, number) in models.items():
        scores = scores_of(list(tally_model(path, judges, print).values()))
        rows.append({"model": name, **scores, "corrections": number, "minutes": round(minutes, 1)})
    scores = pd.DataFrame(rows)
    write_table(args.out / "scores.csv", scores)
    print(scores.to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
