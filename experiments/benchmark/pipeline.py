"""Many images: from the shell, and after start-up, by each engine; where the time goes."""

import contextlib
import io
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from nuclei.images.intensity import intensity_range, normalise
from nuclei.images.labels import read_labels
from nuclei.images.reading import read_image
from nuclei.images.writing import find_labels
from nuclei.inference.engines import load_model
from nuclei.inference.find import Found, Options
from nuclei.inference.folder import predict_images
from nuclei.inference.scale import estimate_scale
from nuclei.inference.threads import WORKERS
from nuclei.inference.tiling import predict_scaled
from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.instances.separate import separate
from nuclei.machine import num_cores
from nuclei.model_file import PROJECT, load_network
from nuclei.results.image import DEFAULT_FORMATS, write_results
from nuclei.results.jobs import Job, Run
from nuclei.truth.masks import read_truth

PREDICT = PROJECT / "predict.py"
ONE_CORE_STAGES = ("separation", "tables and files")  # what the nuclei cost besides the network
# Runs a command and prints its seconds and peak memory. It is a small process of its own, since a
# child counts the memory that its parent held when it was started.
LAUNCHER = """
import subprocess, sys, time
started = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - started
try:
    import resource
    print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
except ImportError:  # on Windows
    print(seconds, "nan")
sys.exit(status)
"""


def run_child(arguments):
    """Run a script as the user would.

    Returns:
        (seconds, peak memory in MB or NaN where the system does not tell).

    Raises:
        ValueError: it failed.
    """
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        script = shlex.join(map(str, arguments))
        raise ValueError(f"{script} ended with status {done.returncode}: {lines[-1]}")
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, else kB


def measure_startup(card, files, model_path, engines):
    """Seconds and memory of predict.py from the shell.

    The first run prepares the model for an engine, if it is new.
    """

    def add(model, what, arguments):
        seconds, peak = run_child([PREDICT, *arguments])
        card.add("startup", model, what, ("time", seconds, "s"), ("peak memory", peak, "MB"))

    add("-", "predict.py --help", ["--help"])
    for engine in engines:
        for turn in ("first", "then"):
            with tempfile.TemporaryDirectory() as out:
                options = ["--model", model_path, "--engine", engine, "--out", out]
                what = f"{engine}, {len(files)} images, {turn}"
                add("model", what, [*files.values(), *options])


