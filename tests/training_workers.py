"""Trainings in processes of their own: two virtual CPU devices take the place of GPUs."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
from training_tools import TINY, history

import train
from nuclei.training.bookkeeping import COLUMNS

BATCH_SIZE = 4
# A low learning rate: sums in another order differ in the last bit, and that must not grow.
FLAGS = [*TINY, "--batch-size", str(BATCH_SIZE), "--learning-rate", "0.001", "--epochs"]
# XLA would take ten times as long to optimise the network as the training takes.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count="

# Runs train.py once for each list of flags. Step and place of all crops that are drawn go into a
# log. At step "kill" the process ends as if its machine had lost power.
WORKER = """
import json, os, signal, sys
log, kill, runs = open(sys.argv[1], "a"), int(sys.argv[2]), json.loads(sys.argv[3])
if os.environ["KERAS_BACKEND"] == "jax":
    sys.modules["tensorflow"] = None  # Keras would import it beside JAX, which takes long
import nuclei.machine
nuclei.machine.set_up_backend()
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
import train
from nuclei.instances.separate import THRESHOLDS
from nuclei.training import batches, fine_tuning, fit, hosts, selection
hosts.MEETING_SECONDS = int(sys.argv[4])
fine_tuning.REHEARSAL_PIXELS = 64 * 32**2  # thousands of tiny crops by default
# Scoring takes long and has nothing to do with devices.
selection.score_validation = lambda *_: ({"thresholds": THRESHOLDS}, {})
draw_crop = batches.draw_crop
def logged(plan, step, place):
    if step == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    print(step, place, file=log, flush=True)
    return draw_crop(plan, step, place)
batches.draw_crop = fit.draw_crop = logged
for flags in runs:
    if status := train.main(flags):
        sys.exit(status)
"""


def start(folder, backend, runs, num_devices=1, name="log", kill=-1, meeting_seconds=120):
    """Start a process that trains once for each list of flags; what it prints goes to pipes."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.path.dirname(train.__file__),
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": f"{XLA_FLAGS}{num_devices}",
    }
    arguments = [str(folder / name), str(kill), json.dumps(runs), str(meeting_seconds)]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def finish(process, seconds=240):
    """Wait for a process. Returns: its status, what it printed, its errors."""
    printed, errors = process.communicate(timeout=seconds)
    return process.returncode, printed, errors


def train_here(folder, backend, *runs):
    """Run train.py where there are two devices. Returns: what it printed."""
    status, printed, errors = finish(start(folder, backend, runs, num_devices=2))
    assert status == 0, printed + errors
    return printed


def train_in_pair(folder, data, *more, kill=(-1, -1)):
    """Train in two processes together. Returns: what `finish` gives for each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = []
    for number in (0, 1):
        flags = ["--data-dir", str(data), *FLAGS, "3", "--out", str(folder / "out"), *more]
        flags += ["--num-processes", "2", "--process-id", str(number), "--coordinator", address]
        processes.append(start(folder, "jax", [flags], name=f"log{number}", kill=kill[number]))
    return [finish(process) for process in processes]


def assert_same_training(ours, theirs, num_epochs):
    """Two folders hold the history of the same training, but for rounding."""
    ours, theirs = history(ours), history(theirs)
    epochs = [[int(row["epoch"]) for row in rows] for rows in (ours, theirs)]
    assert epochs == [list(range(1, num_epochs + 1))] * 2
    for name in [name for column in COLUMNS for name in (column, f"val_{column}")]:
        values = [[float(row[name]) for row in rows] for rows in (ours, theirs)]
        np.testing.assert_allclose(*values, rtol=0, atol=1e-3, err_msg=name)
