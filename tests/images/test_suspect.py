"""Truth that does not fit its image is named, by the check and by training, and by --compare."""

import numpy as np
import pytest
from images_tools import discs, fluorescence, save, tissue
from PIL import Image
from truth_tools import LABELS

import import_data
from nuclei.images.agreement import Agreement
from nuclei.images.labels import BINARY, INSTANCES, Truth, components
from nuclei.images.suspect import ELSEWHERE, SWAPPED, suspicion

DARK = np.dstack([fluorescence(LABELS)] * 3)
KINDS = pytest.mark.parametrize("image", [DARK, tissue(LABELS)], ids=["fluorescence", "tissue"])


@KINDS
def test_swapped_and_moved_truth_is_told_from_right_truth(image):
    assert suspicion(image, LABELS) == ""
    assert suspicion(image, components(LABELS == 0)) == SWAPPED
    for moved in ((20, 20), (-20, 22), (20, 0)):  # half of the grid that the discs lie on
        moved = np.roll(LABELS, moved, (0, 1))
        assert suspicion(image, moved) == ELSEWHERE
    assert suspicion(image, np.zeros_like(LABELS)) == ""
    void = LABELS == 0
    assert suspicion(image, LABELS, void) == ""  # nothing is left to compare with


def test_a_dark_field_of_dark_nuclei_is_not_called_swapped():
    image = np.dstack([np.where(LABELS > 0, 20, 60).astype(np.uint8)] * 3)
    assert suspicion(image, LABELS) == ""


def test_the_check_and_training_name_suspect_truth(tmp_path, capsys):
    for index in range(3):
        labels = discs(160, 160, count=16, radius=8, seed=index)
        save(tmp_path / "raw" / f"{index}.png", fluorescence(labels))
        save(tmp_path / "gt" / f"{index}.png", labels.astype(np.uint8))
    palette = Image.fromarray((discs(160, 160, count=16, radius=8) > 0).astype(np.uint8))
    palette.putpalette([255] * 3 + [0] * 3)
    palette.save(tmp_path / "gt" / "0.png")
    classes = np.r_[0, 1 + np.arange(16) % 2].astype(np.uint8)
    save(tmp_path / "gt" / "1.png", classes[discs(160, 160, count=16, radius=8, seed=1)])
    save(tmp_path / "gt" / "2.png", np.roll(labels, (20, 20), (0, 1)).astype("u1"))
    assert import_data.main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"1 {SWAPPED}:\n    0.png" in text and f"1 {ELSEWHERE}:\n    2.png" in text
    assert "Values of 1 truths (1.png): 0 background; 1, 2 nuclei" in text
    assert "Truth of few values in 1 pairs" in text

    from nuclei.training.samples import load_samples

    lines = []
    load_samples(tmp_path / "raw", tmp_path / "gt", lines.append, tmp_path)
    assert f"Suspect: 1 {SWAPPED}: 0.png" in lines and f"Suspect: 1 {ELSEWHERE}: 2.png" in lines
    assert any(line.startswith("Values of 1 truths (1.png)") for line in lines)


def test_void_is_said_by_the_check(tmp_path, capsys):
    for index in range(2):
        labels = discs(seed=index)
        truth = (labels > 0).astype(np.uint8)
        truth[:20, :20] = 7
        save(tmp_path / "raw" / f"{index}.png", fluorescence(labels))
        save(tmp_path / "gt" / f"{index}.png", truth)
    assert import_data.main([str(tmp_path), "--ignore", "7"]) == 0
    assert "Values of 2 truths (0.png, 1.png): 0 background; 1 nuclei; 7 void." in (
        capsys.readouterr().out
    )


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
    agreement.add("d.png", DARK, Truth(np.zeros_like(SQUARE), "empty", void=void))
    lines = agreement.lines()
    assert len(lines) == 4 and "3 pairs, 3 to look at" in lines[0]
    assert any("a.png" in line and ("b.png" in line or "moved" in line) for line in lines[1:])
    assert any("c.png" in line and "low agreement" in line for line in lines[1:])
    assert "nothing to compare" in Agreement(None).lines()[0]


def test_the_script_compares_with_a_model_file(tmp_path, capsys):
    from blob_model import write_blob_model

    model = write_blob_model(tmp_path / "model.h5")
    for index in range(3):
        labels = discs(128, 128, count=9, radius=9, seed=index)
        save(tmp_path / "raw" / f"{index}.png", fluorescence(labels, light=200))
        save(tmp_path / "gt" / f"{index}.png", (labels[::-1] if index else labels).astype("u1"))
    assert import_data.main([str(tmp_path), "--compare", "--model", str(model)]) == 0
    text = capsys.readouterr().out
    assert "3 pairs, 2 to look at" in text and text.count("mirrored top to bottom") == 2
