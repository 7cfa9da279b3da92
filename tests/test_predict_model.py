"""predict.py says which model it uses, warns of a toy, and leaves what report.py needs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from blob_model import write_blob_model
from inference_tools import read_rows, run_predict, write_blobs
from PIL import Image

import exports
import report
from nuclei.images.origin import SYNTHETIC
from nuclei.model_file import load_network, save_model

ROOT = Path(report.__file__).resolve().parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a training on synthetic images."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    network, settings = load_network(write_blob_model(folder / "trained_model.h5"))
    settings["data"] = {"train": {"tissue": 27}, "sets": [SYNTHETIC]}
    save_model(folder / "trained_model.h5", network, settings)
    return folder


def test_a_model_of_synthetic_images_warns_once_on_others_only(model, tmp_path, capsys):
    assert run_predict(model, tmp_path / "out", write_blobs(tmp_path / "in", 2)) == 0
    output, errors = capsys.readouterr()
    line = f"Model: yours, {model / 'trained_model.h5'} (27 synthetic images); the shipped one: "
    assert line in output
    assert errors.count("\n") == 1 and "--model shipped" in errors
    drawn = ROOT / "test_raw" / "test_tissue_01.png"
    assert run_predict(model, tmp_path / "drawn", drawn) == 0
    assert capsys.readouterr().err == ""


def test_an_image_without_nuclei_ends_in_advice(model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / "in" / "black.png")
    assert run_predict(model, tmp_path / "out", tmp_path / "in") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("No nucleus in 1 of 1 image (black)") and "--diameter" in last


def test_report_knows_images_and_model_without_flags(model, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert run_predict(model, out, write_blobs(tmp_path / "in", 2)) == 0
    row = read_rows(out / "summary.csv")[0]
    assert row["folder"] == "../in" and row["model"].endswith("demo/trained_model.h5")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert report.main(["out"]) == 0
    assert "not found" not in capsys.readouterr().err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "demo/trained_model.h5" in page and "<code>in</code>" in page
    shutil.move(tmp_path / "in", tmp_path / "moved")
    assert report.main(["out"]) == 1 and "--images" in capsys.readouterr().err
    assert report.main(["out", "--images", "moved"]) == 0


def test_the_export_of_a_model_falls_back_to_the_shipped_one(tmp_path, monkeypatch, capsys):
    shipped = tmp_path / "Saved_Model" / "pretrained.h5"
    shipped.parent.mkdir()
    shutil.copy(ROOT / "Saved_Model" / "pretrained.h5", shipped)
    monkeypatch.setattr("nuclei.model_file.PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    exported = []
    monkeypatch.setattr(exports, "export_onnx", lambda *args: exported.append(args[2]) or 0.0)
    for words in ([], ["--model", "shipped"], ["--model", "Saved_Model"]):
        assert exports.main(["--model-out", "onnx", *words]) == 0
    assert exported == [Path("Saved_Model/pretrained.onnx")] * 3


def test_a_model_file_that_is_replaced_meanwhile_changes_nothing(
    model, tmp_path, capsys, monkeypatch
):
    path = shutil.copy(model / "trained_model.h5", tmp_path / "model.h5")
    images = write_blobs(tmp_path / "in", 3)
    assert run_predict(path, tmp_path / "one", images) == 0

    def replaced(*arguments):
        Path(path).write_bytes(b"half of a new mod")

    monkeypatch.setattr("predict.describe_model_used", replaced)
    assert run_predict(path, tmp_path / "two", images) == 0
    assert [(tmp_path / folder / "nuclei.csv").read_bytes() for folder in ("one", "two")] == [
        (tmp_path / "one" / "nuclei.csv").read_bytes()
    ] * 2
    makers = [read_rows(tmp_path / out / "summary.csv")[0]["made_by"] for out in ("one", "two")]
    assert makers[0] == makers[1]
