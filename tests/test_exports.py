"""exports.py: folders of predictions in other formats; what is there stays, and mistakes end in one
line.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from formats_tools import draw_examples, run, without, write_example_predictions
from PIL import Image
from results_tools import write_predictions

import exports
from nuclei.formats.registry import FORMATS
from nuclei.inference.find import Found
from nuclei.truth.masks import read_truth


@pytest.fixture(scope="module")
def examples():
    return draw_examples()


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_example_predictions(folder)
    return folder / "out"


def test_two_exports_are_equal_to_the_byte_and_nothing_is_overwritten_without_the_flag(
    predictions, tmp_path, capsys
):
    formats = ",".join(FORMATS)
    for out in ("one", "two"):
        assert run(predictions, "--formats", formats, "--out", tmp_path / out) == 0

    def contents(folder):
        return {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two") and len(one) > 27
    edited = tmp_path / "one" / "geojson" / "cells.geojson"
    edited.write_text("corrected by hand")
    capsys.readouterr()
    assert run(predictions, "--formats", formats, "--out", tmp_path / "one") == 0
    output = capsys.readouterr().out
    assert "0 files written" in output and "Left as it was: 27 files (" in output
    assert edited.read_text() == "corrected by hand"
    assert run(predictions, "--formats", formats, "--out", tmp_path / "one", "--overwrite") == 0
    assert contents(tmp_path / "one") == one


def test_without_arguments_the_standard_folder_becomes_geojson(
    predictions, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "predictions").symlink_to(predictions)
    assert run() == 0
    assert sorted(path.name for path in (predictions / "geojson").iterdir()) == [
        "cells.geojson",
        "odd.geojson",
        "tissue.geojson",
    ]
    assert "geojson: 3 files written to predictions/" in capsys.readouterr().out


def test_the_pixel_size_that_predict_used_is_kept(examples, tmp_path):
    image, labels = examples["cells"]
    maps = np.full((*labels.shape, 2), 0.9, np.float32)
    for stem, mpp in (("known", 0.25), ("unknown", None)):
        found = Found(image, (0.0, 255.0), labels, maps, 1.0)
        write_predictions(tmp_path, found, stem, formats=("labels", "csv", "geojson"), mpp=mpp)
    before = (tmp_path / "geojson" / "known.geojson").read_bytes()
    assert run(tmp_path, "--formats", "ometiff,geojson", "--overwrite") == 0
    for stem, known in (("known", True), ("unknown", False)):
        with tifffile.TiffFile(tmp_path / "ometiff" / f"{stem}.ome.tif") as tiff:
            assert ('PhysicalSizeX="0.25"' in tiff.ome_metadata) is known
        assert ("Area µm^2" in (tmp_path / "geojson" / f"{stem}.geojson").read_text()) is known
    assert (
        tmp_path / "geojson" / "known.geojson"
    ).read_bytes() == before  # the same from predict.py and from here


def test_label_images_alone_are_measured_by_their_images(examples, predictions, tmp_path):
    raw = predictions.parent / "raw"
    assert run(predictions / "labels", "--formats", "csv", "--out", tmp_path / "shape") == 0
    assert (
        run(
            predictions / "labels", "--formats", "csv", "--out", tmp_path / "light", "--images", raw
        )
        == 0
    )
    shape, light = (
        pd.read_csv(tmp_path / name / "csv" / "tissue.csv") for name in ("shape", "light")
    )
    assert "mean_intensity" not in shape and light["haematoxylin_od"].notna().all()
    # Measured again, what only the network knows stays.
    assert run(predictions, "--formats", "csv", "--out", tmp_path / "again", "--images", raw) == 0
    again = pd.read_csv(tmp_path / "again" / "csv" / "tissue.csv")
    assert again["mean_probability"].tolist() == pytest.approx([0.9] * len(again))
    pd.testing.assert_frame_equal(again[list(light)], light)


def test_an_image_without_nuclei_is_exported_too(tmp_path):
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(tmp_path / "labels" / "none.png")
    pd.DataFrame({"image": [], "id": [], "area_px": []}).to_csv(
        tmp_path / "nuclei.csv", index=False
    )
    assert run(tmp_path, "--formats", ",".join(FORMATS)) == 0
    assert json.loads((tmp_path / "geojson" / "none.geojson").read_text())["features"] == []
    assert not read_truth(tmp_path / "geojson" / "none.geojson", (20, 30)).labels.any()
    assert not read_truth(tmp_path / "coco" / "none.json", (20, 30)).labels.any()
    assert not read_truth(tmp_path / "imagej" / "none.zip", (20, 30)).labels.any()


def test_files_that_do_not_belong_together_end_in_one_line(predictions, tmp_path, capsys):
    def fails(*arguments, word):
        assert run(*arguments, "--out", tmp_path / "out") == 1
        error = capsys.readouterr().err
        # One line for what is wrong, and the count where images were skipped.
        assert word in error and error.count("\n") == 1 + error.startswith("skipped"), error

    fails(tmp_path / "nowhere", word="does not exist")
    folder = tmp_path / "labels"
    folder.mkdir()
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(folder / "a.png")
    fails(tmp_path, word="a mask of 0 and 255")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "a.png")
    fails(tmp_path, word="no label image")
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(folder / "a.png")
    (tmp_path / "nuclei.csv").write_text("image,id\na,1\n")
    fails(tmp_path, word="nuclei.csv 1 rows")
    (tmp_path / "nuclei.csv").unlink()
    fails(
        tmp_path,
        "--images",
        predictions.parent / "raw",
        word="lacks the images of 1 label images: a",
    )
    (tmp_path / "raw").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "raw" / "a.png")
    fails(tmp_path, "--images", tmp_path / "raw", word="expected equal sizes")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--formats", "geojson,svg"],
        ["--formats", ""],
        ["--mpp", "0"],
        ["--mpp", "nan"],
        ["--model-out", "tflite"],
        ["--model-out", "onnx", "--formats", "csv"],
        ["predictions", "--model", "shipped"],
        ["predictions", "--name", "x"],
        ["predictions", "--author", "x"],
        ["predictions", "--licence", "MIT"],
        ["--model-out", "onnx", "--licence", "MIT"],
    ],
)
def test_flags_that_make_no_sense_are_usage_errors(arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    "name, package", [("imagej", "roifile"), ("omezarr", "zarr"), ("parquet", "pyarrow")]
)
def test_a_missing_package_is_named_before_any_work(
    predictions, tmp_path, monkeypatch, capsys, name, package
):
    without(monkeypatch, package)
    assert run(predictions, "--formats", f"geojson,{name}", "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.endswith(f"not installed: python -m pip install {package}\n")
    assert not (tmp_path / "out").exists()


def test_quiet_prints_nothing(predictions, tmp_path, capsys):
    assert run(predictions, "--out", tmp_path, "--quiet") == 0
    assert capsys.readouterr() == ("", "") and list((tmp_path / "geojson").iterdir())


def test_an_image_whose_labels_cannot_be_read_is_skipped(predictions, tmp_path, capsys):
    folder = tmp_path / "labels"
    shutil.copytree(predictions / "labels", folder)
    (folder / "cells.png").write_bytes(b"no image")
    assert run(folder, "--formats", "coco", "--out", tmp_path / "out") == 1
    output = capsys.readouterr()
    assert "coco: 2 files written" in output.out
    assert f"skipped: {folder / 'cells.png'}" in output.err and "1 image could not" in output.err


def test_an_image_too_large_for_a_format_is_skipped(predictions, tmp_path, monkeypatch, capsys):
    write = exports.write_formats

    def refusing(out, names, nuclei):
        if nuclei.stem == "cells":
            raise ValueError("cells: 60600 px are more than ImageJ has")
        return write(out, names, nuclei)

    monkeypatch.setattr(exports, "write_formats", refusing)
    assert run(predictions, "--formats", "imagej", "--out", tmp_path) == 1
    output = capsys.readouterr()
    assert "imagej: 2 files written" in output.out and "skipped: cells: 60600 px" in output.err
