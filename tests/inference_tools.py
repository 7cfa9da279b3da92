"""Models, images and runs of predict.py for tests."""

import csv
from pathlib import Path

from PIL import Image
from synthetic import draw

import predict
from nuclei.model_file import Model
from nuclei.written import RECORD, Record
from unet import network_geometry


def model_of(network, num_maps=2, margin_px=16, multiple_px=16):
    """A `Model` of any function, which knows nuclei of 24 px."""
    return Model(network, num_maps, margin_px, multiple_px, diameter_px=24)


def model_of_unet(network, depth, stem_stride):
    """A `Model` of a network of `build_unet`."""
    geometry = network_geometry({"depth": depth, "stem_stride": stem_stride})
    return model_of(
        network.predict_on_batch, network.output_shape[-1], geometry["margin"], geometry["multiple"]
    )


def blobs(seed=0, size=(60, 80)):
    """An image of six bright nuclei, and its labels."""
    return draw("fluorescence", *size, num_nuclei=6, diameter=16, seed=seed, touching=0)


def write_blobs(folder, num_images):
    """Write image0.png, image1.png, ... into a new folder."""
    folder.mkdir()
    for number in range(num_images):
        Image.fromarray(blobs(number)[0]).save(folder / f"image{number}.png")
    return folder


def run_predict(model, out, *arguments):
    """Run predict.py; its exit status."""
    return predict.main([*map(str, arguments), "--model", str(model), "--out", str(out)])


def read_rows(path):
    """The rows of a CSV file, as dicts of texts."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add_and_die(path, text):
    """Add text to a table of results as a run does that is killed then."""
    record = Record(path.parent)
    record.read()
    record.begin_growth(path, text.encode())
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def read_files(folder):
    """{relative path: bytes} of all files in a folder but its record, which tells of each run."""
    folder = Path(folder)
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD
    }
