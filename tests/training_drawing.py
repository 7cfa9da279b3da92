"""Programs with processes that draw. Each runs in a fresh Python: `run("same_crops", 2)`.

In the process of the tests a backend may have started threads, which copies of it would wait for.
"""

import os
import signal
import subprocess
import sys
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from training_samples import sample

from nuclei.training import drawers, drawing
from nuclei.training.batches import CropPlan, batches, crops_held, draw_crop
from nuclei.training.drawers import ProcessDrawer
from nuclei.training.hosts import Processes
from nuclei.training.recipe import Recipe
from unet import HEADS

TESTS = Path(__file__).resolve().parent
PLAN = CropPlan([sample(), sample("tissue")], ("nucleus", "distance"), 64, seed=1)


def run(name, *arguments):
    """Run one of the functions below in a fresh Python. Raises: AssertionError, if it fails."""
    words = ", ".join(map(repr, arguments))
    code = f"import training_drawing; training_drawing.{name}({words})"
    folders = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS.parent / "data")))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": folders},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def same_crops(echo):
    """Processes draw what a thread draws, in as much memory as `crops_held` says."""
    processes = ProcessDrawer(partial(draw_crop, PLAN), (64, 2), 2, crops_held(5, echo))
    made = list(islice(batches(PLAN, 5, echo=echo, drawer=processes), 12))
    expected = list(islice(batches(PLAN, 5, echo=echo), 12))
    for own, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(own[0], other[0])
        np.testing.assert_array_equal(own[1], other[1])
    assert not any(np.shares_memory(part, processes.slots) for batch in made for part in batch)
    for process in processes.processes:
        process.join(5)
    assert not any(process.is_alive() for process in processes.processes)


def fail(step, place):
    """Draw nothing, but raise."""
    raise ValueError(f"no crop {step} {place}")


def die(step, place):
    """Draw nothing, but end the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def failure(draw, message):
    """What goes wrong in a process is an error of the training."""
    drawers.WAIT_S = 0.2
    with ProcessDrawer(globals()[draw], (8, 1), 1, 2) as drawer:
        drawer.submit((3, 1))
        try:
            drawer.result((3, 1))
        except RuntimeError as error:
            assert message in str(error), error
        else:
            raise AssertionError("no error")


def for_a_gpu():
    """With a GPU and four cores three processes draw what the recipe says."""
    drawing.has_nvidia, drawing.num_cores = lambda: True, lambda: 4
    recipe = Recipe(crop_px=64, batch_size=3)
    drawer = drawing.start_drawing(recipe, [sample()], Processes())
    assert len(drawer.processes) == 3
    plan = CropPlan([sample()], HEADS, 64, recipe.seed)
    made, expected = islice(batches(plan, 3, drawer=drawer), 12), islice(batches(plan, 3), 12)
    for own, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(own[1], other[1])
