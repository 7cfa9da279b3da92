"""Train a U-Net on pairs of images and masks.

    python train.py                                   # data/raw + data/gt -> Saved_Model/
    python train.py --data-dir my_data --epochs 60    # your own pairs
    python train.py --resume                          # go on after a crash, a power cut or Ctrl-C
    python train.py --data-dir few_images --init shipped         # fine-tune the shipped weights
    python train.py --devices 4 --batch-size 32       # on four GPUs, which share each batch

Each epoch leaves Saved_Model/history.csv (one more row), Saved_Model/trained_model.h5 (the best
epoch so far by validation loss) and Saved_Model/checkpoint.h5 (all that `--resume` needs; removed
at the end). Training_Graph.html and preview.jpg (validation images with truth and prediction) are
renewed, too. At the end, thresholds are chosen on the validation images, for the best epoch and for
the mean of the weights of the last quarter of all epochs. The one that finds nuclei better is kept.
An earlier model and history move to Saved_Model/previous/. The result follows from the seed: two
runs on one CPU agree, and a resumed run ends with the history of an uninterrupted one. A pair that
cannot be used is named and left out; the exit status is then 1.
"""

from nuclei.stopping import stop_while_importing

if __name__ == "__main__":
    stop_while_importing()

import re
import shlex
import sys
from dataclasses import fields
from pathlib import Path

from nuclei.cli import (
    DATA_DIR,
    MODEL_DIR,
    MODEL_HELP,
    add_ignore_flag,
    add_plane_flags,
    add_quiet_flag,
    command_line,
    decimal,
    positive,
    user_errors_in_one_line,
    whole,
)
from nuclei.files import plural
from nuclei.images.origin import SYNTHETIC
from nuclei.inference.find import predict_image
from nuclei.machine import require
from nuclei.model_file import find_model
from nuclei.progress import quietly
from nuclei.training.checkpoint import checkpoint_bytes, read_checkpoint, save_result
from nuclei.training.data import read_data
from nuclei.training.fit import fit
from nuclei.training.hosts import Processes, broadcast, explain_lost_process, join_processes
from nuclei.training.output_folder import explain_stop, writing_results
from nuclei.training.recipe import (
    FINE_TUNING_RATE,
    LEARNING_RATE,
    MIN_PATIENCE,
    PRECISIONS,
    Recipe,
    Run,
)
from nuclei.training.reference import compare_with_shipped
from nuclei.training.selection import choose
from unet import HEADS


def add_data_flags(parser):
    """Flags that say what is read and written."""
    add = parser.add_argument_group("data").add_argument
    add(
        "--data-dir",
        nargs="+",
        default=DATA_DIR,
        metavar="DIR",
        help="folder with raw/ (images) and gt/ (masks), or several, one for each set (default "
        f"{DATA_DIR})",
    )
    add("--gt-dir", metavar="DIR", help="folder of the masks (default gt/ in --data-dir)")
    add_ignore_flag(add)
    add(
        "--split",
        metavar="CSV",
        help="table with the columns stem and split, which is train or validation (default: "
        "split.csv in --data-dir, or 15%% of the images validate, chosen at random)",
    )
    add(
        "--out",
        type=Path,
        default=MODEL_DIR,
        metavar="DIR",
        help="folder for the model and its history (default %(default)s)",
    )
    add(
        "--init",
        metavar="MODEL",
        help=f"fine-tune a model ({MODEL_HELP}): start from its weights and keep what it knows "
        "(default: random weights)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with the interrupted training in --out, with the settings it had (default: "
        "start anew)",
    )


def add_training_flags(parser):
    """Flags of the training itself. Their defaults are those of `Recipe`."""
    add = parser.add_argument_group("training").add_argument
    number = {"type": positive, "metavar": "N"}
    add("--epochs", help="number of epochs at most (default %(default)s)", **number)
    add(
        "--crops-per-image",
        help="crops of each image in one epoch, on average (default %(default)s)",
        **number,
    )
    add("--batch-size", help="crops in one step (default %(default)s)", **number)
    add(
        "--crop",
        dest="crop_px",
        type=positive,
        metavar="PX",
        help="height and width of a crop (default %(default)s)",
    )
    add(
        "--learning-rate",
        type=decimal,
        metavar="RATE",
        help=f"peak learning rate (default {LEARNING_RATE}, with --init {FINE_TUNING_RATE}: lower, "
        "to keep what the model knows)",
    )
    add(
        "--patience",
        help="stop after so many epochs without a better validation loss (default: half of "
        f"--epochs, at least {MIN_PATIENCE})",
        **number,
    )
    add("--seed", type=whole, metavar="N", help="random seed (default %(default)s)")


def add_output_flags(parser):
    """Flags that say what the user sees."""
    group = parser.add_argument_group("what you see")
    group.add_argument(
        "--log",
        choices=("tensorboard",),
        help="write OUT/tensorboard/DATE for TensorBoard, too (default: history.csv only)",
    )
    add_quiet_flag(group)


