"""A page of Plotly figures as one file: it needs no network, and fits phones and dark screens.

    plots = [Plot(figure, height_px=400)]
    write_plot_page("graph.html", "Training", ["<p>112 epochs</p>"], plots)

The headings are HTML, which wraps on a narrow screen; titles inside a figure do not.
"""

import html
from pathlib import Path
from typing import NamedTuple

from nuclei.files import replacing

TEMPLATE = Path(__file__).with_name("plot_page.html")
CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,  # the page sends nothing anywhere
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "sendChartToCloud"],
}


class Plot(NamedTuple):
    """One figure of a page.

    Attributes:
        figure: of Plotly.
        height_px: its least height, in CSS pixels.
        title: above it, or "".
        reserved_px: height of the rest of the page, where the figure is to fill the window; None
            leaves it at its least height.
    """

    figure: object
    height_px: int
    title: str = ""
    reserved_px: int | None = None


def write_plot_page(path, title, lines, plots):
    """Write one page with plotly.js inside.

    Args:
        path: of the page.
        title: its heading, any text.
        lines: HTML below the heading.
        plots: a list of `Plot`; they stand side by side where there is room.
    """
    figures = [figure_html(plot, with_plotly=number == 0) for number, plot in enumerate(plots)]
    parts = {
        "TITLE": html.escape(title),
        "LINES": "\n".join(lines),
        "PLOTS": f'<div class="plots">{"".join(figures)}</div>',
    }
    pieces = TEMPLATE.read_text(encoding="utf-8").split("%%")
    page = "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def figure_html(plot, with_plotly):
    """One figure with its title as HTML; the first one of a page brings plotly.js."""
    content = plot.figure.to_html(
        full_html=False, include_plotlyjs=with_plotly, default_height="100%", config=CONFIG
    )
    height = f"{plot.height_px}px"
    if plot.reserved_px is not None:
        height = f"max({height}, calc(100vh - {plot.reserved_px}px))"
    title = f"<h2>{html.escape(plot.title)}</h2>" if plot.title else ""
    return f'<section>{title}<div class="plot" style="height: {height}">{content}</div></section>\n'
