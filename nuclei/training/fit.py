"""The training itself: from images and a recipe to the weights of the best and of the last epochs.

    data = read_data(recipe, run.say, run.out)
    trained = fit(recipe, data, run)

Two networks are in use. One is trained (see `network`). The other one, `Trained.network`, is plain
and in float32; it takes the weights that go into the model file.
"""

import platform
from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np

from nuclei.full_disk import require_space
from nuclei.instances.separate import THRESHOLDS
from nuclei.machine import find_device, start_backend
from nuclei.model_file import data_sets, load_network, read_settings
from nuclei.progress import Progress
from nuclei.quiet import hold_noise
from nuclei.training.batches import CropPlan, batches, draw_crop
from nuclei.training.checkpoint import State, move_aside, restore, save_run
from nuclei.training.devices import local_devices, spread_over_devices
from nuclei.training.drawers import ThreadDrawer
from nuclei.training.drawing import drawing_threads, start_drawing
from nuclei.training.fine_tuning import REHEARSAL_SHARE, are_few, rehearse
from nuclei.training.geometry import DIAMETER_PX
from nuclei.training.hosts import check_alike, leave_processes
from nuclei.training.network import training_model
from nuclei.training.samples import nucleus_size
from nuclei.training.validation import validation_crops, whole_batches
from nuclei.version import program_version
from unet import build_unet

# Of float32 on the disk: two model files and two checkpoints while one is replaced. A checkpoint
# holds the network, its optimiser, the best weights and their mean.
COPIES_OF_WEIGHTS = 12
PAGE_BYTES = 12_000_000  # of the graph, twice while it is replaced, and of the preview
MIN_STEPS = 16  # of an epoch, so that a handful of images still makes a training


@dataclass
class Trained:
    """The result of `fit`.

    Attributes:
        network: a plain `keras.Model` in float32, with any weights.
        state: the `State` after the last epoch, with the best weights.
        end_weights: list of arrays, mean of the last epochs, or the last one after an early stop.
        settings: of the model file, before anything is chosen.
    """

    network: object
    state: State
    end_weights: list[np.ndarray]
    settings: dict


@dataclass
class Session:
    """What the parts of `fit` share.

    Attributes:
        device: words of `find_device`.
        precision: name of Keras's dtype policy.
        spread: a `Spread`, how batches are shared among devices.
        num_steps: steps of one epoch.
        drawer: a `ProcessDrawer` of the crops, or None.
    """

    device: str
    precision: str
    spread: object
    num_steps: int
    drawer: object = None


def fit(recipe, data, run, checkpoint=None):
    """Train. Each epoch leaves a model file, a history and a checkpoint in `run.out`.

    Of several processes, each trains on its part of every batch; process 0 writes the files.

    Args:
        recipe: a `Recipe`.
        data: a `Data`.
        run: a `Run`.
        checkpoint: the `Checkpoint` to go on from, or None.

    Returns:
        A `Trained`.

    Raises:
        ValueError: the processes differ, the data has changed, the devices do not fit, or the loss
            became NaN.
    """
    alike = {**recipe.without_places(), "devices": run.num_devices, "data": data.fingerprint}
    check_alike(alike, run.processes)
    # A few images need rehearsal crops, which nobody knows before Keras has started.
    is_few = keep_statistics(recipe, data)
    drawer = None if is_few else start_drawing(recipe, data.training, run)
    session = prepare(recipe, data, run)
    session.drawer = drawer
    network, state, architecture = begin(recipe, data)
    recipe.require_fitting_crops(architecture)
    model = training_model(network, architecture, recipe, session, is_few)
    if run.processes.is_first:
        num_bytes = COPIES_OF_WEIGHTS * 4 * model.count_params() + PAGE_BYTES
        require_space(run.out, num_bytes, "the files of this training")
    if checkpoint:
        state = restore(model, checkpoint, data.fingerprint)
        run.say(f"Resuming after epoch {state.num_epochs} of {recipe.epochs}")
    elif run.processes.is_first and run.checkpoint.exists():
        run.say(
            f"{run.checkpoint} belongs to an unfinished training (`--resume` would have gone on "
            "with it)"
        )
        move_aside([run.checkpoint], run.previous, run.say)
    run.say(
        f"{model.count_params():,} weights, {recipe.epochs} epochs of {session.num_steps} steps of "
        f"{recipe.batch_size} crops of {recipe.crop_px} px"
    )
    settings = describe(state, data, architecture)
    failure = None
    if not state.is_finished:
        failure = run_epochs(model, network, state, data, run, session, settings)
    end_weights = state.mean_weights or model.get_weights()
    leave_processes(run.processes)
    if failure:
        raise ValueError(explain(failure, state, run))
    return Trained(network, state, end_weights, settings)


def prepare(recipe, data, run):
    """Start Keras's backend and find out what this machine offers: a `Session`."""
    backend = start_backend()  # takes seconds: not before the data is known to be good
    device, fastest = find_device(backend)
    precision = fastest if recipe.precision == "auto" else recipe.precision
    spread = spread_over_devices(recipe.batch_size, run.num_devices, run.processes)
    total = run.num_devices * run.processes.num
    shared = f"; {total} devices share each batch" if total > 1 else ""
    run.say(f"Training on {device}, {precision}{shared}")
    num_gpus = len(local_devices()) if device.startswith("GPU") else 0
    if num_gpus > run.num_devices:
        run.say(
            f"{num_gpus} GPUs are here: --devices {num_gpus} --batch-size "
            f"{recipe.batch_size * num_gpus} would train on all of them"
        )
    num_crops = len(data.training) * recipe.crops_per_image
    return Session(device, precision, spread, max(MIN_STEPS, round(num_crops / recipe.batch_size)))


