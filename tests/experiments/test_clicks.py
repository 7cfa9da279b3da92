"""clicks counts the edits that lead from a prediction to the truth, and plays the loop."""

import numpy as np
import pandas as pd
import pytest
from app_tools import bright_model, drawn_labels, write_images, write_settings_only
from PIL import Image

from experiments import clicks
from nuclei.app import comparing
from nuclei.instances.matching import match, matched_pairs


def squares(*places, shape=(40, 90)):
    """Labels with a square of 12 px at each (row, column, id)."""
    labels = np.zeros(shape, np.int32)
    for row, column, index in places:
        labels[row : row + 12, column : column + 12] = index
    return labels


def counted(truth, predicted):
    counts, labels = clicks.corrections(truth, predicted)
    matching = match(truth, labels)  # whatever was wrong: afterwards each nucleus is right
    assert len(matched_pairs(matching, clicks.LOOKS_RIGHT)) == matching.num_truth
    assert matching.num_predicted == matching.num_truth
    return {kind: number for kind, number in counts.items() if number}


def test_each_mistake_costs_its_edit():
    truth = squares((2, 2, 1), (2, 14, 2), (2, 50, 3))
    assert counted(truth, truth) == {}
    assert counted(truth, squares((2, 2, 9), (2, 14, 4), (2, 51, 2))) == {}  # one px is no matter
    assert counted(truth, np.where(truth == 3, 0, truth)) == {"draw": 1}
    assert counted(np.where(truth == 3, 0, truth), truth) == {"delete": 1}
    assert counted(truth, np.where(truth == 2, 1, truth)) == {"split": 1}
    assert counted(np.where(truth == 2, 1, truth), truth) == {"merge": 1}
    assert counted(truth, squares((2, 2, 1), (2, 14, 2), (2, 55, 3))) == {"edge": 1}
    assert counted(truth, np.zeros_like(truth)) == {"draw": 3}
    assert counted(np.zeros_like(truth), truth) == {"delete": 1}  # a box around all


@pytest.mark.parametrize("seed", range(4))
def test_afterwards_every_nucleus_looks_right(seed):
    truth = clicks.without_gaps(drawn_labels(seed))
    predicted = clicks.without_gaps(drawn_labels(seed + 10))
    assert sum(counted(truth, predicted).values()) <= truth.max() + predicted.max()


def test_one_box_deletes_what_lies_together_and_spares_what_is_right():
    row = [(slice(0, 5), slice(left, left + 5)) for left in (0, 10, 20, 30)]
    assert clicks.count_selections(row, []) == 1
    assert clicks.count_selections([row[0], row[1], row[3]], [row[2]]) == 2
    assert clicks.count_selections(row[::2], row[1::2]) == 2
    assert clicks.count_selections([], row) == 0


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_at_most_as_many_as_wrong_nuclei_and_more_obstacles_need_no_fewer(seed):
    rng = np.random.default_rng(seed)
    starts = 10 * rng.permutation(100)[:30]
    boxes = [
        (slice(at // 100 * 10, at // 100 * 10 + 6), slice(at % 100, at % 100 + 6)) for at in starts
    ]
    wrong, others = boxes[:15], boxes[15:]
    assert 1 == clicks.count_selections(wrong, []) <= clicks.count_selections(wrong, others) <= 15


def test_a_field_lies_in_the_middle():
    assert np.ones((40, 60))[clicks.middle((40, 60), 20)].shape == (20, 20)
    assert np.ones((40, 10))[clicks.middle((40, 10), 20)].shape == (20, 10)
    assert np.ones((40, 60))[clicks.middle((40, 60), 0)].shape == (40, 60)


def test_the_budget_goes_to_the_first_fields_that_fit():
    table = pd.DataFrame({"corrections": [30, 90, 60, 10]})
    assert clicks.within(table, 100).tolist() == [True, False, True, True]
    assert not clicks.within(table, 5).any()


def test_the_loop_is_played_to_its_scores(tmp_path, monkeypatch, capsys):
    drawn = write_images(tmp_path / "raw", ("a", "b", "c", "d"))
    (tmp_path / "gt").mkdir()
    for stem, labels in drawn.items():
        Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "gt" / f"{stem}.png")
    model = write_settings_only(tmp_path / "model.h5")
    parts = zip("abcd", ("train", "train", "train", "validation"), strict=True)
    pd.DataFrame(parts, columns=["stem", "split"]).to_csv(tmp_path / "split.csv", index=False)
    monkeypatch.setattr(clicks, "load_model", lambda path: bright_model())
    monkeypatch.setattr(comparing, "load_model", lambda path, say: bright_model())
    learned = []

    def learn(home, rows, columns, path, epochs):
        learned.append((home.name, sorted(rows["stem"]), columns, epochs))
        return path, 1.5

    monkeypatch.setattr(clicks, "learn", learn)
    words = [tmp_path / "raw", tmp_path / "gt", "--split", tmp_path / "split.csv"]
    words += ["--model", model, "--num", 2, "--out", tmp_path / "out", "--epochs", 3]
    assert clicks.main([*map(str, words), "--budget", "1000"]) == 0
    assert learned == [(name, ["a", "b"], columns, 3) for name, columns in LEARNED]
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert scores["model"].tolist() == ["first", "corrected", "all"]
    fields = pd.read_csv(tmp_path / "out" / "fields.csv")
    assert fields["uncertainty"].is_monotonic_decreasing
    assert (fields[list(clicks.KINDS)].sum(axis=1) == fields["corrections"]).all()
    assert clicks.main([*map(str, words), "--budget", "1"]) == 1
    assert "no field is finished with 1 corrections" in capsys.readouterr().err


LEARNED = (("corrected", ("field", "labels")), ("all", ("image", "truth")))
