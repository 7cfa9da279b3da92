"""nuclei.training.checkpoint"""

import json
import os
from datetime import datetime
from pathlib import Path

import pandas as pd

from nuclei.files import named, replacing


def save_checkpoint(path, model, best_weights, start_weights, mean_weights, state):
    """Write weights, optimiser, best, first and mean weights and `state` (for JSON) into one HDF5 file, atomically."""
    import h5py
    import keras

    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["state"] = json.dumps(state)
        groups = {
            "weights": model.get_weights(),
            "optimizer": [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables],
            "best": best_weights,
            "start": [] if state["base"] is None else start_weights,  # the file of --init may be that which this run writes
            "mean": mean_weights,
        }
        for name, arrays in groups.items():
            group = file.create_group(name)
            for index, array in enumerate(arrays):
                group.create_dataset(f"{index:04d}", data=array)


def read_checkpoint(path):
    """The groups of a checkpoint, {name: list of arrays}, and its state.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no checkpoint of this program.
    """
    import h5py

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no unfinished training to resume; start one with `python train.py`")
    try:
        with h5py.File(path, "r") as file:
            state = json.loads(file.attrs["state"])
            groups = {name: [group[key][()] for key in sorted(group)] for name, group in file.items()}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint of this program ({error}); remove it and start training anew") from None
    return groups, state


def move_aside(paths, folder, say=print):
    """Move files that exist into a new folder named by date and time below `folder`."""
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
    """history.csv, one row an epoch, replaced whole so that it is never half a row."""
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def restore(model, checkpoint, data_hash):
    """Bring a compiled model and its optimiser to where a checkpoint was written.

    Args:
        checkpoint: what `read_checkpoint` returns.

    Returns:
        The best weights so far, those that the training began with (none without --init), the mean of those at its end (none
        before), and the state of the bookkeeping.

    Raises:
        ValueError: the data is not what it was.
    """
    groups, state = checkpoint
    if state["data"] != data_hash:
        raise ValueError(
            f"{state['arguments']['data_dir']}: the data has changed since the interrupted training; restore it, or "
            "start anew without --resume"
        )
    model.set_weights(groups["weights"])
    for variable, value in zip(model.optimizer.variables, groups["optimizer"], strict=True):
        variable.assign(value)
    return groups["best"], groups.get("start", []), groups.get("mean", []), state
