"""Programs with processes that draw. Each runs in a fresh Python: `run("same_crops", 2)`.

In the process of the tests a backend may have started threads, which copies of it would wait for.
"""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from training_samples import sample

from nuclei.training import drawers, drawing
from nuclei.training.batches import CropPlan, batches, crops_held, draw_crop
from nuclei.training.drawers import ProcessDrawer
from nuclei.training.recipe import Recipe, Run
from unet import HEADS

TESTS = Path(__file__).resolve().parent
PLAN = CropPlan([sample(), sample("tissue")], ("nucleus", "distance"), 64, seed=1)


def run(name, *arguments):
    """Run one of the functions below in a fresh Python. Raises: AssertionError, if it fails."""
    words = ", ".join(repr(int(a) if isinstance(a, int) else a) for a in arguments)
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
    assert done.returncode == 0 and not done.stderr, done.stderr


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


def stopped(number):
    """A signal to the whole group, as Ctrl-C is one, or the death of the training ends them all."""
    reader, writer = os.pipe()
    if not (training := os.fork()):
        os.setsid()
        drawers.WAIT_S = 0.2
        drawer = ProcessDrawer(partial(draw_crop, PLAN), (64, 2), 2, 4)
        os.write(writer, " ".join(str(process.pid) for process in drawer.processes).encode())
        drawer.submit((0, 0))
        drawer.result((0, 0))
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            drawer.__exit__()
        os._exit(0)
    pids = [int(word) for word in os.read(reader, 99).split()]
    time.sleep(1)
    (os.killpg if number == signal.SIGINT else os.kill)(training, number)
    os.waitpid(training, 0)
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, pids
        time.sleep(0.1)


def is_running(pid):
    """Whether a process lives: not gone, and no zombie."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            != "Z"
        )
    except FileNotFoundError:
        return False


def for_a_gpu():
    """With a GPU and four cores three processes draw what the recipe says."""
    drawing.has_nvidia, drawing.num_cores = lambda: True, lambda: 4
    recipe = Recipe(crop_px=64, batch_size=3)
    drawer = drawing.start_drawing(recipe, [sample()], Run())
    assert len(drawer.processes) == 3
    plan = CropPlan([sample()], HEADS, 64, recipe.seed)
    made, expected = islice(batches(plan, 3, drawer=drawer), 12), islice(batches(plan, 3), 12)
    for own, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(own[1], other[1])
