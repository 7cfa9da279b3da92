"""The files of a training: the checkpoint that `--resume` reads, the history, and earlier results.

A `State` is where the training stands: all but the network and its optimiser. The checkpoint holds
all three, and what is read from it is checked by the types of the fields. Every file is replaced as
a whole, so a training can be stopped at any moment.
"""

import functools
import io
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, get_type_hints

import numpy as np
import pandas as pd
from annotated_types import Ge
from typing_extensions import TypedDict

from nuclei.files import first_line, named, replacing
from nuclei.hdf5 import hdf5_bytes, refuse_endless_heap, refuse_larger_content
from nuclei.model_file import refuse_larger_network, save_model
from nuclei.model_settings import Chosen, Head
from nuclei.schema import read_json
from nuclei.training.recipe import Recipe
from nuclei.written import record_of

WEIGHTS = ("best_weights", "start_weights", "mean_weights")  # fields of `State` that are arrays


@dataclass
class State:
    """Where a training stands.

    Attributes:
        recipe: its settings.
        fingerprint: of the images, the masks and their division.
        base: thresholds, calibration and out_of_distribution of the model of `init`, or None.
        learned: names of the maps that the model of `init` has learned.
        rows: one dict for each finished epoch, as in history.csv.
        best_loss: the lowest validation loss so far.
        best_epoch: the epoch that had it.
        num_waited: epochs since then.
        num_averaged: epochs in `mean_weights`.
        has_moved: whether the results of an earlier training have been moved aside.
        best_weights: list of arrays, weights of the best epoch.
        start_weights: list of arrays, weights of the model of `init`; empty without one.
        mean_weights: list of arrays, mean of the last epochs; empty before these.
    """

    recipe: Recipe
    fingerprint: str
    base: Chosen | None = None
    learned: list[Head] = field(default_factory=list)
    rows: list[dict[str, int | float]] = field(default_factory=list)
    best_loss: float | None = None
    best_epoch: Annotated[int, Ge(0)] = 0
    num_waited: Annotated[int, Ge(0)] = 0
    num_averaged: Annotated[int, Ge(0)] = 0
    has_moved: bool = False
    best_weights: list[np.ndarray] = field(default_factory=list)
    start_weights: list[np.ndarray] = field(default_factory=list)
    mean_weights: list[np.ndarray] = field(default_factory=list)

    @property
    def num_epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.rows)

    @property
    def is_finished(self) -> bool:
        """Whether no epoch is left, or patience has ended."""
        recipe = self.recipe
        return self.num_epochs >= recipe.epochs or self.num_waited >= recipe.epochs_to_wait


@dataclass
class Checkpoint:
    """A state, and the arrays of the network and its optimiser."""

    state: State
    network: list[np.ndarray]
    optimizer: list[np.ndarray]


def save_checkpoint(path, model, state):
    """Write the weights and optimiser of a compiled model and the state into one HDF5 file."""
    import keras

    optimizer = [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]
    groups = {"network": model.get_weights(), "optimizer": optimizer}
    groups |= {name: getattr(state, name) for name in WEIGHTS}
    settings = {name: value for name, value in vars(state).items() if name not in WEIGHTS}

    def fill(file):
        file.attrs["state"] = json.dumps(settings | {"recipe": asdict(state.recipe)})
        for name, arrays in groups.items():
            group = file.create_group(name)
            for index, array in enumerate(arrays):
                group.create_dataset(f"{index:04d}", data=array)

    content = hdf5_bytes(fill)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@functools.cache
def stored_state() -> type:
    """What the text of a checkpoint must look like: a `State` without its arrays."""
    fields = get_type_hints(State, include_extras=True)
    return TypedDict("StoredState", {key: fields[key] for key in fields if key not in WEIGHTS})


