"""Training: what it writes, that it repeats, resumes after a kill, refuses bad data, and loses nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
import tifffile
from PIL import Image
from synthetic import draw

import train
from nuclei.images.masks import read_truth
from nuclei.instances.separate import THRESHOLDS
from nuclei.machine import memory_bytes
from nuclei.model_file import load_network, read_settings, save_model
from nuclei.training.batches import batches
from nuclei.training.fine_tuning import BLEND_GAIN, FEW_BLEND, REHEARSAL_SHARE, choose_blend, rehearsal_crops, rehearse
from nuclei.training.fit import LEARNING_RATE, MIN_STEPS, drawing_threads, train
from nuclei.training.samples import load_samples
from nuclei.training.selection import choose_epoch, score_validation, validation_crops
from nuclei.training.targets import UNKNOWN
from unet import HEADS

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--width", "8", "--depth", "1", "--crop", "32", "--batch-size", "2", "--crops-per-image", "1"]


def write_pair(folder, stem, kind="fluorescence", seed=0, binary=False, size=(48, 56)):
    image, labels = draw(kind, *size, num_nuclei=5, diameter=14, seed=seed, touching=0.5)
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    (folder / "gt").mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / "raw" / f"{stem}.png")
    truth = (labels > 0).astype(np.uint8) * 255 if binary else labels.astype(np.uint16)
    Image.fromarray(truth).save(folder / "gt" / f"{stem}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for number in range(4):
        write_pair(folder, f"f{number}", "fluorescence", number)
        write_pair(folder, f"t{number}", "tissue", number)
    return folder


def run(data, out, *more):
    return train.main(["--data-dir", str(data), "--out", str(out), *TINY, *map(str, more)])


def history(out):
    with open(out / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Three epochs without interruption."""
    out = tmp_path_factory.mktemp("trained")
    assert run(data, out, "--epochs", 3) == 0
    return out


