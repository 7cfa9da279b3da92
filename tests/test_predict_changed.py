"""predict.py again after an image was replaced: results belong to the image that is there."""

import os
import shutil
from pathlib import Path

import pytest
from blob_model import write_blob_model
from inference_tools import read_files, read_rows, run_predict, write_blobs

import nuclei.inference.folder as room
from nuclei.written import RECORD, Record

HOUR_NS = 3600 * 10**9


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture
def images(tmp_path):
    return write_blobs(tmp_path / "images", 3)


def results_of(out, stem):
    """{path: bytes} of the pictures of one image, and its rows of both tables but for the time."""
    files = {path: text for path, text in read_files(out).items() if path.stem == stem}
    rows = [row for row in read_rows(out / "nuclei.csv") if row["image"] == stem]
    summary = [row for row in read_rows(out / "summary.csv") if row["image"] == stem]
    return files, rows, [row | {"seconds": "", "folder": "", "model": ""} for row in summary]


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_an_image_that_was_replaced_is_done_anew_whatever_its_time(
    model, images, tmp_path, capsys, hours
):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert run_predict(model, out, images, "--formats", "masks,csv,geojson") == 0
    kept = {stem: results_of(out, stem) for stem in ("image0", "image2")}
    before = os.stat(images / "image1.png")
    shutil.copyfile(images / "image0.png", images / "image1.png")
    time = before.st_mtime_ns + hours * HOUR_NS + 1
    os.utime(images / "image1.png", ns=(time, time))
    capsys.readouterr()
    assert run_predict(model, out, images, "--formats", "masks,csv") == 0
    text = capsys.readouterr().out
    assert "Changed since they were predicted, and done anew: 1 image (image1)" in text
    assert "Finished already: 2 images" in text
    assert run_predict(model, fresh, images, "--formats", "masks,csv,geojson") == 0
    assert results_of(out, "image1") == results_of(fresh, "image1")
    assert {stem: results_of(out, stem) for stem in kept} == kept
    capsys.readouterr()
    assert run_predict(model, out, images, "--formats", "masks,csv") == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_another_picture_of_the_same_size_in_bytes_is_noticed(model, images, tmp_path, capsys):
    path = images / "image1.png"
    content = path.read_bytes()
    path.write_bytes((images / "image0.png").read_bytes() + bytes(5000))
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    size = path.stat().st_size
    path.write_bytes(content + bytes(size - len(content)))
    os.utime(path, ns=(0, 0))
    capsys.readouterr()
    assert run_predict(model, out, images) == 0
    assert "done anew: 1 image (image1)" in capsys.readouterr().out


def test_the_same_content_with_another_time_is_finished(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    for path in images.iterdir():
        os.utime(path, ns=(0, 0))
    capsys.readouterr()
    assert run_predict(model, out, images) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_results_of_older_versions_which_noted_nothing_stay_finished(
    model, images, tmp_path, capsys
):
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    lines = (out / RECORD).read_text().splitlines(keepends=True)
    (out / RECORD).write_text("".join(line for line in lines if '"file"' in line))
    shutil.copyfile(images / "image0.png", images / "image1.png")
    before = read_files(out)
    capsys.readouterr()
    assert run_predict(model, out, images) == 0
    assert "Nothing to do" in capsys.readouterr().out and read_files(out) == before


def test_results_that_the_user_corrected_stay_and_the_changed_image_is_named(
    model, images, tmp_path, capsys
):
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    shutil.copyfile(images / "image0.png", images / "image1.png")
    shutil.copyfile(out / "masks" / "image2.png", out / "masks" / "image1.png")
    before = read_files(out)
    capsys.readouterr()
    assert run_predict(model, out, images) == 1
    error = capsys.readouterr().err
    assert "images left out, because they are other images" in error and "image1.png" in error
    assert error.count("\n") == 1 and read_files(out) == before
    assert run_predict(model, out, images, "--overwrite") == 0
    masks = read_files(out / "masks")
    assert masks[Path("image0.png")] == masks[Path("image1.png")]


def test_an_image_that_changes_while_it_is_predicted_is_done_anew_by_the_next_run(
    model, images, tmp_path, capsys, monkeypatch
):
    def open_and_replace(path, *arguments):
        file = open_image(path, *arguments)
        if path.name == "image1.png":
            shutil.copyfile(images / "image0.png", path)
        return file

    open_image = room.open_image
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(room, "open_image", open_and_replace)
        assert run_predict(model, out, images) == 0
    capsys.readouterr()
    assert run_predict(model, out, images) == 0
    assert "done anew: 1 image (image1)" in capsys.readouterr().out
    record = Record(out)
    record.read()
    assert record.images["image1"].sha256 == record.images["image0"].sha256


def test_another_image_is_refused_where_the_first_one_is_gone(model, images, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "other"
    assert run_predict(model, out, images) == 0
    other.mkdir()
    shutil.copyfile(images / "image1.png", other / "image0.png")
    shutil.rmtree(images)
    capsys.readouterr()
    assert run_predict(model, out, other) == 1
    assert "holds results of other images named image0" in capsys.readouterr().err


def test_where_no_image_could_be_read_nothing_is_said_to_lie_there(model, images, tmp_path, capsys):
    for path in images.iterdir():
        path.write_bytes(b"nothing")
    assert run_predict(model, tmp_path / "out", images) == 1
    output = capsys.readouterr()
    assert "report.py" not in output.out and "lie in" not in output.out
    assert "3 of 3 images could not be read: skipped" in output.err
