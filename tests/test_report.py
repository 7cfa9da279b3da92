"""report.py: its flags, and what it refuses in one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from history_tools import write_history
from report_tools import change, data_of, make, page_of, write_evaluated_predictions

import report
from nuclei.images.writing import write_png

ROOT = Path(report.__file__).resolve().parent


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_evaluated_predictions(tmp_path_factory.mktemp("report"))


@pytest.fixture
def folder(original, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


def test_history_and_evaluation_can_be_named(folder, tmp_path, capsys):
    moved = tmp_path / "scores"
    moved.mkdir()
    shutil.move(folder / "found" / "evaluation.json", moved)
    path = write_history(tmp_path / "long", num_epochs=9)
    out = tmp_path / "page.html"
    assert make(folder, "--evaluation", str(moved), "--history", str(path), out=out) == 0
    assert (
        "9 epochs" in out.read_text(encoding="utf-8")
        and data_of(out.read_text(encoding="utf-8"))["score_names"]
    )
    assert make(folder, "--history", str(tmp_path / "none.csv")) == 1
    assert "no such file" in capsys.readouterr().err


def test_scores_of_other_predictions_are_left_out(folder, capsys):
    path = folder / "found" / "evaluation.json"
    record = json.loads(path.read_text())
    record["images"][0]["num_predicted"] -= 1  # it lies in void, and is not scored
    path.write_text(json.dumps(record))
    assert make(folder) == 0 and "was made of" not in capsys.readouterr().err
    record["images"][0]["num_in_file"] += 1
    path.write_text(json.dumps(record))
    assert make(folder) == 0
    assert (
        "was made of other predictions" in capsys.readouterr().err
        and "was made of other predictions" in page_of(folder)
    )
    assert data_of(page_of(folder))["score_names"] == {}
    for image in record["images"]:
        image["stem"] += "_other"
    path.write_text(json.dumps(record))
    assert make(folder) == 0
    assert "scores other images" in capsys.readouterr().err


def test_quiet_prints_nothing(folder, capsys):
    assert make(folder, "--quiet") == 0
    assert capsys.readouterr() == ("", "") and page_of(folder)


def test_an_image_that_is_not_there_is_said_and_shown_without_picture(folder, capsys):
    (folder / "raw" / "fluorescence_a.png").unlink()
    assert make(folder) == 0
    assert "1 image shown without a picture, not found: fluorescence_a" in capsys.readouterr().err
    images = {image["stem"]: image for image in data_of(page_of(folder))["images"]}
    assert not images["fluorescence_a"]["has_picture"] and images["fluorescence_b"]["has_picture"]
    assert "shown without a picture: fluorescence_a" in page_of(folder)
    (folder / "raw" / "fluorescence_b.png").write_bytes(b"no image")
    (folder / "raw" / "fluorescence_a.png").mkdir()
    assert make(folder) == 0
    error = capsys.readouterr().err
    assert f"shown without a picture: {folder / 'raw' / 'fluorescence_b.png'}" in error
    images = {image["stem"]: image for image in data_of(page_of(folder))["images"]}
    assert not images["fluorescence_b"]["has_picture"]


def spoil_missing_column(found):
    change(found / "summary.csv", lambda table: table.drop(columns="intensity_low"))


def spoil_formats(found):
    change(found / "summary.csv", lambda table: table.assign(formats="masks labels"))


def spoil_number(found):
    change(found / "summary.csv", lambda table: table.assign(height_px="tall"))


def spoil_count(found):
    change(found / "nuclei.csv", lambda table: table.iloc[1:])


def spoil_size(found):
    change(found / "summary.csv", lambda table: table.assign(height_px="1e999"))


def spoil_order(found):
    change(found / "nuclei.csv", lambda table: table.iloc[::-1])


def spoil_labels(found):
    write_png(found / "labels" / "fluorescence_a.png", np.zeros((96, 128), np.uint16))


def spoil_picture(found):
    write_png(found.parent / "raw" / "fluorescence_a.png", np.zeros((5, 5, 3), np.uint8))


def spoil_all_pictures(found):
    shutil.rmtree(found.parent / "raw")
    (found.parent / "raw").mkdir()


def times_of_files(folder):
    """When each file was written; a folder is None, since a trial of --out touches it."""
    paths = folder.rglob("*")
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in paths}


@pytest.mark.parametrize(
    "spoil, words",
    [
        (spoil_missing_column, ["summary.csv", "intensity_low", "--overwrite"]),
        (spoil_formats, ["no labels or no csv", "--formats labels,csv"]),
        (spoil_number, ["summary.csv", "no number"]),
        (spoil_size, ["summary.csv", "no number"]),
        (spoil_count, ["count differently", "fluorescence_a"]),
        (spoil_order, ["not numbered"]),
        (spoil_labels, ["fluorescence_a.png", "ids up to 0", "--overwrite"]),
        (spoil_picture, ["5×5 px", "128×96", "--images"]),
        (spoil_all_pictures, ["none of the predicted images is there", "--images"]),
        (lambda found: shutil.rmtree(found.parent / "raw"), ["no such folder", "--images"]),
        (lambda found: (found / "summary.csv").unlink(), ["summary.csv", "python predict.py"]),
        (lambda found: (found / "summary.csv").write_text(""), ["holds no image"]),
        (
            lambda found: (found / "evaluation.json").write_text("{}"),
            ["evaluation.json", "evaluate.py"],
        ),
        (
            lambda found: (found / "evaluation.json").write_bytes(b"\xff"),
            ["evaluation.json", "evaluate.py"],
        ),
        (
            lambda found: (found / "report.html").write_text("mine"),
            ["was not written by this program", "--out"],
        ),
        (lambda found: (found / "report.html").mkdir(), ["is a folder", "--out"]),
        (
            lambda found: (found.parent / "model" / "trained_model.h5").unlink(),
            ["no such model file"],
        ),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_leaves_no_page(folder, capsys, spoil, words):
    spoil(folder / "found")
    before = times_of_files(folder)
    assert make(folder) == 1
    output = capsys.readouterr()
    assert output.err.startswith("report.py: ") and output.err.count("\n") == 1, output.err
    assert all(word in output.err for word in words), output.err
    assert times_of_files(folder) == before


def test_groups_of_other_images_are_refused(folder, tmp_path, capsys):
    (tmp_path / "of_others.csv").write_text("stem,group\nz,A\n")
    assert make(folder, "--groups", str(tmp_path / "of_others.csv")) == 1
    error = capsys.readouterr().err
    assert "of_others.csv names none of the images (" in error and error.count("\n") == 1
    assert not (folder / "found" / "report.html").exists()


def test_an_earlier_page_of_ours_is_replaced(folder):
    assert make(folder) == 0 and make(folder) == 0
    assert not list((folder / "found").glob(".*"))


def test_help_opens_without_heavy_imports():
    late = {"keras", "tensorflow", "torch", "jax", "pandas", "scipy", "skimage", "plotly"}
    code = f"import report, sys; sys.exit(', '.join({late} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
