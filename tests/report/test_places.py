"""report.py finds the images and the model of predict.py again, also after a move."""

from pathlib import Path

import pandas as pd
import pytest

from nuclei.report.inputs import Predictions
from nuclei.report.places import find_pictures, image_folders, model_used
from nuclei.results.jobs import seen_from


@pytest.fixture
def predictions(tmp_path):
    """Results in run/out, images of one name in two folders, of which the second was predicted."""
    for path in ("first/a.png", "second/a.png", "second/b.png", "run/model.h5"):
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).touch()
    out = tmp_path / "run" / "out"
    out.mkdir()
    folder, model = seen_from(out, tmp_path / "second"), seen_from(out, out.parent / "model.h5")
    rows = [{"image": stem, "file": f"{stem}.png"} for stem in "ab"]
    rows = [row | {"folder": folder, "model": model} for row in rows]
    return Predictions(out, rows, pd.DataFrame())


def test_the_picture_is_the_one_that_was_predicted(predictions, tmp_path):
    pictures = find_pictures(predictions.rows, image_folders(predictions.folder, predictions.rows))
    assert pictures == {stem: tmp_path / "second" / f"{stem}.png" for stem in "ab"}
    assert model_used(predictions) == tmp_path / "run" / "model.h5"
    (tmp_path / "run" / "model.h5").unlink()
    assert model_used(predictions) is None


def test_paths_hold_no_machine_and_stay_right_if_all_moves(predictions, tmp_path, monkeypatch):
    assert predictions.rows[0]["folder"] == "../../second"
    assert predictions.rows[0]["model"] == "../model.h5"
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    monkeypatch.chdir(moved)
    predictions = predictions._replace(folder=Path("run") / "out")
    assert image_folders(predictions.folder, predictions.rows)["a"] == [Path("second")]
    assert model_used(predictions) == Path("run/model.h5")


def test_no_way_between_two_drives_leaves_the_whole_path(tmp_path, monkeypatch):
    def refuse(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    with monkeypatch.context() as patches:
        patches.setattr("os.path.relpath", refuse)
        way = seen_from(tmp_path, tmp_path / "a")
    assert way == (tmp_path / "a").as_posix()
