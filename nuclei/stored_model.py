"""A model file as it was when it was read: later changes of the file change nothing.

    stored = read_stored_model("Saved_Model/trained_model.h5")
    stored.settings["thresholds"]
    with h5py.File(stored.open(), "r") as file:
        ...

A prediction of many images takes hours, in which a training may replace the file. So the file is
read once, and its settings, weights and hash belong together.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nuclei.files import first_line, is_system_fault
from nuclei.full_disk import explaining_full_disk
from nuclei.hdf5 import Content, refuse_endless_heap, refuse_larger_content
from nuclei.leftovers import temporary_name
from nuclei.model_settings import Settings, Version
from nuclei.schema import read_json

SETTINGS = "histology_segmentation"  # the HDF5 attribute with the settings
SCHEMA = 1  # version of the settings; a higher one is refused


@dataclass(frozen=True)
class StoredModel:
    """The content of a model file.

    Attributes:
        path: of the file.
        content: its bytes.
        settings: how to use the network, and how it came about.
    """

    path: Path
    content: bytes = field(repr=False)
    settings: dict = field(repr=False)

    def open(self) -> Content:
        """The content for h5py and Keras, which take it for a file."""
        return Content(self.content)

    @contextlib.contextmanager
    def copied_into(self, folder) -> Iterator[Path]:
        """A copy of the file, for other processes, in a folder that a run writes into."""
        path = temporary_name(Path(folder) / "model.h5")
        try:
            with explaining_full_disk(path):
                path.write_bytes(self.content)
            yield path
        finally:
            path.unlink(missing_ok=True)


def read_stored_model(path, missing: str = "") -> StoredModel:
    """Read a model file, without building the network.

    Args:
        path: the file, or a `StoredModel`, which is returned as it is.
        missing: the way out where there is no file, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no HDF5 file, is of another program, is damaged, or is of a later
            schema.
    """
    import h5py

    if isinstance(path, StoredModel):
        return path
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file{missing}")
    expected = "expected a trained_model.h5 written by train.py"
    try:
        content = path.read_bytes()
        refuse_endless_heap(content)
        with h5py.File(Content(content), "r") as file:
            refuse_larger_content(file)
            text = file.attrs.get(SETTINGS)
            is_keras = "model_weights" in file or "layer_names" in file.attrs
    except Exception as error:  # HDF5 raises errors of all kinds on a damaged file
        if is_system_fault(error):
            raise
        raise ValueError(
            f"{path}: not a model file (HDF5 says: {first_line(error)}); {expected}"
        ) from None
    if text is None:
        kind = (
            "a Keras model of another program" if is_keras else "an HDF5 file without a Keras model"
        )
        raise ValueError(f"{path}: {kind}; {expected}")
    return StoredModel(path, content, parse_settings(path, text))


def parse_settings(path, text) -> dict:
    """The settings of a model file from the text in it, checked. Raises: ValueError."""
    try:
        if not isinstance(text, str | bytes):
            raise ValueError(f"they are of type {type(text).__name__}, not a text")
        version = read_json(text, Version).get("schema", 0)
        if version <= SCHEMA:
            read_json(text, Settings)
            return json.loads(text)  # as it was written, in its order
    except ValueError as error:
        raise ValueError(
            f"{path}: its settings are damaged ({error}); copy it again or train anew"
        ) from None
    raise ValueError(
        f"{path}: written by a later version (schema {version}, this one reads {SCHEMA}); update"
    )
