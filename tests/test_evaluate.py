"""Comparing two labellings (instances.py), scoring folders (evaluate.py), and the baseline without learning."""

import csv
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import linear_sum_assignment
from synthetic import draw

import evaluate
from experiments.stress import STRESSES
from nuclei.instances.matching import (
    IOU_THRESHOLDS,
    average_precision,
    count_matches,
    match,
    matched_pairs,
    merges_and_splits,
    one_to_one,
)
from nuclei.scores import COUNTS, DEFINITIONS, as_columns, score, summarise, tally

ROOT = Path(evaluate.__file__).resolve().parent
MANY_THRESHOLDS = (1e-9, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.4, *IOU_THRESHOLDS, 1.0)


def discs(shape, centres, radius):
    """(H, W) int32 labels: one disc per centre, later ones on top."""
    labels = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    for label, (row, column) in enumerate(centres, start=1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = label
    return labels


def random_pair(rng):
    """A random pair of label images: unrelated, disturbed, or tiny and full of exact ties."""
    kind = rng.integers(3)
    if kind == 0:
        shape = tuple(rng.integers(1, 6, 2))
        return tuple(rng.integers(0, rng.integers(1, 7), shape).astype(np.int32) for _ in range(2))
    shape = tuple(rng.integers(20, 70, 2))
    truth = discs(shape, rng.uniform(0, shape, (rng.integers(0, 25), 2)), rng.uniform(3, 9))
    if kind == 1:
        return truth, discs(shape, rng.uniform(0, shape, (rng.integers(0, 25), 2)), rng.uniform(3, 9))
    predicted = np.roll(truth, rng.integers(-2, 3, 2), axis=(0, 1))
    for label in range(1, truth.max() + 1):
        fate = rng.uniform()
        if fate < 0.15:
            predicted[predicted == label] = 0  # missed
        elif fate < 0.3:
            predicted[predicted == label] = rng.integers(1, truth.max() + 1)  # merged
        elif fate < 0.45:
            half = np.argwhere(predicted == label)[::2]
            predicted[half[:, 0], half[:, 1]] = truth.max() + label  # split
    return truth, predicted


def dense_iou(truth, predicted):
    """The full (n, m) table of intersections, unions and IoU, pixel set by pixel set."""
    truths = [truth == label for label in np.unique(truth) if label]
    predictions = [predicted == label for label in np.unique(predicted) if label]
    shape = (len(truths), len(predictions))
    shared = np.array([[(one & other).sum() for other in predictions] for one in truths], float).reshape(shape)
    union = np.array([[(one | other).sum() for other in predictions] for one in truths], float).reshape(shape)
    return shared, union, shared / np.maximum(union, 1)


# --- Comparing two labellings ---


@pytest.mark.parametrize(
    ("truth", "predicted", "threshold", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1], 1.0, (1, 0, 0)),
        ([1, 1, 1, 1], [5, 5, 5, 0], 0.75, (1, 0, 0)),  # IoU 3/4 counts at 0.75: the bound belongs to the match
        ([1, 1, 1, 1], [5, 5, 5, 0], 0.8, (0, 1, 1)),
        ([1, 1, 1, 1, 1], [2, 2, 2, 0, 0], 0.6, (1, 0, 0)),  # 3/5 counts at the float that 0.60 reads as
        ([1, 1, 1, 1], [1, 1, 2, 2], 0.5, (1, 1, 0)),  # two halves with IoU 0.5 each: one of them only
        ([1, 1, 2, 2], [1, 1, 1, 1], 0.5, (1, 0, 1)),
        ([1, 1, 1, 2, 2, 2], [3, 3, 4, 4, 3, 3], 0.2, (2, 0, 0)),  # the best pair first would leave only one
        ([0, 0, 0, 0], [1, 1, 0, 0], 0.5, (0, 1, 0)),
        ([1, 0, 2, 0], [0, 0, 0, 0], 0.5, (0, 0, 2)),
        ([0, 0], [0, 0], 0.5, (0, 0, 0)),
    ],
)
def test_counts_of_cases_done_by_hand(truth, predicted, threshold, expected):
    matching = match(np.array([truth]), np.array([predicted]))
    assert tuple(count_matches(matching, [threshold])[0]) == expected


