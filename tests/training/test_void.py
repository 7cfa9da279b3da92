"""Void teaches nothing: it is left out of the maps, the loss, the scores and the search."""

import numpy as np
from images_tools import discs, fluorescence, save
from matching_tools import write_masks
from PIL import Image
from training_samples import sample
from training_tools import run, write_data

import evaluate
from nuclei.datasets.pairs import Reading
from nuclei.instances.matching import match
from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import read_settings
from nuclei.training.batches import CropPlan, draw_crop
from nuclei.training.losses import SegmentationLoss
from nuclei.training.samples import fingerprint, load_samples
from nuclei.training.targets import UNKNOWN, targets
from nuclei.training.thresholds import choose_thresholds
from nuclei.training.validation import validation_crops
from nuclei.training.void import known_targets
from unet import HEADS

LABELS = discs(96, 96, count=9, radius=8)
VOID = np.zeros(LABELS.shape, bool)
VOID[50:, 40:] = True


def test_void_is_unknown_in_every_map_and_costs_nothing():
    truth = known_targets(LABELS, HEADS, void=VOID)
    assert (truth[VOID] == UNKNOWN).all()
    assert (truth[~VOID] == targets(LABELS, HEADS)[~VOID]).all()
    maps = np.clip(truth, 0.01, 0.99)
    losses = []
    for value in (0.1, 0.9):
        maps[VOID] = value
        losses.append(float(SegmentationLoss(HEADS)(truth[None], maps[None])))
    assert losses[0] == losses[1]


def test_void_reaches_training_and_validation_crops():
    void = np.zeros((160, 200), bool)
    void[:, :100] = True
    one = sample(void=void)
    shares = [
        np.mean(draw_crop(CropPlan([one], HEADS, 64, seed=1), step, 0)[1][..., 0] == UNKNOWN)
        for step in range(20)
    ]
    assert 0.2 < np.mean(shares) < 0.7
    truths = validation_crops([one], HEADS, 64)[1]
    assert 0.3 < np.mean(truths == UNKNOWN) < 0.7
    assert not (validation_crops([sample()], HEADS, 64)[1] == UNKNOWN).any()
    assert fingerprint({"a": one}) != fingerprint({"a": sample()})


def test_void_is_read_with_the_pairs(tmp_path):
    truth = np.where(VOID, 9, np.where(LABELS > 0, 1, 0)).astype(np.uint8)
    save(tmp_path / "raw" / "a.png", fluorescence(LABELS))
    save(tmp_path / "gt" / "a.png", truth)
    reading = Reading(ignore=(9,))
    places = (tmp_path / "raw", tmp_path / "gt")
    samples, _ = load_samples(*places, folder=tmp_path, reading=reading)
    assert (samples["a"].void == VOID).all() and not samples["a"].labels[VOID].any()


def test_nuclei_in_void_count_neither_as_right_nor_as_wrong():
    truth = np.where(VOID, 0, LABELS)
    assert match(truth, LABELS).num_predicted == 9
    matching = match(truth, LABELS, VOID)
    assert matching.num_predicted == matching.num_truth == 8
    assert len(matching.predicted_areas) == 10 and (matching.iou == 1).all()
    assert matching.truth_areas.sum() == (~VOID).sum()
    only_predicted = match(np.where(LABELS == 8, 0, truth), LABELS, VOID)
    assert only_predicted.num_predicted == 7  # most of it lies in void, the rest on background


def test_the_search_for_thresholds_leaves_void_out(monkeypatch):
    maps = np.dstack([LABELS > 0] * 3).astype(np.float32)
    maps[..., 2] = 0
    start = THRESHOLDS | {"marker_threshold": 0.3, "min_area_px": 10}
    monkeypatch.setattr("nuclei.training.thresholds.THRESHOLDS", start)
    monkeypatch.setattr("nuclei.training.thresholds.SEARCH", {"min_area_px": (10,)})
    truth = np.where(VOID, 0, LABELS)
    assert choose_thresholds([maps], [truth])[1] < 0.95
    assert choose_thresholds([maps], [truth], voids=[VOID])[1] > 0.95


def test_evaluate_leaves_void_out_and_says_so(tmp_path, capsys):
    write_masks(tmp_path / "labels", {"a": LABELS})
    write_masks(tmp_path / "truth", {"a": np.where(VOID, 40, LABELS)})
    arguments = [str(tmp_path / "labels"), str(tmp_path / "truth")]
    rows = []
    for ignore in ((), ("--ignore", "40")):
        assert evaluate.main([*arguments, *ignore]) == 0
        rows.append((tmp_path / "labels" / "evaluation.csv").read_text().splitlines())
        (tmp_path / "labels" / "evaluation.csv").unlink()
        (tmp_path / "labels" / "evaluation.json").unlink()
    names = rows[0][0].split(",")
    before, after = (float(row[1].split(",")[names.index("ap_95")]) for row in rows)
    assert before < 0.9 and after == 1
    assert "1 of 1 true masks hold void" in capsys.readouterr().out


def test_a_training_takes_void_from_the_flag(tmp_path, capsys):
    data = write_data(tmp_path / "data", 2)
    for path in (data / "gt").glob("*.png"):
        truth = np.array(Image.open(path))
        truth[:, 40:] = 300
        Image.fromarray(truth).save(path)
    assert run(data, tmp_path / "out", "--epochs", 1, "--ignore", 300) == 0
    assert "Values of 4 truths" in (text := capsys.readouterr().out) and "300 void" in text
    assert read_settings(tmp_path / "out" / "trained_model.h5")["arguments"]["ignore"] == [300]
