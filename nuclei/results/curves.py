"""Training curves: histories as one Plotly figure, for `graph.py` and for the page of `report.py`.

    figure = draw_curves({"first": read_history(path), "second": read_history(other)})

One training gets a panel for each kind of number (loss, scores, learning rate), several trainings
get a panel for each number. Validation is a solid line, training a dotted one, and a ring marks the
best epoch. All panels share one axis of epochs, so that one hover box reads all curves.
"""

import html
import math
from typing import NamedTuple

from nuclei.results.history import best_row, has_numbers, panel_of

LABELS = {
    "accuracy": "pixel accuracy",
    "dice": "Dice",
    "iou": "IoU",
    "learning_rate": "learning rate",
}
PANEL_ORDER = ("loss", "scores", "other", "learning rate")  # from top to bottom
# Okabe and Ito: colour-blind people tell them apart. Their yellow is left out: unreadable on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LOG_SPAN = 20  # largest over smallest value from which a linear axis would flatten the late epochs
MARKED_POINTS = 30  # epochs up to which each is also a dot: a line of one point cannot be seen
GAP = 0.11  # of the height, for the titles between all panels together
RANGE_MARGIN = 0.015  # of the range of epochs, free on either side, so that no ring is cut
KEY = "solid: validation, dotted: training, ring: best epoch"


class Panel(NamedTuple):
    """One panel: its title, its kind as `panel_of` names it, and the columns drawn in it."""

    title: str
    kind: str
    bases: list  # names of columns without `val_`

    @property
    def weight(self):
        """Height as a share of a full panel."""
        return 0.5 if self.kind == "learning rate" else 1.0


class Style(NamedTuple):
    """How the curves of one column of one training look."""

    label: str  # in the legend
    group: str  # curves that the legend switches together
    colour: str
    axis: str  # of the panel: "y", "y2", ...


def draw_curves(histories):
    """Draw the curves of one or several trainings.

    Args:
        histories: dict of name -> columns as `read_history` returns them.

    Returns:
        plotly Figure.
    """
    import plotly.graph_objects as go  # late: --help need not wait for it

    several = len(histories) > 1
    panels = arrange_panels(histories)
    axes = [axis_name("y", index) for index in range(len(panels))]
    places = [
        (base, axis) for panel, axis in zip(panels, axes, strict=True) for base in panel.bases
    ]
    figure = go.Figure()
    for number, (name, columns) in enumerate(histories.items()):
        for index, (base, axis) in enumerate(places):
            colour = COLOURS[(number if several else index) % len(COLOURS)]
            label = LABELS.get(base, base)
            style = Style(name if several else label, name if several else base, colour, axis)
            add_curves(figure, columns, base, style, f"{name}, {label}" if several else label)
    lay_out(figure, panels, axes)
    if not several:
        mark_best_epoch(figure, next(iter(histories.values())))
    return figure


def height_px(figure, panel_px=190, margins_px=110):
    """Height at which a figure of `draw_curves` is readable, in CSS pixels."""
    return round(margins_px + panel_px * figure.layout.meta["height"])


def arrange_panels(histories):
    """The panels from top to bottom, a list of Panel."""
    all_columns = list(histories.values())
    bases = dict.fromkeys(name.removeprefix("val_") for columns in all_columns for name in columns)
    kinds = {base: panel_of(base, all_columns) for base in bases}
    panels = {}
    for kind in PANEL_ORDER:
        for base in bases:
            if kinds[base] == kind:
                title = LABELS.get(base, base) if len(histories) > 1 else kind
                panels.setdefault(title, Panel(title, kind, [])).bases.append(base)
    return list(panels.values())


def add_curves(figure, columns, base, style, hover_label):
    """Add the validation and the training curve of one column, and the ring of the best epoch."""
    names = [name for name in (f"val_{base}", base) if has_numbers(columns, name)]
    for index, name in enumerate(names):
        # Solid is validation, or training where there is no validation.
        line = {"width": 1.5, "dash": "dot"} if index else {"width": 2, "dash": "solid"}
        has_gaps = any(math.isnan(value) for value in columns[name])
        has_dots = has_gaps or len(columns["epoch"]) <= MARKED_POINTS
        figure.add_scatter(
            x=columns["epoch"],
            y=[None if math.isnan(value) else value for value in columns[name]],
            yaxis=style.axis,
            name=style.label,
            legendgroup=style.group,
            showlegend=not any(trace.legendgroup == style.group for trace in figure.data),
            mode="lines+markers" if has_dots else "lines",
            marker={"size": 4},
            line={"color": style.colour, **line},
            **hover(hover_label, columns, names, index),
        )
    best = best_row(columns)
    if not names or not best or base == "learning_rate" or math.isnan(columns[names[0]][best[0]]):
        return
    figure.add_scatter(
        x=[columns["epoch"][best[0]]],
        y=[columns[names[0]][best[0]]],
        yaxis=style.axis,
        legendgroup=style.group,
        showlegend=False,
        mode="markers",
        marker={
            "size": 11,
            "color": style.colour,
            "symbol": "circle-open",
            "line": {"width": 2.5},
        },
        cliponaxis=False,
        hoverinfo="skip",
    )


