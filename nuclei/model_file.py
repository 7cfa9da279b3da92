"""The model file, one HDF5 file (.h5) with weights and settings, and the record `Model`.

Plain Keras opens the file, too. The settings are JSON in the attribute SETTINGS; they hold all that
prediction needs beside the weights, such as thresholds and the nucleus size of the training.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nuclei.cli import SHIPPED
from nuclei.files import first_line, replacing
from nuclei.hdf5 import hdf5_bytes
from nuclei.machine import start_backend
from nuclei.model_settings import FIXED_LIMITS
from nuclei.stored_model import SCHEMA, SETTINGS, StoredModel, read_stored_model
from nuclei.streams import visible
from unet import DEPTH, WIDTH, build_unet, network_geometry

MODELS = ("Saved_Model/trained_model.h5", "Saved_Model/pretrained.h5")  # own, then shipped
PROJECT = Path(__file__).resolve().parents[1]  # the folder of the project
TRAINED_DIAMETER_PX = 24  # median nucleus diameter of the training, where the file states none


class DamagedModelError(ValueError):
    """The network of a model file cannot be built, with any engine."""


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
        limits: of the signs of `image_signs`, beside FIXED_LIMITS; an image above one is out of
            distribution. Empty where unknown, and then no image is judged.
        rare_modalities: of which the training had hardly any image.
        device: words for the user on what runs the network.
        free_memory: gives back what the network keeps ready for its next call.
        zooms: sizes at which the network sees an image; it returns maps of each.
    """

    network: Callable
    num_maps: int
    margin_px: int
    multiple_px: int
    diameter_px: float = TRAINED_DIAMETER_PX
    thresholds: dict = field(default_factory=dict)
    calibration: list | None = None
    limits: dict[str, float] = field(default_factory=dict)
    rare_modalities: tuple[str, ...] = ()
    device: str = ""
    free_memory: Callable[[], None] = lambda: None
    zooms: tuple[float, ...] = (1.0,)

    @property
    def maps_per_zoom(self) -> int:
        """How many of the maps belong to one zoom."""
        return self.num_maps // len(self.zooms)

    def __call__(self, batch):
        """Maps (B, h, w, num_maps) of a batch (B, h, w, 3)."""
        return self.network(batch)

    def exceeds_limits(self, signs: dict[str, float], kind: str) -> bool | None:
        """Whether an image is out of distribution.

        Args:
            signs: of `image_signs`.
            kind: its modality.

        Returns:
            None where the model file has no limits.
        """
        if not self.limits and not self.rare_modalities:
            return None
        limits = FIXED_LIMITS | self.limits
        is_far = any(signs[name] > limits[name] for name in signs.keys() & limits.keys())
        return is_far or kind in self.rare_modalities


def as_model(network: Callable, settings: dict, device: str = "") -> Model:
    """A `Model` of a network and the settings of its file.

    Args:
        network: from (B, h, w, 3) to (B, h, w, K), such as `keras.Model.predict_on_batch`.
        settings: as of `read_settings`; only "architecture" must be there.
        device: words for the user on what runs the network.
    """
    geometry = network_geometry(settings["architecture"])
    usual = settings.get("out_of_distribution", {})
    return Model(
        network=network,
        num_maps=len(settings["architecture"]["heads"]),
        margin_px=geometry["margin"],
        multiple_px=geometry["multiple"],
        diameter_px=settings.get("trained_diameter_px", TRAINED_DIAMETER_PX),
        thresholds=settings.get("thresholds", {}),
        calibration=settings["calibration"]["weights"] if "calibration" in settings else None,
        limits=usual.get("limits") or older_limits(usual),
        rare_modalities=tuple(usual.get("rare_modalities", ())),
        device=device,
    )


def older_limits(usual: dict) -> dict[str, float]:
    """The limits of a file that was written before there was more than one sign."""
    limit = usual.get("uncertainty_above")
    return {} if limit is None else {"uncertainty": limit}


def save_model(path, model, settings: dict) -> None:
    """Write weights, architecture and settings into one HDF5 file, whole or not at all.

    Args:
        path: the `.h5` file; a file of that name is replaced.
        model: a network of `build_unet`, never compiled: saving a compiled one to HDF5 damages its
            optimiser.
        settings: a dict for JSON with at least "architecture", the keyword arguments of
            `build_unet`.
    """
    import absl.logging

    def fill(file):
        model.save(file, include_optimizer=False)
        file.attrs[SETTINGS] = json.dumps({"schema": SCHEMA, **settings})

    verbosity = absl.logging.get_verbosity()
    try:
        absl.logging.set_verbosity(absl.logging.ERROR)  # Keras calls .h5 a legacy format
        content = hdf5_bytes(fill)
    finally:
        absl.logging.set_verbosity(verbosity)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_settings(path) -> dict:
    """The settings of a model file. Args and Raises: as of `read_stored_model`."""
    return stored_model(path).settings


def stored_model(path) -> StoredModel:
    """The content of a model file. Args and Raises: as of `read_stored_model`."""
    way_out = "; train one with `python train.py`, give another model file, or the shipped one: "
    way_out += f"--model {SHIPPED} (train.py: --init {SHIPPED})"
    return read_stored_model(path, missing=way_out)


