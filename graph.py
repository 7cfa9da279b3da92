"""Draw how a training went: history.csv -> Training_Graph.html (interactive, needs no network) and Training_Graph.png.

    python graph.py                                 # Saved_Model/history.csv -> Saved_Model/Training_Graph.html, .png
    python graph.py A/history.csv B/history.csv     # several trainings in one graph, in the current folder
    python graph.py runs/7/history.csv --out figures

It may run while training goes on. Columns are found by name, in any order, and those of older files (`acc`, `lr`, an
unnamed row number) are known. The best epoch is that of the lowest validation loss; train.py keeps it, or the mean of the
last epochs where that finds more nuclei.
"""

import argparse
import html
import os
import sys
import tempfile
from pathlib import Path

from nuclei.results.curves import COLOURS, KEY, draw_curves
from nuclei.results.history import HISTORY, describe_history, read_history

NAME = "Training_Graph"
PNG_SIZE_PX = (1000, 280)  # width, height of a panel; drawn at twice the resolution
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
    lines = [describe_history(name, columns) for name, columns in histories.items()]
    print("\n".join(lines))
    figure = draw_curves(histories)
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
