"""Processes draw for a GPU and threads beside a CPU network."""

import sys
from itertools import islice

import numpy as np
import pytest
from training_samples import sample

from nuclei.training import drawing
from nuclei.training.batches import CropPlan, batches
from nuclei.training.drawing import drawing_threads, start_drawing
from nuclei.training.hosts import Processes
from nuclei.training.recipe import Recipe
from unet import HEADS

# Tests of other rooms may have started JAX in this process; the copies do not use it.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
RECIPE = Recipe(crop_px=64, batch_size=3)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU and four cores, where Keras has not started."""
    monkeypatch.setattr(drawing, "has_nvidia", lambda: True)
    monkeypatch.setattr(drawing, "num_cores", lambda: 4)
    monkeypatch.delitem(sys.modules, "keras", raising=False)


def test_processes_draw_for_a_gpu_what_the_recipe_says(gpu):
    drawer = start_drawing(RECIPE, [sample()], Processes())
    plan = CropPlan([sample()], HEADS, 64, RECIPE.seed)
    assert len(drawer.processes) == 3
    made, expected = islice(batches(plan, 3, drawer=drawer), 12), islice(batches(plan, 3), 12)
    for own, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(own[1], other[1])


@pytest.mark.parametrize(
    ("name", "value"), [("has_nvidia", lambda: False), ("num_cores", lambda: 2)]
)
def test_without_a_gpu_or_cores_threads_draw(gpu, monkeypatch, name, value):
    monkeypatch.setattr(drawing, name, value)
    assert start_drawing(RECIPE, [sample()], Processes()) is None


def test_where_keras_runs_or_several_train_threads_draw(gpu, monkeypatch):
    assert start_drawing(RECIPE, [sample()], Processes(2, 0, "here:1")) is None
    monkeypatch.setitem(sys.modules, "keras", sys)
    assert start_drawing(RECIPE, [sample()], Processes()) is None


def test_one_thread_draws_beside_a_network_on_the_same_cores_and_several_for_a_gpu():
    assert drawing_threads("CPU, 64 cores, with tensorflow") == 1
    assert 2 <= drawing_threads("GPU NVIDIA T4 with tensorflow") <= 8
