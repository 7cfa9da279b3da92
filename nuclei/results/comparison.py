"""Two folders of masks compared: files paired by stem, nuclei matched, and notes for the user.

    pairs, notes = pair_masks("predictions/labels", "data/test_gt")
    comparisons, more_notes, unreadable = compare_pairs(pairs)
    comparisons["image_1"].sums    # for nuclei.scores

Masks may have any form that `read_truth` reads. Where a form limits what the scores mean, a note
says so. A missing prediction stops the comparison, unless the user allows it. A pair that cannot be
read is left out and named.
"""

import csv
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.csv_cells import plain
from nuclei.datasets.pairs import find_truths
from nuclei.files import fault_of, named, reading_own_table
from nuclei.images.folder import find_images
from nuclei.images.reading import IMAGE_SUFFIXES, read_stored
from nuclei.images.stems import stem_of
from nuclei.instances.confidence import expected_calibration_error
from nuclei.instances.matching import match, matched_pairs
from nuclei.progress import Progress
from nuclei.scores import tally
from nuclei.truth.forms import BINARY, BINARY_LOSSY, FEW_VALUES, INSTANCES, Truth
from nuclei.truth.masks import read_truth


class Comparison(NamedTuple):
    """What one pair of masks comes to."""

    sums: dict  # as `tally` gives them
    ids: np.ndarray  # (n,) ascending: the predicted nuclei, as their file calls them
    is_right: np.ndarray  # (n,) bool: those that match a true one at IoU 0.5
    is_scored: np.ndarray  # (n,) bool: those that do not lie in void, where nobody knows the truth


def pair_masks(predicted_dir, truth_dir, stems=None, allow_missing=False):
    """Pair predicted masks with true ones by stem.

    Args:
        predicted_dir, truth_dir: folders of masks.
        stems: the stems to score; None for all that have a truth.
        allow_missing: leave out images without a prediction instead of stopping.

    Returns:
        dict, stem → (predicted file, truth file), and a list of notes for the user.

    Raises:
        FileNotFoundError, ValueError: no masks, a folder compared with itself, no stem in common,
            no prediction for some of the images.
    """
    predicted_files = find_images(predicted_dir)
    truth_files = find_truths(truth_dir, predicted_files)
    if os.path.samefile(predicted_dir, truth_dir):
        raise ValueError(
            f"{predicted_dir} and {truth_dir} are the same folder, and would score 1. "
            "Expected predictions and truth in two folders."
        )
    notes = []
    if stems is not None:
        if missing := set(stems) - set(truth_files):
            notes.append(
                f"No truth for {len(missing)} images of the subset, left out: "
                f"{named(sorted(missing))}."
            )
        truth_files = {stem: path for stem, path in truth_files.items() if stem in stems}
    elif extra := set(predicted_files) - set(truth_files):
        notes.append(f"No truth for {len(extra)} predictions, not scored: {named(sorted(extra))}.")
    shared = [stem for stem in truth_files if stem in predicted_files]
    if not shared:
        raise ValueError(
            f"{predicted_dir} and {truth_dir} have no stem in common among the images to score: "
            f"the first has {named(predicted_files)}, the second {named(truth_files) or 'none'}. "
            "A prediction has the name of its truth, apart from the ending."
        )
    if missing := set(truth_files) - set(shared):
        message = (
            f"No prediction in {predicted_dir} for {len(missing)} of {len(truth_files)} images"
        )
        if not allow_missing:
            raise ValueError(
                f"{message}: {named(sorted(missing))}. Predict them, or leave them out of the "
                "scores with --allow-missing."
            )
        notes.append(f"{message}, left out: {named(sorted(missing))}.")
    return {stem: (predicted_files[stem], truth_files[stem]) for stem in shared}, notes


def read_prediction(path):
    """Read a predicted mask: ids of 16 bits or more count as they stand.

    A program writes them, so a nucleus in two pieces is one nucleus. Masks of 8 bits are understood
    by what they hold, like truth.

    Returns:
        (truth, ids): a `Truth`, and (n,) ascending, what the file calls its nuclei 1...n.

    Raises:
        OSError, ValueError: the file cannot be read.
    """
    pixels = read_stored(path).pixels
    if pixels.ndim == 2 and pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 1:
        ids, labels = np.unique(pixels, return_inverse=True)
        if ids[0] == 0 and ids[1:].tolist() not in ([], [255], [65535]):
            labels = labels.reshape(pixels.shape).astype(np.int32)
            return Truth(labels, INSTANCES), ids[1:]
    truth = read_truth(path)
    return truth, np.arange(1, truth.labels.max() + 1)


def read_masks(predicted_path, truth_path, ignore=()):
    """Read one pair of masks.

    Args:
        predicted_path, truth_path: their files.
        ignore: values of void in the true one.

    Returns:
        (predicted, truth, ids): two of `Truth`, and the ids of `read_prediction`.

    Raises:
        OSError, ValueError: a file cannot be read.
    """
    predicted, ids = read_prediction(predicted_path)
    stem = stem_of(Path(predicted_path), IMAGE_SUFFIXES)
    shape = predicted.labels.shape  # outlines hold no size
    return predicted, read_truth(truth_path, shape, ignore, stem), ids


