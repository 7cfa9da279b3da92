"""Images per second of training: bare steps on one batch, and `fit` on the whole input pipeline."""

import time
from functools import partial

from nuclei.machine import find_device
from nuclei.training.batches import ECHO_STEPS, CropPlan, batches, draw_crop
from nuclei.training.drawers import ThreadDrawer
from nuclei.training.drawing import drawing_threads
from nuclei.training.network import compile_model
from nuclei.training.recipe import LEARNING_RATE

TURNS = 2  # bare steps and `fit` take turns, so that other work of the machine meets both


def measure_training(card, label, model, heads, samples, num_steps, crops):
    """Time the training of a network.

    Args:
        card: a `Card`.
        label: of the model on the card.
        model: a network of `build_unet`.
        heads: names of its maps.
        samples: list of `Sample`.
        num_steps: to time.
        crops: (number of crops in a batch, their side in px).
    """
    import keras

    class Clock(keras.callbacks.Callback):
        times = ()

        def on_train_batch_end(self, batch, logs=None):
            self.times = (*self.times, time.perf_counter())

    batch_size, crop_px = crops
    device = find_device(keras.backend.backend())[0]
    model = compile_model(model, heads, LEARNING_RATE, 10 * num_steps, device)
    plan = CropPlan(samples, heads, crop_px, seed=0)
    draw = partial(draw_crop, plan)
    batch = next(batches(plan, batch_size))
    bare, whole, clock = [], [], Clock()
    model.train_on_batch(*batch)
    num_before = min(num_steps, 2 * ECHO_STEPS)  # not timed: the first crops serve several steps
    for _ in range(TURNS):
        started = time.perf_counter()
        for _ in range(num_steps):
            model.train_on_batch(*batch)
        bare.append((time.perf_counter() - started) / num_steps)
        clock.times = ()
        model.fit(
            batches(plan, batch_size, drawer=ThreadDrawer(draw, drawing_threads(device))),
            steps_per_epoch=num_before + num_steps,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        )
        whole.append((clock.times[-1] - clock.times[num_before - 1]) / num_steps)
    bare_speed, whole_speed = batch_size / min(bare), batch_size / min(whole)
    card.add(
        "training",
        label,
        f"{batch_size} crops of {crop_px} px",
        ("bare", bare_speed, "images/s"),
        ("whole", whole_speed, "images/s"),
        ("share of bare", whole_speed / bare_speed, ""),
    )
