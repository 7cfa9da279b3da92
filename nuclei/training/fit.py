"""nuclei.training.fit"""

import gc
import platform
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from nuclei.files import named
from nuclei.instances.separate import THRESHOLDS
from nuclei.machine import find_device, num_cores, set_up_backend
from nuclei.model_file import load_network, read_settings, save_model
from nuclei.training.batches import batches
from nuclei.training.bookkeeping import COLUMNS, make_bookkeeper
from nuclei.training.checkpoint import move_aside, read_checkpoint, restore
from nuclei.training.devices import local_devices, spread
from nuclei.training.fine_tuning import FEW_BLEND, FEW_IMAGES, REHEARSAL_SHARE, choose_blend, rehearse
from nuclei.training.geometry import DIAMETER_PX
from nuclei.training.hosts import broadcast, join_processes, leave_processes
from nuclei.training.normalisation import fuse_normalisation
from nuclei.training.samples import choose_split, fingerprint, load_samples, nucleus_size
from nuclei.training.selection import choose_epoch, is_enough, score_validation, validation_crops, whole_batches
from unet import HEADS, build_unet, network_geometry

MIN_STEPS = 16  # of an epoch, so that a handful of images still makes a training: half as many part far fewer nuclei
LEARNING_RATE = 6e-3  # at its highest, after WARMUP_SHARE of the steps; then along a cosine to zero
WARMUP_SHARE = 0.05
WEIGHT_DECAY = 1e-4
CLIP_NORM = 1.0  # of the whole gradient: one crop of a broken mask must not throw the weights off
FINE_TUNING_RATE = 6e-4  # the same with --init, so that what was learned is not washed out
NOT_STORED = (  # arguments of `train` that a resumed training may change
    "resume", "out", "devices", "num_processes", "process_id", "coordinator", "say", "make_callbacks", "predict_maps",
)  # fmt: skip
FOLDERS = ("data_dir", "gt_dir", "split", "init")  # arguments that name places on this machine


