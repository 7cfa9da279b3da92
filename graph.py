"""Draw how a training went: history.csv -> Training_Graph.html (interactive, needs no network) and Training_Graph.png.

    python graph.py                                 # Saved_Model/history.csv -> Saved_Model/Training_Graph.html, .png
    python graph.py A/history.csv B/history.csv     # several trainings in one graph, in the current folder
    python graph.py runs/7/history.csv --out figures

It may run while training goes on. Columns are found by name, in any order, and those of older files (`acc`, `lr`, an
unnamed row number) are known. The best epoch is that of the lowest validation loss; train.py keeps it, or the mean of the
last epochs where that finds more nuclei.
"""

import argparse
import csv
import html
import io
import math
import os
import sys
import tempfile
from pathlib import Path

HISTORY = "Saved_Model/history.csv"
NAME = "Training_Graph"
ALIASES = {"acc": "accuracy", "val_acc": "val_accuracy", "lr": "learning_rate"}  # older Keras and CSVLogger
NOT_DRAWN = {"", "epoch", "seconds", "Unnamed: 0"}
LABELS = {"accuracy": "pixel accuracy", "dice": "Dice", "iou": "IoU", "learning_rate": "learning rate"}
PANEL_ORDER = ("loss", "scores", "other", "learning rate")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito: safe for the
# colour-blind, and apart from their yellow readable on white
LOG_SPAN = 20  # largest over smallest value from which a linear axis presses the late epochs flat
MARKED_POINTS = 30  # epochs up to which each is also a dot: a line of one point cannot be seen
PNG_SIZE_PX = (1000, 280)  # width, height of a panel; drawn at twice the resolution
KEY = "solid: validation, dotted: training, ring: best epoch"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ margin: 0 auto; max-width: 1200px; padding: 12px; font: 15px/1.45 system-ui, sans-serif; color: #222; }}
h1 {{ font-size: 1.25em; margin: 0 0 4px; overflow-wrap: anywhere; }} p {{ margin: 2px 0; overflow-wrap: anywhere; }}
.graph {{ height: max({height}px, calc(100vh - {reserved}px)); }} .graph > div {{ height: 100%; }}
.key {{ color: #666; }}
</style></head><body><h1>{title}</h1>
{lines}
<p class="key">{key}</p>
<div class="graph">{graph}</div></body></html>
"""


def read_history(path):
    """Read one history.csv as it is now, perhaps in the middle of being written.

    Returns:
        dict of column name -> list of floats, one for each epoch; NaN where a cell is empty or no number. "epoch" is
        always there: as in the file, else counted from 1. Of an epoch that occurs twice, the later row counts.

    Raises:
        FileNotFoundError, ValueError: with the file, what came and the way out.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; train first (python train.py), or name the history.csv to draw")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a history.csv, a text with commas; this is none ({error})") from error
    if len(rows) > 1 and not text.endswith("\n") and not is_whole(rows[-1], rows[0]):
        rows.pop()  # caught in the middle of being written
    if not rows:
        raise ValueError(f"{path}: the file is empty; wait until training has finished its first epoch")
    header = [ALIASES.get(name.strip(), name.strip()) for name in rows.pop(0)]
    known = {name for base in ("loss", "accuracy") for name in (base, f"val_{base}")}
    if not known & set(header):
        found = ", ".join(repr(name[:30]) for name in header[:6])
        raise ValueError(f"{path}: not a training history: no column is called loss or accuracy; the first are {found}")
    if not rows:
        raise ValueError(f"{path}: holds no epoch yet; wait until training has finished its first one")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number} has {len(row)} columns, the header has {len(header)}; mend the row")
    columns = {}
    for name, values in zip(header, zip(*rows, strict=True), strict=True):
        columns.setdefault(name, [to_number(value) for value in values])  # the first, should `acc` repeat `accuracy`
    columns.setdefault("epoch", [float(number) for number in range(1, len(rows) + 1)])
    last = {epoch: row for row, epoch in enumerate(columns["epoch"]) if not math.isnan(epoch)}
    columns = {name: [values[last[epoch]] for epoch in sorted(last)] for name, values in columns.items()}
    drawn = {name: values for name, values in columns.items() if name not in NOT_DRAWN | {"learning_rate"}}
    if all(math.isnan(value) for values in drawn.values() for value in values):
        raise ValueError(f"{path}: holds no number to draw; if training stopped at NaN, its last lines say why")
    return columns


def is_whole(row, header):
    """Whether the last row of a file that ends without a line break has all its numbers."""
    return len(row) == len(header) and all(value.strip() and not math.isnan(to_number(value)) for value in row)


