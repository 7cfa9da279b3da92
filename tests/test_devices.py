"""Several devices, several hosts: the training is that of one device, really shared, and one that dies ends the others.

Each training runs in a process of its own: two virtual CPU devices in place of GPUs, two processes on this machine in
place of hosts.
"""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from test_train import TINY, history, run, write_pair

import train
from nuclei.model_file import load_network, read_settings
from nuclei.training.batches import ECHO
from nuclei.training.bookkeeping import COLUMNS
from nuclei.training.fit import MIN_STEPS, check_alike
from nuclei.training.selection import whole_batches

ROOT = Path(__file__).resolve().parent.parent
BATCH = 4
# Gentle, so that a last bit that differs does not grow into another training: sums are added up in another order.
ARGUMENTS = [*TINY, "--batch-size", str(BATCH), "--learning-rate", "0.001", "--epochs"]
STEPS = MIN_STEPS
QUICK = "--xla_backend_optimization_level=0"  # to compile: it takes ten times as long as the training
NUMBERS = [name for column in COLUMNS for name in (column, f"val_{column}")]

# Runs train.py once for each list of arguments; the steps and places of all crops go into a log. When the crops of step
# "kill" are cut, the process ends as if its machine had lost power.
WORKER = """
import json, os, signal, sys
if os.environ["KERAS_BACKEND"] == "jax":
    sys.modules["tensorflow"] = None # Keras would import it beside JAX, which takes longer than the training
import unet
unet.set_up_backend()
unet.MEETING_SECONDS = int(sys.argv[4])
if os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
import augment, train
import instances
train.score_validation = lambda *_: ({"thresholds": instances.THRESHOLDS}, {}) # takes long and knows nothing of devices
log, kill = open(sys.argv[1], "a"), int(sys.argv[2])
draw = augment.draw
def logged(*arguments):
    if arguments[5] == kill:
        os.kill(os.getpid(), signal.SIGKILL)
    print(*arguments[5:7], file=log, flush=True)
    return draw(*arguments)
augment.draw = logged
for arguments in json.loads(sys.argv[3]):
    if status := train.main(arguments):
        sys.exit(status)
"""


def start(folder, backend, runs, num_devices=1, name="log", kill=-1, meeting_seconds=120):
    """A process that trains; what it prints goes to pipes."""
    environment = {
        **os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count={num_devices}",
    }  # fmt: skip
    command = [sys.executable, "-c", WORKER, str(folder / name), str(kill), json.dumps(runs), str(meeting_seconds)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )  # fmt: skip


def finish(process, seconds=240):
    out, errors = process.communicate(timeout=seconds)
    return process.returncode, out, errors


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for number in range(3):
        write_pair(folder, f"f{number}", "fluorescence", number)
        write_pair(folder, f"t{number}", "tissue", number)
    return folder


def train_here(folder, backend, *runs):
    """Run train.py where there are two devices; what it said."""
    status, said, errors = finish(start(folder, backend, runs, num_devices=2))
    assert status == 0, said + errors
    return said


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """On JAX, the folder of a training on one device, and beside it one on two, and one that goes on from the first."""
    folder = tmp_path_factory.mktemp("jax")
    common = ["--data-dir", str(data), *ARGUMENTS, "3", "--out"]
    runs = [*common, str(folder / "one")], [*common, str(folder / "two"), "--devices", "2"]
    tuned = [*common, str(folder / "tuned"), "--epochs", "1", "--init", str(folder / "one" / "trained_model.h5")]
    said = train_here(folder, "jax", *runs, tuned)
    assert "2 devices share each batch" in said
    return folder / "one"


def assert_same_training(ours, theirs, num_epochs):
    ours, theirs = history(ours), history(theirs)
    assert [int(row["epoch"]) for row in ours] == [int(row["epoch"]) for row in theirs] == list(range(1, num_epochs + 1))
    for name in NUMBERS:
        np.testing.assert_allclose(
            [float(row[name]) for row in ours], [float(row[name]) for row in theirs], rtol=0, atol=1e-4, err_msg=name
        )


def test_two_devices_of_jax_train_as_one_does(alone):
    assert_same_training(alone.parent / "two", alone, 3)
    settings = read_settings(alone.parent / "two" / "trained_model.h5")
    assert settings["arguments"]["batch_size"] == BATCH
    assert not {"devices", "process_id", "coordinator"} & set(settings["arguments"])  # they change nothing


def test_two_devices_of_tensorflow_train_as_one_does(data, tmp_path):
    common = ["--data-dir", str(data), *ARGUMENTS, "2", "--out"]
    one, two = [*common, str(tmp_path / "one")], [*common, str(tmp_path / "two"), "--devices", "2"]
    assert "2 devices share each batch" in train_here(tmp_path, "tensorflow", one, two)
    assert_same_training(tmp_path / "two", tmp_path / "one", 2)


