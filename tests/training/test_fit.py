"""The training loop: a broken loss stops it, the last epochs are averaged, memory is freed."""

import weakref

import numpy as np
import pytest
from training_tools import RESULTS, TINY, history, run, without_seconds

import train
from nuclei.model_file import load_network
from nuclei.training.batches import batches
from nuclei.training.bookkeeping import Bookkeeper
from nuclei.training.fit import MIN_STEPS
from nuclei.training.network import compile_model
from nuclei.training.selection import score_validation
from nuclei.training.validation import validation_crops


def test_the_first_nan_stops_it_and_keeps_the_last_good_epoch(data, tmp_path, capsys, monkeypatch):
    def poisoned(*arguments, **keywords):
        for step, (images, truths) in enumerate(batches(*arguments, **keywords)):
            yield (images * np.nan if step >= MIN_STEPS + 2 else images), truths

    monkeypatch.setattr("nuclei.training.fit.batches", poisoned)
    assert run(data, tmp_path, "--epochs", 4) == 1
    error = capsys.readouterr().err
    assert "became nan in epoch 2" in error and "--learning-rate" in error
    assert "\n" not in error.strip()
    assert len(history(tmp_path)) == 1
    model, settings = load_network(tmp_path / "trained_model.h5")
    assert settings["epoch"] == 1
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def test_more_images_than_memory_holds_train_alike(trained, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nuclei.training.store.HELD_BYTES", 40_000)  # 19,000 for each pair
    assert run(data, tmp_path, "--epochs", 3) == 0
    assert "temporary file" in capsys.readouterr().out
    assert without_seconds(history(tmp_path)) == without_seconds(history(trained))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == RESULTS


@pytest.mark.parametrize("init", [False, True])
def test_thresholds_are_chosen_when_crops_and_network_of_the_training_are_gone(
    trained, data, tmp_path, monkeypatch, init
):
    references, gone = [], []

    def watch_crops(*arguments):
        crops = validation_crops(*arguments)
        references.extend(weakref.ref(array) for array in crops)
        return crops

    def watch_model(*arguments):
        model = compile_model(*arguments)
        references.append(weakref.ref(model))
        return model

    def look(*arguments):
        gone.extend(reference() is None for reference in references)
        return score_validation(*arguments)

    monkeypatch.setattr("nuclei.training.fit.validation_crops", watch_crops)
    monkeypatch.setattr("nuclei.training.network.compile_model", watch_model)
    monkeypatch.setattr("nuclei.training.selection.score_validation", look)
    flags = ("--init", trained / "trained_model.h5") if init else ()
    assert run(data, tmp_path, "--epochs", 1, *flags) == 0
    assert len(gone) >= 3 and all(gone)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_training_ends_with_the_mean_of_its_last_quarter(
    trained, data, tmp_path, monkeypatch, interrupted
):
    """Of --init with few nuclei to validate, which takes the end of the training."""
    seen = []

    class Watch(Bookkeeper):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            seen.append(self.model.get_weights())
            if interrupted and len(seen) == 7:
                raise KeyboardInterrupt

    monkeypatch.setattr("nuclei.training.bookkeeping.Bookkeeper", Watch)
    monkeypatch.setattr("nuclei.training.selection.FEW_BLEND", 1.0)
    flags = ["--data-dir", data, "--out", tmp_path, "--epochs", 8, *TINY, "--learning-rate", 0.01]
    flags += ["--init", trained / "trained_model.h5"]
    assert train.main([*map(str, flags)]) == (130 if interrupted else 0)
    if interrupted:
        assert train.main(["--resume", "--out", str(tmp_path)]) == 0
    model, settings = load_network(tmp_path / "trained_model.h5")
    assert settings["epoch"] == 8 and settings["averaged_epochs"] == 2 and len(seen) == 8
    for mean, first, second in zip(model.get_weights(), *seen[-2:], strict=True):
        np.testing.assert_allclose(mean, (first + second) / 2, rtol=1e-5, atol=1e-7)
    pairs = zip(*seen[-2:], strict=True)
    assert any((first != second).any() for first, second in pairs)