def refuse_one_file(predicted_path, truth_path):
    """Raise ValueError where a prediction is its own truth."""
    if os.path.samefile(predicted_path, truth_path):
        raise ValueError(
            f"{predicted_path} and {truth_path} are one file: expected a prediction and its truth."
        )


def refuse_other_sizes(paths, masks):
    """Raise ValueError where a prediction and its truth differ in size."""
    predicted, truth = (mask.labels.shape for mask in masks)
    if predicted != truth:
        sizes = ["{1}×{0} px".format(*shape) for shape in (predicted, truth)]
        raise ValueError(
            f"{paths[0]} has {sizes[0]} and its truth {paths[1]} has {sizes[1]}: expected "
            "equal sizes. Predict at the size of the image."
        )


def compare(predicted, truth, ids):
    """The `Comparison` of two `Truth` of equal size; `ids` as of `read_prediction`."""
    matching = match(truth.labels, predicted.labels, truth.void)
    right = matching.predicted_ids[matched_pairs(matching)]
    is_right = np.isin(np.arange(1, predicted.labels.max() + 1), right)
    return Comparison(tally(matching), ids, is_right, matching.predicted_areas[1:] > 0)


def compare_pairs(pairs, ignore=()):
    """Read and compare every pair of masks.

    Args:
        pairs: dict, stem → (predicted file, truth file).
        ignore: values of void in the true masks, as for `read_truth`.

    Returns:
        dict, stem → Comparison; a list of notes for the user; a line for each pair that cannot be
        read, has two sizes, or is one file.

    Raises:
        ValueError: no pair can be compared.
    """
    comparisons, unreadable, incomplete, num_void = {}, [], [], 0
    forms = {"predicted": Counter(), "true": Counter()}
    with Progress("Comparing", len(pairs), "pairs", log=True) as progress:
        for stem, paths in pairs.items():
            progress.add(1)
            try:
                refuse_one_file(*paths)
                *masks, ids = read_masks(*paths, ignore)
                refuse_other_sizes(paths, masks)
            except (OSError, ValueError) as error:
                unreadable.append(fault_of(error))
                progress.say(f"skipped: {unreadable[-1]}")
                continue
            for side, mask in zip(forms, masks, strict=True):
                # A label image of a single nucleus looks binary, but it loses nothing.
                forms[side][mask.form] += mask.labels.max() > 1
            if masks[1].left_out:
                incomplete.append(f"{Path(paths[1]).name}: {masks[1].left_out}")
            num_void += masks[1].void is not None
            comparisons[stem] = compare(*masks, ids)
    notes = []
    if num_void:
        notes.append(
            f"{num_void} of {len(comparisons)} true masks hold void, whose pixels are not scored."
        )
    if unreadable:
        message = f"{len(unreadable)} of {len(pairs)} pairs cannot be compared: {named(unreadable)}"
        if not comparisons:
            raise ValueError(f"{message}. Repair them.")
        notes.append(f"{message}; left out.")
    if incomplete:
        notes.append(f"Left out of {len(incomplete)} files of truth: {named(incomplete)}.")
    return comparisons, notes + notes_on_forms(forms, len(comparisons)), unreadable


def notes_on_forms(forms, num_images):
    """Sentences on masks whose form limits what the scores mean.

    Args:
        forms: dict, "predicted" and "true" → Counter of the forms of the masks.
        num_images: number of pairs.
    """
    notes = []
    for side, count in forms.items():
        lossy = count[BINARY_LOSSY]
        masks = f"of {num_images} {side} masks are"
        if binary := count[BINARY] + lossy:
            notes.append(f"{binary} {masks} binary: touching nuclei count as one in them.")
        if few := count[FEW_VALUES]:
            notes.append(
                f"{few} {masks} of few values: touching nuclei of one value count as one in them."
            )
        if lossy:
            notes.append(f"{lossy} {masks} lossy JPEG, thresholded: their edges are not exact.")
    return notes


def score_confidence(comparisons, nuclei_csv):
    """Compare the confidence that predict.py wrote for each nucleus with the share of right ones.

    Args:
        comparisons: dict, stem → Comparison.
        nuclei_csv: table with columns image, id, confidence.

    Returns:
        (error, bins) as `expected_calibration_error`, at IoU 0.5; None without such a table or
        column.

    Raises:
        ValueError: the table is damaged.
    """
    if not nuclei_csv.is_file():
        return None
    confidences, hits = [], []
    with reading_own_table(nuclei_csv), open(nuclei_csv, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"image", "id", "confidence"} <= set(reader.fieldnames or ()):
            return None
        for row in reader:
            stem = plain(row["image"])
            if stem not in comparisons or not row["confidence"]:
                continue
            _, ids, is_right, is_scored = comparisons[stem]
            index = int(np.searchsorted(ids, int(row["id"])))
            if index < len(ids) and ids[index] == int(row["id"]) and is_scored[index]:
                confidences.append(float(row["confidence"]))
                if not 0 <= confidences[-1] <= 1:
                    raise ValueError(f"a confidence of {confidences[-1]}; expected 0 to 1")
                hits.append(is_right[index])
    return expected_calibration_error(np.array(confidences), np.array(hits)) if hits else None