def test_it_writes_a_model_that_describes_itself_and_a_history(trained, data):
    rows = history(trained)
    assert list(rows[0])[:5] == ["epoch", "loss", "accuracy", "dice", "iou"]
    assert list(rows[0])[-2:] == ["learning_rate", "seconds"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    model, settings = load_network(trained / "trained_model.h5")
    assert set(settings) >= {
        "architecture",
        "preprocessing",
        "thresholds",
        "nucleus_diameter_px",
        "trained_diameter_px",
        "out_of_distribution",
        "arguments",
        "data",
        "versions",
        "scores",
    }
    assert set(settings["thresholds"]) == set(THRESHOLDS)
    assert settings["architecture"]["width"] == 8
    assert settings["epoch"] == 1 + int(np.argmin([float(row["val_loss"]) for row in rows]))
    assert settings["averaged_epochs"] == 1
    assert settings["scores"]["validation"]["all"]["images"] == settings["data"]["validation"] >= 1
    assert 8 < settings["nucleus_diameter_px"]["median"] < 20
    json.dumps(settings)
    assert model.output_shape[-1] == len(HEADS)
    assert sorted(path.name for path in trained.iterdir()) == ["history.csv", "trained_model.h5"]  # nothing else is left


def test_fine_tuning_may_change_the_heads(trained, data, tmp_path):
    model = trained / "trained_model.h5"
    assert run(data, tmp_path, "--init", model, "--epochs", 1, "--heads", "nucleus", "distance") == 0
    assert read_settings(tmp_path / "trained_model.h5")["architecture"]["heads"] == ["nucleus", "distance"]
    assert run(data, tmp_path, "--heads", "contact", "--epochs", 1) == 1  # a map that needs the two before it


def test_two_runs_with_one_seed_agree_and_another_seed_differs(trained, data, tmp_path):
    assert run(data, tmp_path / "same", "--epochs", 3) == 0
    assert without_seconds(history(tmp_path / "same")) == without_seconds(history(trained))
    assert run(data, tmp_path / "other", "--epochs", 1, "--seed", 8) == 0
    assert history(tmp_path / "other")[0]["loss"] != history(trained)[0]["loss"]


def test_killed_in_mid_epoch_and_resumed_it_ends_as_if_nothing_had_happened(trained, data, tmp_path):
    out = tmp_path / "out"
    # Long epochs make sure that the kill falls into one; the reference is a run of the same arguments.
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "--data-dir",
        str(data),
        *TINY,
        "--crops-per-image",
        "20",
        "--epochs",
        "3",
    ]
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (out / "checkpoint.h5").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    before = history(out)
    assert 1 <= len(before) < 3
    reference = tmp_path / "reference"
    subprocess.run([*command[:2], "--out", str(out), "--resume"], check=True)  # no other setting is repeated
    subprocess.run([*command, "--out", str(reference)], check=True)
    assert history(out)[: len(before)] == before
    assert without_seconds(history(out)) == without_seconds(history(reference))
    for ours, theirs in zip(
        load_network(out / "trained_model.h5")[0].get_weights(),
        load_network(reference / "trained_model.h5")[0].get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert not (out / "checkpoint.h5").exists()


def test_early_stopping_counts_and_keeps_the_best(data, tmp_path, capsys):
    assert run(data, tmp_path, "--epochs", 30, "--patience", 1, "--learning-rate", 0.2) == 0
    rows = history(tmp_path)
    assert len(rows) < 30 and "Stopped early" in capsys.readouterr().out
    best = int(np.argmin([float(row["val_loss"]) for row in rows]))
    assert len(rows) == best + 2
    assert read_settings(tmp_path / "trained_model.h5")["epoch"] == best + 1


def test_an_earlier_model_moves_aside_and_fine_tuning_starts_from_it(trained, data, tmp_path, capsys):
    old_model, old_history = (trained / "trained_model.h5").read_bytes(), (trained / "history.csv").read_bytes()
    (tmp_path / "trained_model.h5").write_bytes(old_model)
    (tmp_path / "history.csv").write_bytes(old_history)
    init = tmp_path / "trained_model.h5"
    assert run(data, tmp_path, "--epochs", 1, "--init", init, "--depth", 2) == 0
    moved = list((tmp_path / "previous").iterdir())
    assert len(moved) == 1
    assert (moved[0] / "trained_model.h5").read_bytes() == old_model
    assert (moved[0] / "history.csv").read_bytes() == old_history
    settings = read_settings(init)
    assert settings["architecture"]["depth"] == 1  # that of the model it came from
    assert settings["arguments"]["learning_rate"] < LEARNING_RATE
    assert float(history(tmp_path)[0]["loss"]) < float(history(trained)[0]["loss"])
    assert "moved to" in capsys.readouterr().out


class Constant:
    """Stands in for a network of one weight: it paints that probability everywhere."""

    def set_weights(self, weights):
        self.value = float(weights[0])

    def predict_on_batch(self, images):
        return np.full((*images.shape[:3], 1), self.value, np.float32)


def test_fine_tuning_goes_no_farther_than_it_pays():
    images = np.zeros((5, 8, 8, 3), np.float32)
    choose = lambda truth, end, *more: choose_blend(model, [np.float32(0.1)], [np.float32(end)], crops(truth), 2, *more)
    crops, model = lambda truth: (images, np.full((5, 8, 8, 1), truth, np.float32)), Constant()
    blend, losses = choose(1, 0.9)  # the loss falls all the way, most of it at the beginning
    assert blend == 0.75 and model.value == pytest.approx(0.1 + 0.75 * 0.8)
    assert losses[0.0] - losses[0.75] >= BLEND_GAIN * (losses[0.0] - losses[1.0])
    assert losses[0.0] - losses[0.5] < BLEND_GAIN * (losses[0.0] - losses[1.0])
    assert choose(1, 0.9, (0.3,))[0] == 0.3 and model.value == pytest.approx(0.34)  # where the user says it
    assert choose(0, 0.9)[0] == 0.25 and model.value == pytest.approx(0.3)  # nothing gained: the least harm


def test_fine_tuning_on_few_nuclei_keeps_thresholds_and_forgets_less(trained, data, tmp_path, capsys):
    base = read_settings(trained / "trained_model.h5")
    odd = {
        "thresholds": {**base["thresholds"], "marker_threshold": 0.41},
        "calibration": {"weights": [0.1] * 5, "nuclei": 7, "expected_calibration_error": 0.5},
        "out_of_distribution": {"uncertainty_above": 0.7, "false_alarm_rate": 0.1, "images": 3},
    }
    init = tmp_path / "init.h5"
    save_model(init, load_network(trained / "trained_model.h5")[0], base | odd)
    weights = [load_network(init)[0].get_weights()]
    for blend in ("0.5", "1"):
        assert run(data, tmp_path / blend, "--init", init, "--epochs", 1, "--blend", blend) == 0
        model, settings = load_network(tmp_path / blend / "trained_model.h5")
        assert settings["blend"] == float(blend) and odd == {name: settings[name] for name in odd}
        weights.append(model.get_weights())
    for first, half, end in zip(*weights, strict=True):
        assert half == pytest.approx((first + end) / 2, abs=1e-6)
    assert "50% of the way" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(data, tmp_path / "no", "--init", init, "--blend", "0")
    assert "more than 0" in capsys.readouterr().err


@pytest.mark.parametrize("few", [True, False])
def test_fine_tuning_on_few_images_keeps_the_batch_normalisation(trained, data, tmp_path, monkeypatch, capsys, few):
    monkeypatch.setattr("nuclei.training.fine_tuning.FEW_IMAGES", 50 if few else 1)
    init = trained / "trained_model.h5"
    assert run(data, tmp_path, "--init", init, "--epochs", 1, "--blend", 1) == 0
    said = capsys.readouterr().out
    assert f"1 epochs of {MIN_STEPS} steps" in said and (f"{REHEARSAL_SHARE:.0%} of the crops" in said) == few
    before, after = load_network(init)[0], load_network(tmp_path / "trained_model.h5")[0]
    for one, other in zip(before.weights, after.weights, strict=True):
        if "moving" in one.path:
            assert np.array_equal(one, other) == few
    assert not all(np.array_equal(one, other) for one, other in zip(before.weights, after.weights, strict=True))


@pytest.mark.parametrize("share", [0, 0.9])
def test_rehearsal_keeps_what_the_model_knew_of_another_modality(trained, data, tmp_path, share):
    flags = ("--init", trained / "trained_model.h5", "--epochs", 1, "--blend", 1, "--learning-rate", 0.004)
    assert run(data, tmp_path / "none", *flags, "--rehearsal", 0) == 0
    assert run(data, tmp_path / "some", *flags, "--rehearsal", share) == 0
    samples = [sample for stem, sample in load_samples(data / "raw", data / "gt")[0].items() if stem.startswith("t")]
    crops = rehearsal_crops(samples, 32, 16, seed=99)
    files = (trained, tmp_path / "none", tmp_path / "some")
    before, none, some = (load_network(file / "trained_model.h5")[0].predict_on_batch(crops) for file in files)
    if share:
        assert np.abs(some - before).mean() < 0.8 * np.abs(none - before).mean()
    else:
        assert np.array_equal(some, none)


def test_what_is_rehearsed_is_what_the_model_paints_and_unknown_what_it_has_not_learned(trained, data, monkeypatch):
    monkeypatch.setattr("nuclei.training.fine_tuning.REHEARSAL_PIXELS", 5 * 32**2)
    samples = list(load_samples(data / "raw", data / "gt")[0].values())
    model, heads = load_network(trained / "trained_model.h5")[0], HEADS
    found = rehearse(model, heads[:2], samples, heads, 32, 2, 0.5, seed=1)
    assert found.crops.shape == (5, 32, 32, 3) and found.share == 0.5
    assert found.truths[..., :2] == pytest.approx(model.predict_on_batch(found.crops)[..., :2], abs=1e-5)
    assert (found.truths[..., 2] == UNKNOWN).all()


def test_rehearsal_wants_a_model_and_a_share(data, tmp_path, capsys):
    for flags in (
        ("--rehearsal", "0.5"),
        ("--init", "model.h5", "--rehearsal", "1"),
        ("--init", "model.h5", "--rehearsal", "-1"),
    ):
        with pytest.raises(SystemExit):
            run(data, tmp_path, *flags)
        assert "less than 1, with --init" in capsys.readouterr().err


def test_fine_tuning_that_replaces_its_beginning_is_resumed(trained, data, tmp_path, monkeypatch):
    """--init names the file that the training itself writes: after an interruption it holds other weights."""
    for out in (tmp_path / "once", tmp_path / "twice"):
        out.mkdir()
        (out / "trained_model.h5").write_bytes((trained / "trained_model.h5").read_bytes())
    once, twice = (tmp_path / name / "trained_model.h5" for name in ("once", "twice"))
    assert run(data, once.parent, "--init", once, "--epochs", 2) == 0
    settings = read_settings(once)  # the validation images hold too few nuclei to choose by
    assert settings["epoch"] == 2 and settings["blend"] == FEW_BLEND
    with monkeypatch.context() as patch:
        patch.setattr("nuclei.training.fine_tuning.choose_blend", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(data, twice.parent, "--init", twice, "--epochs", 2) == 130
    assert train.main(["--resume", "--out", str(twice.parent)]) == 0
    for one, other in zip(load_network(once)[0].get_weights(), load_network(twice)[0].get_weights(), strict=True):
        assert (one == other).all()


def test_memory_is_what_this_process_may_use():
    assert 1e8 < memory_bytes() < 1e14
    limited = "ulimit -d 3000000; exec " + sys.executable + " -c 'import unet; print(unet.memory_bytes())'"
    assert int(subprocess.run(limited, shell=True, cwd=ROOT, capture_output=True, text=True).stdout) <= 3_072_000_000


def test_an_unfinished_training_is_not_overwritten(data, tmp_path, capsys):
    (tmp_path / "checkpoint.h5").write_bytes(b"precious")
    assert run(data, tmp_path, "--epochs", 1) == 0
    assert [path.read_bytes() for path in (tmp_path / "previous").glob("*/checkpoint.h5")] == [b"precious"]
    assert "--resume" in capsys.readouterr().out


def test_nothing_to_resume_and_broken_checkpoints(tmp_path, capsys):
    assert train.main(["--resume", "--out", str(tmp_path)]) == 1
    assert "no unfinished training" in capsys.readouterr().err
    (tmp_path / "checkpoint.h5").write_bytes(b"not hdf5")
    assert train.main(["--resume", "--out", str(tmp_path)]) == 1
    assert "not a checkpoint" in capsys.readouterr().err


def test_changed_data_is_not_resumed_on(data, tmp_path, capsys, monkeypatch):
    import shutil

    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(data, copy)
    with monkeypatch.context() as patch:
        patch.setattr("nuclei.training.selection.score_validation", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(copy, out, "--epochs", 1) == 130
    assert (out / "checkpoint.h5").exists() and (out / "trained_model.h5").exists()
    write_pair(copy, "f0", seed=99)
    assert train.main(["--resume", "--out", str(out)]) == 1
    assert "data has changed" in capsys.readouterr().err
    write_pair(copy, "f0", seed=0)
    assert train.main(["--resume", "--out", str(out)]) == 0  # all epochs were done: only the end is made up for
    assert not (out / "checkpoint.h5").exists()


def test_ctrl_c_says_how_to_go_on(data, tmp_path, capsys, monkeypatch):

    def interrupted(*arguments, **keywords):
        yield from []
        raise KeyboardInterrupt

    monkeypatch.setattr("nuclei.training.batches.batches", interrupted)
    assert run(data, tmp_path, "--epochs", 1) == 130
    assert "--resume" in capsys.readouterr().out


def test_the_first_nan_stops_it_and_keeps_the_last_good_epoch(data, tmp_path, capsys, monkeypatch):

    real, batches_of_an_epoch = batches, MIN_STEPS

    def poisoned(*arguments, **keywords):
        for step, (images, truths) in enumerate(real(*arguments, **keywords)):
            yield (images * np.nan if step >= batches_of_an_epoch + 2 else images), truths

    monkeypatch.setattr("nuclei.training.batches.batches", poisoned)
    assert run(data, tmp_path, "--epochs", 4) == 1
    error = capsys.readouterr().err
    assert "became nan in epoch 2" in error and "--learning-rate" in error and "\n" not in error.strip()
    assert len(history(tmp_path)) == 1
    model, settings = load_network(tmp_path / "trained_model.h5")
    assert settings["epoch"] == 1 and all(np.isfinite(w).all() for w in model.get_weights())


def test_a_network_that_paints_background_only_is_reported(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nuclei.training.bookkeeping.BLIND_EPOCH", 1)
    monkeypatch.setattr("nuclei.training.bookkeeping.BLIND_DICE", 1.0)
    assert run(data, tmp_path, "--epochs", 1) == 0
    said = capsys.readouterr().out
    assert "background only" in said and f"1 epochs of {MIN_STEPS} steps" in said


def test_binary_truth_is_learned_as_components_and_mixed_truth_as_unknown_depth(tmp_path):
    write_pair(tmp_path, "a", binary=True)
    said = []
    samples, forms = load_samples(tmp_path / "raw", tmp_path / "gt", said.append)
    assert samples["a"].has_instances and forms["a"] == "binary" and "learned as one" in said[0]
    write_pair(tmp_path, "b", seed=1)
    samples, _ = load_samples(tmp_path / "raw", tmp_path / "gt", said.append)
    assert not samples["a"].has_instances and samples["b"].has_instances


def test_one_pair_is_enough_and_says_so(tmp_path, capsys):
    write_pair(tmp_path / "d", "only")
    assert run(tmp_path / "d", tmp_path / "out", "--epochs", 1) == 0
    assert "the scores flatter" in capsys.readouterr().out


def test_a_split_csv_decides(data, tmp_path, capsys):
    split = tmp_path / "split.csv"
    split.write_text("stem,split\nf0,train\nf1,train\nt0,validation\n")
    assert run(data, tmp_path / "out", "--epochs", 1, "--split", split) == 0
    said = capsys.readouterr().out
    assert "2 images to train on" in said and "5 images are in neither part" in said
    split.write_text("stem,split\nf0,validation\n")
    assert run(data, tmp_path / "out2", "--epochs", 1, "--split", split) == 1
    assert "marked train" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [("--stem-stride", "1", "--normalisation", "group"), ("--heads", "nucleus", "--precision", "float32")]
)
def test_architectures(data, tmp_path, flags):
    assert run(data, tmp_path, "--epochs", 1, *flags) == 0
    settings = read_settings(tmp_path / "trained_model.h5")
    assert settings["architecture"]["heads"] == (["nucleus"] if "nucleus" in flags else list(HEADS))


def test_masks_of_another_folder(data, tmp_path):
    assert (
        train.main(["--data-dir", str(data), "--gt-dir", str(data / "gt"), "--out", str(tmp_path), *TINY, "--epochs", "1"]) == 0
    )


@pytest.mark.parametrize("value", ["0", "-3", "x"])
def test_numbers_below_one_are_usage_errors(value):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--epochs", value])
    assert stopped.value.code == 2


def test_bad_data_ends_in_one_line(data, tmp_path, capsys):
    def fails(folder, *words):
        assert run(folder, tmp_path / "out", "--epochs", 1) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("train.py: "), error
        for word in words:
            assert word in error
        assert not (tmp_path / "out").exists()

    fails(tmp_path / "nowhere", "does not exist")
    write_pair(tmp_path / "a", "x")
    (tmp_path / "a" / "raw" / "y.png").write_text("text")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a" / "gt" / "y.png")
    fails(tmp_path / "a", "y.png", "1 of 2 pairs")
    write_pair(tmp_path / "b", "x")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "b" / "gt" / "x.png")
    fails(tmp_path / "b", "x.png", "9 x 9", "48 x 56")
    write_pair(tmp_path / "c", "x")
    Image.fromarray(np.zeros((48, 56), np.uint8)).save(tmp_path / "c" / "gt" / "x.png")
    fails(tmp_path / "c", "none of the 1 masks holds a nucleus")


def test_unpaired_files_are_counted(tmp_path):
    write_pair(tmp_path, "a")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "raw" / "alone.png")
    said = []
    load_samples(tmp_path / "raw", tmp_path / "gt", said.append)
    assert "1 files" in said[0]


def test_validation_crops_cover_and_are_capped(data, monkeypatch):
    samples = list(load_samples(data / "raw", data / "gt")[0].values())
    images, truths = validation_crops(samples, ("nucleus", "distance"), 256)  # larger than the images: mirrored
    assert images.shape == (8, 256, 256, 3) and truths.shape == (8, 256, 256, 2)
    images, truths = validation_crops(samples, ("nucleus",), 32)
    assert len(images) > 8 and images.min() >= 0 and images.max() <= 1 and set(np.unique(truths)) == {0, 1}
    # They show the size that the training does: scaled images have as many more pixels, and so many more crops.
    monkeypatch.setattr(train.augment, "DIAMETER_PX", 2 * train.augment.DIAMETER_PX)
    assert len(validation_crops(samples, ("nucleus",), 32)[0]) > 2 * len(images)
    monkeypatch.setattr("nuclei.training.selection.MAX_VALIDATION_CROPS", 5)
    assert len(validation_crops(samples, ("nucleus",), 32)[0]) == 5


def test_a_full_disk_is_one_line(data, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28), "history.csv")

    monkeypatch.setattr("nuclei.training.checkpoint.write_history", full)
    assert run(data, tmp_path, "--epochs", 1) == 1
    assert "disk is full" in capsys.readouterr().err


