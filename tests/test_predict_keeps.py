"""predict.py loses nothing of the user, and one bad file does not stop the others."""

import os
import shutil
from pathlib import Path

import pytest
from blob_model import write_blob_model
from inference_tools import blobs, read_files, read_rows, run_predict, write_blobs
from PIL import Image

import nuclei.inference.folder
from nuclei.images.reading import open_image
from nuclei.written import RECORD


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture
def images(tmp_path):
    return write_blobs(tmp_path / "images", 2)


def test_a_file_of_the_user_stops_the_run_before_it_replaces_anything(
    model, images, tmp_path, capsys
):
    (tmp_path / "masks").mkdir()
    shutil.copy(images / "image1.png", tmp_path / "masks" / "image0.png")
    before = read_files(tmp_path)
    assert run_predict(model, tmp_path, images) == 1
    error = capsys.readouterr().err
    assert "image0.png was not written by this program" in error and error.count("\n") == 1
    assert read_files(tmp_path) == before
    assert run_predict(model, tmp_path, images, "--overwrite") == 0
    assert read_files(tmp_path)[Path("masks/image0.png")] != before[Path("masks/image0.png")]


def test_inputs_are_never_replaced(model, images, tmp_path, capsys):
    images.rename(tmp_path / "masks")
    before = read_files(tmp_path)
    for flags in ([], ["--overwrite"]):
        assert run_predict(model, tmp_path, tmp_path / "masks", *flags) == 1
        assert "holds images to predict" in capsys.readouterr().err
        assert read_files(tmp_path) == before


def test_a_corrected_result_stays_and_the_rest_is_done(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, images, "--formats", "masks,geojson") == 0
    corrected = out / "geojson" / "image0.geojson"
    first = corrected.read_bytes()
    corrected.write_text("corrected")
    summary = (out / "summary.csv").read_text().replace("masks geojson", "masks")
    (out / "summary.csv").write_text(summary)
    assert run_predict(model, out, images, "--formats", "masks,geojson") == 1
    assert "summary.csv was changed since" in capsys.readouterr().err
    (out / "summary.csv").unlink()  # as after a run that was killed before the row
    (images / "image2.png").write_bytes((images / "image1.png").read_bytes())
    assert run_predict(model, out, images, "--formats", "masks,geojson") == 1
    error = capsys.readouterr().err
    assert f"left as you changed them (--overwrite replaces them): {corrected}" in error
    assert corrected.read_text() == "corrected"
    assert {row["image"]: row["formats"] for row in read_rows(out / "summary.csv")} == {
        "image0": "masks",
        "image1": "masks geojson",
        "image2": "masks geojson",
    }
    assert run_predict(model, out, images, "--formats", "masks,geojson", "--overwrite") == 0
    assert corrected.read_bytes() == first


def test_a_table_of_the_user_stays(model, images, tmp_path, capsys):
    for name in ("nuclei.csv", "summary.csv"):
        out = tmp_path / name
        out.mkdir()
        text = "image,my_grade,made_by,formats\na,3,me,csv\n"
        (out / name).write_text(text)
        assert run_predict(model, out, images) == 1
        assert f"{name} was not written by this program" in capsys.readouterr().err
        assert (out / name).read_text() == text


def test_a_file_that_cannot_be_read_is_skipped(model, images, tmp_path, monkeypatch, capsys):
    for name in ("vanished", "forbidden", "zzz"):
        shutil.copy(images / "image0.png", images / f"{name}.png")

    def reading(path, *arguments):
        if Path(path).stem == "vanished":
            Path(path).unlink()
        if Path(path).stem == "forbidden":
            raise PermissionError(13, "Permission denied", str(path))
        return open_image(path, *arguments)

    monkeypatch.setattr(nuclei.inference.folder, "open_image", reading)
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 1
    error = capsys.readouterr().err
    assert "forbidden.png cannot be read (Permission denied)" in error
    assert "vanished.png does not exist" in error
    assert [row["image"] for row in read_rows(out / "summary.csv")] == ["image0", "image1", "zzz"]


def test_names_of_any_length_and_bytes_are_predicted_or_skipped(model, images, tmp_path, capsys):
    longest = "x" * 247
    try:
        os.rename(images / "image0.png", images / f"{longest}.png")
        raw = os.fsencode(images) + b"/\xff\xe4.png"
        with open(raw, "wb") as file:
            Image.fromarray(blobs()[0]).save(file, "PNG")
    except OSError:
        pytest.skip("this disk does not take such names")
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    stems = {row["image"] for row in read_rows(out / "summary.csv")}
    assert stems == {longest, "image1", "ÿä"}
    assert run_predict(model, tmp_path / "one", os.fsdecode(raw)) == 0  # named by itself
    capsys.readouterr()
    out = tmp_path / "zip"
    assert run_predict(model, out, images, "--formats", "geojson.zip") == 1  # a longer suffix
    assert "its name is too long" in capsys.readouterr().err
    assert {row["image"] for row in read_rows(out / "summary.csv")} == {"image1", "ÿä"}
    assert sorted(os.listdir(out)) == ["geojson", "summary.csv", RECORD]
