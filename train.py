"""Train a U-Net on pairs of images and masks.

    python train.py                                   # data/raw + data/gt -> Saved_Model/trained_model.h5 and history.csv
    python train.py --data-dir my_data --epochs 60    # your own pairs
    python train.py --resume                          # go on after a crash, a power cut or Ctrl-C
    python train.py --init Saved_Model/pretrained.h5 --data-dir few_images         # fine-tune a model, if with few images
    python train.py --devices 4 --batch-size 32       # on four GPUs of this machine, which share each batch

Each epoch leaves Saved_Model/history.csv (one row more), Saved_Model/trained_model.h5 (the best epoch so far by
validation loss) and Saved_Model/checkpoint.h5 (all that `--resume` needs; removed at the end). At the end the
thresholds of `instances.separate` are chosen on the validation images and stored in the model file, for this epoch and
for the mean of the weights of the last quarter of all epochs: what then finds the nuclei better is kept. An earlier
model and history move to Saved_Model/previous/. The batches and weights of a run are a function of its seed: two runs on
one CPU agree, and a resumed run ends with the history of an uninterrupted one.
"""

import argparse
import contextlib
import gc
import hashlib
import json
import math
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

import augment
import instances
import tiling
import unet
from import_data import (
    find_images,
    find_pairs,
    find_truths,
    intensity_range,
    modality,
    named,
    normalise,
    positive,
    read_pair,
    read_split,
    replacing,
    split_stems,
    user_errors_in_one_line,
)

DATA_DIR = "data"
OUT = "Saved_Model"
SEED = 7
EPOCHS = 30
CROPS_PER_IMAGE = 2  # in one epoch, of each training image on average
MIN_STEPS = 16  # of an epoch, so that a handful of images still makes a training: half as many part far fewer nuclei
BATCH_SIZE = 8  # with Muon; a crop of a batch of 4 takes a tenth more time, and AdamW wanted these more and rougher steps
CROP_PX = 256  # shows ten or more nuclei of usual size; what most public sets cut their images to
LEARNING_RATE = 6e-3  # at its highest, after WARMUP_SHARE of the steps; then along a cosine to zero
WARMUP_SHARE = 0.05
WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0  # of the whole gradient: one crop of a broken mask must not throw the weights off
PATIENCE = 20  # epochs without a better validation loss, then training stops
VALIDATION_SHARE = 0.15
MAX_VALIDATION_CROPS = 256  # 0.3 GB; more make the epochs slower and the choice no better
HELD_BYTES = 4_000_000_000  # of images and labels in memory, 7 bytes a pixel; what is more lies in a file, read as needed
HELD_SHARE = 0.25  # of the memory that this process may use, where that is less
MAX_SEARCH_PIXELS = 24_000_000  # of validation images in the search for thresholds: a minute or two of two cores
UNLIKE_SHARE = 0.05  # of the validation images may be called unlike the training data
CHECK_STEPS = 10  # steps between two looks at whether the loss is still a number
BLIND_DICE = 0.02  # validation Dice below which the network paints background only
BLIND_EPOCH = 5  # the first epoch at whose end that is worth a warning
FINE_TUNING_RATE = 6e-4  # the same with --init, so that what was learned is not washed out
FEW_IMAGES = 50  # training images; with fewer, --init keeps its batch normalisation: theirs would be far from all others
REHEARSAL_SHARE = 0.6  # of the crops with --init and few images: in another modality, with the truth that --init paints
REHEARSAL_PIXELS = 6_000_000  # of those crops, 92 of the default size: 24 bytes each
MEAN_SHARE = 0.25  # of the epochs, the last ones, whose weights are averaged to what a training ends with
BLENDS = (0.25, 0.5, 0.75, 1.0)  # of the way from --init to the end of the training, tried one after the other
FEW_BLEND = 0.75  # where there are too few nuclei to choose by: one image or another chose anything from 0.25 to 1
BLEND_GAIN = 0.85  # of what the training gains on the validation crops; the first of BLENDS that gives so much is taken
MIN_SEARCH_NUCLEI = 200  # in the validation images; fewer, as those of a single image, choose what fits it and no other
NOT_STORED = (  # arguments of `train` that a resumed training may change
    "resume", "out", "devices", "num_processes", "process_id", "coordinator", "say", "make_callbacks",
)  # fmt: skip
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
FOLDERS = ("data_dir", "gt_dir", "split", "init")  # arguments that name places on this machine
COLUMNS = ("loss", "accuracy", "dice", "iou")  # of history.csv, each for training and, as val_, validation


# --- Data -----------------------------------------------------------------------------------------------------------


def on_disk(array, file):
    """The array at the end of a temporary file, mapped: the system holds what it has room for and reads the rest again."""
    start = file.seek(0, os.SEEK_END)
    file.write(np.ascontiguousarray(array))
    file.flush()
    return np.memmap(file, array.dtype, "r", start, array.shape)