def test_sixteen_bit_tiff_trains(tmp_path):
    image, labels = draw("fluorescence", 48, 48, num_nuclei=4, diameter=14, seed=1, touching=0)
    for folder, array in (("raw", image[..., 0].astype(np.uint16) * 9), ("gt", labels.astype(np.int32))):
        (tmp_path / "d" / folder).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "d" / folder / "x.tif", array)
    assert read_truth(tmp_path / "d" / "gt" / "x.tif").labels.max() == labels.max()
    assert run(tmp_path / "d", tmp_path / "out", "--epochs", 1) == 0


def test_more_images_than_memory_holds_lie_in_a_file_and_train_alike(trained, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nuclei.training.samples.HELD_BYTES", 40_000)  # of some 19,000 for each pair
    samples, _ = load_samples(data / "raw", data / "gt", say=lambda line: None, folder=tmp_path)
    mapped = [isinstance(sample.image, np.memmap) and isinstance(sample.labels, np.memmap) for sample in samples.values()]
    assert mapped == [False] * 2 + [True] * 6
    assert run(data, tmp_path / "out", "--epochs", 3) == 0
    assert "the rest lies in a temporary file" in capsys.readouterr().out
    assert without_seconds(history(tmp_path / "out")) == without_seconds(history(trained))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["history.csv", "trained_model.h5"]


@pytest.mark.parametrize("init", [False, True])
def test_thresholds_are_chosen_when_crops_and_network_of_the_training_are_gone(trained, data, tmp_path, monkeypatch, init):
    held, gone, score = [], [], score_validation

    class Watch(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            held.append(weakref.ref(self.model))

    def watch(images, truths):
        held.extend([weakref.ref(images), weakref.ref(truths)])
        return [Watch()]

    def look(*arguments):
        gone.extend(reference() is None for reference in held)
        return score(*arguments)

    monkeypatch.setattr("nuclei.training.selection.score_validation", look)
    arguments = ["--data-dir", str(data), "--out", str(tmp_path), "--epochs", "1", *TINY]
    arguments += ["--init", str(trained / "trained_model.h5")] if init else []
    train(**vars(train.parse_arguments(arguments)), make_callbacks=watch)
    assert len(gone) >= 3 and all(gone)


@pytest.mark.parametrize(("enough", "chosen"), [(True, 7), (False, 3)])
def test_of_best_and_last_epoch_the_one_is_kept_that_finds_more(enough, chosen):
    class Model:
        def set_weights(self, weights):
            self.weights = weights

    model, quality, said = Model(), {"best": 0.6, "last": 0.7}, []

    def score():
        return {"thresholds": model.weights}, {"all": {"ap50": quality[model.weights], "map": 0.5}}

    names = {"epoch 3": "best", "epoch 7": "last"}
    words, weights, found, scores = choose_epoch(model, names, score, enough, said.append)
    assert words == f"epoch {chosen}" and weights == model.weights == found["thresholds"] == names[words]
    assert scores["all"]["ap50"] == quality[weights] and said[2:] == ["  kept: epoch 7"] * enough


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_training_ends_with_the_mean_of_its_last_quarter(trained, data, tmp_path, capsys, interrupted):
    """Of --init with few nuclei to validate, which takes the end of the training."""
    epochs, seen = 8, []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.get_weights())
            if interrupted and len(seen) == 7:
                raise KeyboardInterrupt

    arguments = ["--data-dir", data, "--out", tmp_path, "--epochs", epochs, *TINY, "--init", trained / "trained_model.h5"]
    arguments += ["--blend", "1", "--learning-rate", "0.01"]

    def go(*flags):
        train(**vars(train.parse_arguments([*map(str, arguments), *flags])), make_callbacks=lambda *_: [Watch()])

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            go()
        go("--resume")
    else:
        go()
    model, settings = load_network(tmp_path / "trained_model.h5")
    assert settings["epoch"] == 8 and settings["averaged_epochs"] == 2 and len(seen) == 8
    for kept, one, other in zip(model.get_weights(), *seen[-2:], strict=True):
        np.testing.assert_allclose(kept, (one + other) / 2, rtol=1e-5, atol=1e-7)
    assert any((one != other).any() for one, other in zip(*seen[-2:], strict=True))


def test_one_thread_draws_beside_a_network_on_the_same_cores_and_several_for_a_gpu():
    assert drawing_threads("CPU, 64 cores, with tensorflow") == 1
    assert 2 <= drawing_threads("GPU NVIDIA T4 with tensorflow") <= 8
