"""train.py: what it writes, that it repeats, what it refuses, and that its messages are short."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from synthetic import draw
from training_tools import RESULTS, history, run, without_seconds, write_data, write_pair

import train
from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import load_network, read_settings
from nuclei.training.recipe import FINE_TUNING_RATE, Recipe
from nuclei.truth.masks import read_truth
from unet import HEADS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Three epochs without interruption."""
    out = tmp_path_factory.mktemp("trained")
    assert run(data, out, "--epochs", 3) == 0
    return out


@pytest.fixture(autouse=True)
def few_rehearsal_crops(monkeypatch):
    """The usual number of pixels would be thousands of the tests' tiny crops."""
    monkeypatch.setattr("nuclei.training.fine_tuning.REHEARSAL_PIXELS", 64 * 32**2)


def test_it_writes_a_model_that_describes_itself_and_a_history(trained):
    rows = history(trained)
    assert list(rows[0])[:5] == ["epoch", "loss", "accuracy", "dice", "iou"]
    assert list(rows[0])[-2:] == ["learning_rate", "seconds"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    model, settings = load_network(trained / "trained_model.h5")
    names = "architecture preprocessing thresholds nucleus_diameter_px trained_diameter_px"
    names += " arguments data versions scores"
    assert set(settings) >= set(names.split())
    assert set(settings["thresholds"]) == set(THRESHOLDS)
    assert settings["architecture"]["width"] == 8
    assert settings["epoch"] == 1 + int(np.argmin([float(row["val_loss"]) for row in rows]))
    assert settings["averaged_epochs"] == 1
    assert settings["scores"]["validation"]["all"]["images"] == settings["data"]["validation"] >= 1
    assert 8 < settings["nucleus_diameter_px"]["median"] < 20
    json.dumps(settings)
    assert model.output_shape[-1] == len(HEADS)
    # Nothing else is left.
    names = sorted(path.name for path in trained.iterdir())
    assert names == RESULTS


def test_the_model_file_holds_the_recipe_but_no_folder_of_this_machine(trained, data):
    arguments = read_settings(trained / "trained_model.h5")["arguments"]
    assert arguments["data_dir"] == [data.name] and arguments["gt_dir"] is None
    assert Recipe(**arguments).epochs == 3


def test_two_runs_with_one_seed_agree_and_another_seed_differs(trained, data, tmp_path):
    assert run(data, tmp_path / "same", "--epochs", 3) == 0
    assert without_seconds(history(tmp_path / "same")) == without_seconds(history(trained))
    assert run(data, tmp_path / "other", "--epochs", 1, "--seed", 8) == 0
    assert history(tmp_path / "other")[0]["loss"] != history(trained)[0]["loss"]


def test_fine_tuning_may_change_the_heads(trained, data, tmp_path):
    flags = ("--init", trained / "trained_model.h5", "--epochs", 1)
    assert run(data, tmp_path, *flags, "--heads", "nucleus", "distance") == 0
    settings = read_settings(tmp_path / "trained_model.h5")
    assert settings["architecture"]["heads"] == ["nucleus", "distance"]
    # The last map needs the two before it.
    assert run(data, tmp_path, "--heads", "contact", "--epochs", 1) == 1


def test_an_earlier_model_moves_aside_and_fine_tuning_starts_from_it(
    trained, data, tmp_path, capsys
):
    names = ("trained_model.h5", "history.csv")
    earlier = {name: (trained / name).read_bytes() for name in names}
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
    init = tmp_path / "trained_model.h5"
    assert run(data, tmp_path, "--epochs", 1, "--init", init, "--depth", 2) == 0
    moved = list((tmp_path / "previous").iterdir())
    assert len(moved) == 1
    assert {name: (moved[0] / name).read_bytes() for name in names} == earlier
    settings = read_settings(init)
    assert settings["architecture"]["depth"] == 1  # that of the model it came from
    assert settings["arguments"]["learning_rate"] == FINE_TUNING_RATE
    assert float(history(tmp_path)[0]["loss"]) < float(history(trained)[0]["loss"])
    assert "moved to" in capsys.readouterr().out


def test_an_unfinished_training_is_not_overwritten(data, tmp_path, capsys):
    (tmp_path / "checkpoint.h5").write_bytes(b"precious")
    assert run(data, tmp_path, "--epochs", 1) == 0
    checkpoints = list((tmp_path / "previous").glob("*/checkpoint.h5"))
    assert [path.read_bytes() for path in checkpoints] == [b"precious"]
    assert "--resume" in capsys.readouterr().out


def test_one_pair_is_enough_and_says_so(tmp_path, capsys):
    write_pair(tmp_path / "d", "only")
    assert run(tmp_path / "d", tmp_path / "out", "--epochs", 1) == 0
    assert "training images are used for validation" in " ".join(capsys.readouterr().out.split())


def test_a_split_csv_decides(data, tmp_path, capsys):
    split = tmp_path / "split.csv"
    split.write_text("stem,split\nf0,train\nf1,train\nt0,validation\n")
    assert run(data, tmp_path / "out", "--epochs", 1, "--split", split) == 0
    printed = capsys.readouterr().out
    assert "2 images to train on" in printed and "5 images are in neither part" in printed
    split.write_text("stem,split\nf0,validation\n")
    assert run(data, tmp_path / "out2", "--epochs", 1, "--split", split) == 1
    assert "marked train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "heads"),
    [
        (("--stem-stride", "1"), list(HEADS)),
        (("--heads", "nucleus", "--precision", "float32"), ["nucleus"]),
    ],
)
def test_architectures(data, tmp_path, flags, heads):
    assert run(data, tmp_path, "--epochs", 1, *flags) == 0
    assert read_settings(tmp_path / "trained_model.h5")["architecture"]["heads"] == heads


