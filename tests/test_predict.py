"""predict.py: what it writes for any image, what its flags change, what it refuses."""

import os
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from blob_model import write_blob_model
from inference_tools import blobs, read_rows, run_predict, write_blobs
from PIL import Image
from synthetic import draw

import predict
import report
from nuclei.inference.find import NUCLEUS_UM
from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.model_file import TRAINED_DIAMETER_PX, load_network, save_model
from nuclei.truth.masks import read_truth


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture
def images(tmp_path):
    return write_blobs(tmp_path / "in", 3)


def test_everything_is_written_at_the_size_of_the_image(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    table, summary = read_rows(out / "nuclei.csv"), read_rows(out / "summary.csv")
    for number in range(3):
        stem = f"image{number}"
        mask = np.array(Image.open(out / "masks" / f"{stem}.png"))
        labels = cv2.imread(str(out / "labels" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == labels.shape == (60, 80)
        assert set(np.unique(mask)) == {0, 255} and mask.dtype == np.uint8
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(mask > 0, labels > 0)
        assert np.array(Image.open(out / "overlays" / f"{stem}.jpg")).shape == (60, 80, 3)
        own_rows = [row for row in table if row["image"] == stem]
        assert [int(row["id"]) for row in own_rows] == list(range(1, labels.max() + 1))
        assert [int(row["area_px"]) for row in own_rows] == np.bincount(labels.ravel())[1:].tolist()
        assert int(summary[number]["nuclei"]) == len(own_rows) > 0
        truth = blobs(number)[1]
        counts = count_matches(match(truth, labels), thresholds=(0.4,))
        assert average_precision(counts)[0] > 0.5
        read_truth(out / "labels" / f"{stem}.png")
    last = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(last.removeprefix("To look at them: "))
    assert words[:3] == ["python", "report.py", str(out)]
    assert report.main(words[2:]) == 0 and (out / "report.html").is_file()


def test_thresholds_can_be_given(model, images, tmp_path):
    areas = {}
    for threshold in ("0.2", "0.9"):
        run_predict(model, tmp_path / threshold, images, "--threshold", threshold)
        areas[threshold] = sum(
            int(row["area_px"]) for row in read_rows(tmp_path / threshold / "nuclei.csv")
        )
    assert areas["0.2"] > areas["0.9"]
    run_predict(model, tmp_path / "large", images, "--min-area", "100000")
    assert len((tmp_path / "large" / "nuclei.csv").read_text().splitlines()) == 1  # the header
    with pytest.raises(SystemExit) as stopped:
        predict.main(["--threshold", "7"])
    assert stopped.value.code == 2


def test_small_areas_are_those_of_the_image_at_any_scale(model, tmp_path):
    image = np.zeros((80, 120, 3), np.uint8)
    y, x = np.mgrid[:80, :120]
    image[(y - 40) ** 2 + (x - 30) ** 2 <= 6**2] = image[(y - 40) ** 2 + (x - 90) ** 2 <= 9**2] = (
        200
    )
    Image.fromarray(image).save(tmp_path / "x.png")
    for diameter in ("12", "24", "40"):
        run_predict(
            model,
            tmp_path / diameter,
            tmp_path / "x.png",
            "--diameter",
            diameter,
            "--min-area",
            "180",
        )
        assert len(read_rows(tmp_path / diameter / "nuclei.csv")) == 1


def test_the_scale_is_estimated_or_given_and_written_down(model, tmp_path, capsys):
    for number, diameter in enumerate((8, 24, 70)):
        image = draw(
            "fluorescence",
            10 * diameter,
            10 * diameter,
            num_nuclei=10,
            diameter=diameter,
            seed=3,
            touching=0,
        )[0]
        Image.fromarray(image).save(tmp_path / f"x{number}.png")
    assert run_predict(model, tmp_path / "out", *sorted(tmp_path.glob("x*.png"))) == 0
    scales = [float(row["scale"]) for row in read_rows(tmp_path / "out" / "summary.csv")]
    for scale, diameter in zip(scales, (8, 24, 70), strict=True):
        assert 1 / 1.6 < scale * diameter / 24 < 1.6
    assert run_predict(model, tmp_path / "given", tmp_path / "x0.png", "--diameter", "12") == 0
    assert read_rows(tmp_path / "given" / "summary.csv")[0]["scale"] == "2.0"
    assert run_predict(model, tmp_path / "mpp", tmp_path / "x0.png", "--mpp", "0.5") == 0
    expected = TRAINED_DIAMETER_PX / (NUCLEUS_UM / 0.5)
    assert float(read_rows(tmp_path / "mpp" / "summary.csv")[0]["scale"]) == pytest.approx(
        expected, abs=0.001
    )


@pytest.mark.parametrize(
    "flags", [("--diameter", "0"), ("--mpp", "-1"), ("--diameter", "nan"), ("--mpp", "nan")]
)
def test_scales_that_mean_nothing_are_usage_errors(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        predict.main([*flags])
    assert stopped.value.code == 2


def test_test_time_augmentation_gives_the_same_for_a_network_without_preferences(
    model, images, tmp_path
):
    run_predict(model, tmp_path / "plain", images)
    assert run_predict(model, tmp_path / "tta", images, "--tta") == 0
    for number in range(3):
        plain, averaged = (
            read_truth(tmp_path / name / "labels" / f"image{number}.png").labels
            for name in ("plain", "tta")
        )
        assert (plain > 0).sum() == pytest.approx((averaged > 0).sum(), rel=0.02)
    assert (
        read_rows(tmp_path / "plain" / "summary.csv")[0]["made_by"]
        != read_rows(tmp_path / "tta" / "summary.csv")[0]["made_by"]
    )


def test_confidence_and_the_flag_come_from_the_models_settings(model, images, tmp_path):
    run_predict(model, tmp_path / "without", images)
    assert "confidence" not in read_rows(tmp_path / "without" / "nuclei.csv")[0]
    assert read_rows(tmp_path / "without" / "summary.csv")[0]["out_of_distribution"] == ""
    network, settings = load_network(model)
    uncertainties = {
        row["image"]: float(row["uncertainty"])
        for row in read_rows(tmp_path / "without" / "summary.csv")
    }
    assert len(set(uncertainties.values())) == 3 and all(
        0 < uncertainty < 1 for uncertainty in uncertainties.values()
    )
    limit = sorted(uncertainties.values())[1]
    settings |= {
        "calibration": {"weights": [0.5, 0.0, 0.0, 0.0, 0.3]},
        "out_of_distribution": {"limits": {"uncertainty": limit + 1e-4}},
    }
    save_model(tmp_path / "model.h5", network, settings)
    run_predict(tmp_path / "model.h5", tmp_path / "with", images)
    table = read_rows(tmp_path / "with" / "nuclei.csv")
    assert all(0 < float(row["confidence"]) < 1 for row in table)
    flags = {
        row["image"]: row["out_of_distribution"]
        for row in read_rows(tmp_path / "with" / "summary.csv")
    }
    assert flags == {
        image: str(int(uncertainty > limit)) for image, uncertainty in uncertainties.items()
    }
    for rule in ("confidence", "id"):
        out = tmp_path / rule
        words = ("--overlay-colour", rule, "--quiet")
        assert run_predict(tmp_path / "model.h5", out, images, *words) == 0
    pixels = {rule: overlay_of(tmp_path / rule) for rule in ("with", "confidence", "id")}
    assert (pixels["with"] != pixels["id"]).any()
    assert (pixels["confidence"] != pixels["id"]).any()


def overlay_of(out):
    return np.array(Image.open(out / "overlays" / "image0.jpg"))


def test_colours_by_confidence_need_a_calibrated_model_and_quiet_prints_nothing(
    model, images, tmp_path, capsys
):
    assert run_predict(model, tmp_path, images, "--overlay-colour", "confidence") == 1
    assert "was not calibrated" in capsys.readouterr().err
    assert run_predict(model, tmp_path, images, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 3), (131, 257)])
def test_any_size(model, tmp_path, size):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).save(
        tmp_path / "x.png"
    )
    assert run_predict(model, tmp_path / "out", tmp_path / "x.png") == 0
    assert np.array(Image.open(tmp_path / "out" / "masks" / "x.png")).shape == size


def test_tiles_and_batches_change_nothing(model, tmp_path):
    Image.fromarray(blobs(size=(300, 220))[0]).save(tmp_path / "x.png")
    # An estimated scale looks at small images as a whole.
    native = ("--diameter", str(TRAINED_DIAMETER_PX))
    run_predict(model, tmp_path / "whole", tmp_path / "x.png", *native)
    run_predict(
        model, tmp_path / "tiled", tmp_path / "x.png", "--tile", "96", "--batch-size", "3", *native
    )
    assert (tmp_path / "whole" / "labels" / "x.png").read_bytes() == (
        tmp_path / "tiled" / "labels" / "x.png"
    ).read_bytes()


def test_every_engine_finds_the_same(model, images, tmp_path, capsys):
    for name in ("auto", "keras"):
        assert run_predict(model, tmp_path / name, images, "--engine", name) == 0
    output = capsys.readouterr().out
    assert "with litert" in output
    for number in range(3):
        ours, theirs = (
            read_truth(tmp_path / name / "labels" / f"image{number}.png").labels
            for name in ("auto", "keras")
        )
        assert (ours != theirs).mean() < 0.002
    assert (
        run_predict(model, tmp_path / "auto", images, "--engine", "keras") == 0
    )  # another engine is no other setting
    assert "Nothing to do" in capsys.readouterr().out


def test_the_users_model_comes_before_the_shipped_one(model, images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Saved_Model").mkdir()
    os.link(model, "Saved_Model/pretrained.h5")
    assert predict.main([str(images)]) == 0
    assert "pretrained.h5" in capsys.readouterr().out
    os.link(model, "Saved_Model/trained_model.h5")
    assert predict.main([str(images), "--overwrite"]) == 0
    assert "trained_model.h5" in capsys.readouterr().out
    assert Path("predictions/summary.csv").exists()