def checkpoint_bytes(path) -> bytes:
    """The content of a checkpoint. Raises: FileNotFoundError, if there is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: no unfinished training to resume; start one with `python train.py`"
        )
    return Path(path).read_bytes()


def read_checkpoint(path, content: bytes | None = None):
    """Read a `Checkpoint`.

    Args:
        path: the file.
        content: of the file, where another host has read it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no checkpoint of this program, or is damaged.
    """
    import h5py

    content = checkpoint_bytes(path) if content is None else content
    try:
        refuse_endless_heap(content)
        with h5py.File(io.BytesIO(content), "r") as file:
            refuse_larger_content(file)
            settings = read_json(file.attrs["state"], stored_state())
            groups = {
                name: [group[key][()] for key in sorted(group)] for name, group in file.items()
            }
        state = State(**settings, **{name: groups[name] for name in WEIGHTS})
        refuse_larger_network(state.recipe.architecture, len(content))
        return Checkpoint(state, groups["network"], groups["optimizer"])
    except Exception as error:  # HDF5 raises errors of all kinds on a damaged file
        raise ValueError(
            f"{path}: not a checkpoint of this program, or damaged ({first_line(error)}); remove "
            "it and start training anew"
        ) from None


def refuse_other_arrays(model, checkpoint) -> None:
    """Check that the arrays of a checkpoint are those of a compiled model. Raises: ValueError."""
    network = [weights.shape for weights in model.get_weights()]
    stored = {"network": checkpoint.network}
    stored |= {name: getattr(checkpoint.state, name) for name in WEIGHTS}
    expected = dict.fromkeys(stored, network)
    stored["optimizer"] = checkpoint.optimizer
    expected["optimizer"] = [tuple(variable.shape) for variable in model.optimizer.variables]
    for name, arrays in stored.items():
        is_optional = name in ("start_weights", "mean_weights") and not arrays
        shapes = [np.shape(array) for array in arrays if np.asarray(array).dtype.kind in "fiub"]
        if not is_optional and shapes != expected[name]:
            raise ValueError(
                f"the arrays {name} of the checkpoint do not fit the network of its recipe; remove "
                "the checkpoint and start training anew"
            )


def restore(model, checkpoint, fingerprint):
    """Bring a compiled model and its optimiser to where a checkpoint was written.

    Args:
        model: a compiled `keras.Model` whose optimiser is built.
        checkpoint: a `Checkpoint`.
        fingerprint: of the images, the masks and their division as they are now.

    Returns:
        The `State` of the checkpoint.

    Raises:
        ValueError: the data has changed, or the arrays do not fit.
    """
    state = checkpoint.state
    if state.fingerprint != fingerprint:
        raise ValueError(
            f"{' '.join(state.recipe.data_dir)}: the data, or its division by split.csv, has "
            "changed since the interrupted training (or an earlier version of the program began "
            "it); restore the data, or start anew without --resume"
        )
    refuse_other_arrays(model, checkpoint)
    model.set_weights(checkpoint.network)
    for variable, value in zip(model.optimizer.variables, checkpoint.optimizer, strict=True):
        variable.assign(value)
    return state


def make_room(run, has_moved):
    """Move aside what results would replace and this training has not written.

    Args:
        run: a `Run`.
        has_moved: whether the results of an earlier training have moved. What is there is of this
            training, then, unless somebody has changed it since, perhaps before a --resume.
    """
    paths = [run.model, run.history, run.settings, run.graph, run.preview]
    if has_moved:
        record = record_of(run.model)
        paths = [path for path in paths if record and path.exists() and not record.is_ours(path)]
    move_aside(paths, run.previous, run.say)


def move_aside(paths, folder, say=print):
    """Move files that exist into a new folder below `folder`, named by date and time."""
    paths = [Path(path) for path in paths if Path(path).exists()]
    if not paths:
        return
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    target, number = Path(folder) / stamp, 1
    while target.exists():
        number += 1
        target = Path(folder) / f"{stamp}_{number}"
    target.mkdir(parents=True)
    for path in paths:
        os.replace(path, target / path.name)
    say(f"Earlier {named(path.name for path in paths)} moved to {target}")


def write_history(path, rows):
    """Write history.csv, one row for each epoch, as a whole: it never holds half a row."""
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def save_run(run, network, settings):
    """Write the model file, and its settings once more as text that people can read."""
    save_model(run.model, network, settings)
    with replacing(run.settings) as temporary:
        text = json.dumps(settings, indent=1, ensure_ascii=False)
        temporary.write_text(text, encoding="utf-8")


def save_result(network, settings, run):
    """Write the final model file, remove the checkpoint and print the scores.

    Args:
        network: a plain `keras.Model` with the weights chosen.
        settings: of the model file, of `selection.choose`.
        run: a `Run`.
    """
    save_run(run, network, settings)
    run.checkpoint.unlink(missing_ok=True)
    columns = (("Dice", "dice"), ("AP@0.5", "ap50"), ("mAP", "map"))
    for name, score in settings["scores"]["validation"].items():
        values = "  ".join(f"{label} {score[key]:.3f}" for label, key in columns)
        run.say(f"  validation {name:<14} {score['images']:4d} images  {values}")
    num_megabytes = run.model.stat().st_size / 1e6
    run.say(f"Wrote {run.model} ({num_megabytes:.1f} MB) and {run.history}")