def to_number(value):
    """Float of a cell; NaN for anything that is not a finite number, which a graph leaves out."""
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def best_row(columns):
    """Row of the lowest validation loss (else the lowest loss) and that column's name; None where there is neither."""
    for name in ("val_loss", "loss"):
        rows = [row for row, value in enumerate(columns.get(name, [])) if not math.isnan(value)]
        if rows:
            return min(rows, key=lambda row: columns[name][row]), name
    return None


def summary(name, columns):
    """One line on one training: how long, its best epoch, and the scores there."""
    text = f"{name}: {len(columns['epoch'])} epochs"
    best = best_row(columns)
    if best is None:
        return text
    row, monitored = best
    scores = [monitored] + [column for column in columns if panel_of(column, [columns]) == "scores"]
    if any(column.startswith("val_") for column in scores):
        scores = [column for column in scores if column.startswith("val_")]
    scores = [column for column in scores if not math.isnan(columns[column][row])]
    values = ", ".join(f"{column} {columns[column][row]:.4f}" for column in scores)
    return f"{text}, best {columns['epoch'][row]:.0f}: {values}"


def panel_of(column, histories):
    """In which panel a column belongs: "loss", "scores" (within 0 to 1), "learning rate", "other" or None."""
    base = column.removeprefix("val_")
    values = [value for columns in histories for name in (base, f"val_{base}") for value in columns.get(name, [])]
    values = [value for value in values if not math.isnan(value)]
    if base in NOT_DRAWN or not values:
        return None
    if base == "learning_rate":
        return "learning rate"
    if base == "loss" or base.endswith("_loss"):
        return "loss"
    return "scores" if min(values) >= 0 and max(values) <= 1 else "other"


def draw(histories):
    """The figure: for one training a panel for each kind of number, for several a panel for each number.

    Args:
        histories: dict of name -> columns as `read_history` returns them.

    Returns:
        plotly Figure. All panels share one epoch axis, so that one hover reads all curves at an epoch.
    """
    import plotly.graph_objects as go  # late: --help and messages need not wait for it

    several = len(histories) > 1
    bases = dict.fromkeys(column.removeprefix("val_") for columns in histories.values() for column in columns)
    panel = {base: panel_of(base, list(histories.values())) for base in bases}
    bases = sorted((base for base in bases if panel[base]), key=lambda base: PANEL_ORDER.index(panel[base]))
    titles = {base: LABELS.get(base, base) if several else panel[base] for base in bases}
    panels = {titles[base]: panel[base] for base in bases}
    axes = {title: axis_name("y", index) for index, title in enumerate(panels)}

    figure = go.Figure()
    for number, (name, columns) in enumerate(histories.items()):
        best = best_row(columns)
        for base in bases:
            colour = COLOURS[(number if several else bases.index(base)) % len(COLOURS)]
            label = name if several else LABELS.get(base, base)
            curves = [column for column in (f"val_{base}", base) if has_numbers(columns, column)]
            for curve, column in enumerate(curves):
                solid = curve == 0  # validation, or training where there is no validation
                group = name if several else base
                gaps = any(math.isnan(value) for value in columns[column])
                figure.add_scatter(
                    x=columns["epoch"],
                    y=[None if math.isnan(value) else value for value in columns[column]],
                    yaxis=axes[titles[base]],
                    name=label,
                    legendgroup=group,
                    showlegend=not any(trace.legendgroup == group for trace in figure.data),
                    mode="lines+markers" if gaps or len(columns["epoch"]) <= MARKED_POINTS else "lines",
                    marker={"size": 4},
                    line={"color": colour, "width": 2 if solid else 1.5, "dash": "solid" if solid else "dot"},
                    **hover(f"{label}, {LABELS.get(base, base)}" if several else label, columns, curves, curve),
                )
                if solid and best and base != "learning_rate" and not math.isnan(columns[column][best[0]]):
                    figure.add_scatter(
                        x=[columns["epoch"][best[0]]],
                        y=[columns[column][best[0]]],
                        yaxis=axes[titles[base]],
                        legendgroup=group,
                        showlegend=False,
                        mode="markers",
                        marker={"size": 11, "color": colour, "symbol": "circle-open", "line": {"width": 2.5}},
                        cliponaxis=False,
                        hoverinfo="skip",
                    )
    lay_out(figure, panels)
    if not several:
        mark_best_epoch(figure, next(iter(histories.values())))
    return figure


def has_numbers(columns, column):
    return not all(math.isnan(value) for value in columns.get(column, []))


