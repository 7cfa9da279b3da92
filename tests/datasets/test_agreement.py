"""Truth compared with what a model finds: what does not fit, and what would fit, is said."""

import json

import numpy as np
import pytest
from blob_model import write_blob_model
from images_tools import discs, fluorescence, save
from skimage.segmentation import expand_labels

import import_data
from nuclei.datasets.agreement import Agreement
from nuclei.truth.forms import BINARY, EMPTY, INSTANCES, Truth

DARK = np.zeros((200, 200, 3), np.uint8)
SQUARE = discs(200, 200, count=25, radius=9, seed=3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda labels: labels[:, ::-1], "mirrored left to right"),
        (lambda labels: labels[::-1], "mirrored top to bottom"),
        (lambda labels: labels[::-1, ::-1], "turned by 180 degrees"),
        (lambda labels: labels.T, "transposed"),
        (np.rot90, "turned right by 90 degrees"),
        (lambda labels: np.rot90(labels, -1), "turned left by 90 degrees"),
        (lambda labels: np.roll(labels, (-12, 9), (0, 1)), "moved by 12 px down and -9 px"),
        (lambda labels: (labels == 0).astype(np.int32), "black and white swapped"),
    ],
)
def test_what_would_fit_is_said(change, words):
    agreement = Agreement(lambda image: SQUARE)
    agreement.add("right.png", DARK, Truth(SQUARE, INSTANCES))
    agreement.add("wrong.png", DARK, Truth(np.ascontiguousarray(change(SQUARE)), INSTANCES))
    lines = agreement.lines()
    assert len(lines) == 2 and "2 pairs, 1 to look at" in lines[0]
    assert lines[1].startswith("    wrong.png: Dice 0.") and f"it fits when {words}" in lines[1]


def test_swapped_files_and_low_agreement_are_said():
    masks = [discs(200, 200, count=16, radius=9, seed=seed) for seed in (11, 12)]
    masks[1] = np.roll(masks[1], 25, 0)
    found = iter([masks[0], masks[1], masks[0], masks[0]])
    agreement = Agreement(lambda image: next(found))
    agreement.add("a.png", DARK, Truth(masks[1], BINARY))
    agreement.add("b.png", DARK, Truth(masks[0], BINARY))
    speck = np.zeros_like(SQUARE)
    speck[:9, :9] = 1
    agreement.add("c.png", DARK, Truth(speck, BINARY))
    void = masks[0] > 0
    agreement.add("d.png", DARK, Truth(np.zeros_like(SQUARE), EMPTY, void=void))
    lines = agreement.lines()
    assert len(lines) == 4 and "3 pairs, 3 to look at" in lines[0]
    assert any("a.png" in line and ("b.png" in line or "moved" in line) for line in lines[1:])
    assert any("c.png" in line and "low agreement" in line for line in lines[1:])
    assert "nothing to compare" in Agreement(None).lines()[0]


def test_truth_of_a_part_or_of_whole_cells_is_said():
    right = np.where(np.arange(200) < 90, SQUARE, 0)  # the columns of a part
    cells = expand_labels(SQUARE, 5)
    agreement = Agreement(lambda image: SQUARE)
    for name, labels in (("part", right), ("cells", cells), ("fine", expand_labels(SQUARE, 1))):
        agreement.add(name, DARK, Truth(labels, INSTANCES))
    messages = {suspect.truth: suspect.message for suspect in agreement.suspects()}
    assert set(messages) == {"part", "cells"}
    assert "only a part annotated" in messages["part"] and "whole cells" in messages["cells"]
    agreement = Agreement(lambda image: np.where(SQUARE < 4, SQUARE, 0))
    agreement.add("missed", DARK, Truth(SQUARE, INSTANCES))
    assert "low agreement" in agreement.lines()[1]


def test_the_script_compares_with_a_model_file(tmp_path, capsys):
    model = write_blob_model(tmp_path / "model.h5")
    for index in range(3):
        labels = discs(128, 128, count=9, radius=9, seed=index)
        save(tmp_path / "raw" / f"{index}.png", fluorescence(labels, light=200))
        save(tmp_path / "gt" / f"{index}.png", (labels[::-1] if index else labels).astype("u1"))
    record = tmp_path / "check.json"
    flags = ["--compare", "--model", str(model), "--json", str(record)]
    assert import_data.main([str(tmp_path), *flags]) == 0
    text = capsys.readouterr().out
    assert f"Model: yours, {model}" in text
    assert "3 pairs, 2 to look at" in text and text.count("mirrored top to bottom") == 2
    compared = json.loads(record.read_text())["compared"]
    assert [row["truth"] for row in compared] and all("fits" in row["message"] for row in compared)


def test_empty_truth_and_empty_predictions_are_said():
    nothing, few = np.zeros_like(SQUARE), np.zeros_like(SQUARE)
    few[:5, :5] = 1
    found = iter([few, SQUARE, nothing])
    agreement = Agreement(lambda image: next(found))
    agreement.add("a.png", DARK, Truth(nothing, EMPTY))
    agreement.add("b.png", DARK, Truth(nothing, EMPTY))
    agreement.add("c.png", DARK, Truth(SQUARE, INSTANCES))
    messages = {suspect.truth: suspect.message for suspect in agreement.suspects()}
    assert list(messages) == ["b.png", "c.png"]
    assert "truth is empty" in messages["b.png"] and "finds no nucleus" in messages["c.png"]
