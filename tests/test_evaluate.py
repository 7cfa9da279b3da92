"""evaluate.py: two folders of masks become tables, or one line that says why not."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matching_tools import discs, write_masks
from PIL import Image

import evaluate
from nuclei.results.evaluation import TABLE
from nuclei.scores import DEFINITIONS

ROOT = Path(evaluate.__file__).resolve().parent


@pytest.fixture
def folders(tmp_path):
    """Truth of four images, and a folder as predict.py writes it; `d` is the worst image."""
    truth = {stem: discs((60, 70), [(15, 15), (15, 24), (40, 40), (40, 60)], 5) for stem in "abcd"}
    predicted = {
        stem: np.roll(labels, shift, axis=1) for shift, (stem, labels) in enumerate(truth.items())
    }
    write_masks(tmp_path / "truth", truth)
    write_masks(tmp_path / "predictions" / "labels", predicted)
    masks = {stem: (labels > 0) * 255 for stem, labels in truth.items()}
    write_masks(tmp_path / "predictions" / "masks", masks, np.uint8)
    table = (
        "stem,modality,kind,split\na,bright,x,validation\nb.png,dark,x,validation\nc,dark,y,train\n"
    )
    (tmp_path / "images.csv").write_text(table, encoding="utf-8-sig")
    return tmp_path


def run(*arguments):
    return evaluate.main([str(argument) for argument in arguments])


def result(folder):
    with open(folder / "evaluation.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def test_folders_are_scored_and_the_results_written(folders, capsys):
    assert run(folders / "predictions", folders / "truth") == 0
    rows, record = result(folders / "predictions")
    assert [row["stem"] for row in rows] == ["d", "c", "b", "a"]  # worst first
    assert [row["stem"] for row in record["images"]] == ["d", "c", "b", "a"]
    assert (
        float(rows[-1]["mean_ap"]) == 1 and float(rows[-1]["dice"]) == 1
    )  # from labels/, not from masks/
    dices = [float(row["dice"]) for row in rows]
    assert record["all"]["mean_of_images"]["dice"]["value"] == pytest.approx(
        np.mean(dices), abs=1e-5
    )
    assert record["groups"] == {} and record["subset"] is None and record["notes"] == []
    assert record["definitions"] == DEFINITIONS
    output = capsys.readouterr().out
    for label in TABLE.values():
        assert label in output
    assert "4 images, 16 nuclei in the truth" in output
    assert output.splitlines()[-1].startswith("Wrote ") and "evaluation.json" in output
    assert output.index("\nd ") < output.index("\na ")
    assert not [path for path in (folders / "predictions").iterdir() if path.name.startswith(".")]


def test_groups_subset_out_and_worst(folders, capsys):
    table = folders / "images.csv"
    groups = ("--groups", table, "--group-column", "modality")
    arguments = (*groups, "--out", folders / "new" / "scores", "--worst", 0)
    assert run(folders / "predictions", folders / "truth", *arguments) == 0
    rows, record = result(folders / "new" / "scores")
    assert not (folders / "predictions" / "evaluation.csv").exists()
    assert {row["stem"]: row["group"] for row in rows} == {
        "a": "bright",
        "b": "dark",
        "c": "dark",
        "d": "(no group)",
    }
    assert {name: group["num_images"] for name, group in record["groups"].items()} == {
        "bright": 1, "dark": 2, "(no group)": 1
    }  # fmt: skip
    assert record["groups"]["bright"]["pooled"]["dice"] == {"value": 1.0, "low": None, "high": None}
    output = capsys.readouterr().out
    assert "worst images" not in output and "for 1 of 4 images: d." in output
    assert record["notes"] == [f"No group in {table} for 1 of 4 images: d."]
    # The table of predict.py names the stems `image`.
    (folders / "summary.csv").write_text(table.read_text().replace("stem", "image", 1))
    arguments = ("--groups", folders / "summary.csv", "--out", folders / "same")
    assert run(folders / "predictions", folders / "truth", *arguments) == 0
    assert result(folders / "same")[1]["groups"] == record["groups"]
    # The same file gives the subset; its other column the groups.
    groups = ("--groups", table, "--group-column", "kind")
    arguments = ("--split", table, "--subset", "validation", *groups)
    assert run(folders / "predictions", folders / "truth", *arguments) == 0
    rows, record = result(folders / "predictions")
    assert [row["stem"] for row in rows] == ["b", "a"]
    assert list(record["groups"]) == ["x"] and record["subset"]["value"] == "validation"
    (folders / "truth" / "a.png").unlink()
    assert (
        run(folders / "predictions", folders / "truth", "--split", table) == 0
    )  # validation is the default
    assert (
        "No truth for 1 images of the subset, left out: a."
        in result(folders / "predictions")[1]["notes"][0]
    )


def test_a_terminal_sees_progress_and_quiet_hides_all(folders, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert run(folders / "predictions", folders / "truth") == 0
    assert "4 of 4 pairs" in capsys.readouterr().err
    assert run(folders / "predictions", folders / "truth", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_standard_folders_are_the_default(folders, monkeypatch):
    monkeypatch.chdir(folders)
    (folders / "data").mkdir()
    (folders / "truth").rename(folders / "data" / "test_gt")
    assert evaluate.main([]) == 0
    assert len(result(folders / "predictions")[0]) == 4


def failure(capsys, *arguments):
    """Run what must fail; return the single line that the user gets."""
    assert run(*arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("evaluate.py: ")
    return lines[0]


def test_a_folder_is_not_compared_with_itself(folders, capsys):
    truth = folders / "truth"
    os.symlink(truth, folders / "link")
    assert "same folder" in failure(capsys, truth, truth)
    assert "same folder" in failure(capsys, folders / "link", truth)
    assert "same folder" in failure(capsys, folders / "predictions" / ".." / "truth", truth)
    assert "same folder" in failure(
        capsys, folders / "predictions", folders / "predictions" / "labels"
    )
    assert not list(truth.glob("evaluation*"))


def test_missing_predictions_are_named_or_left_out(folders, capsys):
    (folders / "predictions" / "labels" / "b.png").unlink()
    message = failure(capsys, folders / "predictions", folders / "truth")
    assert (
        "No prediction" in message
        and "1 of 4 images: b." in message
        and "--allow-missing" in message
    )
    assert not (folders / "predictions" / "evaluation.json").exists()
    assert run(folders / "predictions", folders / "truth", "--allow-missing") == 0
    assert "left out: b." in capsys.readouterr().out
    assert len(result(folders / "predictions")[0]) == 3


def test_predictions_without_truth_are_named(folders, capsys):
    (folders / "truth" / "b.png").unlink()
    assert run(folders / "predictions", folders / "truth") == 0
    assert "No truth for 1 predictions, not scored: b." in capsys.readouterr().out


@pytest.mark.parametrize("side", ["predictions/labels", "truth"])
def test_unreadable_masks_are_named_and_the_others_are_scored(folders, capsys, side):
    (folders / side / "b.png").write_text("no picture")
    Image.new("L", (3, 3)).save(folders / side / "c.png")  # of another size
    assert run(folders / "predictions", folders / "truth") == 1
    output = capsys.readouterr()
    assert "evaluate.py: 2 pairs could not be compared: skipped" in output.err
    assert f"skipped: {folders / side / 'b.png'} " in output.err and "c.png has" in output.err
    assert "2 of 4 pairs cannot be compared" in output.out
    assert len(result(folders / "predictions")[0]) == 2
    assert run(folders / "predictions", folders / "truth", "--allow-missing") == 0
    assert "b.png" in capsys.readouterr().out
    for stem in "acd":
        (folders / side / f"{stem}.png").write_bytes(b"")
    assert run(folders / "predictions", folders / "truth", "--allow-missing") == 1
    assert "4 of 4 pairs cannot be compared" in capsys.readouterr().err


def test_other_mistakes_end_in_one_line(folders, capsys):
    predictions, truth, table = folders / "predictions", folders / "truth", folders / "images.csv"
    assert "absent" in failure(capsys, predictions, folders / "absent")
    assert "gone.csv" in failure(capsys, predictions, truth, "--groups", folders / "gone.csv")
    message = failure(capsys, predictions, truth, "--groups", table, "--group-column", "organ")
    assert "organ" in message and "stem, modality, kind, split" in message
    (folders / "picture.csv").write_bytes(b"\xff\xd8\xff\xe0 no text")
    assert "no CSV" in failure(capsys, predictions, truth, "--groups", folders / "picture.csv")
    (folders / "of_others.csv").write_text("stem,group\nz,A\n")
    message = failure(capsys, predictions, truth, "--groups", folders / "of_others.csv")
    assert "of_others.csv names none of the images (a, b, c, d), but z" in message
    message = failure(capsys, predictions, truth, "--split", table, "--subset", "test")
    assert "train, validation" in message
    write_masks(folders / "others", {"other": np.ones((3, 3))})
    message = failure(capsys, folders / "others", truth)
    assert "no stem in common" in message and "other" in message


def test_results_stay_whole_when_writing_fails(folders, capsys, monkeypatch):
    assert run(folders / "predictions", folders / "truth") == 0
    before = (folders / "predictions" / "evaluation.json").read_bytes()

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device", "evaluation.json")

    monkeypatch.setattr("nuclei.results.evaluation.json.dump", full)
    assert run(folders / "predictions", folders / "truth") == 1
    assert "disk is full" in capsys.readouterr().err
    assert (folders / "predictions" / "evaluation.json").read_bytes() == before
    assert not [path for path in (folders / "predictions").iterdir() if path.name.startswith(".")]


def test_help_opens_without_heavy_imports():
    late = {"keras", "tensorflow", "torch", "jax", "pandas", "scipy", "skimage", "plotly"}
    code = f"import evaluate, sys; sys.exit(', '.join({late} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    done = subprocess.run(
        [sys.executable, ROOT / "evaluate.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "--allow-missing" in done.stdout


def test_the_reliability_of_confidences_is_scored(tmp_path, capsys):
    truth = discs((80, 200), [(40, 20 + 30 * k) for k in range(6)], 8)
    predicted = np.where(truth <= 3, truth, 0)
    predicted[5:12, 5:12] = 4  # one that is wrong
    write_masks(tmp_path / "truth", {"a": truth})
    write_masks(tmp_path / "labels", {"a": predicted})
    (tmp_path / "nuclei.csv").write_text(
        "image,id,confidence\na,1,0.75\na,2,0.75\na,3,0.75\na,4,0.75\nother,1,0.1\n"
    )
    assert evaluate.main([str(tmp_path), str(tmp_path / "truth")]) == 0
    assert "calibration error of the confidence at IoU 0.5: 0.000" in capsys.readouterr().out
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["calibration"] == {"expected_calibration_error": 0.0, "bins": [[4, 0.75, 0.75]]}
    (tmp_path / "nuclei.csv").write_text("image,id\na,1\n")
    assert evaluate.main([str(tmp_path), str(tmp_path / "truth")]) == 0
    assert "calibration" not in json.loads((tmp_path / "evaluation.json").read_text())
