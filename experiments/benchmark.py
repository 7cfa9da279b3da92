"""The speed card: how fast this program is on this machine, engine by engine and stage by stage, all in one run.

    python benchmark.py                                     # test_raw, the model at hand -> benchmark/
    python benchmark.py my_images --engines keras,litert    # other images, these engines only
    python benchmark.py --parts network,pipeline            # these parts only; of PARTS
    python benchmark.py --peer stardist                     # StarDist on the same images, where it is installed

It prints a table and saves it as benchmark/benchmark.csv, .json and .html (Plotly, needs no network). The parts:

    ceiling     what the machine can do at all: a large matrix product, and bare convolutions of the network's shapes
    network     one window through the network: the model's, and the classic U-Net with 64 filters, with random weights
    startup     from the shell: --help, and all images, twice; seconds and peak memory
    pipeline    all images, start-up apart: plain Keras `predict` one after the other, and predict.py's way by each engine;
                where the time goes; how many nuclei agree with the truth
    training    images per second of bare steps on one batch, and of `fit` on the whole input pipeline

Programs that run besides change every figure: compare within one run only, and read the shares rather than the seconds.
"""

import argparse
import contextlib
import csv
import datetime
import html
import io
import json
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np

import predict
from nuclei.cli import choice_of, positive, user_errors_in_one_line
from nuclei.files import named, replacing
from nuclei.images.intensity import intensity_range, normalise
from nuclei.images.labels import read_labels
from nuclei.images.masks import read_truth
from nuclei.images.pairs import find_images, find_truths
from nuclei.images.reading import read_image
from nuclei.inference.engines import COARSE_ENGINES, ENGINES, lacking, start_engine
from nuclei.inference.folder import predict_all
from nuclei.inference.runtimes import converted, for_engines
from nuclei.inference.scale import predict_at_trained_scale
from nuclei.inference.threads import WORKERS
from nuclei.instances.confidence import image_uncertainty
from nuclei.instances.matching import average_precision as the_average_precision
from nuclei.instances.matching import count_matches, match
from nuclei.instances.separate import THRESHOLDS, median_diameter
from nuclei.instances.separate import separate as the_separate
from nuclei.machine import find_device, has_nvidia, num_cores, set_up_backend
from nuclei.model_file import MODELS, TRAINED_DIAMETER_PX, find_model, load_network, read_settings
from nuclei.results.image import DEFAULT_FORMATS, write_results
from nuclei.results.pictures import find_labels
from nuclei.training.batches import ECHO_STEPS, batches
from nuclei.training.fit import LEARNING_RATE, compile_model, drawing_threads
from nuclei.training.samples import load_samples
from unet import DEPTH, STEM_STRIDE, WIDTH, build_unet, network_geometry

OUT = "benchmark"
PARTS = ("ceiling", "network", "startup", "pipeline", "training")
PEERS = ("stardist",)
TRUTH = "data/test_gt"  # of the images in test_raw
DATA_DIR = "data"  # whose images the training is timed on
REPEATS = 5  # of a short measurement, of which the median counts
WINDOW_PX = 512  # side of the window that the network is timed on
CLASSIC = {"heads": ("nucleus",), "width": 64, "depth": 4, "stem_stride": 1}  # the U-Net of the paper, as most copies have it
CLASSIC_WINDOW_PX = 128  # it needs 40 times the work for each pixel
PIPELINE_IMAGES = 32  # at least; fewer images are taken again and again under other names
ONE_CORE_STAGES = ("separation", "tables and files")  # of an image: what its nuclei cost once the network has painted it
MATRIX = 2048  # rows and columns of the matrix product: 17 GFLOP, far beyond the caches
TRAINING_STEPS = 12
CLASSIC_STEPS = 2
TRAINING_BATCH = (8, 256)  # crops and their side, as train.py has them by default
CLASSIC_BATCH = (1, 128)
MAX_TRAINING_IMAGES = 32
PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "openvino", "onnxruntime", "numpy")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito: safe for the colour-blind
# Runs a command and prints its seconds and peak memory. A process of its own, and a small one: a child counts the memory
# that its parent held when it was started, which would be that of TensorFlow here.
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
# Run by the Python that has StarDist, which may be another one. It takes a model of the user's where there is one, else its
# published weights, which StarDist itself fetches; where that fails, a network of the same size with random weights is timed
# with nothing to find, which flatters it.
STARDIST = """
import json, sys, time
import numpy as np
from csbdeep.utils import normalize
from PIL import Image
from stardist.models import Config2D, StarDist2D
repeats, folder, paths = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
words = folder or "2D_versatile_fluo"
try:
    if folder:
        parent, _, name = folder.rpartition("/")
        model = StarDist2D(None, name=name, basedir=parent)
    else:
        model = StarDist2D.from_pretrained(words)
    colours = model.config.n_channel_in == 3
    prepare = lambda image: normalize(image if colours else image.mean(-1), 1, 99.8)
except Exception:
    if folder:
        raise
    words = "untrained network of the size of its default, nothing to find"
    model = StarDist2D(Config2D(axes="YXC", n_channel_in=3, n_rays=32, grid=(2, 2)), name=None, basedir=None)
    model.thresholds = {"prob": 0.9999, "nms": 0.4}
    prepare = lambda image: normalize(image, 1, 99.8)
images = [np.array(Image.open(path).convert("RGB")) for path in paths]
for image in images:
    model.predict_instances(prepare(image))
seconds, nuclei = [], 0
for _ in range(repeats):
    started = time.perf_counter()
    nuclei = sum(int(model.predict_instances(prepare(np.array(Image.open(p).convert("RGB"))))[0].max()) for p in paths)
    seconds.append(time.perf_counter() - started)
pixels = sum(image.shape[0] * image.shape[1] for image in images)
print("RESULT" + json.dumps({"seconds": float(np.median(seconds)), "pixels": pixels, "nuclei": nuclei, "words": words}))
"""


