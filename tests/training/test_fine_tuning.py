"""Fine-tuning: how far it goes, what it keeps with few images or nuclei, and what is rehearsed."""

import keras
import numpy as np
import pytest
from training_tools import run

from nuclei.model_file import load_network, read_settings, save_model
from nuclei.training import fine_tuning
from nuclei.training.fine_tuning import (
    BLEND_GAIN,
    REHEARSAL_SHARE,
    choose_blend,
    rehearsal_crops,
    rehearse,
)
from nuclei.training.fit import MIN_STEPS
from nuclei.training.losses import SegmentationLoss
from nuclei.training.recipe import Recipe
from nuclei.training.samples import load_samples
from nuclei.training.targets import UNKNOWN
from unet import HEADS

LOSS = SegmentationLoss(HEADS[:1])


class Constant:
    """Takes the place of a network with one weight: it predicts that probability everywhere."""

    def set_weights(self, weights):
        self.value = float(weights[0])

    def predict_on_batch(self, images):
        return np.full((*images.shape[:3], 1), self.value, np.float32)


def blend_of(truth, end, *blends):
    """Blend a network that predicts 0.1 with one that predicts `end`, where `truth` is right."""
    network = Constant()
    crops = np.zeros((5, 8, 8, 3), np.float32), np.full((5, 8, 8, 1), truth, np.float32)
    old, new = [np.float32(0.1)], [np.float32(end)]
    blend, losses = choose_blend(network, old, new, crops, LOSS, 2, *blends)
    return blend, losses, network.value


def test_fine_tuning_goes_no_farther_than_is_useful():
    blend, losses, value = blend_of(1, 0.9)  # most of the gain in loss comes early
    assert blend == 0.75 and value == pytest.approx(0.1 + 0.75 * 0.8)
    assert losses[0.0] - losses[0.75] >= BLEND_GAIN * (losses[0.0] - losses[1.0])
    assert losses[0.0] - losses[0.5] < BLEND_GAIN * (losses[0.0] - losses[1.0])


def test_a_blend_can_be_given():
    blend, _, value = blend_of(1, 0.9, (0.3,))
    assert blend == 0.3 and value == pytest.approx(0.34)


def test_without_any_gain_the_blend_does_the_least_harm():
    blend, _, value = blend_of(0, 0.9)
    assert blend == 0.25 and value == pytest.approx(0.3)


def test_fine_tuning_on_few_nuclei_keeps_thresholds_and_blends(
    trained, data, tmp_path, capsys, monkeypatch
):
    base = read_settings(trained / "trained_model.h5")
    odd = {
        "thresholds": {**base["thresholds"], "marker_threshold": 0.41},
        "calibration": {"weights": [0.1] * 5, "nuclei": 7, "expected_calibration_error": 0.5},
        "out_of_distribution": {
            "limits": {"low_confidence": 0.7},
            "false_alarm_rate": 0.1,
            "images": 3,
        },
    }
    init = tmp_path / "init.h5"
    save_model(init, load_network(trained / "trained_model.h5")[0], base | odd)
    weights = [load_network(init)[0].get_weights()]
    for blend in (0.5, 1.0):
        monkeypatch.setattr("nuclei.training.selection.FEW_BLEND", blend)
        assert run(data, tmp_path / str(blend), "--init", init, "--epochs", 1) == 0
        model, settings = load_network(tmp_path / str(blend) / "trained_model.h5")
        assert settings["blend"] == blend and odd == {name: settings[name] for name in odd}
        weights.append(model.get_weights())
    for first, half, end in zip(*weights, strict=True):
        assert half == pytest.approx((first + end) / 2, abs=1e-6)
    assert "new weights have a share of 50%" in capsys.readouterr().out


@pytest.mark.parametrize("few", [True, False])
def test_fine_tuning_on_few_images_keeps_the_batch_normalisation(
    trained, data, tmp_path, monkeypatch, capsys, few
):
    monkeypatch.setattr("nuclei.training.fine_tuning.FEW_IMAGES", 50 if few else 1)
    monkeypatch.setattr("nuclei.training.selection.FEW_BLEND", 1.0)
    init = trained / "trained_model.h5"
    assert run(data, tmp_path, "--init", init, "--epochs", 1) == 0
    printed = capsys.readouterr().out
    assert f"1 epochs of {MIN_STEPS} steps" in printed
    assert (f"{REHEARSAL_SHARE:.0%} of the crops" in printed) == few
    before, after = (load_network(path)[0] for path in (init, tmp_path / "trained_model.h5"))
    pairs = list(zip(before.weights, after.weights, strict=True))
    for old, new in pairs:
        if "moving" in old.path:
            assert np.array_equal(old, new) == few
    assert not all(np.array_equal(old, new) for old, new in pairs)


def test_rehearsal_keeps_what_the_model_knew_of_another_modality(
    trained, data, tmp_path, monkeypatch
):
    monkeypatch.setattr("nuclei.training.selection.FEW_BLEND", 1.0)
    flags = ("--init", trained / "trained_model.h5", "--epochs", 1, "--learning-rate", 0.004)
    for name, share in (("none", 0.0), ("some", 0.9)):
        monkeypatch.setattr("nuclei.training.fine_tuning.REHEARSAL_SHARE", share)
        assert run(data, tmp_path / name, *flags) == 0
    samples = load_samples(data / "raw", data / "gt")[0]
    tissue = [sample for stem, sample in samples.items() if stem.startswith("t")]
    crops = rehearsal_crops(tissue, 32, 16, seed=99)
    folders = (trained, tmp_path / "none", tmp_path / "some")
    networks = [load_network(folder / "trained_model.h5")[0] for folder in folders]
    before, none, some = (network.predict_on_batch(crops) for network in networks)
    assert np.abs(some - before).mean() < 0.8 * np.abs(none - before).mean()


def test_rehearsal_has_the_old_maps_as_truth_and_new_maps_as_unknown(trained, data, monkeypatch):
    monkeypatch.setattr("nuclei.training.fine_tuning.REHEARSAL_PIXELS", 5 * 32**2)
    samples = list(load_samples(data / "raw", data / "gt")[0].values())
    network = load_network(trained / "trained_model.h5")[0]
    recipe = Recipe(crop_px=32, batch_size=2, seed=1)
    rehearsal = rehearse(network, HEADS[:2], samples, HEADS, recipe)
    assert rehearsal.crops.shape == (5, 32, 32, 3) and rehearsal.share == REHEARSAL_SHARE
    predicted = network.predict_on_batch(rehearsal.crops)[..., :2]
    assert rehearsal.truths[..., :2] == pytest.approx(predicted, abs=1e-5)
    assert (rehearsal.truths[..., 2] == UNKNOWN).all()


def test_a_training_from_random_weights_has_no_rehearsal(data, tmp_path, monkeypatch):
    monkeypatch.setattr(fine_tuning, "rehearsal_crops", None)
    assert run(data, tmp_path, "--epochs", 1) == 0
    assert keras.config.dtype_policy().name == "float32"
