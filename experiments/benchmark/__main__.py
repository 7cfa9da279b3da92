"""The speed card: how fast this program is on this machine, engine by engine and stage by stage.

    python -m experiments.benchmark                                   # test_raw -> benchmark/
    python -m experiments.benchmark my_images --engines keras,litert  # these engines only
    python -m experiments.benchmark --parts network,pipeline          # these parts only; of PARTS
    python -m experiments.benchmark --peer stardist                   # StarDist on the same images

It prints a table and saves it as benchmark/benchmark.csv, .json and .html. The parts:

    ceiling     what the machine can do at all: a large matrix product, and bare convolutions
    network     one image through the network: the model's, and the classic U-Net with 64 filters
    startup     from the shell: --help, and all images, twice; seconds and peak memory
    pipeline    all images, start-up apart: plain Keras `predict` one after the other, predict.py by
                each engine; where the time goes; how many nuclei agree with the truth
    training    images per second of bare steps on one batch, and of `fit` with the input pipeline

Other programs that run at the same time change every figure: compare within one run only, and read
the shares rather than the seconds.
"""

import argparse
import shlex
import sys
from pathlib import Path

from experiments.benchmark.card import Card, describe_machine, save
from experiments.benchmark.network import measure_ceiling, measure_network
from experiments.benchmark.peer import measure_peer
from experiments.benchmark.pipeline import measure_pipeline, measure_startup
from nuclei.cli import (
    COARSE_ENGINES,
    DATA_DIR,
    ENGINES,
    INPUT_DIR,
    MODEL_HELP,
    TRUTH_DIR,
    add_overwrite_flag,
    choice_of,
    positive,
    user_errors_in_one_line,
)
from nuclei.datasets.pairs import find_truths
from nuclei.images.folder import find_images
from nuclei.inference.engines import missing_packages
from nuclei.machine import start_backend
from nuclei.model_file import MODELS, find_model, load_network, read_settings
from nuclei.slides.plan import collect
from nuclei.written import recording
from unet import DEPTH, STEM_STRIDE, WIDTH, build_unet

OUT = "benchmark"
PARTS = ("ceiling", "network", "startup", "pipeline", "training")
PEERS = ("stardist",)
REPEATS = 5  # of a short measurement, of which the median counts
WINDOW_PX = 512  # side of the image that the network is timed on
# The U-Net of the paper, as most copies have it. It needs 40 times the work for each pixel.
CLASSIC = {"heads": ("nucleus",), "width": 64, "depth": 4, "stem_stride": 1}
CLASSIC_WINDOW_PX = 128
MIN_IMAGES = 32  # in the pipeline
MATRIX = 2048  # rows and columns of the matrix product: 17 GFLOP, far beyond the caches
TRAINING_STEPS = 12
CLASSIC_STEPS = 2
TRAINING_CROPS = (8, 256)  # crops in a batch and their side in px, the defaults of train.py
CLASSIC_CROPS = (1, 128)
MAX_TRAINING_IMAGES = 32


def parse_arguments(argv):
    """Read the command line. A usage error ends the program with status 2."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark", description=__doc__, formatter_class=raw
    )
    known = (*ENGINES, *COARSE_ENGINES)
    installed = [name for name in known if not missing_packages(name)]
    add = parser.add_argument
    text = f"files and folders of images (default {INPUT_DIR})"
    add("inputs", nargs="*", default=[INPUT_DIR], metavar="INPUT", help=text)
    text = f"{MODEL_HELP} (default {MODELS[0]}, or else {MODELS[1]})"
    add("--model", metavar="MODEL", help=text)
    add("--out", default=OUT, metavar="DIR", help=f"folder for the card (default {OUT})")
    text = f"what to measure: {', '.join(PARTS)} (default: all)"
    add("--parts", type=choice_of(PARTS), default=list(PARTS), metavar="NAME,...", help=text)
    text = f"engines to time: {', '.join(known)} (default: those that are installed)"
    add("--engines", type=choice_of(known), default=installed, metavar="NAME,...", help=text)
    text = f"repetitions of each short measurement (default {REPEATS})"
    add("--repeats", type=positive, default=REPEATS, metavar="N", help=text)
    text = f"images in the pipeline at least; fewer are repeated (default {MIN_IMAGES})"
    add("--num-images", type=positive, default=MIN_IMAGES, metavar="N", help=text)
    text = f"side of the image for the network alone (default {WINDOW_PX})"
    add("--window", type=positive, default=WINDOW_PX, metavar="PX", help=text)
    text = f"steps of training (default {TRAINING_STEPS})"
    add("--steps", type=positive, default=TRAINING_STEPS, metavar="N", help=text)
    text = "leave out the classic U-Net with 64 filters (default: time it, too)"
    add("--no-classic", action="store_true", help=text)
    text = f"ground truth of the images, for the accuracy (default {TRUTH_DIR}, if it exists)"
    add("--truth", default=TRUTH_DIR, metavar="DIR", help=text)
    text = f"pairs to time the training on (default {DATA_DIR})"
    add("--data-dir", default=DATA_DIR, metavar="DIR", help=text)
    add("--peer", choices=PEERS, help="time this program, too, on the same images (default: none)")
    text = "a model of the peer's own training (default: its published weights)"
    add("--peer-model", metavar="DIR", help=text)
    text = "the python in whose environment the peer is installed (default: this one)"
    add("--peer-python", default=sys.executable, metavar="FILE", help=text)
    add_overwrite_flag(add)
    args = parser.parse_args(argv)
    for name in args.engines:
        if packages := missing_packages(name):
            raise ValueError(f"--engines {name} needs {packages}: python -m pip install {packages}")
    return args


def measure_networks(card, args, model_path, architecture):
    """The part "network": the model's network and the classic one."""
    model, _ = load_network(model_path)
    measure_network(card, "model", model, architecture, args.window, args.engines, args.repeats)
    if not args.no_classic:
        window, repeats = min(args.window, CLASSIC_WINDOW_PX), min(2, args.repeats)
        classic = build_unet(**CLASSIC)
        measure_network(card, "classic", classic, CLASSIC, window, args.engines, repeats)


