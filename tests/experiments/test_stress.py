"""Changes of an image do what their names say, without chance, and each is scored."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic import draw
from training_samples import example

from experiments import stress
from experiments.stress import CHANGES, change_image

MODEL = Path(__file__).resolve().parents[2] / "Saved_Model" / "pretrained.h5"


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
@pytest.mark.parametrize("change", CHANGES)
def test_changes_keep_type_and_truth_and_change_what_they_say(kind, change):
    image, labels = example(kind)
    before = image.copy()
    changed = change_image(change, image, labels)
    np.testing.assert_array_equal(image, before)
    if (kind, change) in (("tissue", "polarity"), ("fluorescence", "stain")):
        assert changed is None
        return
    other, truth = changed
    assert other.dtype == (np.uint16 if change == "16_bit" else np.uint8) and other.shape[2] == 3
    assert truth.shape == other.shape[:2]
    if change.startswith("scale"):
        factor = 2 if change.endswith("2") else 0.5
        assert other.shape[:2] == tuple(round(length * factor) for length in labels.shape)
        assert (truth > 0).mean() == pytest.approx((labels > 0).mean(), rel=0.03)
    else:
        np.testing.assert_array_equal(truth, labels)
    if change == "unchanged":
        np.testing.assert_array_equal(other, image)
    elif change in ("brightness_x0.5", "gamma_2"):
        assert other.mean() < 0.9 * image.mean()
    elif change == "contrast_x0.5":
        assert other.std() == pytest.approx(image.std() / 2, rel=0.1)
    elif change == "polarity":
        np.testing.assert_allclose(other.astype(int) + image, 255, atol=1)
    elif change != "16_bit" and not change.startswith("scale"):
        assert np.abs(other.astype(int) - image).mean() > 0.2
    again = change_image(change, image, labels)
    np.testing.assert_array_equal(again[0], other)


def test_each_change_is_scored(tmp_path, capsys):
    for name in ("raw", "gt"):
        (tmp_path / name).mkdir()
    for kind in ("fluorescence", "tissue"):
        image, labels = draw(kind, 96, 112, num_nuclei=7, diameter=22, seed=1, touching=0)
        Image.fromarray(image).save(tmp_path / "raw" / f"{kind}.png")
        Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "gt" / f"{kind}.png")
    command = [str(tmp_path / "raw"), str(tmp_path / "gt"), "--out", str(tmp_path / "out")]
    assert stress.main([*command, "--model", str(MODEL)]) == 0
    with open(tmp_path / "out" / "stress.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["change"] for row in rows] == list(CHANGES)
    assert {row["change"]: row["images"] for row in rows}["stain"] == "1"
    assert float(rows[0]["ap_50"]) > 0.5 and float(rows[0]["loss"]) == 0
    for row in rows:
        assert 0 <= float(row["ap_50"]) <= 1
    assert "Worst loss" in capsys.readouterr().out


def test_what_is_missing_ends_in_one_line(tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    (tmp_path / "gt").mkdir()
    folders = [str(tmp_path / "raw"), str(tmp_path / "gt")]
    assert stress.main([*folders, "--model", str(tmp_path / "none.h5")]) == 1
    assert "none.h5" in capsys.readouterr().err
    image, labels = example()
    Image.fromarray(image).save(tmp_path / "raw" / "a.png")
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "gt" / "a.png")
    (tmp_path / "split.csv").write_text("stem,split\na,train\n")
    flags = ["--model", str(MODEL), "--split", str(tmp_path / "split.csv")]
    assert stress.main([*folders, *flags]) == 1
    assert "none of its images is in the chosen subset" in capsys.readouterr().err