def test_masks_of_another_folder(data, tmp_path):
    (tmp_path / "d").mkdir()
    os.symlink(data / "raw", tmp_path / "d" / "raw")
    flags = ("--gt-dir", data / "gt", "--epochs", 1)
    assert run(tmp_path / "d", tmp_path / "out", *flags) == 0


def test_sixteen_bit_tiff_trains(tmp_path):
    image, labels = draw("fluorescence", 48, 48, num_nuclei=4, diameter=14, seed=1, touching=0)
    grey = image[..., 0].astype(np.uint16) * 9
    for folder, array in (("raw", grey), ("gt", labels.astype(np.int32))):
        (tmp_path / "d" / folder).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "d" / folder / "x.tif", array)
    assert read_truth(tmp_path / "d" / "gt" / "x.tif").labels.max() == labels.max()
    assert run(tmp_path / "d", tmp_path / "out", "--epochs", 1) == 0


@pytest.mark.parametrize("value", ["0", "-3", "x"])
def test_numbers_below_one_are_usage_errors(value):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--epochs", value])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    "flags",
    [
        ("--process-id", "1"),
        ("--num-processes", "2"),
        ("--num-processes", "2", "--coordinator", "host"),
    ],
)
def test_flags_that_belong_together(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(list(flags))
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert "--process-id is 1" in errors or "HOST:PORT" in errors


@pytest.mark.parametrize(
    ("flag", "value", "name"),
    [
        ("--learning-rate", "0", "learning_rate is 0.0"),
        ("--learning-rate", "-0.01", "learning_rate is -0.01"),
        ("--crop", "20000", "crop_px is 20000"),
        ("--depth", "9", "depth is 9"),
        ("--width", "1500", "width is 1500"),
        ("--seed", "-1", "seed is -1"),
    ],
)
def test_a_setting_that_no_model_file_could_hold_is_a_usage_error(flag, value, name, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main([flag, value])
    assert stopped.value.code == 2 and name in capsys.readouterr().err


def test_crops_that_the_network_cannot_halve_are_named(tmp_path, capsys):
    data = write_data(tmp_path / "data", num_pairs=2)
    assert train.main(["--data-dir", str(data), "--out", str(tmp_path / "o"), "--crop", "250"]) == 1
    assert "--crop 250: this network needs a multiple of 32 px; take 256" in capsys.readouterr().err


def assert_one_line_of_error(data, tmp_path, capsys, *words):
    """One line, after one for each pair that is left out."""
    assert run(data, tmp_path / "out", "--epochs", 1) == 1
    *skipped, error = capsys.readouterr().err.splitlines()
    assert error.startswith("train.py: ") and all(map(re.compile("skipped: ").match, skipped))
    for word in words:
        assert word in error
    assert not (tmp_path / "out").exists()


def test_bad_data_ends_in_one_line(tmp_path, capsys):
    small = Image.fromarray(np.zeros((9, 9), np.uint8))
    assert_one_line_of_error(tmp_path / "nowhere", tmp_path, capsys, "does not exist")
    write_pair(tmp_path / "b", "x")
    small.save(tmp_path / "b" / "gt" / "x.png")
    assert_one_line_of_error(tmp_path / "b", tmp_path, capsys, "x.png", "9 x 9", "48 x 56")
    write_pair(tmp_path / "c", "x")
    Image.fromarray(np.zeros((48, 56), np.uint8)).save(tmp_path / "c" / "gt" / "x.png")
    message = "none of the 1 masks holds a nucleus"
    assert_one_line_of_error(tmp_path / "c", tmp_path, capsys, message)


def test_a_full_disk_is_one_line(data, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28), "history.csv")

    monkeypatch.setattr("nuclei.training.bookkeeping.write_history", full)
    assert run(data, tmp_path, "--epochs", 1) == 1
    assert "disk is full" in capsys.readouterr().err


def test_help_opens_without_keras_and_names_every_default():
    code = (
        "import sys, train\n"
        "try:\n    train.main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = done.stdout.split("data:")[1]
    assert text.count("default") >= text.count("\n  --")


def test_flags_have_the_defaults_of_a_recipe():
    recipe, run_record, resume, quiet = train.parse_arguments([])
    assert recipe == Recipe() and not resume and not quiet
    assert run_record.model == Path("Saved_Model/trained_model.h5")
