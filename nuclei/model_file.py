"""nuclei.model_file"""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from unet import build_unet, network_geometry

SETTINGS = "histology_segmentation"  # the HDF5 attribute that holds everything needed to use the file
SCHEMA = 1  # of that attribute; a reader refuses a higher one
MODELS = ("Saved_Model/trained_model.h5", "Saved_Model/pretrained.h5")  # the user's own before the shipped one
TRAINED_DIAMETER_PX = 24  # median nucleus diameter that a model was trained for, where its file does not say


@dataclass(frozen=True)
class Model:
    """A trained network and what its file says of it.

    Attributes:
        network: from (B, h, w, 3) float32 in [0, 1] to (B, h, w, num_maps) float32 in [0, 1].
        num_maps: channels of the result; the first is the nucleus probability.
        margin_px: distance beyond which an input pixel cannot change an output pixel.
        multiple_px: height and width of the input must be a multiple of it.
        diameter_px: median nucleus diameter that the network was trained for.
        thresholds: chosen on the validation images; `separate` takes them.
        calibration: weights of `confidence`, or None where the file has none.
        max_uncertainty: uncertainty above which an image is out of distribution, or None where unknown.
        device: words for the user on what runs the network.
    """

    network: Callable
    num_maps: int
    margin_px: int
    multiple_px: int
    diameter_px: float = TRAINED_DIAMETER_PX
    thresholds: dict = field(default_factory=dict)
    calibration: list | None = None
    max_uncertainty: float | None = None
    device: str = ""

    def __call__(self, batch):
        """Maps (B, h, w, num_maps) of a batch (B, h, w, 3)."""
        return self.network(batch)

    def is_out_of_distribution(self, uncertainty: float) -> bool | None:
        """Whether an image of this uncertainty is unlike the training data; None where the file does not say."""
        return None if self.max_uncertainty is None else uncertainty > self.max_uncertainty


def as_model(network: Callable, settings: dict, device: str = "") -> Model:
    """A `Model` of a network and the settings of its file.

    Args:
        network: from (B, h, w, 3) to (B, h, w, K), such as `keras.Model.predict_on_batch`.
        settings: as of `read_settings`; only "architecture" must be there.
        device: words for the user on what runs the network.
    """
    geometry = network_geometry(settings["architecture"])
    return Model(
        network=network,
        num_maps=len(settings["architecture"]["heads"]),
        margin_px=geometry["margin"],
        multiple_px=geometry["multiple"],
        diameter_px=settings.get("trained_diameter_px", TRAINED_DIAMETER_PX),
        thresholds=settings.get("thresholds", {}),
        calibration=settings["calibration"]["weights"] if "calibration" in settings else None,
        max_uncertainty=settings.get("out_of_distribution", {}).get("uncertainty_above"),
        device=device,
    )


def save_model(path, model, settings):
    """Write weights, architecture and settings into one HDF5 file, atomically.

    Args:
        path: the `.h5` file to write; a file of that name is replaced.
        model: a network of `build_unet`, never compiled (saving a compiled one to HDF5 damages its optimiser).
        settings: a dict for JSON with at least "architecture", the keyword arguments of `build_unet`.
    """
    import absl.logging
    import h5py

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".h5")
    os.close(handle)
    verbosity = absl.logging.get_verbosity()
    try:
        absl.logging.set_verbosity(absl.logging.ERROR)  # Keras calls .h5 a legacy format; here it is the product's format
        model.save(temporary, include_optimizer=False)
        with h5py.File(temporary, "r+") as file:
            file.attrs[SETTINGS] = json.dumps({"schema": SCHEMA, **settings})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        absl.logging.set_verbosity(verbosity)
        Path(temporary).unlink(missing_ok=True)


def read_settings(path):
    """The settings of a model file as a dict, without building the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no HDF5 file, or not one of ours, or from a later schema than this program knows.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file; train one with `python train.py` or give --model FILE")
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get(SETTINGS)
            is_keras = "model_weights" in file or "layer_names" in file.attrs
    except OSError as error:
        raise ValueError(
            f"{path}: not a model file (HDF5 says: {error}); expected a trained_model.h5 written by train.py"
        ) from None
    if text is None:
        what = "a Keras model of another program" if is_keras else "an HDF5 file without a Keras model"
        raise ValueError(f"{path}: {what}; expected a trained_model.h5 written by train.py")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: its settings are damaged ({error}); copy it again or train anew") from None
    if "architecture" not in settings:
        raise ValueError(f"{path}: its settings name no architecture; expected a trained_model.h5 written by train.py")
    if settings.get("schema", 0) > SCHEMA:
        raise ValueError(f"{path}: written by a later version (schema {settings['schema']}, this one reads {SCHEMA}); update")
    return settings


def load_network(path, heads=None):
    """Rebuild the network of a model file and load its weights: works across Keras 3 versions and backends.

    Args:
        path: a file of `save_model`.
        heads: maps that the network shall paint, if not those of the file: new ones start untrained, the others stay.

    Returns:
        The uncompiled `keras.Model` and the settings dict.

    Raises:
        FileNotFoundError, ValueError: as `read_settings`, or the weights do not fit the stored architecture.
    """
    settings = read_settings(path)
    model = build_unet(**settings["architecture"])
    try:
        model.load_weights(str(path))
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path}: the weights do not fit the architecture stored beside them ({error})") from None
    if heads is None or list(heads) == list(settings["architecture"]["heads"]):
        return model, settings
    settings = {**settings, "architecture": {**settings["architecture"], "heads": list(heads)}}
    changed = build_unet(**settings["architecture"])
    shared = min(len(heads), model.output_shape[-1])  # both are beginnings of HEADS
    arrays = model.get_weights()
    for old, new in zip(arrays[-2:], changed.get_weights()[-2:], strict=True):  # kernel and bias of the maps
        new[..., :shared] = old[..., :shared]
        arrays.append(new)
    changed.set_weights(arrays[:-4] + arrays[-2:])
    return changed, settings


def find_model(model):
    """The model file to use: the one asked for, else the first of MODELS that is there."""
    if model:
        return Path(model)
    for path in map(Path, MODELS):
        if path.is_file():
            return path
    raise FileNotFoundError(f"neither {MODELS[0]} nor {MODELS[1]} is there; train one (python train.py) or give --model FILE")