def hover(label, columns, names, index):
    """What the hover box says about curve `index` of `names`, as arguments of `add_scatter`.

    Validation and training share a line: the box of three trainings would not fit on a screen
    otherwise. Where validation has gaps, it has no line at some epochs, and training gets its own.
    """
    label, form = html.escape(label), ".3~g" if names[index] == "learning_rate" else ".4f"
    if len(names) == 1 or any(math.isnan(value) for value in columns[names[0]]):
        part = " validation" if names[index].startswith("val_") else " training"
        part = "" if names[index] == "learning_rate" else part
        return {"hovertemplate": f"{label}{part} <b>%{{y:{form}}}</b><extra></extra>"}
    if index == 1:
        return {"hoverinfo": "skip"}
    return {
        "customdata": [
            "none" if math.isnan(value) else f"{value:.4f}" for value in columns[names[1]]
        ],
        "hovertemplate": f"{label} <b>%{{y:{form}}}</b>, training %{{customdata}}<extra></extra>",
    }


def axis_name(letter, index):
    """Plotly counts its axes y, y2, y3."""
    return letter if index == 0 else f"{letter}{index + 1}"


def lay_out(figure, panels, axes):
    """Put the panels below one another and fit each value axis to its curves."""
    weights = [panel.weight if len(panels) > 1 else 1.0 for panel in panels]
    gap = GAP / max(1, len(panels) - 1)
    full_height = (1 - gap * (len(panels) - 1)) / sum(weights)
    top = 1.0
    for panel, axis, weight in zip(panels, axes, weights, strict=True):
        bottom = max(0.0, top - full_height * weight)
        fit = fitted(figure, axis, may_be_log=panel.kind != "scores")
        settings = {"domain": [bottom, top], "nticks": 4 if weight < 1 else 8, **fit}
        figure.update_layout({axis.replace("y", "yaxis"): settings})
        scale = " (log scale)" if fit["type"] == "log" else ""
        figure.add_annotation(
            text=f"<b>{html.escape(panel.title)}</b>{scale}",
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
    margin = max(0.3, RANGE_MARGIN * (last - first))
    figure.update_layout(
        template="plotly_white",
        font={"family": "system-ui, Segoe UI, Helvetica, Arial, sans-serif", "size": 13},
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        hovermode="x unified",
        hoversubplots="axis",
        legend={"orientation": "h", "x": 0, "y": 0, "yanchor": "bottom", "yref": "container"},
        meta={"height": sum(weights)},  # in panels, see `height_px`
    )
    figure.update_xaxes(
        anchor=axes[-1],
        title={"text": "epoch", "font": {"size": 13}},
        range=[first - margin, last + margin],
        hoverformat="d",
        tickformat="d",
        dtick=1 if last - first < 10 else None,
        showspikes=True,
        spikemode="across",
        spikethickness=1,
        spikedash="solid",
        spikecolor="#999",
    )
    figure.update_yaxes(tickformat=".4~g")
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(automargin=True, showline=True, linecolor="#bbb", zeroline=False)


def fitted(figure, axis, may_be_log):
    """Type and range of a value axis: logarithmic where a linear one would flatten the curves."""
    traces = [trace for trace in figure.data if trace.yaxis == axis]
    values = [value for trace in traces for value in trace.y if value is not None]
    low, high = min(values), max(values)
    if low == high:  # Plotly shows 1 on either side, where a learning rate of 0.001 reads as 0
        return {"type": "linear", "range": sorted([0, 2 * high]) if high else [-1, 1]}
    return {"type": "log" if may_be_log and low > 0 and high > LOG_SPAN * low else "linear"}


def mark_best_epoch(figure, columns):
    """Draw a dashed line through all panels at the best epoch, with its number beside it."""
    best = best_row(columns)
    if best is None:
        return
    row, monitored = best
    epoch = columns["epoch"][row]
    is_late = epoch > (min(columns["epoch"]) + max(columns["epoch"])) / 2
    side = "right" if is_late else "left"  # so that the text stays inside the panel
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
        xanchor=side,
        align=side,
        y=1,
        yref="paper",
        yanchor="top",
        showarrow=False,
        bgcolor="rgba(255,255,255,0.75)",
        font={"color": "#555"},
    )
