"""Threads and processes draw the same crops, and say what went wrong."""

import os
import signal
from functools import partial
from itertools import islice

import numpy as np
import pytest
from training_samples import sample

from nuclei.training import drawers
from nuclei.training.batches import CropPlan, batches, crops_held, draw_crop
from nuclei.training.drawers import ProcessDrawer, ThreadDrawer

PLAN = CropPlan([sample(), sample("tissue")], ("nucleus", "distance"), 64, seed=1)
DRAW = partial(draw_crop, PLAN)
# Tests of other rooms may have started JAX in this process; the copies do not use it.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@needs_fork
@pytest.mark.parametrize("echo", [1, 2, 3])
def test_processes_draw_what_threads_draw_in_the_memory_that_was_promised(echo):
    processes = ProcessDrawer(DRAW, (64, 2), 2, crops_held(5, echo))
    made = list(islice(batches(PLAN, 5, echo=echo, drawer=processes), 12))
    expected = list(islice(batches(PLAN, 5, echo=echo, drawer=ThreadDrawer(DRAW, 2)), 12))
    for own, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(own[0], other[0])
        np.testing.assert_array_equal(own[1], other[1])
    assert not any(np.shares_memory(part, processes.slots) for batch in made for part in batch)


def failing(step, place):
    raise ValueError(f"no crop {step} {place}")


@needs_fork
def test_an_error_in_a_process_reaches_the_training():
    with (
        ProcessDrawer(failing, (8, 1), 1, 2) as drawer,
        pytest.raises(RuntimeError, match="ValueError: no crop 3 1"),
    ):
        drawer.submit((3, 1))
        drawer.result((3, 1))


def killed(step, place):
    os.kill(os.getpid(), signal.SIGKILL)


@needs_fork
def test_a_process_that_died_is_noticed(monkeypatch):
    monkeypatch.setattr(drawers, "WAIT_S", 0.2)
    with (
        ProcessDrawer(killed, (8, 1), 1, 2) as drawer,
        pytest.raises(RuntimeError, match="has died"),
    ):
        drawer.submit((0, 0))
        drawer.result((0, 0))


@needs_fork
def test_processes_end_with_the_drawer():
    with ProcessDrawer(DRAW, (64, 2), 2, 4) as drawer:
        processes = drawer.processes
    for process in processes:
        process.join(5)
    assert not any(process.is_alive() for process in processes)