def test_counts_equal_the_full_assignment_at_every_threshold():
    """Against the definition of stardist.matching, written out with the dense table."""
    rng = np.random.default_rng(3)
    for _ in range(150):
        truth, predicted = random_pair(rng)
        matching = match(truth, predicted)
        iou = dense_iou(truth, predicted)[2]
        assert (matching.num_truth, matching.num_predicted) == iou.shape
        assert matching.iou.sum() == pytest.approx(iou.sum())
        counts = count_matches(matching, MANY_THRESHOLDS)
        for threshold, (tp, fp, fn) in zip(MANY_THRESHOLDS, counts, strict=True):
            above = iou >= threshold
            chosen = linear_sum_assignment(-above.astype(float) - iou / (2 * max(1, min(iou.shape))))
            assert (tp, fp, fn) == (above[chosen].sum(), iou.shape[1] - tp, iou.shape[0] - tp)
            pairs = matched_pairs(matching, threshold)
            assert matching.iou[pairs].sum() == pytest.approx((iou * above)[chosen].sum())
            for ids in (matching.truth_ids[pairs], matching.predicted_ids[pairs]):
                assert len(set(ids)) == len(ids)


def test_counts_agree_with_stardist():
    """The package itself, where it is installed: it is no dependency of this project."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stardist = pytest.importorskip("stardist.matching", reason="stardist is not installed: comparison left out")
    rng = np.random.default_rng(4)
    pairs = [random_pair(rng) for _ in range(100)]
    counts = []
    for truth, predicted in pairs:
        matching = match(truth, predicted)
        theirs = stardist.matching(truth, predicted, thresh=MANY_THRESHOLDS)
        ours = count_matches(matching, MANY_THRESHOLDS)
        assert [(row.tp, row.fp, row.fn) for row in theirs] == [tuple(row) for row in ours]
        for row in theirs:
            shared = matching.iou[matched_pairs(matching, row.thresh)].sum()
            assert shared == pytest.approx(row.mean_matched_score * row.tp)
        counts.append(count_matches(matching))
    pooled = stardist.matching_dataset(*zip(*pairs, strict=True), thresh=IOU_THRESHOLDS, show_progress=False)
    assert average_precision(np.sum(counts, axis=0)) == pytest.approx([row.accuracy for row in pooled])
    ours = summarise([tally(match(*pair)) for pair in pairs])["pooled"]
    for name, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1"), ("pq", "panoptic_quality")):
        assert ours[name]["value"] == pytest.approx(getattr(pooled[0], theirs))


def test_one_to_one_weighs_as_much_as_the_full_assignment():
    rng = np.random.default_rng(5)
    for _ in range(100):
        matching = match(*random_pair(rng))
        weights = rng.uniform(0.01, 1, len(matching.iou))
        table = np.zeros((len(matching.truth_areas), len(matching.predicted_areas)))
        table[matching.truth_ids, matching.predicted_ids] = weights
        best = table[linear_sum_assignment(table, maximize=True)].sum()
        assert weights[one_to_one(matching, weights)].sum() == pytest.approx(best)


def test_names_of_labels_do_not_matter_and_sides_can_be_exchanged():
    rng = np.random.default_rng(6)
    for _ in range(30):
        truth, predicted = random_pair(rng)
        counts = count_matches(match(truth, predicted), MANY_THRESHOLDS)
        renamed = np.concatenate([[0], 3 + 2 * rng.permutation(predicted.max() + 1)])[predicted]  # with gaps
        assert (count_matches(match(truth, renamed.astype(np.uint16)), MANY_THRESHOLDS) == counts).all()
        assert (count_matches(match(predicted, truth), MANY_THRESHOLDS) == counts[:, [0, 2, 1]]).all()
        assert merges_and_splits(match(truth, predicted)) == tuple(
            np.array(merges_and_splits(match(predicted, truth)))[[1, 0, 3, 2]]
        )


def test_merges_splits_misses_and_extras():
    row = np.zeros((4, 60), np.int32)
    truth, predicted = row.copy(), row.copy()
    for label in range(12):
        truth[:, 2 * label : 2 * label + 2] = label + 1
    predicted[:, :24] = 1  # a clump of twelve, none of which has an IoU above 1/12
    truth[:, 30:40] = 13
    predicted[:, 30:35], predicted[:, 35:40] = 2, 3  # torn in two
    truth[:, 42:46] = 14  # missed
    predicted[:, 50:55] = 4  # made up
    truth[:, 56:60], predicted[:, 57:60] = 15, 5  # right
    assert merges_and_splits(match(truth, predicted)) == (1, 1, 1, 1)
    assert merges_and_splits(match(truth, truth)) == (0, 0, 0, 0)


def test_average_precision_of_empty_images_is_one():
    assert average_precision([0, 0, 0]) == 1
    assert average_precision([[1, 1, 2], [0, 3, 0]]).tolist() == [0.25, 0]


def test_five_thousand_nuclei_on_four_megapixels_take_a_moment():
    rows, columns = np.indices((2000, 2000)) // 28
    truth = (rows * 72 + columns + 1).astype(np.int32)
    predicted = np.roll(truth, (4, 5), axis=(0, 1))
    start = time.perf_counter()
    sums = tally(match(truth, predicted))
    assert time.perf_counter() - start < 5  # some 0.5 s; a full table of pairs would take minutes
    assert sums["num_truth"] == 72 * 72


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "equal shapes"),
        (np.zeros((2, 2), int), np.zeros((2, 2), np.float32), "integer labels"),
        (np.full((2, 2), -1), np.zeros((2, 2), int), "label -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        match(truth, predicted)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.1])
def test_thresholds_that_mean_nothing_are_refused(threshold):
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        matched_pairs(match(np.ones((2, 2), int), np.ones((2, 2), int)), threshold)


# --- Scores ---


def scores_of(truth, predicted):
    """Scores of one image as plain floats."""
    sums = tally(match(np.asarray(truth), np.asarray(predicted)))
    return {name: values[0] for name, values in score(as_columns([sums])).items()}


def test_perfect_predictions_score_one():
    labels = discs((40, 40), [(10, 10), (10, 22), (30, 30)], 5)
    scores = scores_of(labels, labels)
    assert scores.pop("background_accuracy") == (labels == 0).mean()
    for name, value in scores.items():
        assert value == (0 if name.startswith("count_error") else 1), name


def test_scores_of_a_case_done_by_hand():
    # Truth: two nuclei of 4 px. Prediction: one finds 3 of the 4 (IoU 3/4), one lies on background.
    scores = scores_of([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 0, 0]], [[1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2]])
    expected = {
        "dice": 6 / 13, "iou": 3 / 10, "pixel_accuracy": 5 / 12, "background_accuracy": 4 / 12,
        "ap_50": 1 / 3, "ap_75": 1 / 3, "ap_80": 0, "mean_ap": 6 / 30, "f1": 1 / 2, "f1_70": 1 / 2,
        "precision": 1 / 2, "recall": 1 / 2, "aji": 3 / (4 + 4 + 2), "aji_plus": 3 / (4 + 4 + 2),
        "pq": 3 / 8, "dq": 1 / 2, "sq": 3 / 4, "count_error": 0, "count_error_relative": 0,
    }  # fmt: skip
    assert {name: scores[name] for name in expected} == pytest.approx(expected)


def test_aji_reuses_a_prediction_and_aji_plus_does_not():
    scores = scores_of([[1, 1, 1, 2, 2]], [[1, 1, 1, 1, 1]])
    assert scores["aji"] == 5 / (5 + 5)
    assert scores["aji_plus"] == 3 / (5 + 2)


def test_aji_equals_its_definition_on_random_images():
    rng = np.random.default_rng(7)
    compared = 0
    for _ in range(100):
        truth, predicted = random_pair(rng)
        shared, union, iou = dense_iou(truth, predicted)
        if 0 in iou.shape:
            continue
        truth_areas = np.array([(truth == label).sum() for label in np.unique(truth) if label])
        predicted_areas = np.array([(predicted == label).sum() for label in np.unique(predicted) if label])
        # Which of two equally good partners is taken is nowhere defined: AJI+ is checked on the pairs that were chosen.
        matching = match(truth, predicted)
        chosen = one_to_one(matching, matching.iou)
        rows = np.searchsorted(np.unique(truth[truth > 0]), matching.truth_ids[chosen])
        columns = np.searchsorted(np.unique(predicted[predicted > 0]), matching.predicted_ids[chosen])
        cases = [("aji_plus", rows, columns)]
        if (np.sum(iou == iou.max(axis=1, keepdims=True), axis=1) == 1).all():
            found = np.flatnonzero(iou.max(axis=1) > 0)
            cases.append(("aji", found, iou.argmax(axis=1)[found]))
        for name, rows, columns in cases:
            denominator = union[rows, columns].sum()
            denominator += np.delete(truth_areas, rows).sum() + np.delete(predicted_areas, np.unique(columns)).sum()
            assert scores_of(truth, predicted)[name] == pytest.approx(shared[rows, columns].sum() / denominator)
            compared += 1
    assert compared > 60


def test_empty_images():
    empty, some = np.zeros((5, 5), int), np.eye(5, dtype=int)
    both = scores_of(empty, empty)
    undefined = {name for name, value in both.items() if np.isnan(value)}
    assert undefined == {"precision", "recall", "sq", "count_error_relative"}
    assert {both[name] for name in set(both) - undefined} == {0, 1}
    assert both["mean_ap"] == both["dice"] == both["aji"] == both["aji_plus"] == both["pq"] == 1
    invented, missed = scores_of(empty, some), scores_of(some, empty)
    for name in ("dice", "iou", "mean_ap", "f1", "aji", "aji_plus", "pq", "dq"):
        assert invented[name] == missed[name] == 0
    assert invented["precision"] == 0 and np.isnan(invented["recall"])
    assert missed["recall"] == 0 and np.isnan(missed["precision"])


def test_pooled_and_mean_of_images_differ_as_they_should():
    large = np.arange(1, 10).reshape(3, 3)
    sums = [tally(match(large, large)), tally(match(np.array([[1, 0]]), np.array([[0, 1]])))]
    summary = summarise(sums)
    assert summary["pooled"]["ap_50"]["value"] == 9 / 11
    assert summary["mean_of_images"]["ap_50"]["value"] == 1 / 2
    assert summary["mean_of_images"]["mean_ap"]["value"] == 1 / 2
    assert (summary["num_images"], summary["num_truth"], summary["num_predicted"]) == (2, 10, 10)
    assert summary["mean_of_images"]["count_error_absolute"]["value"] == 0


def test_undefined_images_are_left_out_of_means():
    empty, full = np.zeros((2, 2), int), np.ones((2, 2), int)
    sums = [tally(match(empty, empty)), tally(match(full, full))]
    assert summarise(sums)["mean_of_images"]["recall"]["value"] == 1
    nothing = summarise(sums[:1] * 3)["mean_of_images"]["recall"]
    assert all(np.isnan(value) for value in nothing.values())


def test_intervals_hold_the_value_repeat_and_need_two_images():
    rng = np.random.default_rng(8)
    sums = []
    for _ in range(25):
        truth = discs((40, 40), rng.uniform(0, 40, (5, 2)), 5)
        sums.append(tally(match(truth, np.roll(truth, rng.integers(0, 4), axis=1))))
    first, second = summarise(sums), summarise(sums)
    assert first == second
    for kind in ("pooled", "mean_of_images"):
        entry = first[kind]["ap_75"]
        assert 0 <= entry["low"] < entry["value"] < entry["high"] <= 1
    # The spread of the mean of 25 images, as the formula for its standard error has it.
    values = score(as_columns(sums))["ap_75"]
    entry = first["mean_of_images"]["ap_75"]
    assert (entry["high"] - entry["low"]) / 2 == pytest.approx(1.96 * values.std() / 5, rel=0.1)
    assert np.isnan(summarise(sums[:1])["pooled"]["dice"]["low"])


def test_every_score_is_defined_in_words():
    names = set(scores_of([[1]], [[1]])) | set(COUNTS[2:])
    defined = {name for key in DEFINITIONS for name in key.split(", ")}
    assert {name for name in names if not name.startswith("ap_")} <= defined
    assert set(evaluate.TABLE) <= names


# --- Folders ---


def write_masks(folder, masks, dtype=np.uint16):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, labels in masks.items():
        Image.fromarray(labels.astype(dtype)).save(folder / f"{stem}.png")


@pytest.fixture
def folders(tmp_path):
    """Truth of four images, and a prediction folder as predict.py writes it; `d` is the worst image."""
    truth = {stem: discs((60, 70), [(15, 15), (15, 24), (40, 40), (40, 60)], 5) for stem in "abcd"}
    predicted = {stem: np.roll(labels, shift, axis=1) for shift, (stem, labels) in enumerate(truth.items())}
    write_masks(tmp_path / "truth", truth)
    write_masks(tmp_path / "predictions" / "labels", predicted)
    masks = {stem: (labels > 0) * 255 for stem, labels in truth.items()}
    write_masks(tmp_path / "predictions" / "masks", masks, np.uint8)
    table = "stem,modality,kind,split\na,bright,x,validation\nb.png,dark,x,validation\nc,dark,y,train\n"
    (tmp_path / "images.csv").write_text(table, encoding="utf-8-sig")
    return tmp_path


def run(*arguments):
    return evaluate.main([str(argument) for argument in arguments])


def result(folder):
    with open(folder / "evaluation.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def test_folders_are_scored_and_the_results_written(folders, capsys):
    assert run(folders / "predictions", folders / "truth") == 0
    rows, record = result(folders / "predictions")
    assert [row["stem"] for row in rows] == ["d", "c", "b", "a"]  # worst first
    assert [row["stem"] for row in record["images"]] == ["d", "c", "b", "a"]
    assert float(rows[-1]["mean_ap"]) == 1 and float(rows[-1]["dice"]) == 1  # from labels/, not from masks/
    dices = [float(row["dice"]) for row in rows]
    assert record["all"]["mean_of_images"]["dice"]["value"] == pytest.approx(np.mean(dices), abs=1e-5)
    assert record["groups"] == {} and record["subset"] is None and record["notes"] == []
    assert record["definitions"] == DEFINITIONS
    output = capsys.readouterr().out
    for label in evaluate.TABLE.values():
        assert label in output
    assert "4 images, 16 nuclei in the truth" in output
    assert output.splitlines()[-1].startswith("Wrote ") and "evaluation.json" in output
    assert output.index("\nd ") < output.index("\na ")
    assert not [path for path in (folders / "predictions").iterdir() if path.name.startswith(".")]


def test_groups_subset_out_and_worst(folders, capsys):
    table = folders / "images.csv"
    arguments = ("--groups", table, "--group-column", "modality", "--out", folders / "new" / "scores", "--worst", 0)
    assert run(folders / "predictions", folders / "truth", *arguments) == 0
    rows, record = result(folders / "new" / "scores")
    assert not (folders / "predictions" / "evaluation.csv").exists()
    assert {row["stem"]: row["group"] for row in rows} == {"a": "bright", "b": "dark", "c": "dark", "d": "(no group)"}
    assert {name: group["num_images"] for name, group in record["groups"].items()} == {
        "bright": 1, "dark": 2, "(no group)": 1
    }  # fmt: skip
    assert record["groups"]["bright"]["pooled"]["dice"] == {"value": 1.0, "low": None, "high": None}
    assert "worst images" not in capsys.readouterr().out
    # The table of predict.py names the stems `image`.
    (folders / "summary.csv").write_text(table.read_text().replace("stem", "image", 1))
    arguments = ("--groups", folders / "summary.csv", "--out", folders / "same")
    assert run(folders / "predictions", folders / "truth", *arguments) == 0
    assert result(folders / "same")[1]["groups"] == record["groups"]
    # The same file gives the subset; its other column the groups.
    arguments = ("--split", table, "--subset", "validation", "--groups", table, "--group-column", "kind")
    assert run(folders / "predictions", folders / "truth", *arguments) == 0
    rows, record = result(folders / "predictions")
    assert [row["stem"] for row in rows] == ["b", "a"]
    assert list(record["groups"]) == ["x"] and record["subset"]["value"] == "validation"
    (folders / "truth" / "a.png").unlink()
    assert run(folders / "predictions", folders / "truth", "--split", table) == 0  # validation is the default
    assert "No truth for 1 images of the subset, left out: a." in result(folders / "predictions")[1]["notes"][0]


def test_standard_folders_are_the_default(folders, monkeypatch):
    monkeypatch.chdir(folders)
    (folders / "data").mkdir()
    (folders / "truth").rename(folders / "data" / "test_gt")
    assert evaluate.main([]) == 0
    assert len(result(folders / "predictions")[0]) == 4


def test_binary_and_jpeg_masks_are_scored_and_named(folders, capsys):
    assert run(folders / "predictions" / "masks", folders / "truth") == 0
    rows, record = result(folders / "predictions" / "masks")
    assert {row["num_predicted"] for row in rows} == {"3"} and {row["merges"] for row in rows} == {"1"}
    assert record["all"]["pooled"]["dice"]["value"] == 1
    assert record["notes"] == ["4 of 4 predicted masks are binary: touching nuclei count as one in them."]
    (folders / "jpeg").mkdir()
    for path in (folders / "predictions" / "masks").glob("*.png"):
        Image.open(path).save(folders / "jpeg" / f"{path.stem}.jpg", quality=80)
    assert run(folders / "predictions", folders / "jpeg") == 0
    assert any("4 of 4 true masks are lossy JPEG" in note for note in result(folders / "predictions")[1]["notes"])


def test_a_label_image_of_one_nucleus_is_not_called_binary(tmp_path):
    write_masks(tmp_path / "truth", {"one": discs((30, 30), [(9, 9)], 5)})
    write_masks(tmp_path / "predicted", {"one": discs((30, 30), [(9, 9)], 4)})
    assert run(tmp_path / "predicted", tmp_path / "truth") == 0
    assert result(tmp_path / "predicted")[1]["notes"] == []


def failure(capsys, *arguments):
    """Run what must fail; return the single line that the user gets."""
    assert run(*arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("evaluate.py: ")
    return lines[0]


def test_a_folder_is_not_compared_with_itself(folders, capsys):
    truth = folders / "truth"
    os.symlink(truth, folders / "link")
    assert "same folder" in failure(capsys, truth, truth)
    assert "same folder" in failure(capsys, folders / "link", truth)
    assert "same folder" in failure(capsys, folders / "predictions" / ".." / "truth", truth)
    assert "same folder" in failure(capsys, folders / "predictions", folders / "predictions" / "labels")
    assert not list(truth.glob("evaluation*"))


def test_a_file_is_not_compared_with_itself(folders, capsys):
    (folders / "linked").mkdir()
    for path in (folders / "truth").iterdir():
        os.link(path, folders / "linked" / path.name)
    assert "one file" in failure(capsys, folders / "linked", folders / "truth")


def test_missing_predictions_are_named_or_left_out(folders, capsys):
    (folders / "predictions" / "labels" / "b.png").unlink()
    message = failure(capsys, folders / "predictions", folders / "truth")
    assert "No prediction" in message and "1 of 4 images: b." in message and "--allow-missing" in message
    assert not (folders / "predictions" / "evaluation.json").exists()
    assert run(folders / "predictions", folders / "truth", "--allow-missing") == 0
    assert "left out: b." in capsys.readouterr().out
    assert len(result(folders / "predictions")[0]) == 3


def test_predictions_without_truth_are_named(folders, capsys):
    (folders / "truth" / "b.png").unlink()
    assert run(folders / "predictions", folders / "truth") == 0
    assert "No truth for 1 predictions, not scored: b." in capsys.readouterr().out


@pytest.mark.parametrize("side", ["predictions/labels", "truth"])
def test_unreadable_masks_are_named_or_left_out(folders, capsys, side):
    (folders / side / "b.png").write_text("no picture")
    message = failure(capsys, folders / "predictions", folders / "truth")
    assert "1 of 4 pairs cannot be read" in message and "b.png" in message
    assert run(folders / "predictions", folders / "truth", "--allow-missing") == 0
    assert "b.png" in capsys.readouterr().out
    for stem in "acd":
        (folders / side / f"{stem}.png").write_bytes(b"")
    assert "4 of 4 pairs" in failure(capsys, folders / "predictions", folders / "truth", "--allow-missing")


def test_other_mistakes_end_in_one_line(folders, capsys):
    predictions, truth, table = folders / "predictions", folders / "truth", folders / "images.csv"
    assert "absent" in failure(capsys, predictions, folders / "absent")
    assert "gone.csv" in failure(capsys, predictions, truth, "--groups", folders / "gone.csv")
    message = failure(capsys, predictions, truth, "--groups", table, "--group-column", "organ")
    assert "organ" in message and "stem, modality, kind, split" in message
    (folders / "picture.csv").write_bytes(b"\xff\xd8\xff\xe0 no text")
    assert "no CSV" in failure(capsys, predictions, truth, "--groups", folders / "picture.csv")
    message = failure(capsys, predictions, truth, "--split", table, "--subset", "test")
    assert "train, validation" in message
    write_masks(folders / "others", {"other": np.ones((3, 3))})
    message = failure(capsys, folders / "others", truth)
    assert "no stem in common" in message and "other" in message
    write_masks(predictions / "labels", {"c": np.ones((3, 8))})
    message = failure(capsys, predictions, truth)
    assert "8×3 px" in message and "70×60 px" in message and "c.png" in message


def test_results_stay_whole_when_writing_fails(folders, capsys, monkeypatch):
    assert run(folders / "predictions", folders / "truth") == 0
    before = (folders / "predictions" / "evaluation.json").read_bytes()

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device", "evaluation.json")

    monkeypatch.setattr(evaluate.json, "dump", full)
    assert run(folders / "predictions", folders / "truth") == 1
    assert "disk is full" in capsys.readouterr().err
    assert (folders / "predictions" / "evaluation.json").read_bytes() == before
    assert not [path for path in (folders / "predictions").iterdir() if path.name.startswith(".")]


def test_help_opens_without_keras():
    code = "import evaluate, sys; sys.exit(bool({'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    done = subprocess.run([sys.executable, ROOT / "evaluate.py", "--help"], capture_output=True, text=True, check=True)
    assert "--allow-missing" in done.stdout


# --- The baseline without learning ---


def test_otsu_baseline_separates_discs_on_dark_and_on_light_ground(tmp_path):
    rng = np.random.default_rng(9)
    truth = discs((120, 140), [(30, 30), (30, 43), (80, 40), (90, 100), (30, 100)], 8)
    dark = 20 + 150 * (truth > 0) + rng.normal(0, 4, truth.shape)
    images = {"dark": np.repeat(dark[..., None], 3, axis=2), "blank": np.full((50, 60, 3), 9)}
    images["tissue"] = np.where(truth[..., None] > 0, (110, 60, 140), (235, 190, 215)) + rng.normal(0, 4, (120, 140, 3))
    write_masks(tmp_path / "raw", images, np.uint8)
    specks = images["dark"].copy()
    specks[truth > 0] = 20
    specks[::20, ::20] = 200  # single bright pixels are no nuclei
    write_masks(tmp_path / "raw", {"specks": specks}, np.uint8)
    write_masks(tmp_path / "truth", {"dark": truth, "tissue": truth, "blank": np.zeros((50, 60)), "specks": 0 * truth})
    script = ROOT / "tests" / "otsu_baseline.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", script, tmp_path / "raw", tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert run(tmp_path / "out", tmp_path / "truth") == 0
    record = result(tmp_path / "out")[1]
    assert {row["stem"]: row["ap_50"] for row in record["images"]} == dict.fromkeys(images, 1) | {"specks": 1}
    assert record["all"]["pooled"]["dice"]["value"] > 0.95
    done = subprocess.run([sys.executable, script, tmp_path / "gone", tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 1 and "gone" in done.stderr and "Traceback" not in done.stderr


def test_the_reliability_of_confidences_is_scored(tmp_path, capsys):
    truth = discs((80, 200), [(40, 20 + 30 * k) for k in range(6)], 8)
    predicted = np.where(truth <= 3, truth, 0)
    predicted[5:12, 5:12] = 4  # one that is wrong
    for name, labels in (("truth", truth), ("labels", predicted)):
        (tmp_path / name).mkdir()
        Image.fromarray(labels.astype(np.uint16)).save(tmp_path / name / "a.png")
    (tmp_path / "nuclei.csv").write_text("image,id,confidence\na,1,0.75\na,2,0.75\na,3,0.75\na,4,0.75\nother,1,0.1\n")
    assert evaluate.main([str(tmp_path), str(tmp_path / "truth")]) == 0
    assert "calibration error of the confidence at IoU 0.5: 0.000" in capsys.readouterr().out
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["calibration"] == {"expected_calibration_error": 0.0, "bins": [[4, 0.75, 0.75]]}
    (tmp_path / "nuclei.csv").write_text("image,id\na,1\n")
    assert evaluate.main([str(tmp_path), str(tmp_path / "truth")]) == 0
    assert "calibration" not in json.loads((tmp_path / "evaluation.json").read_text())


def test_the_stress_test_scores_each_change(tmp_path, capsys, monkeypatch):
    (tmp_path / "raw").mkdir()
    (tmp_path / "gt").mkdir()
    for kind in ("fluorescence", "tissue"):
        image, labels = draw(kind, 96, 112, num_nuclei=7, diameter=22, seed=1, touching=0)
        Image.fromarray(image).save(tmp_path / "raw" / f"{kind}.png")
        Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "gt" / f"{kind}.png")
    out = tmp_path / "out"
    model = ROOT / "Saved_Model" / "pretrained.h5"
    arguments = ["--stress", str(tmp_path / "raw"), str(tmp_path / "gt"), "--out", str(out), "--model", str(model)]
    assert evaluate.main(arguments) == 0
    with open(out / "stress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["change"] for row in rows] == list(STRESSES)
    assert {row["change"]: row["images"] for row in rows}["stain"] == "1"
    assert float(rows[0]["ap_50"]) > 0.5 and float(rows[0]["loss"]) == 0
    for row in rows:
        assert 0 <= float(row["ap_50"]) <= 1
    assert "Worst loss" in capsys.readouterr().out
    assert evaluate.main(["--stress", *arguments[1:4], str(out), "--model", str(tmp_path / "none.h5")]) == 1
    assert "predict.py failed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main(["--model", "x.h5"])