def make_optimizer(rate, total_steps):
    """Muon that warms up to `rate` and follows a cosine down to zero at `total_steps`.

    References:
        Loshchilov & Hutter 2017, "SGDR" (cosine), and 2019, "Decoupled Weight Decay Regularization" (AdamW).
    """
    import keras

    from nuclei.training.muon import Muon

    warmup_steps = max(1, round(WARMUP_SHARE * total_steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        rate * 0.01, max(1, total_steps - warmup_steps), warmup_target=rate, warmup_steps=warmup_steps
    )
    return Muon(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM)


def compile_model(model, heads, rate, total_steps, device):
    """Ready a model of `build_unet` for `fit` on `device` (the words of `find_device`), as fast as it goes there."""
    import keras

    from nuclei.training.losses import SegmentationLoss, pixel_metrics

    # XLA pays on a GPU; on a CPU it takes half a minute to compile and its steps are 15 % slower than oneDNN's.
    on_gpu = device.startswith("GPU")
    if keras.backend.backend() == "tensorflow" and not on_gpu:
        fuse_normalisation(model)
    model.compile(
        make_optimizer(rate, total_steps),
        loss=SegmentationLoss(heads),
        metrics=pixel_metrics(),
        jit_compile="auto" if on_gpu else model.jit_compile,
    )


def drawing_threads(device):
    """How many threads shall draw crops: one beside a network that needs the cores itself, several for a GPU."""
    return min(8, max(2, num_cores())) if device.startswith("GPU") else 1


def check_alike(settings, num_processes, process_id):
    """All processes must train the same. Raises: ValueError, where this one has other flags or data than process 0."""
    first = broadcast(lambda: settings, num_processes, process_id)
    other = [name for name in settings if name not in FOLDERS and settings[name] != first[name]]
    if other:
        raise ValueError(
            f"process {process_id} differs from process 0 in {named(other)}; give every process the same flags (but for "
            "--process-id) and the same images and masks"
        )


def describe(architecture, thresholds, arguments, training, num_validation, forms, data_hash):
    """The settings that go into the model file: all that is needed to use it, and how it came about."""
    import keras

    return {
        "architecture": architecture,
        "preprocessing": {"scaling": "percentiles of the whole image to [0, 1], see import_data.intensity_range"},
        "nucleus_diameter_px": nucleus_size(training),
        "trained_diameter_px": DIAMETER_PX,
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
    coordinator=None, say=print, make_callbacks=None, predict_maps=None,
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
    join_processes(coordinator, num_processes, process_id)
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
    set_up_backend()
    import keras

    device, fastest = find_device()
    precision = fastest if precision == "auto" else precision
    parallel = spread(batch_size, devices, num_processes, process_id)
    share = f"; {devices * num_processes} devices share each batch" if devices * num_processes > 1 else ""
    say(f"Training on {device}, {precision}{share}")
    if device.startswith("GPU") and (found := len(local_devices())) > devices:
        say(f"{found} GPUs are here: --devices {found} --batch-size {batch_size * found} would train on all of them")
    keras.mixed_precision.set_global_policy(precision)
    keras.utils.set_random_seed(seed)

    base, few = None, len(training) < FEW_IMAGES
    with parallel.building:
        if init:
            model, base = load_network(init, heads)
            architecture = base["architecture"]
            if few:
                for layer in model.layers:
                    if isinstance(layer, keras.layers.BatchNormalization):
                        layer.trainable = False  # in Keras that keeps the statistics, too
        else:
            architecture = {
                "heads": list(heads or HEADS), "width": width, "depth": depth, "stem_stride": stem_stride,
                "normalisation": normalisation,
            }  # fmt: skip
            model = build_unet(**architecture)
        heads = architecture["heads"]
        steps = max(MIN_STEPS, round(len(training) * crops_per_image / batch_size))
        rate = learning_rate or (FINE_TUNING_RATE if init else LEARNING_RATE)
        compile_model(model, heads, rate, steps * epochs, device)
        model.optimizer.build(model.trainable_variables)
    parallel.prepare(model)

    state = {
        "arguments": settings_of_run, "data": data_hash, "rows": [],
        "best_loss": None, "best_epoch": 0, "averaged": 0, "wait": 0, "moved": False,
        "base": {name: base[name] for name in ("thresholds", "calibration", "out_of_distribution") if name in base} if base else None,
        "learned": read_settings(init)["architecture"]["heads"] if init else [],
    }  # fmt: skip
    start_weights, mean_weights = model.get_weights(), []
    best_weights = start_weights
    if resume:
        checkpoint = broadcast(lambda: read_checkpoint(paths["checkpoint"]), num_processes, process_id)
        best_weights, kept_weights, mean_weights, kept_state = restore(model, checkpoint, data_hash)
        start_weights, state = kept_weights or start_weights, state | kept_state
        say(f"Resuming after epoch {len(state['rows'])} of {epochs}")
    elif process_id == 0 and paths["checkpoint"].exists():
        say(f"{paths['checkpoint']} belongs to an unfinished training (`--resume` would have gone on with it)")
        move_aside([paths["checkpoint"]], paths["previous"], say)
    say(f"{model.count_params():,} weights, {epochs} epochs of {steps} steps of {batch_size} crops of {crop} px")

    thresholds = state["base"]["thresholds"] if init else dict(THRESHOLDS)
    arguments = {**settings_of_run, "learning_rate": rate}
    for name in FOLDERS:  # the file travels: it tells no one the folders of this machine
        arguments[name] = Path(arguments[name]).name if arguments[name] else None
    settings = describe(architecture, thresholds, arguments, training, len(validating), forms, data_hash)
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy("float32")
    product = build_unet(**architecture)  # never compiled: what goes into the file, in float32
    keras.mixed_precision.set_global_policy(policy)

    def save_best(weights, row):
        product.set_weights(weights)
        settings["epoch"] = row["epoch"]
        settings["scores"] = {"validation_crops": {key: row[f"val_{key}"] for key in COLUMNS}}
        save_model(paths["model"], product, settings)

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
        make_batches = lambda: batches(
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
    leave_processes(num_processes)
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
    score_product = lambda: score_validation(product, validating, network_geometry(architecture), predict_maps, state["base"])
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
    save_model(paths["model"], product, settings)
    paths["checkpoint"].unlink(missing_ok=True)
    for name, score in scores.items():
        values = "  ".join(f"{label} {score[key]:.3f}" for label, key in (("Dice", "dice"), ("AP@0.5", "ap50"), ("mAP", "map")))
        say(f"  validation {name:<14} {score['images']:4d} images  {values}")
    say(f"Wrote {paths['model']} ({paths['model'].stat().st_size / 1e6:.1f} MB) and {paths['history']}")
    return paths["model"]
