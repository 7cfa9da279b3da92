"""The work after each epoch: history, best weights, mean of the last ones, checkpoint, stopping.

bookkeeper = Bookkeeper(state, run, save_best)
model.fit(..., callbacks=[bookkeeper])
bookkeeper.failure                              # None, or why the training was stopped
"""

import math
import time

import keras
import numpy as np

from nuclei.training.checkpoint import make_room, save_checkpoint, write_history

CHECK_STEPS = 10  # steps between two checks of the loss: each makes a GPU wait for Python
BLIND_DICE = 0.02  # validation Dice below which the network predicts background only
BLIND_EPOCH = 5  # the first epoch that warns of it: earlier it is usual
MEAN_SHARE = 0.25  # of all epochs, the last ones, whose weights are averaged
COLUMNS = ("loss", "accuracy", "dice", "iou")  # of history.csv, and the same of validation as val_


class Bookkeeper(keras.callbacks.Callback):
    """Keeps a `State` up to date and writes the files of the training.

    Args:
        state: the `State`; it changes with each epoch.
        run: the `Run`; process 0 alone writes and prints.
        save_best: called with the weights and the row of history.csv of each new best epoch.

    Attributes:
        failure: why the training was stopped: the loss is not a number. None if all is well.
    """

    def __init__(self, state, run, save_best):
        super().__init__()
        self.state, self.run, self.save_best = state, run, save_best
        self.failure = None

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Stop if the loss, which is the mean of the epoch so far, is not finite."""
        if batch % CHECK_STEPS == 0 and not math.isfinite(loss := float(logs["loss"])):
            epoch = self.state.num_epochs + 1
            self.failure = f"loss became {loss} in epoch {epoch}, by step {batch + 1}"
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        """Do all that is done after an epoch."""
        for name in ("loss", "val_loss"):
            if not self.failure and not math.isfinite(value := float(logs[name])):
                self.failure = f"{name} became {value} in epoch {epoch + 1}"
        if self.failure:
            self.model.stop_training = True
            return
        row = self.row(epoch, logs)
        self.state.rows.append(row)
        if self.run.processes.is_first:
            make_room(self.run, self.state.has_moved)  # only now is there something to put there
        self.state.has_moved = True
        self.keep_best(row)
        self.average(row)
        if self.run.processes.is_first:
            write_history(self.run.history, self.state.rows)
            save_checkpoint(self.run.checkpoint, self.model, self.state)
        self.warn(row)
        if self.state.num_waited >= self.state.recipe.epochs_to_wait:
            epochs = self.state.recipe.epochs_to_wait
            self.run.say(f"Stopped early: no better validation loss for {epochs} epochs.")
            self.model.stop_training = True

    def row(self, epoch, logs):
        """The row of history.csv of an epoch."""
        names = (*COLUMNS, *(f"val_{name}" for name in COLUMNS))
        rate = float(np.asarray(self.model.optimizer.learning_rate))
        return {
            "epoch": epoch + 1,
            **{name: round(float(logs[name]), 6) for name in names},
            "learning_rate": float(f"{rate:.6g}"),
            "seconds": round(time.monotonic() - self.started, 2),
        }

    def keep_best(self, row):
        """Keep the weights if this epoch has the lowest validation loss so far."""
        state = self.state
        if state.best_loss is not None and row["val_loss"] >= state.best_loss:
            state.num_waited += 1
            return
        state.best_loss, state.best_epoch, state.num_waited = row["val_loss"], row["epoch"], 0
        state.best_weights = self.model.get_weights()
        if self.run.processes.is_first:
            self.save_best(state.best_weights, row)

    def average(self, row):
        """Add the weights to the mean of the last epochs."""
        state, epochs = self.state, self.state.recipe.epochs
        if row["epoch"] <= epochs - max(1, round(MEAN_SHARE * epochs)):
            return
        state.num_averaged += 1
        share, weights = 1 / state.num_averaged, self.model.get_weights()
        pairs = zip(state.mean_weights or weights, weights, strict=True)
        state.mean_weights = [(1 - share) * mean + share * new for mean, new in pairs]

    def warn(self, row):
        """Warn if the network predicts background only."""
        if row["epoch"] >= BLIND_EPOCH and row["val_dice"] < BLIND_DICE:
            self.run.say(
                f"WARNING: after {row['epoch']} epochs the network predicts background only "
                f"(validation Dice {row['val_dice']:.3f}). Usual causes: masks that do not belong "
                "to their images, masks that are nearly empty, too few steps, or a learning rate "
                "that is too high. `python import_data.py` checks the data."
            )
