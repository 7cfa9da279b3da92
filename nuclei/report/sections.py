"""The sections of a page that are text and tables: headline, scores, how the page was made.

Each function returns HTML. Everything from files goes through `text`, which escapes it. The
section about the model is in `model_card`.
"""

import html
import math
import platform
import shlex
import time
from importlib import metadata

import numpy as np

from nuclei.files import named, plural
from nuclei.report.predictions import FIELD, OUT_OF_DISTRIBUTION
from nuclei.version import program_version

# Columns of the table of scores: name, kind of summary, heading, ends of the drawn axis
SCORE_COLUMNS = (
    ("dice", "mean_of_images", "Dice", (0, 1)),
    ("ap_50", "pooled", "AP at IoU 0.5, pooled", (0, 1)),
    ("mean_ap", "mean_of_images", "mean AP 0.5:0.95", (0, 1)),
    ("aji", "mean_of_images", "AJI", (0, 1)),
    ("pq", "mean_of_images", "PQ", (0, 1)),
    ("count_error_relative", "pooled", "count error", (-0.5, 0.5)),
)
MISTAKES = ("merges", "splits", "misses", "extras")


def text(value):
    """A value as text of HTML."""
    return html.escape(str(value))


def number_of(value):
    """A number as text with three decimals; a dash where it is undefined."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def table_of(header, rows, caption):
    """A table. Cells are HTML; the first cell of each row is its heading."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
        for first, *others in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f'<table class="plain"><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def definitions(pairs):
    """A list of (name, HTML); pairs without HTML are left out."""
    items = [f"<dt>{text(name)}</dt><dd>{value}</dd>" for name, value in pairs if value]
    return f"<dl>{''.join(items)}</dl>"


def headline(predictions, evaluation):
    """The large figures at the top of the page."""
    rows, num_images = predictions.rows, predictions.num_images
    num_fields = sum(row["part"] == FIELD for row in rows)
    figures = [
        (f"{num_images:,}", "image" if num_images == 1 else "images"),
        (f"{predictions.num_nuclei:,}", "nucleus" if predictions.num_nuclei == 1 else "nuclei"),
    ]
    if num_fields:
        figures.insert(1, (f"{num_fields:,}", "fields of slides"))
    diameters = [row["median_diameter_px"] for row in rows if row["part"] != FIELD]
    diameters = [value for value in diameters if math.isfinite(value)]
    if diameters:
        figures.append((f"{np.median(diameters):.1f} px", "median diameter, of images"))
    if any(OUT_OF_DISTRIBUTION in row for row in rows):
        flagged = sum(row.get(OUT_OF_DISTRIBUTION) == 1 for row in rows)
        figures.append((f"{flagged:,}", "out of distribution"))
    if evaluation.record:
        summary = evaluation.record["all"]
        figures.append((number_of(summary["mean_of_images"]["dice"]["value"]), "Dice"))
        figures.append((number_of(summary["pooled"]["ap_50"]["value"]), "AP at IoU 0.5"))
    blocks = [
        f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for value, name in figures
    ]
    return "".join(blocks)


def score_cell(score, ends, percent):
    """A score with its 95 % interval, in figures and as a mark on an axis.

    Args:
        score: {"value", "low", "high"}, None where undefined.
        ends: values at the two ends of the axis.
        percent: write shares as signed per cent, with a line in the middle of the axis.
    """
    value, low, high = score["value"], score["low"], score["high"]
    if value is None:
        return "–"

    def written(number, unit=" %"):
        return f"{100 * number:+.1f}{unit}" if percent else number_of(number)

    def place(number):
        return 100 * min(1, max(0, (number - ends[0]) / (ends[1] - ends[0])))

    interval = line = ""
    if low is not None and high is not None:
        interval = f' <span class="interval">{written(low, "")} to {written(high)}</span>'
        line = f'<i style="left:{place(low):.1f}%;width:{place(high) - place(low):.1f}%"></i>'
    middle = '<u style="left:50%"></u>' if percent else ""
    return (
        f'<b>{written(value)}</b>{interval}<span class="forest" aria-hidden="true">{middle}{line}'
        f'<b style="left:{place(value):.1f}%"></b></span>'
    )


def scores_section(evaluation, folder):
    """Scores with intervals for all images and each group, or how to get them for a folder."""
    record = evaluation.record
    if record is None:
        reason = evaluation.note or "These predictions have not been compared with a truth."
        return (
            f"<p>{text(reason)}</p><p>If you have true masks of the same names: <code>python "
            f"evaluate.py {text(shlex.quote(str(folder)))} TRUTH</code>, with the folder of the "
            "masks as TRUTH, then <code>python report.py</code> again. The scores of the model on "
            "its own validation images are below.</p>"
        )
    rows = []
    for name, summary in {"all images": record["all"], **record["groups"]}.items():
        counts = f"{summary['num_images']:,} / {summary['num_truth']:,}"
        cells = [
            score_cell(summary[kind][score], ends, percent=score == "count_error_relative")
            for score, kind, _, ends in SCORE_COLUMNS
        ]
        rows.append([text(name), counts, *cells, *(f"{summary[kind]:,}" for kind in MISTAKES)])
    headings = [heading for _, _, heading, _ in SCORE_COLUMNS]
    header = ["", "images / true nuclei", *headings, *MISTAKES]
    notes = "".join(f"<li>{text(line)}</li>" for line in record.get("notes", []))
    used = [name for name, *_ in SCORE_COLUMNS]
    used += [*MISTAKES, "pooled", "mean_of_images", "low, high"]
    explained = [
        (name, text(value))
        for name, value in record["definitions"].items()
        if name in used or name.startswith("ap_")
    ]
    return (
        table_of(header, rows, "Scores; ranges are 95 % intervals over images")
        + (f"<ul>{notes}</ul>" if notes else "")
        + f"<p class='quiet'>Truth: {text(record.get('truth', ''))}. AP at 0.5 and count error are "
        "pooled over all nuclei, the other scores are means over images. With few images an "
        "interval says little.</p>"
        f"<details><summary>What the scores mean</summary>{definitions(explained)}</details>"
    )


def made_section(inputs, left_out):
    """How the page was made.

    Args:
        inputs: PageInputs.
        left_out: columns of nuclei.csv that are not in the page.
    """
    model, predictions = inputs.model_path.name, inputs.predictions
    makers = sorted({row["made_by"] for row in predictions.rows})
    is_other = any(maker.split(" ")[0] != model for maker in makers)
    warning = f" The model described above is {text(model)}." if is_other else ""
    missing = ""
    if inputs.missing:
        images = plural(len(inputs.missing), "image")
        missing = f"{images}, shown without a picture: {text(named(inputs.missing))}"
    versions = [f"this program {program_version()}", f"Python {platform.python_version()}"]
    versions += [f"{name} {metadata.version(name)}" for name in ("numpy", "pandas", "plotly")]
    columns = f"columns of nuclei.csv for which there was no space: {text(', '.join(left_out))}"
    return definitions(
        [
            (
                "predictions",
                f"<code>{text(predictions.folder)}</code>, made by {text('; '.join(makers))}."
                + warning,
            ),
            ("images", ", ".join(f"<code>{text(path)}</code>" for path in inputs.image_folders)),
            ("not found", missing),
            ("left out", columns if left_out else ""),
            (
                "brightness",
                "as the network saw it: percentiles of the whole image stretched to black and "
                "white",
            ),
            (
                "this page",
                f"<code>{text(inputs.command)}</code>, {time.strftime('%Y-%m-%d %H:%M')}",
            ),
            ("versions", text(", ".join(versions))),
        ]
    )
