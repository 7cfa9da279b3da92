"""After each epoch: patience is counted, the best is kept, a blind network is reported."""

import numpy as np
from training_tools import history, run

from nuclei.model_file import read_settings
from nuclei.training.fit import MIN_STEPS


def test_early_stopping_counts_and_keeps_the_best(data, tmp_path, capsys):
    flags = ("--epochs", 30, "--patience", 1, "--learning-rate", 0.2)
    assert run(data, tmp_path, *flags) == 0
    rows = history(tmp_path)
    assert len(rows) < 30 and "Stopped early" in capsys.readouterr().out
    best = int(np.argmin([float(row["val_loss"]) for row in rows]))
    assert len(rows) == best + 2
    assert read_settings(tmp_path / "trained_model.h5")["epoch"] == best + 1


def test_a_network_that_predicts_background_only_is_reported(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nuclei.training.bookkeeping.BLIND_EPOCH", 1)
    monkeypatch.setattr("nuclei.training.bookkeeping.BLIND_DICE", 1.0)
    assert run(data, tmp_path, "--epochs", 1) == 0
    printed = capsys.readouterr().out
    assert "background only" in printed and f"1 epochs of {MIN_STEPS} steps" in printed
