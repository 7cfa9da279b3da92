"""Resuming: after a kill the result is that of an uninterrupted run; changed data is refused."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from training_tools import TINY, history, interrupted, run, without_seconds, write_pair

import train
from nuclei.model_file import load_network, read_settings
from nuclei.training.checkpoint import read_checkpoint
from nuclei.training.fine_tuning import FEW_BLEND

ROOT = Path(train.__file__).resolve().parent


def kill_in_second_epoch(command, out):
    """Start a training and kill it, without warning, soon after its first epoch."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (out / "checkpoint.h5").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL


def test_killed_in_mid_epoch_and_resumed_it_ends_as_if_nothing_had_happened(data, tmp_path):
    out, reference = tmp_path / "out", tmp_path / "reference"
    # Long epochs make sure that the kill falls into one.
    program = [sys.executable, str(ROOT / "train.py")]
    flags = ["--data-dir", str(data), *TINY, "--crops-per-image", "20", "--epochs", "3"]
    kill_in_second_epoch([*program, *flags, "--out", str(out)], out)
    before = history(out)
    assert 1 <= len(before) < 3
    subprocess.run([*program, "--out", str(out), "--resume"], check=True)  # no other setting
    subprocess.run([*program, *flags, "--out", str(reference)], check=True)
    assert history(out)[: len(before)] == before
    assert without_seconds(history(out)) == without_seconds(history(reference))
    ours, theirs = (load_network(folder / "trained_model.h5")[0] for folder in (out, reference))
    for our, their in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(our, their)
    assert not (out / "checkpoint.h5").exists()


def test_nothing_to_resume_and_broken_checkpoints(tmp_path, capsys):
    assert train.main(["--resume", "--out", str(tmp_path)]) == 1
    assert "no unfinished training" in capsys.readouterr().err
    (tmp_path / "checkpoint.h5").write_bytes(b"not hdf5")
    assert train.main(["--resume", "--out", str(tmp_path)]) == 1
    assert "not a checkpoint" in capsys.readouterr().err


def test_changed_data_is_not_resumed_on(data, tmp_path, capsys, monkeypatch):
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(data, copy)
    with monkeypatch.context() as patch:
        patch.setattr("nuclei.training.selection.score_validation", interrupted)
        assert run(copy, out, "--epochs", 1) == 130
    assert (out / "checkpoint.h5").exists() and (out / "trained_model.h5").exists()
    write_pair(copy, "f0", seed=99)
    assert train.main(["--resume", "--out", str(out)]) == 1
    assert "the data, or its division by split.csv, has changed" in capsys.readouterr().err
    write_pair(copy, "f0", seed=0)
    # All epochs were done: only the end is missing.
    assert train.main(["--resume", "--out", str(out)]) == 0
    assert not (out / "checkpoint.h5").exists()


def test_a_checkpoint_holds_the_recipe_as_it_is(data, tmp_path, monkeypatch):
    monkeypatch.setattr("nuclei.training.selection.score_validation", interrupted)
    flags = ["--data-dir", str(data), "--out", str(tmp_path), *TINY, "--epochs", "1"]
    assert train.main(flags) == 130
    checkpoint = read_checkpoint(tmp_path / "checkpoint.h5")
    assert checkpoint.state.recipe == train.parse_arguments(flags)[0]
    assert checkpoint.state.num_epochs == 1 and checkpoint.state.is_finished
    pairs = zip(checkpoint.network, checkpoint.state.best_weights, strict=True)
    assert all(np.array_equal(now, best) for now, best in pairs)
    assert not checkpoint.state.start_weights  # only fine-tuning needs them


def test_fine_tuning_that_replaces_its_beginning_is_resumed(trained, data, tmp_path, monkeypatch):
    """--init may name the file that the training writes; later it holds other weights."""
    for folder in ("once", "twice"):
        (tmp_path / folder).mkdir()
        shutil.copy(trained / "trained_model.h5", tmp_path / folder)
    once, twice = (tmp_path / folder / "trained_model.h5" for folder in ("once", "twice"))
    assert run(data, once.parent, "--init", once, "--epochs", 2) == 0
    settings = read_settings(once)  # the validation images hold too few nuclei to choose by
    assert settings["epoch"] == 2 and settings["blend"] == FEW_BLEND
    with monkeypatch.context() as patch:
        patch.setattr("nuclei.training.selection.choose_blend", interrupted)
        assert run(data, twice.parent, "--init", twice, "--epochs", 2) == 130
    assert train.main(["--resume", "--out", str(twice.parent)]) == 0
    ours, theirs = (load_network(path)[0].get_weights() for path in (once, twice))
    assert all((our == their).all() for our, their in zip(ours, theirs, strict=True))