def begin(recipe, data):
    """The network and the state that a training begins with.

    Returns:
        (network, state, architecture): a plain `keras.Model` in float32, a `State` and the keyword
        arguments of `build_unet`.
    """
    import keras

    with hold_noise():  # this looks for TensorFlow on every backend
        keras.utils.set_random_seed(recipe.seed)
    state = State(recipe, data.fingerprint)
    if not recipe.init:
        return build_unet(**recipe.architecture), state, recipe.architecture
    network, settings = load_network(recipe.init, recipe.heads)
    names = ("thresholds", "calibration", "out_of_distribution")
    state.base = {name: settings[name] for name in names if name in settings}
    state.learned = read_settings(recipe.init)["architecture"]["heads"]
    state.start_weights = network.get_weights()
    return network, state, settings["architecture"]


def keep_statistics(recipe, data):
    """Whether batch normalisation keeps the statistics of the model of `init`: with few images."""
    return bool(recipe.init) and are_few(data.training)


def run_epochs(model, network, state, data, run, session, settings):
    """Train all epochs that are left, with a `Bookkeeper` after each.

    Args:
        model: the compiled `keras.Model`.
        network: a plain one, for the model file and for rehearsal.
        state, data, run, session: the records of this training.
        settings: of the model file.

    Returns:
        Why the training was stopped because of a loss that is not a number, or None.
    """
    import keras

    from nuclei.training.bookkeeping import COLUMNS, Bookkeeper
    from nuclei.training.display import make_displays

    def save_best(weights, row):
        network.set_weights(weights)
        scores = {"validation_crops": {name: row[f"val_{name}"] for name in COLUMNS}}
        save_run(run, network, settings | {"epoch": row["epoch"], "scores": scores})

    recipe, spread, num_done = state.recipe, session.spread, state.num_epochs
    heads = settings["architecture"]["heads"]
    crops = validation_crops(data.validating, heads, recipe.crop_px)
    rehearsal = make_rehearsal(network, state, data, heads, run.say)
    plan = CropPlan(data.training, heads, recipe.crop_px, recipe.seed, rehearsal)
    make_batches = lambda: batches(
        plan,
        recipe.batch_size,
        first_step=num_done * session.num_steps,
        places=spread.places,
        drawer=session.drawer
        or ThreadDrawer(partial(draw_crop, plan), drawing_threads(session.device)),
    )
    bookkeeper = Bookkeeper(state, run, save_best)
    num_steps = session.num_steps if run.processes.is_first else 0
    progress = Progress("Training", recipe.epochs * num_steps, "steps", done=num_done * num_steps)
    displays = make_displays(state, data, run, settings, progress)
    with progress, spread.fitting, hold_noise() as noise:  # compilers write in the first epoch
        model.fit(
            spread.feed(make_batches),
            steps_per_epoch=session.num_steps,
            epochs=recipe.epochs,
            initial_epoch=num_done,
            validation_data=whole_batches(crops, recipe.batch_size, spread.places),
            validation_batch_size=len(spread.places),
            shuffle=False,  # the batches are random already
            callbacks=[
                bookkeeper,
                *displays,
                keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: noise.release()),
            ],
            verbose=0,
        )
    return bookkeeper.failure


def make_rehearsal(network, state, data, heads, say):
    """A `Rehearsal` if few images are learned by a model of `init`, else None."""
    recipe = state.recipe
    if not keep_statistics(recipe, data):
        return None
    say(
        f"{REHEARSAL_SHARE:.0%} of the crops are shown in the look of another modality, to keep "
        f"what {recipe.init} knows of it"
    )
    network.set_weights(state.start_weights)
    return rehearse(network, state.learned, data.training, heads, recipe)


def describe(state, data, architecture):
    """The settings of the model file before training: how to use the network, how it came about."""
    import keras

    thresholds = {**THRESHOLDS, **(state.base or {}).get("thresholds", {})}
    groups = Counter(sample.group for sample in data.training)
    return {
        "architecture": architecture,
        "preprocessing": {
            "scaling": "intensity_range of the whole image to [0, 1], see nuclei.images.intensity"
        },
        "nucleus_diameter_px": nucleus_size(data.training),
        "trained_diameter_px": DIAMETER_PX,
        "thresholds": thresholds,
        "arguments": state.recipe.for_model_file(),
        "data": {
            "sets": list_sets(state.recipe, data),
            "fingerprint": data.fingerprint,
            "train": dict(sorted(groups.items())),
            "validation": len(data.validating),
            "truth": dict(sorted(Counter(data.forms.values()).items())),
        },
        "versions": {
            "nuclei": program_version(),
            "python": platform.python_version(),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "numpy": np.__version__,
        },
        "scores": {},
    }


def list_sets(recipe, data):
    """Names of the sets that the weights learn from: those of `init`, then those of the data."""
    earlier = data_sets(read_settings(recipe.init)) if recipe.init else []
    return [*(name for name in earlier if name not in data.set_names), *data.set_names]


def explain(failure, state, run):
    """The message for a training that was stopped because of its loss."""
    result = "no epoch was finished"
    if state.rows:
        result = f"{run.model} holds epoch {state.best_epoch}, the best before it"
    return (
        f"training stopped: {failure}; {result}. Usual causes: a learning rate that is too high "
        f"(--learning-rate {state.recipe.peak_learning_rate / 4:g}), half precision (--precision "
        "float32) or broken image values (`python import_data.py` checks)"
    )
