"""Make one page of a folder of predictions to look at, send on and click through: report.html, which needs no network.

    python report.py                                          # predictions/ + test_raw/ -> predictions/report.html
    python report.py found --images my_images more_images     # the folders that were given to predict.py
    python report.py found --images my_images --evaluation scores/evaluation.json --out for_the_lab.html

The page holds the pictures with their nuclei, a table of images, the measurements, scores where `evaluate.py` has
written them, the training curves, and what the model file says about itself. The images that need a look come first:
those flagged as unlike the training data, then the worst by truth, or, without a truth, the least certain.

Its looks and its behaviour stand in report_page.html; this file collects the contents and packs them.
"""

import argparse
import json
import sys
from pathlib import Path

from nuclei.cli import INPUT_DIR, PREDICTIONS_DIR, user_errors_in_one_line
from nuclei.files import named, replacing
from nuclei.model_file import MODELS, find_model, read_settings
from nuclei.report.inputs import by_attention, certainty_column, find_history, find_pictures, read_evaluation, read_predictions
from nuclei.report.packing import measurements, pack_images, pack_measurements, packed
from nuclei.report.sections import contents, headline, made_section, model_section, plural, scores_section, text
from nuclei.results.curves import KEY, draw_curves
from nuclei.results.history import describe_history, read_history

PAGE = Path(__file__).with_name("nuclei") / "report" / "page.html"
OUT_NAME = "report.html"
GENERATOR = '<meta name="generator" content="report.py">'  # by which a page of ours is known before it is replaced
PAGE_MB = 38  # that a page may weigh, in 10**6 bytes: mail and browsers still take it
# that fits into the space that is left for an image; at 80 nuclei edges show no artefact, below 50 they do
RESERVE_BYTES = 100_000  # of the page for its sections of text
ROW_BYTES = 500  # of the page for an image beside its pictures: table, tags


def block(name, content, kind="text/plain"):
    """Content that the browser keeps as text until the page asks for it; base64 holds no `<`."""
    return f'<script type="{kind}" id="{name}">{content}</script>\n'


def fill_template(template, parts):
    """Put each part in place of its %%NAME%%; all are searched in the template, none inside another part."""
    pieces = template.split("%%")
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def refuse_foreign(out):
    """Raise ValueError where `out` is a file that is not an earlier page of ours."""
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name the page to write: --out {out / OUT_NAME}")
    if out.exists() and GENERATOR not in out.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise ValueError(f"{out} is there and was not written by report.py; give another name: --out FILE")


def write_report(folder, folders, model_path, history_path, evaluation_path, out, command):
    """Collect everything, write the page, and return (number of images, of nuclei, size in bytes, stems without picture)."""
    from plotly.offline import get_plotlyjs  # late: --help need not wait for it

    rows, nuclei = read_predictions(folder)
    record, note = read_evaluation(evaluation_path, rows) if evaluation_path else (None, "")
    if note:
        print(note, file=sys.stderr)
    scores = {image["stem"]: image for image in record["images"]} if record else {}
    rows, order = by_attention(rows, nuclei, scores)
    settings = read_settings(model_path)
    curves, training = None, "<p>No history.csv lies beside the model; name it with --history.</p>"
    if history_path:
        columns = read_history(history_path)
        figure = draw_curves({model_path.stem: columns})
        curves = json.loads(figure.to_json())
        height = round(110 + 190 * figure.layout.meta["height"])
        training = (
            f"<p>{text(describe_history(str(history_path), columns))}</p><p class='quiet'>{text(KEY)}</p>"
            f'<div id="training-plot" class="plot" style="height:{height}px" role="img" '
            'aria-label="Training curves by epoch"></div>'
        )
    pictures = find_pictures(rows, folders)
    missing = [row["image"] for row in rows if row["image"] not in pictures]

    template = PAGE.read_text(encoding="utf-8")
    plotly = packed(get_plotlyjs().encode("utf-8"))
    measures, left_out = pack_measurements(measurements(nuclei, rows))
    weight = len(plotly) + sum(map(len, measures.values())) + len(template) + ROW_BYTES * len(rows) + RESERVE_BYTES
    space = PAGE_MB * 10**6 - weight
    images = pack_images(folder, rows, pictures, space)
    everything = contents(rows, measures, certainty_column(nuclei), scores, images, order, curves)
    first = everything["first_measures"]
    shown = [
        block(f"picture-{number}", image["picture"]) + block(f"labels-{number}", image["labels"])
        for number, image in enumerate(images)
    ]
    parts = {
        "GENERATOR": GENERATOR,
        "TITLE": text(f"Nuclei in {plural(len(rows), 'image')}"),
        "SUBTITLE": text(f"{folder.resolve().name}, found by {model_path.name}"),
        "HEADLINE": headline(rows, record),
        "SCORES": scores_section(record, note),
        "TRAINING": training,
        "MODEL": model_section(settings, model_path, rows),
        "MADE": made_section(rows, folder, folders, model_path, missing, left_out, command),
        "FIRST": block("data", packed(json.dumps(everything).encode("utf-8")))
        + "".join(shown[:1] + [block(f"measure-{name}", measures[name]) for name in first])
        + block("plotly", plotly),
        "LATER": "".join(shown[1:] + [block(f"measure-{name}", measures[name]) for name in measures if name not in first]),
    }
    page = fill_template(template, parts).encode("utf-8")
    with replacing(out) as temporary:
        temporary.write_bytes(page)
    return len(rows), sum(int(row["nuclei"]) for row in rows), len(page), missing


@user_errors_in_one_line
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("predictions", nargs="?", default=PREDICTIONS_DIR, type=Path, help="folder that predict.py wrote (%(default)s)")
    add("--images", nargs="+", default=[Path(INPUT_DIR)], type=Path, metavar="DIR",
        help=f"folders with the images that were predicted ({INPUT_DIR})")  # fmt: skip
    add("--model", type=Path, metavar="FILE", help=f"the model used ({MODELS[0]}, or else {MODELS[1]})")
    add("--history", type=Path, metavar="FILE", help="its training history (the one that lies beside the model)")
    add("--evaluation", type=Path, metavar="FILE", help="scores by evaluate.py (PREDICTIONS/evaluation.json, if there)")
    add("--out", type=Path, metavar="FILE", help=f"the page to write (PREDICTIONS/{OUT_NAME})")
    args = parser.parse_args(argv)

    out = args.out or args.predictions / OUT_NAME
    refuse_foreign(out)
    model_path = find_model(args.model)
    evaluation = args.evaluation
    if evaluation is None:
        usual = args.predictions / "evaluation.json"
        evaluation = usual if usual.is_file() else None
    elif evaluation.is_dir():
        evaluation /= "evaluation.json"
    words = [Path(__file__).name, *map(str, sys.argv[1:] if argv is None else argv)]
    num_images, num_nuclei, size, missing = write_report(
        folder=args.predictions,
        folders=list(dict.fromkeys(args.images)),
        model_path=model_path,
        history_path=args.history or find_history(model_path),
        evaluation_path=evaluation,
        out=out,
        command=" ".join(["python", *words]),
    )
    if missing:
        print(f"{plural(len(missing), 'image')} shown without a picture, not found: {named(missing)}", file=sys.stderr)
    print(f"Wrote {out}: {plural(num_images, 'image')}, {num_nuclei:,} nuclei, {size / 1e6:.1f} MB. Open it in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