class Stopwatch:
    """Seconds spent in each stage: `with watch("reading"):` or `watch.wrap(stage, function)`."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, stage):
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + passed

    def wrap(self, stage, function):
        """The function, whose calls are timed as this stage."""

        def timed(*arguments, **options):
            with self(stage):
                return function(*arguments, **options)

        return timed


def one_after_the_other(files, model, out):
    """Do what predict.py does, on one thread, with a stopwatch: {stage: seconds}."""
    watch = Stopwatch()
    timed_separate = watch.wrap("separation", separate)
    model = replace(model, network=watch.wrap("network", model.network))
    run = Run(Path(out), model, Options(), "benchmark")
    started = time.perf_counter()
    for stem, path in files.items():
        with watch("reading"):
            image = read_image(path)
            intensity = intensity_range(image)

        def prepare(part, intensity=intensity):
            return normalise(part, intensity)

        scale, maps, _ = estimate_scale(model, image, prepare, separate=timed_separate)
        if maps is None:
            maps = predict_scaled(model, image, scale, prepare)
        labels = timed_separate(maps, scale=scale, **run.options.thresholds_for(model, scale))
        with watch("tables and files"):
            found = Found(image, intensity, labels, maps, scale)
            write_results(found, Job(stem, path, DEFAULT_FORMATS), run)
    watch.seconds["scaling"] = time.perf_counter() - started - sum(watch.seconds.values())
    return watch.seconds


def pooled_precision(folder, truths):
    """AP at IoU 0.5 of the labels in a folder against truths, {stem: path}; NaN without truths."""
    counts = []
    for stem, truth_path in truths.items():
        labels = read_labels(find_labels(folder, stem))
        counts.append(count_matches(match(read_truth(truth_path).labels, labels))[0])
    return float(average_precision(np.sum(counts, axis=0))) if counts else float("nan")


def repeat_files(files, num_images, folder):
    """Copy images under new names until there are enough: {stem_TURN: path}."""
    folder.mkdir()
    copies = {}
    for turn in range(-(-num_images // len(files))):
        for stem, path in files.items():
            copy = folder / f"{stem}_{turn}{path.suffix}"
            copy.write_bytes(path.read_bytes())
            copies[copy.stem] = copy
    return copies


def measure_pipeline(card, files, model_path, engines, truths, num_images):
    """All images by each engine, after start-up, and by plain Keras `predict` on one thread.

    Args:
        card: a `Card`.
        files: {stem: path} of images.
        model_path: the model file.
        engines: names of engines.
        truths: {stem: path} of ground truth, of as many images as have one.
        num_images: at least; fewer files are repeated.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        copies = repeat_files(files, num_images, folder / "in")
        shapes = [read_image(path).shape for path in copies.values()]
        megapixels = sum(height * width for height, width, _ in shapes) / 1e6

        def time_one_thread(name, model):
            one_after_the_other(files, model, folder / "warm-up" / name)
            stages = one_after_the_other(copies, model, folder / "serial" / name)
            total = sum(stages.values())
            card.add(
                "pipeline",
                "model",
                f"{name}, one thread",
                ("speed", megapixels / total, "MP/s"),
                ("time", total, "s"),
                *((stage, seconds, "s") for stage, seconds in stages.items()),
            )

        network, _ = load_network(model_path)
        keras_model = load_model(model_path, "keras", say=card.say)
        predict = replace(keras_model, network=lambda batch: network.predict(batch, verbose=0))
        time_one_thread("keras predict", predict)
        for engine in engines:
            time_one_thread(engine, load_model(model_path, engine, say=card.say))
            model = load_model(model_path, engine, WORKERS, card.say)
            run = Run(folder / "parallel" / engine, model, Options(), "benchmark")
            run.out.mkdir(parents=True)
            seconds = time_predict_images(copies, run)
            first = {f"{stem}_0": path for stem, path in truths.items()}
            precision = pooled_precision(run.out / "labels", first)
            add_pipeline(card, engine, seconds, megapixels, precision)


def time_predict_images(files, run):
    """Seconds that `predict_images` takes. Raises: ValueError where an image cannot be read."""
    jobs = [Job(stem, path, DEFAULT_FORMATS) for stem, path in files.items()]
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        failures = predict_images(jobs, run).failures
    seconds = time.perf_counter() - started
    if failures:
        raise ValueError(f"{len(failures)} images could not be read: {failures[0]}")
    return seconds


def add_pipeline(card, engine, seconds, megapixels, precision):
    """Add what predict.py reaches with an engine, beside the same on one thread."""
    one_thread = f"{engine}, one thread"
    stages = ("network", *ONE_CORE_STAGES)
    alone = {stage: card.values("pipeline", stage, one_thread)[0] for stage in stages}
    own_seconds = sum(alone[stage] for stage in ONE_CORE_STAGES)
    speed = megapixels / seconds
    plain = card.values("pipeline", "speed", "keras predict, one thread")[0]
    figures = [("times plain Keras", speed / plain, "")]
    if peer := card.values("peer", "speed"):
        figures.append(("times the peer", speed / peer[0], ""))
    share_of_cores = own_seconds / seconds / num_cores()
    card.add(
        "pipeline",
        "model",
        f"{engine}, predict.py",
        ("speed", speed, "MP/s"),
        ("time", seconds, "s"),
        *figures,
        ("share besides network", 1 - alone["network"] / seconds, ""),
        ("share of cores for separation, tables and files", share_of_cores, ""),
        ("average precision at 0.5", precision, ""),
    )
