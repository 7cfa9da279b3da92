"""A model file is read once: what happens to the file afterwards changes nothing."""

import h5py
import numpy as np
import pytest
from blob_model import ARCHITECTURE, write_blob_model

from nuclei.model_file import find_model, load_network, read_settings, stored_model
from nuclei.stored_model import read_stored_model


def test_a_file_that_is_replaced_after_it_was_read_changes_nothing(tmp_path):
    path = write_blob_model(tmp_path / "model.h5")
    stored = read_stored_model(path)
    before, _ = load_network(path)
    path.write_bytes(b"another")
    after, settings = load_network(stored)
    for one, other in zip(before.get_weights(), after.get_weights(), strict=True):
        assert np.array_equal(one, other)
    assert settings["architecture"] == ARCHITECTURE == read_settings(stored)["architecture"]
    assert find_model(stored) is stored_model(stored) is stored
    with pytest.raises(ValueError, match="not a model file"):
        read_stored_model(path)


def test_a_copy_for_other_processes_goes_with_the_run(tmp_path):
    stored = read_stored_model(write_blob_model(tmp_path / "model.h5"))
    with pytest.raises(KeyboardInterrupt), stored.copied_into(tmp_path) as path:
        with h5py.File(path, "r") as file:
            assert "model_weights" in file
        assert path.parent == tmp_path and path.name.startswith(".")
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["model.h5"]
