"""nuclei.training.bookkeeping"""

import math
import time

import numpy as np

from nuclei.training.checkpoint import move_aside, save_checkpoint, write_history

CHECK_STEPS = 10  # steps between two looks at whether the loss is still a number
BLIND_DICE = 0.02  # validation Dice below which the network paints background only
BLIND_EPOCH = 5  # the first epoch at whose end that is worth a warning
MEAN_SHARE = 0.25  # of the epochs, the last ones, whose weights are averaged to what a training ends with
COLUMNS = ("loss", "accuracy", "dice", "iou")  # of history.csv, each for training and, as val_, validation


def make_bookkeeper(**arguments):
    """A Keras callback that keeps history, best weights and checkpoint, and decides when to stop."""
    import keras

    class Bookkeeper(keras.callbacks.Callback):
        def __init__(self, state, best_weights, start_weights, mean_weights, epochs, patience, paths, writes, save_best, say):
            super().__init__()
            self.state, self.epochs, self.patience, self.paths = state, epochs, patience, paths
            self.best_weights, self.start_weights, self.mean_weights = best_weights, start_weights, mean_weights
            self.writes = writes  # of several processes, one
            self.save_best, self.say = save_best, say
            self.failure = None

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.monotonic()

        def on_train_batch_end(self, batch, logs=None):
            # The loss shown is the mean of the epoch so far: once NaN, it stays so. Asking for it at every step would
            # make a GPU wait for Python.
            if batch % CHECK_STEPS == 0 and not math.isfinite(float(logs["loss"])):
                self.failure = f"loss became {float(logs['loss'])} in epoch {len(self.state['rows']) + 1}, by step {batch + 1}"
                self.model.stop_training = True

        def on_epoch_end(self, epoch, logs=None):
            for name in ("loss", "val_loss"):
                if not self.failure and not math.isfinite(float(logs[name])):
                    self.failure = f"{name} became {float(logs[name])} in epoch {epoch + 1}"
            if self.failure:
                self.model.stop_training = True
                return
            row = {"epoch": epoch + 1}
            row |= {name: round(float(logs[name]), 6) for name in (*COLUMNS, *(f"val_{name}" for name in COLUMNS))}
            row["learning_rate"] = float(f"{float(np.asarray(self.model.optimizer.learning_rate)):.6g}")
            row["seconds"] = round(time.monotonic() - self.started, 2)
            rows = self.state["rows"]
            rows.append(row)
            if self.writes and not self.state["moved"]:  # not before there is something to put in its place
                move_aside([self.paths["model"], self.paths["history"]], self.paths["previous"], self.say)
                self.state["moved"] = True
            if self.state["best_loss"] is None or row["val_loss"] < self.state["best_loss"]:
                self.state |= {"best_loss": row["val_loss"], "best_epoch": epoch + 1, "wait": 0}
                self.best_weights = self.model.get_weights()
                if self.writes:
                    self.save_best(self.best_weights, row)
            else:
                self.state["wait"] += 1
            if epoch + 1 > self.epochs - max(1, round(MEAN_SHARE * self.epochs)):
                self.state["averaged"] += 1
                share, weights = 1 / self.state["averaged"], self.model.get_weights()
                before = self.mean_weights or weights
                self.mean_weights = [(1 - share) * old + share * new for old, new in zip(before, weights, strict=True)]
            if self.writes:
                write_history(self.paths["history"], rows)
                kept = self.best_weights, self.start_weights, self.mean_weights
                save_checkpoint(self.paths["checkpoint"], self.model, *kept, self.state)
            if epoch + 1 >= BLIND_EPOCH and row["val_dice"] < BLIND_DICE:
                self.say(
                    f"WARNING: after {epoch + 1} epochs the network paints background only (validation Dice "
                    f"{row['val_dice']:.3f}). Usual causes: masks that do not belong to their images, masks that are "
                    "nearly empty, too few steps, or a learning rate too high. `python import_data.py` checks the data."
                )
            if self.state["wait"] >= self.patience:
                self.say(f"Stopped early: no better validation loss for {self.patience} epochs.")
                self.model.stop_training = True

    return Bookkeeper(**arguments)
