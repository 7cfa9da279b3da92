"""The speed card: its figures, what they were measured on, and the files it is saved as."""

import contextlib
import csv
import datetime
import html
import json
import platform
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from nuclei.files import replacing
from nuclei.machine import has_nvidia, num_cores
from nuclei.results.plot_page import Plot, write_plot_page

COLUMNS = ("part", "model", "what", "figure", "value", "unit")
PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "ai-edge-litert",
    "openvino",
    "numpy",
)
# Okabe & Ito: colours that the colour-blind tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PANEL_PX = 420  # height of a panel, with the names of engines below it
PANELS = (  # title, part, figures
    ("Network alone", "network", ("speed",)),
    ("All images, after start-up", "pipeline", ("speed",)),
    (
        "Where the time goes",
        "pipeline",
        ("reading", "scaling", "network", "separation", "tables and files"),
    ),
    ("Training", "training", ("bare", "whole")),
)


class Card:
    """The figures in the order in which they are measured.

    Args:
        say: called with each line for the user.

    Attributes:
        rows: dicts with the keys COLUMNS.
    """

    def __init__(self, say=print):
        self.rows, self.say = [], say

    def add(self, part, model, what, *figures):
        """Add one line of figures, and say it.

        Args:
            part: "network", for example.
            model: whose network was timed, or "-".
            what: what was timed.
            figures: tuples of (name, value, unit).
        """
        texts = []
        for name, value, unit in figures:
            values = (part, model, what, name, value, unit)
            self.rows.append(dict(zip(COLUMNS, values, strict=True)))
            texts.append(
                f"{name} {value:.4g} {unit}".rstrip() if np.isfinite(value) else f"{name} –"
            )
        self.say(f"{part:<9} {model:<8} {what:<28} {'  '.join(texts)}")

    def values(self, part, figure, what=None):
        """The values of a figure, in order; of one thing only where `what` names it."""
        return [
            row["value"]
            for row in self.rows
            if row["part"] == part and row["figure"] == figure and what in (None, row["what"])
        ]


def median_seconds(call, repeats):
    """Median time of a call in seconds, after one call that is not timed."""
    call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def describe_machine():
    """What the figures were measured on: {name: text}."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
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


def draw_panels(card):
    """Draw the card: speed by engine, and where the time goes. Parts without figures are left out.

    Returns:
        A list of `Plot`.
    """
    import plotly.graph_objects as go

    plots = []
    for title, part, names in PANELS:
        figure, unit = go.Figure(), ""
        for number, name in enumerate(names):
            chosen = [
                entry
                for entry in card.rows
                if entry["part"] == part and entry["figure"] == name and np.isfinite(entry["value"])
            ]
            if not chosen:
                continue
            unit = chosen[0]["unit"]
            # Bars of the training stand side by side, the stages of a run above one another.
            suffix = f", {name}" if part == "training" else ""
            figure.add_bar(
                x=[f"{entry['model']}: {entry['what']}{suffix}" for entry in chosen],
                y=[entry["value"] for entry in chosen],
                name=name,
                marker_color=COLOURS[number],
                showlegend=len(names) > 2,
            )
        if not figure.data:
            continue
        figure.update_layout(
            template="plotly_white",
            barmode="stack",
            margin={"l": 10, "r": 10, "t": 10, "b": 10},
            legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        )
        figure.update_xaxes(automargin=True).update_yaxes(automargin=True, title=unit)
        plots.append(Plot(figure, PANEL_PX, title))
    return plots


def save(card, facts, out):
    """Write benchmark.csv, .json and .html into the folder `out`."""
    out = Path(out)
    rows = [  # an empty cell and null where nothing was measured
        {**row, "value": row["value"] if np.isfinite(row["value"]) else None} for row in card.rows
    ]
    with (
        replacing(out / "benchmark.csv") as path,
        open(path, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with replacing(out / "benchmark.json") as path:
        path.write_text(json.dumps({**facts, "rows": rows}, indent=1), encoding="utf-8")
    about = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in facts.items()
    )
    plots = draw_panels(card)
    nothing = [] if plots else ["<p>None of the parts that are drawn was measured.</p>"]
    write_plot_page(out / "benchmark.html", "Speed card", [f"<dl>{about}</dl>", *nothing], plots)
