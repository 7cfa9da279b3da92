"""Whatever became of a checkpoint, it is read as it was written or refused in one line."""

import json
import random
from dataclasses import asdict

import keras
import numpy as np
import pytest

from experiments.campaign.damage import mutated_bytes, mutated_texts
from nuclei.schema import read_json
from nuclei.training.checkpoint import (
    WEIGHTS,
    State,
    read_checkpoint,
    restore,
    save_checkpoint,
    stored_state,
)
from nuclei.training.recipe import Recipe
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
