"""Draw how a training went: history.csv -> Training_Graph.html (needs no network) and .png.

    python graph.py                               # Saved_Model/history.csv -> Saved_Model/
    python graph.py runs/a                        # the training that train.py --out runs/a left
    python graph.py A/history.csv B/history.csv   # several trainings in one graph, in this folder
    python graph.py runs/7/history.csv --out figures

You can run it while training goes on. The best epoch is the one with the lowest validation loss.
train.py keeps its weights, or the mean of the last epochs where that finds more nuclei.
"""

from nuclei.stopping import stop_while_importing

if __name__ == "__main__":
    stop_while_importing()

import html
import sys
from pathlib import Path

from nuclei.cli import add_overwrite_flag, add_quiet_flag, command_line, user_errors_in_one_line
from nuclei.files import first_line, replacing
from nuclei.progress import quietly
from nuclei.results.curves import KEY, height_px
from nuclei.results.graph_page import GRAPH_NAME, write_graph_page
from nuclei.results.history import HISTORY, SHIPPED_HISTORY, read_history
from nuclei.written import recording

PNG_WIDTH_PX = 1000  # at twice the resolution
PNG_PANEL_PX = 280  # height of a panel


def write_png(figure, path, title):
    """Write a picture of the figure.

    Returns:
        None, or in a few words what is missing and how to get it.
    """
    try:
        import kaleido  # noqa: F401  plotly's own message is a page long
    except ImportError:
        return "it needs kaleido and a Chrome or Chromium: pip install kaleido, plotly_get_chrome"
    picture = type(figure)(figure)
    heading = {"text": f"{html.escape(title)}<br><sub>{KEY}</sub>", "pad": {"t": 26}}
    heading |= {"x": 0.01, "y": 1, "yanchor": "top"}
    picture.update_layout(title=heading, margin={"t": 90})
    size = {"width": PNG_WIDTH_PX, "height": height_px(figure, PNG_PANEL_PX, margins_px=150)}
    try:
        with replacing(path) as temporary:
            picture.write_image(temporary, format="png", scale=2, **size)
    except OSError:
        raise
    except Exception as error:  # kaleido and its browser raise classes of their own
        return (
            "it needs a Chrome or Chromium: install one, or run plotly_get_chrome "
            f"({first_line(error)})"
        )
    return None


def run_names(paths):
    """Short names that tell histories apart.

    A history.csv is named after its folder, another file after itself. Where two names are equal,
    both are whole paths.
    """
    names = [path.resolve().parent.name if path.stem == "history" else path.stem for path in paths]
    return [
        str(path) if names.count(name) > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]


def draw_graph(paths, out, record):
    """Read the histories; write the page and, where possible, the picture.

    Args:
        paths: of the histories.
        out: the folder to write to.
        record: its `Record`.
    """
    names = run_names(paths)
    histories = {name: read_history(path) for name, path in zip(names, paths, strict=True)}
    title = "Training: " + (", ".join(histories) if len(histories) > 1 else str(paths[0]))
    page, picture = out / f"{GRAPH_NAME}.html", out / f"{GRAPH_NAME}.png"
    for path in (page, picture):
        record.require(path)
    figure, lines = write_graph_page(page, title, histories)
    print("\n".join(lines))
    missing = write_png(figure, picture, title)
    if missing is None:
        print(f"Wrote {page} and {picture}")
    else:
        older = f"; the existing {picture} is from an earlier run" if picture.exists() else ""
        print(f"Wrote {page}\nNo {picture.name}: {missing}{older}")


@user_errors_in_one_line
def main(argv=None):
    """Draw one or several histories and return the exit status."""
    parser = command_line(__doc__)
    parser.add_argument(
        "history",
        nargs="*",
        type=Path,
        help=f"history.csv files, or the folders that hold them (default {HISTORY}, or else that "
        "of the shipped weights)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the graph (default: that of the history; for several, the current one)",
    )
    add_overwrite_flag(parser.add_argument)
    add_quiet_flag(parser)
    args = parser.parse_args(argv)
    existing = [path for path in map(Path, (HISTORY, SHIPPED_HISTORY)) if path.exists()]
    given = args.history or existing[:1] or [Path(HISTORY)]
    paths = [path / "history.csv" if path.is_dir() else path for path in given]
    paths = list(dict.fromkeys(paths))
    out = args.out or (paths[0].parent if len(paths) == 1 else Path())
    with quietly(args.quiet), recording(out, args.overwrite, paths) as record:
        draw_graph(paths, out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
