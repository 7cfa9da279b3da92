"""The page of training curves, Training_Graph.html, which graph.py and train.py write.

figure, lines = write_graph_page("Training_Graph.html", "Training", {"first": columns})
"""

import html

from nuclei.results.curves import COLOURS, KEY, draw_curves, height_px
from nuclei.results.history import describe_history
from nuclei.results.plot_page import Plot, write_plot_page

GRAPH_NAME = "Training_Graph"
RESERVED_PX = 120  # height of the lines above the graph, which fills the rest of the window


def write_graph_page(path, title, histories):
    """Write the page: one line about each training, then the curves.

    Args:
        path: of the page.
        title: its heading.
        histories: dict of name -> columns as `read_history` returns them.

    Returns:
        (figure, lines): the Plotly figure, and a line about each training.
    """
    lines = [describe_history(name, columns) for name, columns in histories.items()]
    figure = draw_curves(histories)
    marks = [""]
    if len(lines) > 1:  # coloured dots tell the curves apart without the legend below
        colours = [COLOURS[number % len(COLOURS)] for number in range(len(lines))]
        marks = [f'<span style="color:{colour}">●</span> ' for colour in colours]
    texts = [f"<p>{mark}{html.escape(line)}</p>" for mark, line in zip(marks, lines, strict=True)]
    plot = Plot(figure, height_px(figure), reserved_px=RESERVED_PX)
    write_plot_page(path, title, [*texts, f'<p class="key">{KEY}</p>'], [plot])
    return figure, lines
