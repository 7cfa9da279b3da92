"""The folders that the programs work on in a campaign, and the programs themselves.

    make_templates(folder)              # once: sound data, predictions, a model, a checkpoint
    program("predict")([...])           # the script's `main`, in this process

The network of predict.py is a stand-in here, the brightness of the image: the campaign tests the
program around it. Model files are read by the real code.
"""

import contextlib
import importlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from experiments.campaign.originals import draw, encoded, make_originals, write_pair
from experiments.campaign.readers import READERS, reader
from nuclei.model_file import Model, save_model

PLACES = {  # in each template, what is damaged there; the programs and the readers of the file
    "found/summary.csv": (
        "csv",
        ("report", "exports", "predict", "evaluate groups"),
        ("read_table", "facts_of"),
    ),
    "found/nuclei.csv": (
        "csv",
        ("report", "exports", "predict", "evaluate"),
        ("read_table", "rows_of"),
    ),
    "found/written.jsonl": ("", ("predict", "exports", "report"), ("read_record",)),
    "found/evaluation.json": ("json", ("report",), ("read_evaluation_record",)),
    "found/labels/good.png": ("png", ("exports", "report", "evaluate"), ("read_labels",)),
    "found/geojson/good.geojson": ("json", ("import corrected", "predict"), ("read_truth",)),
    "model/trained_model.h5": (
        "hdf5",
        ("report", "report", "train init", "train init", "predict model"),
        ("read_settings",),
    ),
    "model/history.csv": ("csv", ("graph", "report"), ("read_history",)),
    "groups.csv": ("csv", ("report groups", "evaluate groups file"), ("read_groups",)),
    "data/split.csv": ("csv", ("train", "evaluate split"), ("read_split",)),
    "trained/checkpoint.h5": ("hdf5", ("train resume",), ("read_checkpoint",)),
    "slides_found/.slide.ome.work/setup.json": ("json", ("predict slide",), ("look_into_work",)),
    "slides_found/.slide.ome.work/mask.npy": ("npy", ("predict slide",), ("look_into_work",)),
    "slides_found/.slide.ome.work/tile_000000.npz": (
        "zip",
        ("predict slide",),
        ("look_into_work",),
    ),
}
MODEL = ["--model", "model/trained_model.h5"]
ARCHITECTURE = {"heads": ["nucleus", "distance"], "width": 4, "depth": 1, "stem_stride": 1}
TINY = (  # flags of a training of seconds
    *("--width", "4", "--depth", "1", "--crop", "32", "--batch-size", "2"),
    *("--crops-per-image", "1", "--precision", "float32"),
)


class Reached(Exception):
    """A stand-in was called: the program has read its files and would start to train now."""


def brightness(batch):
    """Maps (B, h, w, 2) of a batch (B, h, w, 3): bright pixels are nuclei."""
    light = batch.mean(axis=-1, keepdims=True)
    return np.concatenate([light > 0.5, light], axis=-1).astype(np.float32)


def stand_in(network=brightness):
    """A `Model` for predict.py."""
    return Model(network, num_maps=2, margin_px=8, multiple_px=4, diameter_px=16)


def program(name):
    """The `main` of a script, or of a reader, in this process."""
    if name in READERS:
        return reader(name)
    return importlib.import_module(name).main


def replace_network(network=brightness):
    """Let predict.py use the stand-in from now on, in this process, but with --engine keras."""
    from nuclei.inference.engines import load_model

    def load(path, engine="auto", *arguments, **options):
        is_real = engine == "keras"
        return load_model(path, engine, *arguments, **options) if is_real else stand_in(network)

    importlib.import_module("predict").load_model = load


@contextlib.contextmanager
def without_training():
    """Let train.py read all its files and stop before the first epoch with `Reached`."""
    train = importlib.import_module("train")
    kept = train.fit

    def reached(*_):
        raise Reached

    train.fit = reached
    try:
        yield
    finally:
        train.fit = kept


