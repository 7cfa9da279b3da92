"""What the user sees while a training goes on: a bar, a line for each epoch, a graph, a preview.

    with Progress(...) as progress:
        displays = make_displays(state, data, run, settings, progress)
        model.fit(..., callbacks=[bookkeeper, *displays])

The bookkeeper comes first: the display shows the row that it has added.
"""

import time

import keras
import numpy as np

from nuclei.images.writing import write_jpeg
from nuclei.instances.separate import separate
from nuclei.progress import duration
from nuclei.results.graph_page import write_graph_page
from nuclei.results.history import read_history
from nuclei.training.preview import draw_preview, preview_batch, preview_crops

# Of the time of an epoch, for graph and preview: where epochs take seconds, some are left out.
MAX_SHARE = 0.05


def make_displays(state, data, run, settings, progress):
    """The callbacks that show the training to the user, in one of the processes.

    Args:
        state, data, run: the records of this training.
        settings: of the model file.
        progress: a `Progress` that counts steps.
    """
    if not run.processes.is_first:
        return []
    # The few crops of a preview cannot be shared among several devices.
    is_alone = run.num_devices * run.processes.num == 1
    crops = preview_crops(data.validating, state.recipe.crop_px) if is_alone else []
    displays = [Display(state, run, crops, settings["thresholds"], progress)]
    if run.log == "tensorboard":
        folder = run.out / "tensorboard" / time.strftime("%Y-%m-%d_%H-%M-%S")
        displays.append(keras.callbacks.TensorBoard(folder, write_graph=False))
    return displays


class Display(keras.callbacks.Callback):
    """Shows how far the training is, and renews Training_Graph.html and preview.jpg.

    Args:
        state: the `State`, which a `Bookkeeper` keeps up to date.
        run: the `Run`.
        crops: list of `Crop` for the preview; empty for none.
        thresholds: keyword arguments of `separate`.
        progress: a `Progress` that counts steps.
    """

    def __init__(self, state, run, crops, thresholds, progress):
        super().__init__()
        self.state, self.run, self.crops = state, run, crops
        self.thresholds, self.progress = thresholds, progress
        self.drawing_seconds = 0.0
        self.drawn, self.drawn_epoch = time.monotonic(), 0

    def on_train_batch_end(self, batch, logs=None):
        """Count a step."""
        self.progress.add(1)

    def on_epoch_end(self, epoch, logs=None):
        """Show the epoch, unless the loss was not a number."""
        rows, recipe = self.state.rows, self.state.recipe
        if not rows or rows[-1]["epoch"] != epoch + 1:
            return
        row = rows[-1]
        place = f"epoch {row['epoch']} of {recipe.epochs}"
        losses = f"loss {row['loss']:.3f}, validation {row['val_loss']:.3f}"
        self.progress.add(0, note=f"{place}, {losses}")
        seconds = [row["seconds"] for row in rows]
        left = f", {duration(np.mean(seconds) * (recipe.epochs - row['epoch']))} left"
        self.run.say(
            f"{place.capitalize()}: {losses} (Dice {row['val_dice']:.3f}), "
            f"{duration(row['seconds'])}{left if row['epoch'] < recipe.epochs else ''}"
        )
        if self.drawing_seconds < MAX_SHARE * (time.monotonic() - self.drawn):
            self.draw()

    def on_train_end(self, logs=None):
        """Draw the last epoch, if it was not drawn."""
        if self.state.num_epochs > self.drawn_epoch:
            self.draw()

    def draw(self):
        """Renew graph and preview."""
        started = time.monotonic()
        name = self.run.history.resolve().parent.name
        columns = read_history(self.run.history)
        write_graph_page(self.run.graph, f"Training: {name}", {name: columns})
        epoch, recipe = self.state.num_epochs, self.state.recipe
        if self.crops:
            maps = self.model.predict_on_batch(preview_batch(self.crops, recipe.crop_px))
            maps = np.asarray(maps, np.float32)
            if np.isfinite(maps).all():  # else the training has just failed
                labels = [separate(one, **self.thresholds) for one in maps]
                when = f"after epoch {epoch} of {recipe.epochs}"
                write_jpeg(self.run.preview, draw_preview(self.crops, labels, when))
        if self.drawn_epoch:  # the first drawing waits for imports
            self.drawing_seconds = time.monotonic() - started
        self.drawn, self.drawn_epoch = time.monotonic(), epoch