class Card:
    """The figures in the order in which they are measured: `rows` of part, model, what (is timed), figure, value, unit."""

    def __init__(self, say=print):
        self.rows, self.say = [], say

    def add(self, part, model, what, **figures):
        """Add one line of figures, named NAME__UNIT, and say it."""
        words = []
        for name, value in figures.items():
            figure, _, unit = name.replace("_per_", "/").partition("__")
            row = {"part": part, "model": model, "what": what, "figure": figure.replace("_", " "), "value": value, "unit": unit}
            self.rows.append(row)
            words.append(f"{row['figure']} {value:.4g} {unit}".rstrip())
        self.say(f"{part:<9} {model:<8} {what:<28} {'  '.join(words)}")

    def values(self, part, figure, what=None):
        """The values of a figure, in order; of one thing only where `what` says which."""
        return [
            row["value"] for row in self.rows if row["part"] == part and row["figure"] == figure and what in (None, row["what"])
        ]


def median_seconds(call, repeats):
    """Median time of a call, which is made once before."""
    call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def machine():
    """What the figures were measured on: {name: words}."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), cpu)
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{cpu}, {num_cores()} cores",
        "gpu": "yes" if has_nvidia() else "none",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


# --- What the machine can do ----------------------------------------------------------------------------------------


def bare_convolutions(filters, name, number):
    """So many convolutions of 3 x 3 in a row, and nothing else, as the engine `name` runs them."""
    import keras

    x = image = keras.Input((None, None, filters))
    for _ in range(number):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return converted(keras.Model(image, x), name)[0]


def measure_ceiling(card, engines, architecture, window, repeats, matrix):
    """Floating point operations per second of a matrix product, and of convolutions of the shapes of each level."""
    a, b = np.random.default_rng(0).random((2, matrix, matrix), np.float32)
    seconds = median_seconds(lambda: a @ b, repeats)
    card.add("ceiling", "-", f"matrix product {matrix}", speed__GFLOP_per_s=2 * matrix**3 / seconds / 1e9)
    for level in range(architecture["depth"] + 1):
        filters, side = architecture["width"] * 2**level, window // (architecture["stem_stride"] * 2**level)
        batch = np.random.default_rng(0).random((1, side, side, filters), np.float32)
        for name in engines:
            network = bare_convolutions(filters, name, 4)
            seconds = median_seconds(lambda network=network, batch=batch: network(batch), repeats)
            speed = 4 * 2 * 9 * filters**2 * side**2 / seconds / 1e9
            card.add("ceiling", "-", f"{filters} filters on {side}², {name}", **{f"{ceiling_of(name)}__GFLOP_per_s": speed})


def ceiling_of(engine):
    """The figure of the part "ceiling" that an engine is measured by: int8 and half precision have one of their own each."""
    return f"{engine.partition('-')[2]}_convolution_speed" if engine in COARSE_ENGINES else "convolution_speed"


def count_flops(model, height, width):
    """Floating point operations of the convolutions for one image of this size; a multiplication and an addition are two."""
    import keras

    sized = keras.models.clone_model(model, input_tensors=keras.Input((height, width, model.inputs[0].shape[-1])))
    total = 0
    for layer in sized.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):  # each pixel of its input meets the whole kernel
            total += 2 * np.prod(layer.input.shape[1:3]) * np.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Conv2D):
            total += 2 * np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape)
    return float(total)


def measure_network(card, label, model, architecture, window, engines, repeats):
    """One window through the network by each engine, and how far each is from Keras."""
    image = np.random.default_rng(0).random((1, window // 8, window // 8, 3), np.float32).repeat(8, axis=1).repeat(8, axis=2)
    image = image[:, :window, :window]
    flops = count_flops(model, *image.shape[1:3])
    expected = model.predict_on_batch(image)
    ways = {"keras predict": lambda batch: model.predict(batch, verbose=0)}
    for name in engines:
        keras_itself = name == "keras"
        ways[name] = model.predict_on_batch if keras_itself else converted(for_engines(model, architecture), name)[0]
    for name, network in ways.items():
        seconds = median_seconds(lambda network=network: network(image), repeats)
        ceiling = max(card.values("ceiling", ceiling_of(name).replace("_", " ")), default=float("nan"))
        card.add(
            "network", label, name,
            speed__MP_per_s=image.shape[1] * image.shape[2] / seconds / 1e6,
            work__GFLOP_per_s=flops / seconds / 1e9,
            share_of_ceiling=flops / seconds / 1e9 / ceiling,
            largest_difference=float(np.abs(network(image) - expected).max()),
        )  # fmt: skip


# --- From the shell -------------------------------------------------------------------------------------------------


def run_child(arguments):
    """Run a script of ours as the user would: (seconds, peak memory in MB or NaN where the system does not say).

    Raises:
        ValueError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, sys.executable, *map(str, arguments)], capture_output=True, text=True
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ValueError(f"{shlex.join(map(str, arguments))} ended with status {done.returncode}: {lines[-1]}")
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kilobytes elsewhere


