"""One set of images and one training of three epochs for all tests of training."""

import pytest
from training_tools import run, write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Eight pairs in raw/ and gt/."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """The folder of a training of three epochs without interruption."""
    out = tmp_path_factory.mktemp("trained")
    assert run(data, out, "--epochs", 3) == 0
    return out


@pytest.fixture(autouse=True)
def few_rehearsal_crops(monkeypatch):
    """The usual number of pixels would be thousands of the tests' tiny crops."""
    monkeypatch.setattr("nuclei.training.fine_tuning.REHEARSAL_PIXELS", 64 * 32**2)