def hover(label, columns, curves, curve):
    """What the hover box says about one curve; its colour and dash are shown beside it.

    Validation and training share a line, or else the box of three trainings would not fit on a screen. Only where
    validation has gaps, in which it has no line, training has its own.
    """
    label, number = html.escape(label), ".3~g" if curves[curve] == "learning_rate" else ".4f"
    if len(curves) == 1 or any(math.isnan(value) for value in columns[curves[0]]):
        part = " validation" if curves[curve].startswith("val_") else " training"
        part = "" if curves[curve] == "learning_rate" else part
        return {"hovertemplate": f"{label}{part} <b>%{{y:{number}}}</b><extra></extra>"}
    if curve == 1:
        return {"hoverinfo": "skip"}
    training = ["none" if math.isnan(value) else f"{value:.4f}" for value in columns[curves[1]]]
    return {
        "customdata": training,
        "hovertemplate": f"{label} <b>%{{y:{number}}}</b>, training %{{customdata}}<extra></extra>",
    }


def axis_name(letter, index):
    """Plotly counts y, y2, y3."""
    return letter if index == 0 else f"{letter}{index + 1}"


def lay_out(figure, panels):
    """Panels below one another, the learning rate at half height, each value axis fitted to its curves.

    `panels`: dict of title -> kind, as `panel_of` names it.
    """
    weights = [0.5 if kind == "learning rate" and len(panels) > 1 else 1.0 for kind in panels.values()]
    gap = 0.11 / max(1, len(panels) - 1) if len(panels) > 1 else 0
    unit = (1 - gap * (len(panels) - 1)) / sum(weights)
    axes, top = {}, 1.0
    for index, ((title, kind), weight) in enumerate(zip(panels.items(), weights, strict=True)):
        fit = fitted(figure, axis_name("y", index), may_be_log=kind != "scores")
        bottom = max(0.0, top - unit * weight)
        axes[f"yaxis{index + 1}" if index else "yaxis"] = {
            "domain": [bottom, top],
            **fit,
            "automargin": True,
            "tickformat": ".4~g",
            "nticks": 4 if weight < 1 else 8,
            "zeroline": False,
            "linecolor": "#bbb",
            "showline": True,
        }
        figure.add_annotation(
            text=f"<b>{html.escape(title)}</b>{' (log scale)' if fit['type'] == 'log' else ''}",
            x=0,
            xref="paper",
            xanchor="left",
            y=top,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
        )
        top = bottom - gap
    epochs = [epoch for trace in figure.data for epoch in trace.x]
    first, last = min(epochs), max(epochs)
    margin = max(0.3, 0.015 * (last - first))  # so that no ring is cut at the edge
    figure.update_layout(
        template="plotly_white",
        font={"family": "system-ui, Segoe UI, Helvetica, Arial, sans-serif", "size": 13},
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        hovermode="x unified",
        hoversubplots="axis",
        legend={"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"},
        meta={"height": sum(weights)},  # in panels, for those who must choose one in pixels
        xaxis={
            "anchor": axis_name("y", len(panels) - 1),
            "title": {"text": "epoch", "font": {"size": 13}},
            "range": [first - margin, last + margin],
            "automargin": True,
            "hoverformat": "d",
            "tickformat": "d",
            "dtick": 1 if last - first < 10 else None,
            "showline": True,
            "linecolor": "#bbb",
            "zeroline": False,
            "showspikes": True,
            "spikemode": "across",
            "spikethickness": 1,
            "spikedash": "solid",
            "spikecolor": "#999",
        },
        **axes,
    )


def fitted(figure, axis, may_be_log):
    """Scale and range of a value axis: Plotly's own fit, but logarithmic where a linear one would press curves flat."""
    values = [value for trace in figure.data if trace.yaxis == axis for value in trace.y if value is not None]
    low, high = min(values), max(values)
    if low == high:  # Plotly shows 1 on either side, in which a learning rate of 0.001 reads as 0
        return {"type": "linear", "range": sorted([0, 2 * high]) if high else [-1, 1]}
    return {"type": "log" if may_be_log and low > 0 and high > LOG_SPAN * low else "linear"}


