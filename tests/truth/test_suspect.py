"""Truth that does not fit its image is named, by the check and by training, and by --compare."""

import numpy as np
import pytest
from images_tools import discs, fluorescence, save, tissue
from PIL import Image
from truth_tools import LABELS

import import_data
from nuclei.images.labels import components
from nuclei.images.modality import nuclear_light
from nuclei.truth.suspect import CORNER, ELSEWHERE, SWAPPED, suspicion

DARK = np.dstack([fluorescence(LABELS)] * 3)
KINDS = pytest.mark.parametrize("image", [DARK, tissue(LABELS)], ids=["fluorescence", "tissue"])


@KINDS
def test_swapped_and_moved_truth_is_told_from_right_truth(image):
    assert suspicion(nuclear_light(image), LABELS) == ""
    assert suspicion(nuclear_light(image), components(LABELS == 0)) == SWAPPED
    for moved in ((20, 20), (-20, 22), (20, 0)):  # half of the grid that the discs lie on
        moved = np.roll(LABELS, moved, (0, 1))
        assert suspicion(nuclear_light(image), moved) == ELSEWHERE
    assert suspicion(nuclear_light(image), np.zeros_like(LABELS)) == ""
    void = LABELS == 0
    assert suspicion(nuclear_light(image), LABELS, void) == ""  # nothing is left to compare with


@KINDS
def test_truth_at_another_scale_is_named(image):
    small = np.zeros_like(LABELS)
    half = LABELS[::2, ::2]
    small[: half.shape[0], : half.shape[1]] = half
    assert suspicion(nuclear_light(image), small) == CORNER
    assert suspicion(nuclear_light(image), small[::-1]) != CORNER  # no mistake of scale ends there


def test_a_dark_field_of_dark_nuclei_is_not_called_swapped():
    image = np.dstack([np.where(LABELS > 0, 20, 60).astype(np.uint8)] * 3)
    assert suspicion(nuclear_light(image), LABELS) == ""


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