def run(argv):
    """Run the `main` that `argv` names first, and raise where that is not what was expected."""
    status = program(argv[0])([str(word) for word in argv[1:]])
    if status:
        raise RuntimeError(f"{argv[0]} ended with {status} on whole files")


def make_templates(folder: Path):
    """Write the folders that each input is put into; a folder that is there already stays.

    This imports Keras and starts threads, so it belongs into a process of its own.
    """
    if folder.exists():
        return
    work = folder.with_name(folder.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    for stem in ("good", "other", "third"):
        write_pair(work / "data", stem)
    (work / "data" / "split.csv").write_text(
        "stem,split\ngood,train\nother,train\nthird,validation\n"
    )
    (work / "groups.csv").write_text("stem,group\ngood,treated\nother,control\nthird,control\n")
    (work / "images").mkdir()
    (work / "images" / "good.png").write_bytes(encoded(draw()[0], "PNG"))
    with contextlib.chdir(work):
        write_checkpoint(Path("trained"))
        write_model(Path("model/trained_model.h5"))
        shutil.copy("trained/history.csv", "model/history.csv")
        replace_network()
        formats = ["--formats", "masks,labels,overlays,csv,geojson"]
        model = ["--model", "model/trained_model.h5"]
        run(["predict", "data/raw", "--out", "found", *formats, *model])
        run(["evaluate", "found", "data/gt"])
        interrupt_slide(model)
    work.rename(folder)


def write_model(path: Path):
    """Write a small model file."""
    from unet import build_unet

    path.parent.mkdir()
    scores = {"images": 3, "dice": 0.9, "ap50": 0.8, "map": 0.6}
    settings = {
        "architecture": ARCHITECTURE,
        "thresholds": {"min_area_px": 15},
        "nucleus_diameter_px": {"median": 16.0, "percentile_5": 9.0, "percentile_95": 30.0},
        "data": {"train": {"fluorescence": 2}, "validation": 1, "sets": ["data"]},
        "scores": {"validation": {"all": scores}},
    }
    save_model(path, build_unet(**ARCHITECTURE), settings)


def write_checkpoint(folder: Path):
    """Leave what a training leaves that was stopped after two epochs."""
    from nuclei.training.checkpoint import State, save_checkpoint, write_history
    from nuclei.training.recipe import Recipe

    weights = [np.zeros((3, 3, 3, 4), np.float32), np.zeros(4, np.float32)]
    network = SimpleNamespace(
        get_weights=lambda: weights, optimizer=SimpleNamespace(variables=[np.float32(1)])
    )
    recipe = Recipe(data_dir=("data",), width=4, depth=1, heads=["nucleus", "distance"])
    rows = [
        {"epoch": epoch, "loss": 1 / epoch, "val_loss": 1.1 / epoch, "seconds": 2.0}
        for epoch in (1, 2)
    ]
    state = State(recipe, "0" * 64, rows=rows, best_loss=0.55, best_epoch=2, best_weights=weights)
    folder.mkdir()
    save_checkpoint(folder / "checkpoint.h5", network, state)
    write_history(folder / "history.csv", rows)


def interrupt_slide(model):
    """Leave slides/slide.ome.tif, and in slides_found what a stopped search of it leaves."""
    Path("slides").mkdir()
    slide = next(original for original in make_originals() if original.name == "slide.ome.tif")
    Path("slides/slide.ome.tif").write_bytes(slide.content)
    calls = []

    def stop(batch):
        calls.append(batch)
        if len(calls) > 4:  # of six tiles; those at work then are not kept
            raise KeyboardInterrupt
        return brightness(batch)

    replace_network(stop)
    argv = ["slides", "--out", "slides_found", "--tile", "272", "--diameter", "16", *model]
    if program("predict")(argv) != 130:
        raise RuntimeError("the search of the slide was not stopped")
    replace_network()


def copy_template(folder: Path, room: Path, *names):
    """Copy parts of the templates into a new folder."""
    for name in names:
        (shutil.copytree if (folder / name).is_dir() else shutil.copy)(folder / name, room / name)