def measure_startup(card, files, model_path, engines):
    """Seconds and memory of predict.py from the shell. The first run prepares the model for an engine, if it is new."""
    script = str(Path(predict.__file__).resolve())
    seconds, peak = run_child([script, "--help"])
    card.add("startup", "-", "predict.py --help", time__s=seconds, peak_memory__MB=peak)
    paths = [str(path) for path in files.values()]
    for name in engines:
        for words in ("first", "then"):
            with tempfile.TemporaryDirectory() as out:
                options = ["--model", str(model_path), "--engine", name, "--out", out]
                seconds, peak = run_child([script, *paths, *options])
            card.add("startup", "model", f"{name}, {len(paths)} images, {words}", time__s=seconds, peak_memory__MB=peak)


# --- Many images ----------------------------------------------------------------------------------------------------


class Stopwatch:
    """Seconds spent in each stage: `with watch("read"): ...`, or `watch.wrap("network", function)`."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, stage):
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def wrap(self, stage, function):
        def timed(*arguments, **options):
            with self(stage):
                return function(*arguments, **options)

        return timed


def one_after_the_other(files, network, settings, out):
    """What predict.py does, on one thread, with a stopwatch: seconds by stage."""
    watch = Stopwatch()
    separate = watch.wrap("separation", the_separate)
    network = watch.wrap("network", network)
    thresholds = {**THRESHOLDS, **settings.get("thresholds", {})}
    num_maps, geometry = len(settings["architecture"]["heads"]), network_geometry(settings["architecture"])
    started = time.perf_counter()
    for stem, path in files.items():
        with watch("reading"):
            image = read_image(path)
            intensity = intensity_range(image)
        maps, scale = predict_at_trained_scale(
            network, image, num_maps, settings.get("trained_diameter_px", TRAINED_DIAMETER_PX),
            measure=lambda seen: median_diameter(separate(seen)), uncertainty=image_uncertainty,
            prepare=lambda part, intensity=intensity: normalise(part, intensity), **geometry,
        )  # fmt: skip
        labels = separate(maps, scale=scale, **thresholds)
        with watch("tables and files"):
            write_results(out, stem, path, image, intensity, labels, maps, scale, settings, 0.0, "benchmark")
    watch.seconds["scaling"] = time.perf_counter() - started - sum(watch.seconds.values())
    return watch.seconds


def average_precision(folder, files, truths):
    """Pooled AP at IoU 0.5 of the labels in a folder against those truths that there are, or NaN."""
    counts = [
        count_matches(
            match(read_truth(truths[stem]).labels, read_labels(find_labels(folder, stem)))
        )[0]
        for stem in files
        if stem in truths
    ]
    return float(the_average_precision(np.sum(counts, axis=0))) if counts else float("nan")


def measure_pipeline(card, files, model_path, engines, truths, num_images):
    """All images by each engine, after start-up; plain Keras `predict` and one thread as what to compare with."""
    settings = read_settings(model_path)
    model, _ = load_network(model_path)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        many, inputs = {}, folder / "in"
        inputs.mkdir()
        for turn in range(-(-num_images // len(files))):
            for stem, path in files.items():
                many[f"{stem}_{turn}"] = inputs / f"{stem}_{turn}{path.suffix}"
                many[f"{stem}_{turn}"].write_bytes(path.read_bytes())
        shapes = [read_image(path).shape for path in files.values()]
        pixels = sum(height * width for height, width, _ in shapes) * (len(many) // len(files)) / 1e6
        made_by, thresholds = "benchmark", {**THRESHOLDS, **settings.get("thresholds", {})}

        def time_one_thread(name, network):
            one_after_the_other(files, network, settings, folder / "warm-up" / name)
            stages = one_after_the_other(many, network, settings, folder / "serial" / name)
            total = sum(stages.values())
            card.add(
                "pipeline", "model", f"{name}, one thread", speed__MP_per_s=pixels / total, time__s=total,
                **{f"{stage.replace(' ', '_')}__s": seconds for stage, seconds in stages.items()},
            )  # fmt: skip

        time_one_thread("keras predict", lambda batch: model.predict(batch, verbose=0))
        for name in engines:  # each done with before the next is loaded: OpenVINO slows down what comes after it
            time_one_thread(name, start_engine(model_path, name, say=card.say)[0])
            network, out = start_engine(model_path, name, card.say, WORKERS)[0], folder / "parallel" / name
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                _, failures = predict_all(
                    out, many, network, settings, thresholds, made_by, asked=dict.fromkeys(many, DEFAULT_FORMATS)
                )
            seconds = time.perf_counter() - started
            if failures:
                raise ValueError(f"{len(failures)} images could not be read: {failures[0]}")
            first = {f"{stem}_0": path for stem, path in files.items()}
            ap = average_precision(out / "labels", first, {f"{stem}_0": path for stem, path in truths.items()})
            alone = {part: card.values("pipeline", part, f"{name}, one thread")[0] for part in ("network", *ONE_CORE_STAGES)}
            own = sum(alone[part] for part in ONE_CORE_STAGES)
            figures = {"times_plain_Keras": pixels / seconds / card.values("pipeline", "speed", "keras predict, one thread")[0]}
            if card.values("peer", "speed"):
                figures["times_the_peer"] = pixels / seconds / card.values("peer", "speed")[0]
            card.add(
                "pipeline", "model", f"{name}, predict.py", speed__MP_per_s=pixels / seconds, time__s=seconds, **figures,
                share_besides_network=1 - alone["network"] / seconds,
                share_of_cores_for_separation_tables_and_files=own / seconds / num_cores(), average_precision_at_0_5=ap,
            )  # fmt: skip


# --- Training -------------------------------------------------------------------------------------------------------


def measure_training(card, label, model, heads, samples, steps, batch_size, crop):
    """Images per second of bare steps on one batch, and of `fit` on the batches that train.py makes, once they flow."""
    import keras


    device = find_device()[0]
    compile_model(model, heads, LEARNING_RATE, 10 * steps, device)
    batch = next(batches(samples, heads, crop, batch_size, seed=0))

    class Clock(keras.callbacks.Callback):
        times = ()

        def on_train_batch_end(self, batch, logs=None):
            self.times = (*self.times, time.perf_counter())

    # In turn, so that a change in what else the machine does meets both.
    bare, whole, clock = [], [], Clock()
    model.train_on_batch(*batch)
    before = min(steps, 2 * ECHO_STEPS)  # that the clock leaves out: a training begins with crops for several steps
    for _ in range(2):
        started = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(*batch)
        bare.append((time.perf_counter() - started) / steps)
        clock.times = ()
        source = batches(samples, heads, crop, batch_size, seed=0, workers=drawing_threads(device))
        model.fit(source, steps_per_epoch=before + steps, shuffle=False, verbose=0, callbacks=[clock])
        whole.append((clock.times[-1] - clock.times[before - 1]) / steps)
    bare, whole = batch_size / min(bare), batch_size / min(whole)
    what = f"{batch_size} crops of {crop} px"
    card.add("training", label, what, bare__images_per_s=bare, whole__images_per_s=whole, share_of_bare=whole / bare)


# --- Others ---------------------------------------------------------------------------------------------------------


def measure_peer(card, files, python, model, repeats):
    """StarDist's `predict_instances`, reading included, on the same images after a first round; by `python`.

    Args:
        model: folder of a StarDist model; None for its published weights.
    """
    if model and not (Path(model) / "config.json").is_file():
        raise ValueError(f"--peer-model {model} is no folder of a StarDist model: it has no config.json")
    folder = Path(model).resolve().as_posix() if model else ""
    command = [python, "-c", STARDIST, str(repeats), folder, *map(str, files.values())]
    done = subprocess.run(command, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not found:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ValueError(
            f"{python} cannot run StarDist ({lines[-1][:200]}); python -m pip install stardist tensorflow, there or in another "
            "environment whose python you name with --peer-python"
        )
    result = json.loads(found[0].removeprefix("RESULT"))
    card.add(
        "peer", "StarDist", Path(result["words"]).name, speed__MP_per_s=result["pixels"] / result["seconds"] / 1e6,
        time__s=result["seconds"], nuclei=result["nuclei"],
    )  # fmt: skip


# --- The card -------------------------------------------------------------------------------------------------------


def draw(card, facts):
    """The card as a Plotly figure: speed by engine, and where the time goes."""
    from plotly.subplots import make_subplots

    panels = (  # title, part, figures, place
        ("Network alone", "network", ("speed",), (1, 1)),
        ("All images, after start-up", "pipeline", ("speed",), (1, 2)),
        ("Where the time goes", "pipeline", ("reading", "scaling", "network", "separation", "tables and files"), (2, 1)),
        ("Training", "training", ("bare", "whole"), (2, 2)),
    )
    figure = make_subplots(rows=2, cols=2, subplot_titles=[panel[0] for panel in panels], vertical_spacing=0.2)
    for _, part, names, (row, column) in panels:
        for number, name in enumerate(names):
            chosen = [entry for entry in card.rows if entry["part"] == part and entry["figure"] == name]
            bare = f", {name}" if part == "training" else ""  # side by side, the stages of a run above one another
            figure.add_bar(
                x=[f"{entry['model']}: {entry['what']}{bare}" for entry in chosen], y=[entry["value"] for entry in chosen],
                name=name, marker_color=COLOURS[number], showlegend=len(names) > 2, row=row, col=column,
            )  # fmt: skip
            if chosen:
                figure.update_yaxes(title=chosen[0]["unit"], row=row, col=column)
    words = "<br>".join(f"{name}: {html.escape(value)}" for name, value in facts.items())
    figure.update_layout(
        template="plotly_white", barmode="stack", height=1000, margin={"t": 200},
        title={"text": f"Speed card<br><sub>{words}</sub>", "y": 0.98},
    )  # fmt: skip
    return figure


def save(card, facts, out):
    """Write benchmark.csv, .json and .html into the folder `out`."""
    out = Path(out)
    with replacing(out / "benchmark.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["part", "model", "what", "figure", "value", "unit"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(card.rows)
    with replacing(out / "benchmark.json") as path:
        rows = [{**row, "value": row["value"] if np.isfinite(row["value"]) else None} for row in card.rows]  # JSON has no NaN
        path.write_text(json.dumps({**facts, "rows": rows}, indent=1), encoding="utf-8")
    with replacing(out / "benchmark.html") as path:
        config = {"displaylogo": False, "showSendToCloud": False}
        path.write_text(draw(card, facts).to_html(include_plotlyjs=True, config=config), encoding="utf-8")


@user_errors_in_one_line
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    known = (*ENGINES, *COARSE_ENGINES)
    installed = [name for name in known if not lacking(name)]
    add("inputs", nargs="*", default=[predict.INPUT], metavar="INPUT", help=f"files and folders (default {predict.INPUT})")
    add("--model", default=None, metavar="FILE", help=f"(default {MODELS[0]}, or else {MODELS[1]})")
    add("--out", default=OUT, metavar="DIR", help=f"(default {OUT})")
    add("--parts", type=choice_of(PARTS), default=list(PARTS), metavar="NAME,...", help=f"of {', '.join(PARTS)}")
    add("--engines", type=choice_of(known), default=installed, metavar="NAME,...",
        help=f"of {', '.join(known)} (default: those that are installed)")  # fmt: skip
    add("--repeats", type=positive, default=REPEATS, metavar="N", help=f"of each short measurement (default {REPEATS})")
    add("--images", type=positive, default=PIPELINE_IMAGES, metavar="N",
        help=f"images in the pipeline at least; fewer are repeated (default {PIPELINE_IMAGES})")  # fmt: skip
    add("--window", type=positive, default=WINDOW_PX, metavar="PX", help=f"for the network alone (default {WINDOW_PX})")
    add("--steps", type=positive, default=TRAINING_STEPS, metavar="N", help=f"of training (default {TRAINING_STEPS})")
    add("--no-classic", action="store_true", help="leave the classic U-Net with 64 filters out")
    add("--truth", default=TRUTH, metavar="DIR", help=f"masks of the images, for the accuracy (default {TRUTH}, if there)")
    add("--data-dir", default=DATA_DIR, metavar="DIR", help=f"pairs to time the training on (default {DATA_DIR})")
    add("--peer", choices=PEERS, help="time this program, too, on the same images")
    add("--peer-model", metavar="DIR", help="a model of the peer's own training (default: its published weights)")
    add("--peer-python", default=sys.executable, metavar="FILE", help="the python in whose environment the peer is installed")
    args = parser.parse_args(argv)
    for name in args.engines:
        if lacking(name):
            raise ValueError(f"--engines {name} needs {lacking(name)}: python -m pip install {lacking(name)}")

    files, model_path = predict.collect(args.inputs), find_model(args.model)
    settings = read_settings(model_path)
    architecture = {"width": WIDTH, "depth": DEPTH, "stem_stride": STEM_STRIDE, **settings["architecture"]}
    truths = find_truths(Path(args.truth), files) if Path(args.truth).is_dir() else {}
    pairs = find_images(Path(args.data_dir) / "raw") if "training" in args.parts else {}  # missing, it is said at once
    set_up_backend()
    facts = {**machine(), "command": shlex.join(["python", "benchmark.py", *(sys.argv[1:] if argv is None else argv)])}
    for name, words in facts.items():
        print(f"{name}: {words}")
    card = Card()
    if args.peer:  # first: it may not be there
        measure_peer(card, files, args.peer_python, args.peer_model, args.repeats)
    if "startup" in args.parts:  # before this process has any memory or threads of its own to be in the way
        measure_startup(card, files, model_path, args.engines)
    if "ceiling" in args.parts:
        rated = [name for name in args.engines if name != "keras"] or ["tensorflow"]
        measure_ceiling(card, rated, architecture, args.window, args.repeats, MATRIX)
    if "network" in args.parts:
        model, _ = load_network(model_path)
        measure_network(card, "model", model, architecture, args.window, args.engines, args.repeats)
        if not args.no_classic:
            window = min(args.window, CLASSIC_WINDOW_PX)
            measure_network(card, "classic", build_unet(**CLASSIC), CLASSIC, window, args.engines, min(2, args.repeats))
    if "pipeline" in args.parts:
        measure_pipeline(card, files, model_path, args.engines, truths, args.images)
    if "training" in args.parts:

        samples = list(load_samples(Path(args.data_dir) / "raw", Path(args.data_dir) / "gt", say=card.say)[0].values())
        card.say(f"Training on {len(samples)} of {len(pairs)} images of {named([args.data_dir])}")
        samples = samples[:MAX_TRAINING_IMAGES]
        model, heads = load_network(model_path)[0], settings["architecture"]["heads"]
        measure_training(card, "model", model, heads, samples, args.steps, *TRAINING_BATCH)
        if not args.no_classic:
            model = build_unet(**CLASSIC)
            measure_training(card, "classic", model, CLASSIC["heads"], samples, min(CLASSIC_STEPS, args.steps), *CLASSIC_BATCH)
    save(card, facts, args.out)
    print(f"Wrote {Path(args.out) / 'benchmark.csv'}, .json and .html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
