"""Small folders of predictions for tests of the page, and how to read a page."""

import base64
import json
import math
import re
import zlib
from html.parser import HTMLParser

import h5py
import numpy as np
import pandas as pd
import results_tools
from history_tools import write_history
from synthetic import draw

import evaluate
import report
from nuclei.images.intensity import intensity_range
from nuclei.images.writing import write_png
from nuclei.inference.find import Found
from nuclei.model_file import SETTINGS as ATTRIBUTE

SETTINGS = {
    "schema": 1,
    "architecture": {"heads": ["nucleus", "distance"], "width": 8},
    "thresholds": {"nucleus_threshold": 0.45, "min_area_px": 10},
    "nucleus_diameter_px": {"median": 16.0, "percentile_5": 9.0, "percentile_95": 30.0},
    "data": {
        "train": {"fluorescence": 40, "tissue": 5},
        "validation": 6,
        "truth": {"instances": 51},
    },
    "scores": {
        "validation": {
            "all": {"images": 6, "dice": 0.9, "ap50": 0.7, "map": 0.5},
            "fluorescence": {"images": 5, "dice": 0.9, "ap50": 0.75, "map": 0.5},
            "tissue": {"images": 1, "dice": 0.8, "ap50": 0.45, "map": None},
        }
    },
    "versions": {"keras": "3.15.1"},
}
PICTURES = {  # stem: kind, height, width, number of nuclei, mean probability, out of distribution
    "fluorescence_a": ("fluorescence", 96, 128, 14, 0.95, 0),
    "fluorescence_b": ("fluorescence", 120, 90, 9, 0.85, 0),
    "tissue <b>&amp;": ("tissue", 128, 128, 16, 0.90, 0),
    "tissue_empty": ("tissue", 64, 64, 0, math.nan, 1),
}

HOSTILE = "\"><script x='y'>z<b onclick=w>&lt;%%DATA%%"  # a name of a file or a group


class Reader(HTMLParser):
    """What a browser makes of HTML: its tags with their attributes, and the text a reader sees."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.open, self.parts = [], [], []
        self.feed(markup)
        self.close()
        assert not self.open, self.open
        self.text = " ".join("".join(self.parts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, *attributes))
        self.open += [tag] if tag not in ("meta", "input", "br", "link") else []
        self.parts.append(" " if tag not in ("code", "b", "span") else "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.parts.append(" " if tag not in ("code",) else "")

    def handle_data(self, data):
        self.parts.append(data)


def write_model(path, settings=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs[ATTRIBUTE] = json.dumps(SETTINGS if settings is None else settings)
    return path


def write_predictions(folder, pictures=PICTURES, flags=True):
    """A folder as predict.py leaves it, with raw/, truth/ and model/ beside it.

    Half of the nuclei of `tissue` are missing.
    """
    for number, (stem, row) in enumerate(pictures.items()):
        kind, height, width, count, probability, _ = row
        image, labels = draw(
            kind, height, width, num_nuclei=count, diameter=14, seed=number, touching=0.4
        )
        write_png(folder / "raw" / f"{stem}.png", image)
        write_png(folder / "truth" / f"{stem}.png", labels.astype(np.uint16))
        if kind == "tissue":
            labels[labels > (labels.max() + 1) // 2] = 0
        value = 0 if math.isnan(probability) else probability
        maps = np.full((*labels.shape, 1), value, np.float32)
        found = Found(image, intensity_range(image), labels, maps, 1.0)
        results_tools.write_predictions(
            folder / "found", found, stem, made_by="trained_model.h5 0123"
        )
    if flags:
        values = [row[-1] for row in pictures.values()]
        change(
            folder / "found" / "summary.csv",
            lambda table: table.assign(out_of_distribution=values),
        )
    write_model(folder / "model" / "trained_model.h5")
    write_history(folder / "model")
    return folder


def write_evaluated_predictions(folder):
    """`write_predictions` with the scores of evaluate.py for each kind."""
    write_predictions(folder)
    groups = folder / "groups.csv"
    lines = [f"{stem},{row[0]}\n" for stem, row in PICTURES.items()]
    groups.write_text("stem,modality\n" + "".join(lines))
    words = [str(folder / "found"), str(folder / "truth"), "--groups", str(groups)]
    assert evaluate.main(words) == 0
    return folder


def change(path, edit):
    """Rewrite a table."""
    edit(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def make(folder, *words, out=None):
    """Run report.py as a user would; returns the exit status."""
    named = ["--images", str(folder / "raw"), "--model", str(folder / "model" / "trained_model.h5")]
    return report.main(
        [str(folder / "found"), *named, *(["--out", str(out)] if out else []), *words]
    )


def page_of(folder):
    return (folder / "found" / "report.html").read_text(encoding="utf-8")


def block_of(page, name):
    return re.search(f'<script type="text/plain" id="{name}">([^<]*)</script>', page)[1]


def unpack(text):
    return zlib.decompress(base64.b64decode(text))


def data_of(page):
    return json.loads(unpack(block_of(page, "data")))
