"""Whatever became of a checkpoint, it is read as it was written or refused in one line."""

import json
import random
from dataclasses import asdict

import keras
import numpy as np
import pytest

from experiments.campaign.damage import mutated_bytes, mutated_texts
from nuclei.files import replacing
from nuclei.schema import read_json
from nuclei.training.checkpoint import (
    WEIGHTS,
    State,
    make_room,
    read_checkpoint,
    restore,
    save_checkpoint,
    stored_state,
)
from nuclei.training.output_folder import writing_results
from nuclei.training.recipe import Recipe, Run
from nuclei.written import recording
from unet import build_unet

RECIPE = Recipe(data_dir=("a", "b"), width=2, depth=1, heads=["nucleus"], learning_rate=0.01)
ROWS = [{"epoch": 1, "loss": 0.5, "val_loss": 0.25}, {"epoch": 2, "loss": float("nan")}]


@pytest.fixture(scope="module")
def model():
    model = build_unet(**RECIPE.architecture)
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def state(model):
    base = {"thresholds": {"min_area_px": 20, "marker_threshold": 0.5}}
    best = model.get_weights()
    return State(RECIPE, "abc", base, ["nucleus"], ROWS, 0.25, 1, 1, best_weights=best)


@pytest.fixture
def path(model, state, tmp_path):
    save_checkpoint(tmp_path / "checkpoint.h5", model, state)
    return tmp_path / "checkpoint.h5"


def test_a_checkpoint_comes_back_as_it_was_written(path, model, state):
    again = restore(model, read_checkpoint(path), "abc")
    assert again.recipe == RECIPE and again.base == state.base and again.learned == state.learned
    assert repr(again.rows) == repr(ROWS)  # whole numbers stay whole, NaN stays NaN
    assert all(map(np.array_equal, again.best_weights, state.best_weights))
    assert repr(read_checkpoint("of another host", path.read_bytes()).state.rows) == repr(ROWS)


def test_a_damaged_checkpoint_is_refused_in_one_line_or_goes_on(path, model):
    content, generator, num_refused, number = path.read_bytes(), random.Random(4), 0, 200
    for _ in range(number):
        path.write_bytes(mutated_bytes(content, generator))
        try:
            restore(model, read_checkpoint(path), "abc")
        except ValueError as error:
            assert "\n" not in str(error)
            num_refused += 1
    assert number / 4 < num_refused < number


def test_a_damaged_state_is_refused_or_can_be_used(state):
    stored = {name: value for name, value in vars(state).items() if name not in WEIGHTS}
    stored["recipe"] = asdict(RECIPE)
    num_refused, number = 0, 300
    for text in mutated_texts(stored, number, seed=5):
        try:
            again = State(**read_json(text, stored_state()))
        except ValueError as error:
            assert "\n" not in str(error)
            num_refused += 1
        else:
            json.dumps(again.recipe.for_model_file())
            assert again.is_finished in (True, False) and again.recipe.architecture["heads"]
    assert number / 4 < num_refused < number


def test_arrays_of_another_network_are_refused(path):
    other = build_unet(heads=["nucleus"], width=3, depth=1)
    other.compile(keras.optimizers.Adam(), "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="arrays network of the checkpoint do not fit"):
        restore(other, read_checkpoint(path), "abc")


def test_a_recipe_of_an_absurd_network_is_not_built(path, model, state):
    huge = Recipe(width=1024, depth=8)
    save_checkpoint(path, model, State(huge, "abc", best_weights=state.best_weights))
    with pytest.raises(ValueError, match=r"not a checkpoint .*they need 2,473,901,162,496 bytes"):
        read_checkpoint(path)


def test_files_that_others_put_in_the_place_of_results_move_aside(tmp_path, capsys):
    run = Run(tmp_path / "out")
    results = [run.model, run.history, run.settings, run.graph, run.preview]
    with recording(run.out, overwrite=True):
        for path in results:
            with replacing(path) as temporary:
                temporary.write_text("ours")
        make_room(run, has_moved=True)  # of this training: they stay
        assert all(path.is_file() for path in results) and not run.previous.exists()
    for path in results[1:]:
        path.write_text("mine")
    with recording(run.out, overwrite=True):  # a training that goes on
        make_room(run, has_moved=True)
    (moved,) = run.previous.iterdir()
    assert {path.name for path in moved.iterdir()} == {path.name for path in results[1:]}
    assert {path.read_text() for path in moved.iterdir()} == {"mine"}
    assert run.model.read_text() == "ours" and not run.history.exists()


def test_a_file_in_the_place_of_the_earlier_results_is_told_before_the_work(tmp_path):
    run = Run(tmp_path)
    run.previous.write_text("mine")
    with (
        pytest.raises(OSError, match="previous is no folder, .* move it away"),
        writing_results(run),
    ):
        raise AssertionError
    assert run.previous.read_text() == "mine"
