"""nuclei.results.curves"""

import html
import math

from nuclei.results.history import best_row, panel_of

LABELS = {"accuracy": "pixel accuracy", "dice": "Dice", "iou": "IoU", "learning_rate": "learning rate"}
PANEL_ORDER = ("loss", "scores", "other", "learning rate")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito: safe for the
# colour-blind, and apart from their yellow readable on white
LOG_SPAN = 20  # largest over smallest value from which a linear axis presses the late epochs flat
MARKED_POINTS = 30  # epochs up to which each is also a dot: a line of one point cannot be seen
KEY = "solid: validation, dotted: training, ring: best epoch"


def draw_curves(histories):
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
