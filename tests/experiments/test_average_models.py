"""average_models: the mean of the weights, with thresholds of its own."""

import numpy as np
import pytest
from training_tools import write_data

from experiments import average_models
from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import load_network, save_model
from unet import build_unet


def save(path, width=8):
    """Save a tiny network with random weights. Returns: the weights."""
    architecture = {"heads": ["nucleus"], "width": width, "depth": 1}
    network = build_unet(**architecture)
    save_model(path, network, {"architecture": architecture})
    return network.get_weights()


@pytest.fixture
def command(tmp_path):
    """Flags that name small images and the file to write."""
    data = write_data(tmp_path / "data", num_pairs=2)
    return ["--data-dir", str(data), "--out", str(tmp_path / "mean.h5")]


def test_the_mean_of_models_has_thresholds_of_its_own(tmp_path, command, capsys):
    paths = [str(tmp_path / name) for name in ("0.h5", "1.h5")]
    weights = [save(path) for path in paths]
    assert average_models.main([*paths, *command]) == 0
    network, settings = load_network(tmp_path / "mean.h5")
    for mean, first, second in zip(network.get_weights(), *weights, strict=True):
        np.testing.assert_allclose(mean, (first + second) / 2, atol=1e-6)
    assert settings["mean_of"] == ["0.h5", "1.h5"]
    assert set(settings["thresholds"]) == set(THRESHOLDS)
    assert average_models.main([*paths, *command]) == 1
    assert "is there already" in capsys.readouterr().err


def test_models_of_two_architectures_have_no_mean(tmp_path, command, capsys):
    paths = [str(tmp_path / name) for name in ("0.h5", "2.h5")]
    for path, width in zip(paths, (8, 16), strict=True):
        save(path, width)
    assert average_models.main([*paths, *command]) == 1
    assert "another architecture" in capsys.readouterr().err