def load_samples(raw_dir, gt_dir, say=print, folder=OUT):
    """Read every pair into memory, images as they are on disk; what is more than its share into a temporary file in `folder`.

    Returns:
        {stem: augment.Sample}, its group being the image's modality, and {stem: form of the truth}.

    Raises:
        FileNotFoundError, ValueError: no pairs, or files that cannot be read or do not fit together (up to five named).
    """
    pairs = find_pairs(raw_dir, gt_dir)
    unpaired = len(find_images(raw_dir)) + len(find_truths(gt_dir)) - 2 * len(pairs)
    if unpaired:
        say(f"{unpaired} files of {raw_dir} and {gt_dir} have no partner and are left out; python import_data.py names them")
    samples, forms, problems = {}, {}, []
    held, most, overflow = 0, min(HELD_BYTES, HELD_SHARE * unet.memory_bytes()), None
    with contextlib.ExitStack() as opened:  # closed, the file is there for as long as it is mapped
        for stem, (image_path, truth_path) in pairs.items():
            try:
                image, truth = read_pair(image_path, truth_path)
            except ValueError as error:
                problems.append(str(error))
                continue
            areas, shown, labels = np.bincount(truth.labels.ravel())[1:], image, truth.labels
            held += image.nbytes + labels.nbytes
            if held > most:
                if overflow is None:
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    overflow = opened.enter_context(tempfile.TemporaryFile(dir=folder))
                    say(f"The images are more than {most / 1e9:.3g} GB: the rest lies in a temporary file in {folder}")
                shown, labels = on_disk(image, overflow), on_disk(labels, overflow)
            samples[stem] = augment.Sample(
                image=shown,
                intensity_range=intensity_range(image),
                labels=labels,
                group=modality(image),
                diameter_px=float(np.median(2 * np.sqrt(areas / np.pi))) if len(areas) else None,
                # A label image of one nucleus cannot be told from a binary mask, nor need it be.
                has_instances=truth.form in ("instances", "instance colours", "empty") or truth.labels.max() <= 1,
            )
            forms[stem] = truth.form
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(pairs)} pairs cannot be used: {'; '.join(problems[:5])}"
            f"{' ...' if len(problems) > 5 else ''} (mend or remove them; `python import_data.py` checks all)"
        )
    if not any(sample.labels.any() for sample in samples.values()):
        raise ValueError(f"{gt_dir}: none of the {len(samples)} masks holds a nucleus; nothing can be learned from them")
    merged = [stem for stem, sample in samples.items() if not sample.has_instances]
    if merged and not any(form in ("instances", "instance colours") for form in forms.values()):
        say("All masks are binary: nuclei that touch in them are learned as one. Instance labels would separate them.")
        for sample in samples.values():
            sample.has_instances = True  # better components than no separation at all
    elif merged:
        say(f"{len(merged)} masks are binary among instance labels: they teach what is nucleus, not what is separate.")
    return samples, forms


def choose_split(samples, split_csv, seed, say=print):
    """Part the stems: (train stems, validation stems), each sorted.

    Raises:
        ValueError: the split CSV leaves no training image.
    """
    if split_csv:
        given = read_split(split_csv)
        parts = {stem: given.get(stem) for stem in samples}
        left_out = [stem for stem, part in parts.items() if part not in ("train", "validation")]
        if left_out:
            say(f"{len(left_out)} images are in neither part of {split_csv} and left out: {named(left_out)}")
    else:
        parts = split_stems({stem: sample.group for stem, sample in samples.items()}, VALIDATION_SHARE, seed)
    train, validation = (sorted(s for s, part in parts.items() if part == name) for name in ("train", "validation"))
    if not train:
        raise ValueError(f"{split_csv}: no stem of the data is marked train; stems must be file names without suffix")
    if not validation:
        say("No validation images (one pair, or none in the split): the training images validate, so the scores flatter.")
        validation = train
    return train, validation