def pair(folder, data, *more, kill=(-1, -1)):
    """Two processes that train together, waited for: [(status, what it printed, its errors)]."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = []
    for number in (0, 1):
        arguments = [
            *("--data-dir", str(data), *ARGUMENTS, "3", "--out", str(folder / "out"), *more),
            *("--num-processes", "2", "--process-id", str(number), "--coordinator", address),
        ]
        processes.append(start(folder, "jax", [arguments], name=f"log{number}", kill=kill[number]))
    return [finish(process) for process in processes]


def drawn(folder, number):
    """The (step, place) of all crops that a process has cut since last asked."""
    path = folder / f"log{number}"
    crops = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    path.unlink()
    return crops


def test_two_processes_train_as_one_also_when_one_has_died_and_they_resume(alone, data, tmp_path):
    first, second = pair(tmp_path, data, kill=(-1, STEPS + STEPS * 3 // 4))  # process 1 dies in the second epoch
    assert second[0] == -9
    status, said, errors = first
    assert status == 1, said + errors
    assert errors.count("train.py: ") == 1 and "Traceback" not in errors, errors
    assert "train.py: process 0 lost another process" in errors and "--resume" in errors
    assert len(history(tmp_path / "out")) == 1
    half = BATCH // ECHO // 2
    places = range(half), range(half, 2 * half)
    for number in (0, 1):  # each crop is cut once, in one of the processes
        times = Counter(drawn(tmp_path, number))
        assert max(times.values()) == 1
        for step in range(STEPS):
            assert {place for at, place in times if at == step} == set(places[number])

    first, second = pair(tmp_path, data, "--resume")
    assert first[0] == second[0] == 0, first[1] + first[2] + second[1] + second[2]
    assert_same_training(tmp_path / "out", alone, 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["history.csv", "trained_model.h5"]
    assert "Wrote" in first[1] and "done its part" in second[1] and "Wrote" not in second[1]
    ours, theirs = (load_network(out / "trained_model.h5")[1] for out in (tmp_path / "out", alone))
    assert ours["epoch"] == theirs["epoch"] and ours["data"] == theirs["data"]


def test_two_processes_rehearse_the_same(alone, data, tmp_path):
    first, second = pair(tmp_path, data, "--epochs", "1", "--init", str(alone / "trained_model.h5"))
    assert first[0] == second[0] == 0, first[1] + first[2] + second[1] + second[2]
    assert "of the crops are painted" in first[1]
    assert_same_training(tmp_path / "out", alone.parent / "tuned", 1)


def test_a_process_that_is_alone_says_so(data, tmp_path):
    arguments = ["--num-processes", "2", "--coordinator", "127.0.0.1:1", "--process-id", "1", "--out", str(tmp_path / "out")]
    status, said, errors = finish(start(tmp_path, "jax", [arguments], meeting_seconds=2))
    assert status == 1, said + errors
    assert "train.py: process 1 did not reach process 0 at 127.0.0.1:1 within 2 s" in errors
    assert not (tmp_path / "out").exists()


def test_devices_that_are_not_there_and_batches_that_do_not_part(data, tmp_path, capsys):
    assert run(data, tmp_path, "--devices", 3) == 1
    assert "--batch-size 2 does not part evenly among 3 devices; take 3" in capsys.readouterr().err
    assert run(data, tmp_path, "--devices", 2) == 1
    assert "can train on 1 here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_several_processes_need_jax(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    flags = ["--num-processes", 2, "--coordinator", "127.0.0.1:9"]
    assert run(data, tmp_path, *flags) == 1
    assert "KERAS_BACKEND=jax" in capsys.readouterr().err
    monkeypatch.setattr(unet.importlib.util, "find_spec", lambda name: None)
    assert run(data, tmp_path, *flags) == 1
    assert "pip install jax" in capsys.readouterr().err


def test_all_processes_must_train_the_same(monkeypatch):
    theirs = {"epochs": 3, "data_dir": "/there", "data": "1234"}
    monkeypatch.setattr("nuclei.training.hosts.broadcast", lambda make, num_processes, process_id: theirs)
    check_alike({"epochs": 3, "data_dir": "/here", "data": "1234"}, 2, 1)
    with pytest.raises(ValueError, match="process 1 differs from process 0 in epochs"):
        check_alike({"epochs": 4, "data_dir": "/here", "data": "1234"}, 2, 1)


@pytest.mark.parametrize(
    "flags", [("--process-id", "1"), ("--num-processes", "2"), ("--num-processes", "2", "--coordinator", "host")]
)
def test_flags_that_belong_together(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(list(flags))
    assert stopped.value.code == 2
    assert "--process-id is 1" in (said := capsys.readouterr().err) or "HOST:PORT" in said


def test_validation_comes_in_whole_batches_that_processes_share():
    images, truths = np.arange(5.0).reshape(5, 1, 1, 1), -np.arange(5.0).reshape(5, 1, 1, 1)
    filled = whole_batches((images, truths), 4, range(4))
    assert len(filled[0]) == 8 and set(filled[0].ravel()) == {0, 1, 2, 3, 4}  # none is left out
    np.testing.assert_array_equal(filled[0], -filled[1])
    parts = [whole_batches((images, truths), 4, places)[0].reshape(-1, 2) for places in (range(2), range(2, 4))]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), filled[0].reshape(-1, 4))
    whole = (images[:4], truths[:4])
    assert whole_batches(whole, 4, range(4)) is whole  # nothing is copied where nothing is to be filled
