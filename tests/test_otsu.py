"""The baseline without learning separates discs, and finds nothing in noise."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from images_tools import save

import evaluate
from nuclei.images.labels import read_labels

PROJECT = Path(__file__).resolve().parent.parent
CENTRES = ((30, 30), (30, 43), (80, 40), (90, 100), (30, 100))  # the first two touch
RADIUS_PX = 8


def run(*arguments):
    command = [sys.executable, "-W", "error", "-m", "experiments.otsu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


def touching_discs():
    rows, columns = np.mgrid[:120, :140]
    labels = np.zeros((120, 140), np.uint8)
    distances = [np.hypot(rows - row, columns - column) for row, column in CENTRES]
    for index, distance in enumerate(distances, start=1):
        labels[(distance <= RADIUS_PX) & (distance <= np.min(distances, axis=0))] = index
    return labels


def test_discs_on_dark_and_on_light_background_are_separated(tmp_path, capsys):
    rng = np.random.default_rng(9)
    truth = touching_discs()
    dark = np.repeat((20 + 150.0 * (truth > 0) + rng.normal(0, 4, truth.shape))[..., None], 3, 2)
    tissue = np.where(truth[..., None] > 0, (110, 60, 140), (235, 190, 215))
    specks = dark.copy()
    specks[truth > 0] = 20
    specks[::20, ::20] = 200  # single bright pixels are no nuclei
    images = {
        "dark": (dark, truth),
        "tissue": (tissue + rng.normal(0, 4, tissue.shape), truth),
        "blank": (np.full((50, 60, 3), 9), np.zeros((50, 60), np.uint8)),
        "specks": (specks, 0 * truth),
    }
    for stem, (image, labels) in images.items():
        save(tmp_path / "raw" / f"{stem}.png", image.astype(np.uint8))
        save(tmp_path / "truth" / f"{stem}.png", labels)
    done = run(tmp_path / "raw", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for stem, (_, labels) in images.items():
        assert read_labels(tmp_path / "out" / f"{stem}.png").max() == labels.max()
    assert evaluate.main([str(tmp_path / "out"), str(tmp_path / "truth")]) == 0
    scores = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert {row["stem"]: row["ap_50"] for row in scores["images"]} == dict.fromkeys(images, 1)
    assert scores["all"]["pooled"]["dice"]["value"] > 0.95


def test_a_missing_folder_ends_in_one_line(tmp_path):
    done = run(tmp_path / "gone", tmp_path / "out")
    assert done.returncode == 1 and "gone" in done.stderr and "Traceback" not in done.stderr
