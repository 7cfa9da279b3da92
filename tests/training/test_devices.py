"""Several devices and hosts: the training is that of one, and a lost process ends the others."""

from collections import Counter

import pytest
from training_tools import history, run, write_data
from training_workers import (
    BATCH_SIZE,
    FLAGS,
    assert_same_training,
    finish,
    start,
    train_here,
    train_in_pair,
)

from nuclei.model_file import load_network, read_settings
from nuclei.training.batches import ECHO
from nuclei.training.fit import MIN_STEPS
from nuclei.training.hosts import Processes, check_alike
from nuclei.written import RECORD


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), num_pairs=3)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """On JAX: a training on one device, beside one on two and one that goes on from the first."""
    folder = tmp_path_factory.mktemp("jax")
    common = ["--data-dir", str(data), *FLAGS, "3", "--out"]
    one, two = [*common, str(folder / "one")], [*common, str(folder / "two"), "--devices", "2"]
    init = str(folder / "one" / "trained_model.h5")
    tuned = [*common, str(folder / "tuned"), "--epochs", "1", "--init", init]
    assert "2 devices share each batch" in train_here(folder, "jax", one, two, tuned)
    return folder / "one"


def test_two_devices_of_jax_train_as_one_does(alone):
    assert_same_training(alone.parent / "two", alone, 3)
    arguments = read_settings(alone.parent / "two" / "trained_model.h5")["arguments"]
    assert arguments["batch_size"] == BATCH_SIZE
    # They change nothing, so they are no part of the recipe.
    assert not {"devices", "process_id", "coordinator"} & set(arguments)


def test_two_devices_of_tensorflow_train_as_one_does(data, tmp_path):
    common = ["--data-dir", str(data), *FLAGS, "2", "--out"]
    one, two = [*common, str(tmp_path / "one")], [*common, str(tmp_path / "two"), "--devices", "2"]
    assert "2 devices share each batch" in train_here(tmp_path, "tensorflow", one, two)
    assert_same_training(tmp_path / "two", tmp_path / "one", 2)


def drawn_crops(folder, number):
    """The (step, place) of all crops that a process has drawn since the last call."""
    path = folder / f"log{number}"
    crops = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    path.unlink()
    return crops


def test_two_processes_train_as_one_also_when_one_has_died_and_they_resume(alone, data, tmp_path):
    in_second_epoch = MIN_STEPS + MIN_STEPS * 3 // 4
    first, second = train_in_pair(tmp_path, data, kill=(-1, in_second_epoch))
    assert second[0] == -9
    status, printed, errors = first
    assert status == 1, printed + errors
    assert errors.count("train.py: ") == 1 and "Traceback" not in errors, errors
    assert "train.py: process 0 lost another process" in errors and "--resume" in errors
    assert len(history(tmp_path / "out")) == 1
    half = BATCH_SIZE // ECHO // 2
    places = range(half), range(half, 2 * half)
    for number in (0, 1):  # each crop is drawn once, in one of the processes
        times = Counter(drawn_crops(tmp_path, number))
        assert max(times.values()) == 1
        for step in range(MIN_STEPS):
            drawn = {place for drawn_step, place in times if drawn_step == step}
            assert drawn == set(places[number])

    first, second = train_in_pair(tmp_path, data, "--resume")
    assert first[0] == second[0] == 0, first[1] + first[2] + second[1] + second[2]
    assert_same_training(tmp_path / "out", alone, 3)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    expected = ["Training_Graph.html", "history.csv", "settings.json", "trained_model.h5"]
    assert names == [*expected, RECORD]  # no preview
    assert "Wrote" in first[1] and "is done" in second[1] and "Wrote" not in second[1]
    folders = (tmp_path / "out", alone)
    ours, theirs = (load_network(folder / "trained_model.h5")[1] for folder in folders)
    assert ours["epoch"] == theirs["epoch"] and ours["data"] == theirs["data"]


def test_two_processes_rehearse_the_same(alone, data, tmp_path):
    flags = ("--epochs", "1", "--init", str(alone / "trained_model.h5"))
    first, second = train_in_pair(tmp_path, data, *flags)
    assert first[0] == second[0] == 0, first[1] + first[2] + second[1] + second[2]
    assert "of the crops are shown in the look of another modality" in first[1]
    assert_same_training(tmp_path / "out", alone.parent / "tuned", 1)


def test_a_process_that_is_alone_says_so(data, tmp_path):
    flags = ["--num-processes", "2", "--coordinator", "127.0.0.1:1", "--process-id", "1"]
    flags += ["--out", str(tmp_path / "out")]
    status, printed, errors = finish(start(tmp_path, "jax", [flags], meeting_seconds=2))
    assert status == 1, printed + errors
    assert "train.py: process 1 did not reach process 0 at 127.0.0.1:1 within 2 s" in errors
    assert not (tmp_path / "out").exists()


def test_devices_that_are_not_there_and_batches_that_cannot_be_divided(data, tmp_path, capsys):
    assert run(data, tmp_path, "--devices", 3) == 1
    message = "--batch-size 2 cannot be divided evenly among 3 devices; take 3"
    assert message in capsys.readouterr().err
    assert run(data, tmp_path, "--devices", 2) == 1
    assert "can train on 1 here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_several_processes_need_jax(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    flags = ["--num-processes", 2, "--coordinator", "127.0.0.1:9"]
    assert run(data, tmp_path, *flags) == 1
    assert "KERAS_BACKEND=jax" in capsys.readouterr().err
    monkeypatch.setattr("nuclei.training.hosts.importlib.util.find_spec", lambda name: None)
    assert run(data, tmp_path, *flags) == 1
    assert "pip install jax" in capsys.readouterr().err


def test_all_processes_must_train_the_same(monkeypatch):
    theirs = b'{"epochs": 3, "data": "1234"}'
    monkeypatch.setattr("nuclei.training.hosts.broadcast", lambda make, processes: theirs)
    check_alike({"epochs": 3, "data": "1234"}, Processes(2, 1))
    with pytest.raises(ValueError, match="process 1 differs from process 0 in epochs"):
        check_alike({"epochs": 4, "data": "1234"}, Processes(2, 1))