def add_network_flags(parser):
    """Flags of the network's shape. Their defaults are those of `Recipe`."""
    group = parser.add_argument_group("network", "with --init the network of that file is taken")
    add, number = group.add_argument, {"type": positive, "metavar": "N"}
    add("--width", help="filters of the first level (default %(default)s)", **number)
    add("--depth", help="how often the encoder halves the size (default %(default)s)", **number)
    add(
        "--stem-stride",
        type=whole,
        choices=(1, 2),
        help="2: the first convolution halves the size too, which is faster (default %(default)s)",
    )
    add(
        "--heads",
        nargs="+",
        choices=HEADS,
        help="maps to learn: the first one, two or three (default all, or those of --init)",
    )


def add_device_flags(parser):
    """Flags that say where the training runs."""
    add = parser.add_argument_group("devices").add_argument
    number = {"type": positive, "metavar": "N"}
    add(
        "--precision",
        choices=PRECISIONS,
        help="precision of the arithmetic (default %(default)s: half on a GPU that gains by it)",
    )
    add(
        "--devices",
        default=1,
        help="GPUs here that share each batch (default %(default)s)",
        **number,
    )
    hosts = parser.add_argument_group(
        "several hosts", "one process on each, all with the same flags and data, on JAX"
    )
    hosts.add_argument(
        "--num-processes", default=1, help="number of processes (default %(default)s)", **number
    )
    hosts.add_argument(
        "--process-id",
        type=whole,
        default=0,
        metavar="K",
        help="number of this process, from 0; process 0 writes the files (default %(default)s)",
    )
    hosts.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="address of process 0 with a free port, the same for all (default: none, which is "
        "enough for one process)",
    )


def parse_arguments(argv):
    """Read the flags. Returns: a `Recipe`, a `Run`, whether to resume, and whether to be quiet."""
    parser = command_line(__doc__)
    add_data_flags(parser)
    add_plane_flags(parser)
    add_training_flags(parser)
    add_output_flags(parser)
    add_network_flags(parser)
    add_device_flags(parser)
    names = [field.name for field in fields(Recipe)]
    parser.set_defaults(**{name: getattr(Recipe, name) for name in names})
    args = parser.parse_args(argv)
    num, index = args.num_processes, args.process_id
    if not 0 <= index < num:
        parser.error(f"--process-id is {index}; with --num-processes {num} it counts from 0")
    if num > 1 and not re.fullmatch(r".+:\d+", args.coordinator or ""):
        parser.error(f"--coordinator is {args.coordinator}; {num} processes need HOST:PORT")
    if args.init:
        args.init = str(find_model(args.init))
    run = Run(args.out, args.devices, Processes(num, index, args.coordinator), args.log)
    recipe = Recipe(**{name: getattr(args, name) for name in names})
    try:
        recipe.require_usable()
    except ValueError as error:
        parser.error(str(error))
    return recipe, run, args.resume, args.quiet


def say_next(run, data):
    """The command that one types next."""
    words = ["python predict.py"]
    if set(data.set_names) == {SYNTHETIC}:
        out = run.out / "predictions"
    else:
        words.append("MY_IMAGES")
        out = "MY_RESULTS"
    if run.out != Path(MODEL_DIR):
        words.append(f"--model {shlex.quote(str(run.out))}")
    run.say(" ".join(["Next:", *words, f"--out {shlex.quote(str(out))}"]))


def train(recipe, run, resume):
    """Train, or go on with a training, and leave its files in `run.out`.

    Returns:
        (`Trained`, `Data`), in process 0 with the weights and settings of the model file.
    """
    checkpoint = None
    if run.log:
        require(("tensorflow", run.log), f"--log {run.log}")
    with explain_lost_process(run.processes):
        join_processes(run.processes)
        if resume:
            content = broadcast(lambda: checkpoint_bytes(run.checkpoint), run.processes)
            checkpoint = read_checkpoint(run.checkpoint, content)
            recipe = checkpoint.state.recipe
        data = read_data(recipe, run.say, run.out)
        trained = fit(recipe, data, run, checkpoint)
    if run.processes.is_first:
        trained.settings = choose(trained, data, predict_image, run.say)
        save_result(trained.network, trained.settings, run)
    else:
        print(f"Process {run.processes.index} is done; process 0 writes {run.model}")
    return trained, data


@user_errors_in_one_line
def main(argv=None):
    """Train as the flags say. Returns: the exit status."""
    recipe, run, resume, quiet = parse_arguments(argv)
    with quietly(quiet), writing_results(run):
        with explain_stop(run):
            trained, data = train(recipe, run, resume)
        if run.processes.is_first:
            compare_with_shipped(trained, data, predict_image, run.say)
            say_next(run, data)
    if data.problems:
        count = plural(len(data.problems), "pair")
        print(f"train.py: {count} could not be used: skipped, see above", file=sys.stderr)
    return 1 if data.problems else 0


if __name__ == "__main__":
    sys.exit(main())
