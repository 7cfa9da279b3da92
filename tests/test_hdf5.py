"""Damage that would hang HDF5 or fill memory is found before."""

import h5py
import numpy as np
import pytest
from blob_model import write_blob_model

from nuclei.hdf5 import HEAP, refuse_endless_heap, refuse_larger_content
from nuclei.model_file import find_model, read_settings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


def test_whole_files_pass(model):
    for path in (model, find_model("shipped")):
        refuse_endless_heap(path.read_bytes())
        with h5py.File(path, "r") as file:
            refuse_larger_content(file)


@pytest.mark.parametrize("size", [0, 2**63, 2**64 - 16])
def test_an_object_of_a_heap_that_never_ends_is_refused(model, tmp_path, size):
    content = bytearray(model.read_bytes())
    place = content.index(HEAP) + 16
    content[place : place + 2] = (0 if size == 0 else 1).to_bytes(2, "little")
    content[place + 8 : place + 16] = size.to_bytes(8, "little")
    with pytest.raises(ValueError, match="an object of its heap claims"):
        refuse_endless_heap(content)
    path = tmp_path / "damaged.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.h5: not a model file"):  # and at once
        read_settings(path)


def test_an_array_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("huge", (10**6, 10**6), np.float32)  # HDF5 gives it no space yet
        with pytest.raises(ValueError, match="array huge claims 4,000,000,000,000 bytes"):
            refuse_larger_content(file)
