"""The shipped weights: what they must never do, whatever training they came from. Skipped where none are shipped."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict
from nuclei.images.masks import read_truth
from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import read_settings

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "Saved_Model" / "pretrained.h5"
pytestmark = pytest.mark.skipif(not PRETRAINED.is_file(), reason="no shipped weights in Saved_Model/")


def found(folder):
    return {path.stem: read_truth(path).labels for path in sorted((folder / "labels").iterdir())}


def test_blank_images_give_no_nuclei(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for value in (0, 7, 128, 255):
        Image.fromarray(np.full((200, 260, 3), value, np.uint8)).save(folder / f"blank{value}.png")
    Image.fromarray(np.full((64, 64), 900, np.uint16)).save(folder / "deep.png")
    assert predict.main([str(folder), "--model", str(PRETRAINED), "--out", str(tmp_path / "out")]) == 0
    assert {stem: labels.max() for stem, labels in found(tmp_path / "out").items() if labels.any()} == {}


def test_they_find_the_nuclei_of_images_that_they_have_never_seen(tmp_path):
    """The synthetic test images are no microscope's; finding most of their nuclei shows that file and code belong together."""
    assert predict.main([str(ROOT / "test_raw"), "--model", str(PRETRAINED), "--out", str(tmp_path)]) == 0
    overlaps = []
    for stem, labels in found(tmp_path).items():
        truth = read_truth(ROOT / "data" / "test_gt" / f"{stem}.png").labels
        overlaps.append(2 * ((labels > 0) & (truth > 0)).sum() / ((labels > 0).sum() + (truth > 0).sum()))
    assert len(overlaps) == 8 and np.mean(overlaps) > 0.7


def test_they_say_what_they_are(tmp_path):
    settings = read_settings(PRETRAINED)
    assert settings["scores"]["validation"]["all"]["images"] > 0
    assert set(settings["thresholds"]) == set(THRESHOLDS)
    assert PRETRAINED.stat().st_size < 20e6
