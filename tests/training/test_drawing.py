"""Processes draw for a GPU and threads beside a CPU network."""

import os
import sys

import pytest
from training_drawing import run
from training_samples import sample

from nuclei.training import drawing
from nuclei.training.drawing import drawing_threads, start_drawing
from nuclei.training.hosts import Processes
from nuclei.training.recipe import Recipe, Run

RECIPE = Recipe(crop_px=64, batch_size=3)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU and four cores, where Keras has not started."""
    monkeypatch.setattr(drawing, "has_nvidia", lambda: True)
    monkeypatch.setattr(drawing, "num_cores", lambda: 4)
    monkeypatch.delitem(sys.modules, "keras", raising=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_processes_draw_for_a_gpu_what_the_recipe_says():
    run("for_a_gpu")


@pytest.mark.parametrize(
    ("name", "value"), [("has_nvidia", lambda: False), ("num_cores", lambda: 2)]
)
def test_without_a_gpu_or_cores_threads_draw(gpu, monkeypatch, name, value):
    monkeypatch.setattr(drawing, name, value)
    assert start_drawing(RECIPE, [sample()], Run()) is None


def test_where_keras_runs_or_several_train_threads_draw(gpu, monkeypatch):
    several = (Run(processes=Processes(2, 0, "here:1")), Run(num_devices=2))
    assert [start_drawing(RECIPE, [sample()], run) for run in several] == [None, None]
    monkeypatch.setitem(sys.modules, "keras", sys)
    assert start_drawing(RECIPE, [sample()], Run()) is None


def test_one_thread_draws_beside_a_network_on_the_same_cores_and_several_for_a_gpu():
    assert drawing_threads("CPU, 64 cores, with tensorflow") == 1
    assert 2 <= drawing_threads("GPU NVIDIA T4 with tensorflow") <= 8