def validation_crops(samples, heads, size):
    """Cut the validation images into unaugmented crops, at most MAX_VALIDATION_CROPS, evenly taken.

    They show their nuclei at the size that the training brings them to, as prediction does.

    Returns:
        (N, size, size, 3) and (N, size, size, len(heads)), float32.
    """
    places, zoomed = [], []
    for index, sample in enumerate(samples):
        zoomed.append(tiling.Resized(sample.image, augment.zoom_to_diameter(sample.diameter_px)))
        # A rest of less than half a crop is not worth one of its own.
        ys, xs = (range(0, max(1, length - size // 2), size) for length in zoomed[-1].shape[:2])
        places += [(index, y, x) for y in ys for x in xs]
    if len(places) > MAX_VALIDATION_CROPS:
        places = [places[k] for k in np.linspace(0, len(places) - 1, MAX_VALIDATION_CROPS).round().astype(int)]
    images = np.empty((len(places), size, size, 3), np.float32)
    truths = np.empty((len(places), size, size, len(heads)), np.float32)
    for row, (index, y, x) in enumerate(places):
        sample, seen = samples[index], zoomed[index]
        height, width = seen.shape[:2]
        y, x = max(0, min(y, height - size)), max(0, min(x, width - size))
        image = normalise(seen[y : y + size, x : x + size], sample.intensity_range)
        rows, columns = (
            ((np.arange(start, start + length) + 0.5) * step).astype(int)
            for start, length, step in zip((y, x), image.shape, seen.steps, strict=False)
        )
        truth = augment.targets(sample.labels[np.ix_(rows, columns)], heads, sample.has_instances)
        fill = ((0, size - image.shape[0]), (0, size - image.shape[1]), (0, 0))
        images[row] = np.pad(image, fill, mode="reflect")
        truths[row] = np.pad(truth, fill, mode="reflect")
    return images, truths


def whole_batches(crops, batch_size, places):
    """Validation crops in whole batches, some shown twice to fill up, so that any number of devices can share each batch.

    Args:
        crops: images and truths, (N, size, size, channels) each.
        places: range of each batch that this process needs.

    Returns:
        The same, each with as many rows as there are places in the batches.
    """
    number = math.ceil(len(crops[0]) / batch_size) * batch_size
    if number == len(crops[0]) and len(places) == batch_size:
        return crops
    rows = np.linspace(0, len(crops[0]) - 1, number).round().astype(int)
    rows = rows.reshape(-1, batch_size)[:, places.start : places.stop].ravel()
    return tuple(part[rows] for part in crops)


def fingerprint(samples):
    """A hash of pixels and labels, so that a model file says what data it has seen and --resume that it is the same."""
    digest = hashlib.sha256()
    for stem in sorted(samples):
        digest.update(stem.encode())
        digest.update(np.ascontiguousarray(samples[stem].image))
        digest.update(samples[stem].labels)
    return digest.hexdigest()[:16]


def nucleus_size(samples):
    """Diameters in px over all nuclei of the samples: {"median", "percentile_5", "percentile_95"}."""
    areas = np.concatenate([np.bincount(sample.labels.ravel())[1:] for sample in samples])
    diameters = 2 * np.sqrt(areas[areas > 0] / np.pi)
    values = np.percentile(diameters, (50, 5, 95)) if len(diameters) else (0, 0, 0)
    return {name: round(float(v), 1) for name, v in zip(("median", "percentile_5", "percentile_95"), values, strict=True)}


# --- Checkpoint: everything that a later process needs to go on as if nothing had happened ---------------------------


def save_checkpoint(path, model, best_weights, start_weights, mean_weights, state):
    """Write weights, optimiser, best, first and mean weights and `state` (for JSON) into one HDF5 file, atomically."""
    import h5py
    import keras

    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["state"] = json.dumps(state)
        groups = {
            "weights": model.get_weights(),
            "optimizer": [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables],
            "best": best_weights,
            "start": [] if state["base"] is None else start_weights,  # the file of --init may be that which this run writes
            "mean": mean_weights,
        }
        for name, arrays in groups.items():
            group = file.create_group(name)
            for index, array in enumerate(arrays):
                group.create_dataset(f"{index:04d}", data=array)


def read_checkpoint(path):
    """The groups of a checkpoint, {name: list of arrays}, and its state.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no checkpoint of this program.
    """
    import h5py

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no unfinished training to resume; start one with `python train.py`")
    try:
        with h5py.File(path, "r") as file:
            state = json.loads(file.attrs["state"])
            groups = {name: [group[key][()] for key in sorted(group)] for name, group in file.items()}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint of this program ({error}); remove it and start training anew") from None
    return groups, state


def move_aside(paths, folder, say=print):
    """Move files that exist into a new folder named by date and time below `folder`."""
    paths = [Path(path) for path in paths if Path(path).exists()]
    if not paths:
        return
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    target, number = Path(folder) / stamp, 1
    while target.exists():
        number += 1
        target = Path(folder) / f"{stamp}_{number}"
    target.mkdir(parents=True)
    for path in paths:
        os.replace(path, target / path.name)
    say(f"Earlier {named(path.name for path in paths)} moved to {target}")


def write_history(path, rows):
    """history.csv, one row an epoch, replaced whole so that it is never half a row."""
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


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


# --- Training -------------------------------------------------------------------------------------------------------


def score_validation(model, samples, geometry, base=None):
    """Predict whole validation images as predict.py does, choose thresholds on them, score them.

    Args:
        base: thresholds, calibration and unlike of the model that the training began with, if any. They stay where the
            samples hold fewer than MIN_SEARCH_NUCLEI; without them, the thresholds are those of `instances.separate`.

    Returns:
        (found, scores): `found` goes into the model's settings: thresholds, the calibration of a nucleus's confidence, and
        from which doubt on an image is called unlike the training data; `scores` has dice (mean over images), ap50
        (pooled) and map (Kaggle, mean over images) for all images and for each group.
    """

    def paint(sample):
        return tiling.predict_at_known_size(
            model.predict_on_batch,
            sample.image,
            model.output_shape[-1],
            augment.DIAMETER_PX,
            measure=lambda seen: instances.median_diameter(instances.separate(seen)),
            doubt=instances.image_doubt,
            prepare=lambda part: normalise(part, sample.intensity_range),
            **geometry,
        )

    few = not is_enough(samples)
    kept = base if few and base else {}
    thresholds = kept.get("thresholds", dict(instances.THRESHOLDS))
    painted = {}  # index: maps and zoom, only of the images that the thresholds are chosen on: all might be too many to hold
    if not few:
        pixels = 0
        for k in [k for k, sample in enumerate(samples) if sample.has_instances] or range(len(samples)):
            pixels += samples[k].labels.size
            if pixels <= MAX_SEARCH_PIXELS or not painted:
                painted[k] = paint(samples[k])
        maps, zooms = zip(*painted.values(), strict=True)
        thresholds, _ = instances.choose_thresholds(maps, [samples[k].labels for k in painted], zooms)
    counts, dices, features, hits, doubts, groups = [], [], [], [], [], [sample.group for sample in samples]
    for k, sample in enumerate(samples):
        maps, zoom = painted.pop(k) if k in painted else paint(sample)
        labels, truth = instances.separate(maps, zoom=zoom, **thresholds), sample.labels
        matching = instances.match(truth, labels)
        counts.append(instances.count_matches(matching))
        features.append(instances.doubt_features(labels, maps, zoom))
        hits.append(np.isin(np.arange(1, labels.max() + 1), matching.predicted_ids[instances.matched_pairs(matching)]))
        total = np.count_nonzero(labels) + np.count_nonzero(truth)
        dices.append(2 * np.count_nonzero((labels > 0) & (truth > 0)) / total if total else 1.0)
        doubts.append(instances.image_doubt(maps))
    counts, dices, groups = np.array(counts), np.array(dices), np.array(groups)
    scores = {}
    for name in ["all", *sorted(set(groups))]:
        member = np.ones(len(groups), bool) if name == "all" else groups == name
        scores[name] = {
            "images": int(member.sum()),
            "dice": round(float(dices[member].mean()), 4),
            "ap50": round(float(instances.average_precision(counts[member].sum(0)[0])), 4),
            "map": round(float(instances.average_precision(counts[member]).mean()), 4),
        }
    features, hits = np.concatenate(features), np.concatenate(hits)
    found = {"thresholds": thresholds}
    if len(hits):
        weights = instances.calibrate(features, hits)
        error, _ = instances.expected_calibration_error(instances.confidence(features, weights), hits)
        found["calibration"] = {"weights": weights, "nuclei": len(hits), "expected_calibration_error": round(error, 4)}
    limit = float(np.quantile(doubts, 1 - UNLIKE_SHARE, method="higher"))
    alarms = float(np.mean(np.array(doubts) > limit))
    found["unlike"] = {"doubt_above": limit, "false_alarm_rate": round(alarms, 4), "images": len(doubts)}
    return found | kept, scores


def is_enough(samples):
    """Whether these validation images hold enough nuclei to choose by."""
    return sum(int(sample.labels.max()) for sample in samples) >= MIN_SEARCH_NUCLEI


def choose_epoch(model, candidates, score, enough, say):
    """Of the best epoch by validation loss and the mean of the last ones, that which finds the nuclei better.

    The loss punishes a network that is sure and wrong, and later epochs are surer; their nuclei are right more often.

    Args:
        model: takes the weights; it ends with those chosen.
        candidates: {words: list of arrays}, the one with the best loss first.
        score: gives, for the weights that the model has, what `score_validation` gives.
        enough: whether the validation images are `is_enough`; else the first is taken.

    Returns:
        (words, weights, found, scores).

    References:
        Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".
    """
    first = next(iter(candidates))
    if len(candidates) == 1 or not enough:
        model.set_weights(candidates[first])
        return first, candidates[first], *score()
    tried = {}
    for words, weights in candidates.items():
        model.set_weights(weights)
        tried[words] = score()
        scores = tried[words][1]
        say(f"  {words}: AP@0.5 {scores['all']['ap50']:.3f}  mAP {scores['all']['map']:.3f}")
    chosen = max(tried, key=lambda words: tried[words][1]["all"]["ap50"] + tried[words][1]["all"]["map"])
    say(f"  kept: {chosen}")
    model.set_weights(candidates[chosen])
    return chosen, candidates[chosen], *tried[chosen]


def choose_blend(model, start, end, crops, batch_size, blends=None):
    """How far to go from the weights of --init to those at the end of the training: no farther than pays.

    What fine-tuning learns of new images it gains early on that way; what it forgets of all others, late.

    Args:
        model: takes the weights; it ends with those chosen.
        start, end: lists of arrays.
        crops: validation images (N, size, size, 3) and truths (N, size, size, K), float32, of `validation_crops`.
        batch_size: of the prediction.
        blends: to choose from; the default is BLENDS.

    Returns:
        (blend, losses): the one chosen, and the validation losses at 0, at 1 and at each of them that was looked at.

    References:
        Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", https://arxiv.org/abs/2109.01903
    """
    import losses

    images, truths = crops
    loss = losses.SegmentationLoss(range(truths.shape[-1]))

    def measure(blend):
        model.set_weights([(1 - blend) * one + blend * other for one, other in zip(start, end, strict=True)])
        parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
        values = [float(loss(truths[part], model.predict_on_batch(images[part]))) for part in parts]
        return float(np.average(values, weights=[len(images[part]) for part in parts]))

    found = {blend: measure(blend) for blend in (0.0, 1.0)}
    for blend in blends or BLENDS:
        found[blend] = measure(blend)
        if found[0.0] - found[blend] >= BLEND_GAIN * (found[0.0] - min(found.values())) > 0:
            return blend, found
    blend = min(blends or BLENDS, key=found.get)  # there was nothing to gain: the least harm
    measure(blend)
    return blend, found


def rehearse(model, learned, samples, heads, size, batch_size, share, seed):
    """What a model knows of other modalities than that of the few images that it shall learn: an `augment.Rehearsal`.

    Args:
        model: paints `heads`, of which it has `learned` these.
        samples: the images, `augment.Sample`.
        size: height and width of the crops, of which there are REHEARSAL_PIXELS.
        share: of the crops of the training that these shall be.
    """
    crops = augment.rehearsal_crops(samples, size, max(1, round(REHEARSAL_PIXELS / size**2)), seed)
    parts = range(0, len(crops), batch_size)
    truths = np.concatenate([np.asarray(model.predict_on_batch(crops[first : first + batch_size])) for first in parts])
    truths[..., [head not in learned for head in heads]] = augment.UNKNOWN
    return augment.Rehearsal(crops, truths, share)


def make_optimizer(rate, total_steps):
    """Muon that warms up to `rate` and follows a cosine down to zero at `total_steps`.

    References:
        Loshchilov & Hutter 2017, "SGDR" (cosine), and 2019, "Decoupled Weight Decay Regularization" (AdamW).
    """
    import keras

    import losses

    warmup_steps = max(1, round(WARMUP_SHARE * total_steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        rate * 0.01, max(1, total_steps - warmup_steps), warmup_target=rate, warmup_steps=warmup_steps
    )
    return losses.Muon(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM)


def compile_model(model, heads, rate, total_steps, device):
    """Ready a model of `build_unet` for `fit` on `device` (the words of `unet.find_device`), as fast as it goes there."""
    import keras

    import losses

    # XLA pays on a GPU; on a CPU it takes half a minute to compile and its steps are 15 % slower than oneDNN's.
    on_gpu = device.startswith("GPU")
    if keras.backend.backend() == "tensorflow" and not on_gpu:
        unet.fuse_normalisation(model)
    model.compile(
        make_optimizer(rate, total_steps),
        loss=losses.SegmentationLoss(heads),
        metrics=losses.pixel_metrics(),
        jit_compile="auto" if on_gpu else model.jit_compile,
    )


def drawing_threads(device):
    """How many threads shall draw crops: one beside a network that needs the cores itself, several for a GPU."""
    return min(8, max(2, unet.num_cores())) if device.startswith("GPU") else 1


def check_alike(settings, num_processes, process_id):
    """All processes must train the same. Raises: ValueError, where this one has other flags or data than process 0."""
    first = unet.tell_all(lambda: settings, num_processes, process_id)
    other = [name for name in settings if name not in FOLDERS and settings[name] != first[name]]
    if other:
        raise ValueError(
            f"process {process_id} differs from process 0 in {named(other)}; give every process the same flags (but for "
            "--process-id) and the same images and masks"
        )


def restore(model, checkpoint, data_hash):
    """Bring a compiled model and its optimiser to where a checkpoint was written.

    Args:
        checkpoint: what `read_checkpoint` returns.

    Returns:
        The best weights so far, those that the training began with (none without --init), the mean of those at its end (none
        before), and the state of the bookkeeping.

    Raises:
        ValueError: the data is not what it was.
    """
    groups, state = checkpoint
    if state["data"] != data_hash:
        raise ValueError(
            f"{state['arguments']['data_dir']}: the data has changed since the interrupted training; restore it, or "
            "start anew without --resume"
        )
    model.set_weights(groups["weights"])
    for variable, value in zip(model.optimizer.variables, groups["optimizer"], strict=True):
        variable.assign(value)
    return groups["best"], groups.get("start", []), groups.get("mean", []), state


def describe(architecture, thresholds, arguments, training, num_validation, forms, data_hash):
    """The settings that go into the model file: all that is needed to use it, and how it came about."""
    import keras

    return {
        "architecture": architecture,
        "preprocessing": {"scaling": "percentiles of the whole image to [0, 1], see import_data.intensity_range"},
        "nucleus_diameter_px": nucleus_size(training),
        "seen_diameter_px": augment.DIAMETER_PX,
        "thresholds": thresholds,
        "arguments": arguments,
        "data": {
            "fingerprint": data_hash,
            "train": dict(sorted(Counter(sample.group for sample in training).items())),
            "validation": num_validation,
            "truth": dict(sorted(Counter(forms.values()).items())),
        },
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "numpy": np.__version__,
        },
        "scores": {},
    }


def train(
    data_dir, gt_dir, split, out, init, blend, resume, epochs, crops_per_image, batch_size, crop, learning_rate, patience,
    width, depth, stem_stride, normalisation, heads, precision, seed, rehearsal=None, devices=1, num_processes=1, process_id=0,
    coordinator=None, say=print, make_callbacks=None,
):  # fmt: skip
    """Train, and write `out`/trained_model.h5 and `out`/history.csv; the arguments are the flags of the same names.

    Of several processes, each trains on its share of every batch, and process 0 alone writes and says something.

    Args:
        say: called with each line for the user.
        make_callbacks: from the validation crops, (N, size, size, 3) and their truths (N, size, size, K), both float32,
            to further Keras callbacks, which come after the files of an epoch are written: google_colab.py copies them
            to Drive and shows pictures.

    Returns:
        The path of the model file.

    Raises:
        FileNotFoundError, ValueError: as said by the functions above, or the loss became NaN.
    """
    settings_of_run = {k: v for k, v in locals().items() if k not in NOT_STORED}
    unet.join_processes(coordinator, num_processes, process_id)
    if num_processes > 1:
        role = "says the rest and writes the files" if process_id == 0 else "trains; process 0 says the rest"
        print(f"Process {process_id} of {num_processes} {role}. Should one end early, all do: start them again with --resume")
        sys.stdout.flush()
    if process_id:
        say = lambda line: None
    out = Path(out)
    paths = {
        "model": out / "trained_model.h5",
        "history": out / "history.csv",
        "checkpoint": out / "checkpoint.h5",
        "previous": out / "previous",
    }
    samples, forms = load_samples(Path(data_dir) / "raw", Path(gt_dir) if gt_dir else Path(data_dir) / "gt", say, out)
    train_stems, validation_stems = choose_split(samples, split, seed, say)
    training, validating = [samples[s] for s in train_stems], [samples[s] for s in validation_stems]
    counts = sorted(Counter(sample.group for sample in training).items())
    say(
        f"{len(training)} images to train on ({', '.join(f'{number} {group}' for group, number in counts)}), "
        f"{len(validating)} to validate; nucleus diameter {nucleus_size(training)['median']} px (median)"
    )

    data_hash = fingerprint(samples)
    check_alike({**settings_of_run, "devices": devices, "data": data_hash}, num_processes, process_id)

    # Importing Keras takes seconds: not before the data is known to be good.
    unet.set_up_backend()
    import keras

    device, fastest = unet.find_device()
    precision = fastest if precision == "auto" else precision
    parallel = unet.spread(batch_size, devices, num_processes, process_id)
    share = f"; {devices * num_processes} devices share each batch" if devices * num_processes > 1 else ""
    say(f"Training on {device}, {precision}{share}")
    if device.startswith("GPU") and (found := len(unet.local_devices())) > devices:
        say(f"{found} GPUs are here: --devices {found} --batch-size {batch_size * found} would train on all of them")
    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(seed)

    base, few = None, len(training) < FEW_IMAGES
    with parallel.building:
        if init:
            model, base = unet.load_model(init, heads)
            architecture = base["architecture"]
            if few:
                for layer in model.layers:
                    if isinstance(layer, keras.layers.BatchNormalization):
                        layer.trainable = False  # in Keras that keeps the statistics, too
        else:
            architecture = {
                "heads": list(heads or unet.HEADS), "width": width, "depth": depth, "stem_stride": stem_stride,
                "normalisation": normalisation,
            }  # fmt: skip
            model = unet.build_unet(**architecture)
        heads = architecture["heads"]
        steps = max(MIN_STEPS, round(len(training) * crops_per_image / batch_size))
        rate = learning_rate or (FINE_TUNING_RATE if init else LEARNING_RATE)
        compile_model(model, heads, rate, steps * epochs, device)
        model.optimizer.build(model.trainable_variables)
    parallel.prepare(model)

    state = {
        "arguments": settings_of_run, "data": data_hash, "rows": [],
        "best_loss": None, "best_epoch": 0, "averaged": 0, "wait": 0, "moved": False,
        "base": {name: base[name] for name in ("thresholds", "calibration", "unlike") if name in base} if base else None,
        "learned": unet.read_settings(init)["architecture"]["heads"] if init else [],
    }  # fmt: skip
    start_weights, mean_weights = model.get_weights(), []
    best_weights = start_weights
    if resume:
        checkpoint = unet.tell_all(lambda: read_checkpoint(paths["checkpoint"]), num_processes, process_id)
        best_weights, kept_weights, mean_weights, kept_state = restore(model, checkpoint, data_hash)
        start_weights, state = kept_weights or start_weights, state | kept_state
        say(f"Resuming after epoch {len(state['rows'])} of {epochs}")
    elif process_id == 0 and paths["checkpoint"].exists():
        say(f"{paths['checkpoint']} belongs to an unfinished training (`--resume` would have gone on with it)")
        move_aside([paths["checkpoint"]], paths["previous"], say)
    say(f"{model.count_params():,} weights, {epochs} epochs of {steps} steps of {batch_size} crops of {crop} px")

    thresholds = state["base"]["thresholds"] if init else dict(instances.THRESHOLDS)
    arguments = {**settings_of_run, "learning_rate": rate}
    for name in FOLDERS:  # the file travels: it tells no one the folders of this machine
        arguments[name] = Path(arguments[name]).name if arguments[name] else None
    settings = describe(architecture, thresholds, arguments, training, len(validating), forms, data_hash)
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy("float32")
    product = unet.build_unet(**architecture)  # never compiled: what goes into the file, in float32
    keras.mixed_precision.set_global_policy(policy)

    def save_best(weights, row):
        product.set_weights(weights)
        settings["epoch"] = row["epoch"]
        settings["scores"] = {"validation_crops": {key: row[f"val_{key}"] for key in COLUMNS}}
        unet.save_model(paths["model"], product, settings)

    done = len(state["rows"])
    finished = done >= epochs or state["wait"] >= patience
    bookkeeper = make_bookkeeper(
        state=state, best_weights=best_weights, start_weights=start_weights, mean_weights=mean_weights, epochs=epochs,
        patience=patience, paths=paths, writes=process_id == 0, save_best=save_best, say=say,
    )  # fmt: skip
    crops, rehearsed = None if finished else validation_crops(validating, heads, crop), None
    if not finished:
        callbacks = [bookkeeper, *(make_callbacks(*crops) if make_callbacks else ())]
        share = (REHEARSAL_SHARE if few else 0) if rehearsal is None else rehearsal
        if init and share:
            say(f"{share:.0%} of the crops are painted in another modality, to keep what {init} knows of that")
            product.set_weights(start_weights)
            rehearsed = rehearse(product, state["learned"], training, heads, crop, batch_size, share, seed)
        make_batches = lambda: augment.batches(
            training, heads, crop, batch_size, seed, first_step=done * steps, places=parallel.places, rehearsal=rehearsed,
            workers=drawing_threads(device),
        )  # fmt: skip
        try:
            with parallel.fitting:
                model.fit(
                    parallel.feed(make_batches),
                    steps_per_epoch=steps,
                    epochs=epochs,
                    initial_epoch=done,
                    validation_data=whole_batches(crops, batch_size, parallel.places),
                    validation_batch_size=len(parallel.places),
                    shuffle=False,  # the batches are random already
                    callbacks=callbacks,
                    verbose=0 if process_id else "auto" if sys.stdout.isatty() else 2,
                )
        except KeyboardInterrupt:
            say(f"\nStopped after epoch {len(state['rows'])}; `python train.py --resume --out {out}` goes on from there")
            raise
    last, best = len(state["rows"]), state["best_epoch"]
    last_weights = bookkeeper.mean_weights or model.get_weights()  # no mean where patience ended it early
    first = last - max(1, state["averaged"]) + 1
    unet.leave_processes(num_processes)
    if bookkeeper.failure:
        kept = f"{paths['model']} holds epoch {state['best_epoch']}, the best before it"
        kept = kept if state["rows"] else "no epoch was finished"
        raise ValueError(
            f"training stopped: {bookkeeper.failure}; {kept}. Usual causes: a learning rate too high (--learning-rate "
            f"{rate / 4:g}), half precision (--precision float32) or broken image values (`python import_data.py` checks)"
        )

    if process_id:
        print(f"Process {process_id} has done its part; process 0 chooses the thresholds and writes {paths['model']}")
        return paths["model"]
    score_product = lambda: score_validation(product, validating, unet.geometry(architecture), state["base"])
    end = f"epoch {last}" if first == last else f"mean of epochs {first} to {last}"
    candidates = {f"epoch {best}": bookkeeper.best_weights, end: last_weights}
    if init and not is_enough(validating):  # a single image says little of which epoch is best: those at the lowest rate
        candidates = {end: last_weights}
    # Whole images come next, and need their memory.
    crops, rehearsed, make_batches, model, callbacks, bookkeeper, last_weights = [None] * 7
    gc.collect()
    say(f"Best loss in epoch {best}; choosing thresholds on {len(validating)} validation images")
    chosen, end_weights, found, scores = choose_epoch(product, candidates, score_product, is_enough(validating), say)
    if init:
        crops = validation_crops(validating, heads, crop)
        fixed = (blend,) if blend else None if is_enough(validating) else (FEW_BLEND,)
        settings["blend"], values = choose_blend(product, start_weights, end_weights, crops, batch_size, fixed)
        kept = "" if settings["blend"] == 1 else f", {values[1.0]:.3f} at its end, where more of the old is forgotten"
        say(
            f"Took {settings['blend']:.0%} of the way from {init}: validation loss {values[0.0]:.3f} at its beginning, "
            f"{values[settings['blend']]:.3f} here{kept}"
        )
        crops = None
        if settings["blend"] != 1:
            found, scores = score_product()
    settings |= found
    settings["epoch"] = last if chosen == end else best
    settings["averaged_epochs"] = last - first + 1 if chosen == end else 1
    settings["scores"] = {"validation": scores}
    unet.save_model(paths["model"], product, settings)
    paths["checkpoint"].unlink(missing_ok=True)
    for name, score in scores.items():
        values = "  ".join(f"{label} {score[key]:.3f}" for label, key in (("Dice", "dice"), ("AP@0.5", "ap50"), ("mAP", "map")))
        say(f"  validation {name:<14} {score['images']:4d} images  {values}")
    say(f"Wrote {paths['model']} ({paths['model'].stat().st_size / 1e6:.1f} MB) and {paths['history']}")
    return paths["model"]


def parse_arguments(argv):
    """The flags; with --resume those of the interrupted run, which the user need not repeat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", default=DATA_DIR, metavar="DIR", help=f"folder with raw/ and gt/ (default {DATA_DIR})")
    add("--gt-dir", default=None, metavar="DIR", help="folder of the masks, if not DATA_DIR/gt")
    add("--split", default=None, metavar="CSV", help="columns stem, split (train or validation); default: chosen by itself")
    add("--out", default=OUT, metavar="DIR", help=f"where model and history go (default {OUT})")
    add("--init", default=None, metavar="MODEL", help="start from the weights of this model file")
    add(
        "--blend", type=float, default=None, metavar="B",
        help="share of the way gone from --init to the new weights; 1 is all of it (default: no more than pays on validation, "
        f"or {FEW_BLEND} where that has fewer than {MIN_SEARCH_NUCLEI} nuclei)",
    )  # fmt: skip
    add(
        "--rehearsal", type=float, default=None, metavar="SHARE",
        help="with --init: share of the crops that are painted in another modality, to keep what the model knew of that "
        f"(default {REHEARSAL_SHARE} with fewer than {FEW_IMAGES} images, else 0)",
    )  # fmt: skip
    add("--resume", action="store_true", help="go on with the interrupted training in --out, with its settings")
    add("--epochs", type=positive, default=EPOCHS, metavar="N", help=f"(default {EPOCHS})")
    number = {"type": positive, "metavar": "N"}
    add("--crops-per-image", default=CROPS_PER_IMAGE, help=f"in one epoch (default {CROPS_PER_IMAGE})", **number)
    add("--batch-size", type=positive, default=BATCH_SIZE, metavar="N", help=f"crops in one step (default {BATCH_SIZE})")
    add("--crop", type=positive, default=CROP_PX, metavar="PX", help=f"height and width of a crop (default {CROP_PX})")
    rates = f"(default {LEARNING_RATE}, with --init {FINE_TUNING_RATE})"
    add("--learning-rate", type=float, default=None, metavar="R", help=f"at its highest {rates}")
    add("--patience", type=positive, default=PATIENCE, metavar="N", help=f"epochs without gain, then stop (default {PATIENCE})")
    add("--width", default=unet.WIDTH, help=f"filters of the first level (default {unet.WIDTH})", **number)
    add("--depth", default=unet.DEPTH, help=f"times the encoder halves the size (default {unet.DEPTH})", **number)
    add("--stem-stride", type=int, choices=(1, 2), default=unet.STEM_STRIDE, help="2: the first convolution halves, too")
    add("--normalisation", choices=("batch", "group", "none"), default="batch", help="(default batch)")
    add("--heads", nargs="+", choices=unet.HEADS, help="maps to learn (default all, or those of --init)")
    add("--precision", choices=PRECISIONS, default="auto", help="of the arithmetic (default auto: half on a GPU that gains)")
    add("--seed", type=int, default=SEED, metavar="N", help=f"of everything random (default {SEED})")
    add("--devices", default=1, help="GPUs of this machine that share each batch (default 1)", **number)
    hosts = parser.add_argument_group("several hosts", "one process on each, all with the same flags and data, on JAX")
    hosts.add_argument("--num-processes", default=1, help="how many there are (default 1)", **number)
    hosts.add_argument(
        "--process-id", type=int, default=0, metavar="K", help="which this is, from 0; that one writes the files"
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, with a free port, the same for all")
    args = parser.parse_args(argv)
    if not 0 <= args.process_id < args.num_processes:
        parser.error(f"--process-id is {args.process_id}; with --num-processes {args.num_processes} it counts from 0")
    if args.blend is not None and not 0 < args.blend <= 1:
        parser.error(f"--blend is {args.blend}; expected more than 0, the weights of --init, up to 1, those of the training")
    if args.rehearsal is not None and not (0 <= args.rehearsal < 1 and (args.init or args.resume)):
        parser.error(f"--rehearsal is {args.rehearsal}; expected 0 or more and less than 1, with --init")
    if args.num_processes > 1 and not re.fullmatch(r".+:\d+", args.coordinator or ""):
        parser.error(f"--coordinator is {args.coordinator}; {args.num_processes} processes need HOST:PORT to meet at")
    return args


@user_errors_in_one_line
def main(argv=None):
    args = vars(parse_arguments(argv))
    processes = {"num_processes": args["num_processes"], "process_id": args["process_id"]}
    try:
        if args["resume"]:
            unet.join_processes(args["coordinator"], **processes)
            checkpoint = Path(args["out"]) / "checkpoint.h5"
            args |= unet.tell_all(lambda: read_checkpoint(checkpoint)[1]["arguments"], **processes)
        train(**args)
    except (RuntimeError, ValueError) as error:
        # JAX says it by either, depending on the call that the death of the other falls into.
        lost = isinstance(error, RuntimeError) or re.search(r"gloo|nccl|coordination service", str(error), re.IGNORECASE)
        if args["num_processes"] == 1 or not lost:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]  # that an exchange failed: JAX knows no more
        raise ValueError(
            f"process {args['process_id']} lost another process, whose last lines say why ({reason}). Start all of them "
            "again with --resume to go on after the last finished epoch"
        ) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
