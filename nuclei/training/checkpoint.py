"""The files of a training: the checkpoint that `--resume` reads, the history, and earlier results.

A `State` is where the training stands: all but the network and its optimiser. The checkpoint holds
all three. Every file is replaced as a whole, so a training can be stopped at any moment.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from nuclei.files import named, replacing
from nuclei.model_file import save_model
from nuclei.training.recipe import Recipe

WEIGHTS = ("best_weights", "start_weights", "mean_weights")  # fields of `State` that are arrays


@dataclass
class State:
    """Where a training stands.

    Attributes:
        recipe: its settings.
        fingerprint: of the images and masks.
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
    base: dict | None = None
    learned: list[str] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)
    best_loss: float | None = None
    best_epoch: int = 0
    num_waited: int = 0
    num_averaged: int = 0
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
        return self.num_epochs >= recipe.epochs or self.num_waited >= recipe.patience


@dataclass
class Checkpoint:
    """A state, and the arrays of the network and its optimiser."""

    state: State
    network: list[np.ndarray]
    optimizer: list[np.ndarray]


def save_checkpoint(path, model, state):
    """Write the weights and optimiser of a compiled model and the state into one HDF5 file."""
    import h5py
    import keras

    optimizer = [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]
    groups = {"network": model.get_weights(), "optimizer": optimizer}
    groups |= {name: getattr(state, name) for name in WEIGHTS}
    settings = {name: value for name, value in vars(state).items() if name not in WEIGHTS}
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["state"] = json.dumps(settings | {"recipe": asdict(state.recipe)})
        for name, arrays in groups.items():
            group = file.create_group(name)
            for index, array in enumerate(arrays):
                group.create_dataset(f"{index:04d}", data=array)


def read_checkpoint(path):
    """Read a `Checkpoint`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no checkpoint of this program.
    """
    import h5py

    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: no unfinished training to resume; start one with `python train.py`"
        )
    try:
        with h5py.File(path, "r") as file:
            settings = json.loads(file.attrs["state"])
            groups = {
                name: [group[key][()] for key in sorted(group)] for name, group in file.items()
            }
        recipe = Recipe(**settings.pop("recipe"))
        state = State(recipe, **settings, **{name: groups[name] for name in WEIGHTS})
        return Checkpoint(state, groups["network"], groups["optimizer"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not a checkpoint of this program ({error}); remove it and start training anew"
        ) from None


def restore(model, checkpoint, fingerprint):
    """Bring a compiled model and its optimiser to where a checkpoint was written.

    Args:
        model: a compiled `keras.Model` whose optimiser is built.
        checkpoint: a `Checkpoint`.
        fingerprint: of the images and masks as they are now.

    Returns:
        The `State` of the checkpoint.

    Raises:
        ValueError: the data has changed.
    """
    state = checkpoint.state
    if state.fingerprint != fingerprint:
        raise ValueError(
            f"{' '.join(state.recipe.data_dir)}: the data has changed since the interrupted "
            "training; restore it, or start anew without --resume"
        )
    model.set_weights(checkpoint.network)
    for variable, value in zip(model.optimizer.variables, checkpoint.optimizer, strict=True):
        variable.assign(value)
    return state


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
