"""Whether processes or threads draw the crops of a training, and how many.

drawer = start_drawing(recipe, samples, run)             # before Keras is imported
drawer = drawer or ThreadDrawer(draw, drawing_threads(device))
"""

import os
import sys
from functools import partial

from nuclei.machine import has_nvidia, num_cores
from nuclei.model_file import read_settings
from nuclei.training.batches import CropPlan, crops_held, draw_crop
from nuclei.training.drawers import ProcessDrawer
from unet import HEADS

MIN_CORES = 4  # from which processes draw crops for a GPU
MAX_THREADS = 8  # that draw crops for a GPU; more do not make a training faster


def start_drawing(recipe, samples, run):
    """Start processes that draw crops for a GPU, one for each core but one.

    Args:
        recipe: a `Recipe`.
        samples: list of `Sample` to train on.
        run: a `Run`.

    Returns:
        A `ProcessDrawer`; None where threads will do: without a GPU, with few cores, where Keras
        has started already, or where several devices share the batches, since TensorFlow then
        begins the batches more than once.
    """
    is_alone = run.processes.num == run.num_devices == 1
    is_early = "keras" not in sys.modules
    if not (
        is_alone and is_early and has_nvidia() and hasattr(os, "fork") and num_cores() >= MIN_CORES
    ):
        return None
    heads = recipe.heads or HEADS
    if recipe.init and not recipe.heads:
        heads = read_settings(recipe.init)["architecture"]["heads"]
    plan = CropPlan(samples, heads, recipe.crop_px, recipe.seed)
    shape, num_slots = (recipe.crop_px, len(heads)), crops_held(recipe.batch_size)
    return ProcessDrawer(partial(draw_crop, plan), shape, num_cores() - 1, num_slots)


def drawing_threads(device):
    """Threads that draw crops: one beside a network that needs the cores itself, more for a GPU."""
    return min(MAX_THREADS, max(2, num_cores())) if device.startswith("GPU") else 1