def load_network(path, heads=None):
    """Rebuild the network of a model file and load its weights.

    This works across Keras 3 versions and backends.

    Args:
        path: a file of `save_model`, or a `StoredModel`.
        heads: maps that the network shall predict, if not those of the file. Shared maps keep
            their weights, new ones start untrained.

    Returns:
        The uncompiled `keras.Model` and the settings dict.

    Raises:
        FileNotFoundError, ValueError: as `read_settings`, or the weights do not fit the stored
            architecture.
    """
    stored = stored_model(path)
    settings = stored.settings
    start_backend()
    try:
        refuse_larger_network(settings["architecture"], len(stored.content))
        model = build_unet(**settings["architecture"])
        model.load_weights(stored.open())
    except MemoryError:
        raise
    except Exception as error:  # Keras and HDF5 raise errors of all kinds on a damaged file
        raise DamagedModelError(
            f"{stored.path}: the weights do not fit the architecture stored beside them "
            f"({first_line(error)}); copy it again or train anew"
        ) from None
    if heads is None or list(heads) == list(settings["architecture"]["heads"]):
        return model, settings
    settings = {**settings, "architecture": {**settings["architecture"], "heads": list(heads)}}
    changed = build_unet(**settings["architecture"])
    num_shared = min(len(heads), model.output_shape[-1])  # both are beginnings of HEADS
    arrays = model.get_weights()
    last_layer = changed.get_weights()[-2:]  # kernel and bias of the maps
    for old, new in zip(arrays[-2:], last_layer, strict=True):
        new[..., :num_shared] = old[..., :num_shared]
    changed.set_weights(arrays[:-2] + last_layer)
    return changed, settings


def refuse_larger_network(architecture: dict, num_bytes: int) -> None:
    """Check, before a network is built, that its largest layer fits into its file.

    Args:
        architecture: the keyword arguments of `build_unet`.
        num_bytes: size of the file.

    Raises:
        ValueError: it does not.
    """
    filters = architecture.get("width", WIDTH) * 2 ** architecture.get("depth", DEPTH)
    needed = 4 * 9 * filters**2  # the second convolution of the bottleneck, float32
    if needed > num_bytes:
        raise ValueError(f"they need {needed:,} bytes or more, and the file has {num_bytes:,}")


def find_model(path=None) -> Path | StoredModel:
    """Find the model file to use.

    Args:
        path: what the user chose: a `StoredModel`, which is returned as it is, a file, a folder
            that train.py wrote, or SHIPPED. None takes the first of MODELS that exists in the
            current directory, else in the folder of the project.

    Raises:
        FileNotFoundError: the user chose none, and there is none; or the folder holds none.
    """
    if isinstance(path, StoredModel):
        return path
    home = Path() if Path().resolve() == PROJECT else PROJECT  # short where it can be
    if str(path) == SHIPPED:
        return home / MODELS[1]
    names = [Path(name).name for name in MODELS]
    if path and Path(path).is_dir():
        for name in names:
            if (Path(path) / name).is_file():
                return Path(path) / name
        raise FileNotFoundError(
            f"{path}: this folder holds no {names[0]}; give the folder that train.py wrote "
            f"(its --out), a model file, or {SHIPPED}"
        )
    if path:
        return Path(path)
    for folder in (Path(), home):
        for name in MODELS:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(
        f"neither {MODELS[0]} nor {MODELS[1]} is there; train one (python train.py) or give "
        "--model FILE"
    )


def data_sets(settings: dict) -> list[str]:
    """Names of the data sets that the weights have learned from, those of `init` first.

    Where the file has no list, the names of the folders must do.
    """
    return settings.get("data", {}).get("sets") or data_folders(settings)


def data_folders(settings: dict) -> list[str]:
    """The folders of the last training, one for each of its sets."""
    folder = settings.get("arguments", {}).get("data_dir")  # one name, in old files, or several
    return [folder] if isinstance(folder, str) else list(folder or ())


def in_words(names: list[str]) -> str:
    """The names in words: "A", "A and B", "A, B and C"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def score_words(score: dict) -> str:
    """The scores of a model in words: "AP@0.5 0.83, mAP 0.61"; a dash where one is undefined."""
    ap50, mean_ap = ("–" if score[key] is None else f"{score[key]:.2f}" for key in ("ap50", "map"))
    return f"AP@0.5 {ap50}, mAP {mean_ap}"


def describe_model(path: Path, settings: dict) -> str:
    """One line for the user: whose model this is, what it has learned from, how well it does."""
    shipped = find_model(SHIPPED)
    is_shipped = path.resolve() == shipped.resolve()
    facts = []
    if num_images := sum(settings.get("data", {}).get("train", {}).values()):
        sets = data_sets(settings) or ["unknown origin"]
        num_earlier = max(0, len(sets) - max(1, len(data_folders(settings))))
        earlier, own = sets[:num_earlier], sets[num_earlier:]
        of_sets = own[0] if own[0].endswith("images") else f"images of {in_words(own)}"
        after = f", after {in_words(earlier)}" if earlier else ""
        facts.append(f"{num_images} {of_sets}{after}")
    scores = settings.get("scores", {})
    if "all" in scores.get("validation", ()):
        facts.append(f"validation {score_words(scores['validation']['all'])}")
    elif "validation_crops" in scores:
        facts.append(f"training not finished, epoch {settings.get('epoch')}")
    owner = "shipped" if is_shipped else "yours"
    line = visible(f"Model: {owner}, {path} ({'; '.join(facts) or 'its file does not say more'})")
    has_other = not is_shipped and shipped.is_file()
    return line + (f"; the shipped one: --model {SHIPPED}" if has_other else "")
