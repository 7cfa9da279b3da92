"""The shipped weights: what they must never do, whatever training they came from.

Skipped where none are shipped.
"""

from pathlib import Path

import numpy as np
import pytest
from inference_tools import run_predict
from PIL import Image

from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import read_settings
from nuclei.truth.masks import read_truth

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "Saved_Model" / "pretrained.h5"
pytestmark = pytest.mark.skipif(
    not PRETRAINED.is_file(), reason="no shipped weights in Saved_Model/"
)


def read_labels_in(folder):
    return {path.stem: read_truth(path).labels for path in sorted((folder / "labels").iterdir())}


def test_blank_images_give_no_nuclei(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for value in (0, 7, 128, 255):
        Image.fromarray(np.full((200, 260, 3), value, np.uint8)).save(folder / f"blank{value}.png")
    Image.fromarray(np.full((64, 64), 900, np.uint16)).save(folder / "deep.png")
    assert run_predict(PRETRAINED, tmp_path / "out", folder) == 0
    all_labels = read_labels_in(tmp_path / "out")
    assert len(all_labels) == 5 and not any(labels.any() for labels in all_labels.values())


def test_they_find_the_nuclei_of_images_that_they_have_never_seen(tmp_path):
    """They find most nuclei of synthetic images, so file and code belong together."""
    assert run_predict(PRETRAINED, tmp_path, ROOT / "test_raw") == 0
    overlaps = []
    for stem, labels in read_labels_in(tmp_path).items():
        truth = read_truth(ROOT / "data" / "test_gt" / f"{stem}.png").labels
        shared = ((labels > 0) & (truth > 0)).sum()
        overlaps.append(2 * shared / ((labels > 0).sum() + (truth > 0).sum()))
    assert len(overlaps) == 8 and np.mean(overlaps) > 0.7


def test_they_say_what_they_are(tmp_path):
    settings = read_settings(PRETRAINED)
    assert settings["scores"]["validation"]["all"]["images"] > 0
    assert set(settings["thresholds"]) == set(THRESHOLDS)
    assert PRETRAINED.stat().st_size < 20e6