def mark_best_epoch(figure, columns):
    """A dashed line through all panels at the epoch whose weights are kept."""
    best = best_row(columns)
    if best is None:
        return
    row, monitored = best
    epoch = columns["epoch"][row]
    late = epoch > (min(columns["epoch"]) + max(columns["epoch"])) / 2
    figure.add_shape(
        type="line",
        x0=epoch,
        x1=epoch,
        xref="x",
        y0=0,
        y1=1,
        yref="paper",
        line={"color": "#777", "dash": "dash", "width": 1},
    )
    figure.add_annotation(
        text=f"best epoch {epoch:.0f}<br>{monitored} {columns[monitored][row]:.4f}",
        x=epoch,
        xref="x",
        xanchor="right" if late else "left",
        align="right" if late else "left",
        y=1,
        yref="paper",
        yanchor="top",
        showarrow=False,
        bgcolor="rgba(255,255,255,0.75)",
        font={"color": "#555"},
    )


def write_html(figure, path, title, lines):
    """One page with plotly.js inside it; the heading is HTML, which wraps on a narrow screen as no plot title does."""
    graph = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        default_height="100%",
        config={
            "responsive": True,
            "displaylogo": False,
            "showSendToCloud": False,  # nothing of this page goes anywhere
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "sendChartToCloud", "sendDataToCloud"],
        },
        # a finger that drags over the graph scrolls the page, as it does everywhere else
        post_script="if (matchMedia('(pointer: coarse)').matches) Plotly.relayout('{plot_id}', {dragmode: false});",
    )
    marks = [f'<span style="color:{COLOURS[number % len(COLOURS)]}">●</span> ' for number in range(len(lines))]
    marks = marks if len(lines) > 1 else [""]  # whose curve is which, without scrolling down to the legend
    lines = "\n".join(f"<p>{mark}{html.escape(line)}</p>" for mark, line in zip(marks, lines, strict=True))
    height = round(110 + 190 * figure.layout.meta["height"])
    page = PAGE.format(title=html.escape(title), lines=lines, key=KEY, graph=graph, height=height, reserved=120)
    replace(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))


def write_png(figure, path, title):
    """Picture of the figure; returns None, or in a few words what is missing and how to get it."""
    try:
        import kaleido  # noqa: F401  plotly's own message is a page long
    except ImportError:
        return "it needs kaleido and a Chrome or Chromium: pip install kaleido, then plotly_get_chrome"
    width, height = PNG_SIZE_PX[0], round(150 + PNG_SIZE_PX[1] * figure.layout.meta["height"])
    picture = type(figure)(figure)
    heading = {"text": f"{html.escape(title)}<br><sub>{KEY}</sub>", "x": 0.01, "y": 1, "yanchor": "top"}
    heading["pad"] = {"t": 26}
    picture.update_layout(title=heading, margin={"t": 90})
    try:
        replace(path, lambda file: picture.write_image(file, format="png", width=width, height=height, scale=2))
    except OSError:
        raise
    except Exception as error:  # kaleido and its browser raise classes of their own, which change with their versions
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"it needs a Chrome or Chromium: install one, or run plotly_get_chrome ({reason})"
    return None


def replace(path, write):
    """Call `write` with a temporary path beside `path`, then put it in place of `path`; nothing is left if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)  # mkstemp makes it readable by its owner alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def run_names(paths):
    """Short names that tell histories apart: the folder's for a history.csv, else the file's, else the whole path."""
    names = [path.resolve().parent.name if path.stem == "history" else path.stem for path in paths]
    return [str(path) if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]


def graph(paths, out):
    """Read the histories, write the page and, where possible, the picture into the folder `out`, and say so."""
    paths = list(dict.fromkeys(paths))
    histories = {name: read_history(path) for name, path in zip(run_names(paths), paths, strict=True)}
    lines = [summary(name, columns) for name, columns in histories.items()]
    print("\n".join(lines))
    figure = draw(histories)
    title = "Training: " + (", ".join(histories) if len(histories) > 1 else str(paths[0]))
    page, picture = out / f"{NAME}.html", out / f"{NAME}.png"
    write_html(figure, page, title, lines)
    missing = write_png(figure, picture, title)
    if missing is None:
        print(f"Wrote {page} and {picture}")
    else:
        older = f"; the {picture} that is there is from an earlier run" if picture.exists() else ""
        print(f"Wrote {page}\nNo {picture.name}: {missing}{older}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "history",
        nargs="*",
        type=Path,
        default=[Path(HISTORY)],
        help=f"history.csv files, or their folders ({HISTORY})",
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the graph (that of the history; the current one for several histories)"
    )
    args = parser.parse_args(argv)
    paths = [path / "history.csv" if path.is_dir() else path for path in args.history]
    out = args.out or (paths[0].parent if len(set(paths)) == 1 else Path())
    try:
        graph(paths, out)
    except (OSError, ValueError) as error:
        print(f"graph.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("graph.py: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