def measure_trainings(card, args, model_path, architecture):
    """The part "training": the model's network and the classic one."""
    from experiments.benchmark.training import measure_training
    from nuclei.training.samples import load_samples

    data = Path(args.data_dir)
    samples = list(load_samples(data / "raw", data / "gt", say=card.say)[0].values())
    card.say(f"Training on at most {MAX_TRAINING_IMAGES} of {len(samples)} images of {data}")
    samples = samples[:MAX_TRAINING_IMAGES]
    model, heads = load_network(model_path)[0], architecture["heads"]
    measure_training(card, "model", model, heads, samples, args.steps, TRAINING_CROPS)
    if not args.no_classic:
        model, num_steps = build_unet(**CLASSIC), min(CLASSIC_STEPS, args.steps)
        heads = CLASSIC["heads"]
        measure_training(card, "classic", model, heads, samples, num_steps, CLASSIC_CROPS)


def measure(args, files, model_path):
    """Measure the chosen parts. Returns: (the card, facts about the machine)."""
    stored = read_settings(model_path)["architecture"]
    architecture = {"width": WIDTH, "depth": DEPTH, "stem_stride": STEM_STRIDE, **stored}
    truths = find_truths(Path(args.truth), files) if Path(args.truth).is_dir() else {}
    truths = {stem: path for stem, path in truths.items() if stem in files}
    if "training" in args.parts:
        find_images(Path(args.data_dir) / "raw")  # what is missing is told at once
    start_backend()
    facts = {**describe_machine(), "command": shlex.join(args.words)}
    for name, text in facts.items():
        print(f"{name}: {text}")
    card = Card()
    if args.peer:  # first: it may be missing
        measure_peer(card, files, args.peer_python, args.peer_model, args.repeats)
    if "startup" in args.parts:  # before this process has memory and threads of its own
        measure_startup(card, files, model_path, args.engines)
    if "ceiling" in args.parts:
        rated = [name for name in args.engines if name != "keras"] or ["keras"]
        measure_ceiling(card, rated, architecture, args.window, args.repeats, MATRIX)
    if "network" in args.parts:
        measure_networks(card, args, model_path, architecture)
    if "pipeline" in args.parts:
        measure_pipeline(card, files, model_path, args.engines, truths, args.num_images)
    if "training" in args.parts:
        measure_trainings(card, args, model_path, architecture)
    return card, facts


@user_errors_in_one_line
def main(argv=None):
    """Measure the chosen parts, save the card and return the exit status."""
    args = parse_arguments(argv)
    args.words = [
        "python",
        "-m",
        "experiments.benchmark",
        *(sys.argv[1:] if argv is None else argv),
    ]
    files, model_path, out = collect(args.inputs), find_model(args.model), Path(args.out)
    with recording(out, args.overwrite, [*files.values(), model_path]) as record:
        for suffix in (".csv", ".json", ".html"):
            record.require(out / f"benchmark{suffix}")  # before the work
        save(*measure(args, files, model_path), out)
    print(f"Wrote {out / 'benchmark.csv'}, .json and .html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
