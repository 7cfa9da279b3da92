"""Scores: cases done by hand, empty images, pooling, intervals."""

import numpy as np
import pytest
from matching_tools import dense_iou, discs, random_pair

from nuclei.instances.matching import match, one_to_one
from nuclei.results.evaluation import TABLE
from nuclei.scores import COUNTS, DEFINITIONS, as_columns, score, summarise, tally


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
    scores = scores_of(
        [[1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 0, 0]], [[1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2]]
    )
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
        predicted_areas = np.array(
            [(predicted == label).sum() for label in np.unique(predicted) if label]
        )
        # No definition says which of two equally good partners counts: check the chosen.
        matching = match(truth, predicted)
        chosen = one_to_one(matching, matching.iou)
        rows = np.searchsorted(np.unique(truth[truth > 0]), matching.truth_ids[chosen])
        columns = np.searchsorted(
            np.unique(predicted[predicted > 0]), matching.predicted_ids[chosen]
        )
        cases = [("aji_plus", rows, columns)]
        if (np.sum(iou == iou.max(axis=1, keepdims=True), axis=1) == 1).all():
            with_partner = np.flatnonzero(iou.max(axis=1) > 0)
            cases.append(("aji", with_partner, iou.argmax(axis=1)[with_partner]))
        for name, rows, columns in cases:
            denominator = union[rows, columns].sum()
            denominator += (
                np.delete(truth_areas, rows).sum()
                + np.delete(predicted_areas, np.unique(columns)).sum()
            )
            assert scores_of(truth, predicted)[name] == pytest.approx(
                shared[rows, columns].sum() / denominator
            )
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
    assert set(TABLE) <= names
