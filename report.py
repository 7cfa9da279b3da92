"""Make one page of a folder of predictions: report.html, to look at and to send on.

    python report.py                                       # predictions/ and its images
    python report.py found --images my_images more_images  # images that have moved since
    python report.py found --evaluation scores/evaluation.json --out page.html
    python report.py found --groups groups.csv             # compares groups: columns stem and group

The page needs no network. It shows the images with their nuclei, a table of images, the
measurements, the training curves, and what the model file says about itself; scores too where
`evaluate.py` has written them. Images that need a look come first: those out of distribution, then
those with the lowest scores, or without a truth those with the least certain nuclei. Images of
several folders, such as treated/ and control/, are compared. Slides are shown as an overview, with
some fields at full size.
"""

from nuclei.stopping import stop_while_importing

if __name__ == "__main__":
    stop_while_importing()

import sys
from itertools import chain
from pathlib import Path

from nuclei.cli import (
    MODEL_HELP,
    PREDICTIONS_DIR,
    add_overwrite_flag,
    add_quiet_flag,
    command_line,
    user_errors_in_one_line,
)
from nuclei.files import named, plural, replacing
from nuclei.model_file import find_model, read_settings
from nuclei.progress import quietly
from nuclei.report.inputs import Evaluation, PageInputs, by_attention, find_history, read_evaluation
from nuclei.report.page import build_page
from nuclei.report.places import find_pictures, image_folders, model_used
from nuclei.report.predictions import IMAGE, read_predictions, slide_pictures
from nuclei.results.groups import groups_by_folder, groups_of
from nuclei.written import recording

OUT_NAME = "report.html"
PAGE_SUFFIXES = (".html", ".htm")
EVALUATION_NAME = "evaluation.json"


def find_evaluation(given, folder):
    """The evaluation.json to show: the given file or folder, else the one in `folder`, or None."""
    if given:
        return given / EVALUATION_NAME if given.is_dir() else given
    usual = folder / EVALUATION_NAME
    return usual if usual.is_file() else None


def find_groups(args, predictions, pictures):
    """The groups to compare: those of --groups, else the folders of the images.

    Args:
        args: of the command line.
        predictions: Predictions.
        pictures: {stem: path of the image}.

    Returns:
        {stem: group}; empty without groups.

    Raises:
        FileNotFoundError, ValueError: as `groups_of`.
    """
    if args.groups is None:
        rows = [row for row in predictions.rows if row["part"] == IMAGE]
        stems = [row["image"] for row in rows if row["image"] in pictures]
        return groups_by_folder({stem: pictures[stem] for stem in stems})
    stems = [row["image"] for row in predictions.rows]
    return groups_of(stems, args.groups, args.group_column)


def collect(args, command):
    """Read and check what the page is made of.

    Args:
        args: of the command line.
        command: the command that makes the page.

    Returns:
        PageInputs.
    """
    predictions = read_predictions(args.predictions)
    model_path = find_model(args.model or model_used(predictions))
    evaluation_path = find_evaluation(args.evaluation, args.predictions)
    evaluation = Evaluation()
    if evaluation_path:
        evaluation = read_evaluation(evaluation_path, predictions.rows)
    predictions, order = by_attention(predictions, evaluation.by_stem)
    images = [row for row in predictions.rows if row["part"] == IMAGE]
    folders = image_folders(predictions.folder, images)
    if args.images:
        folders = dict.fromkeys(folders, list(dict.fromkeys(args.images)))
    pictures = find_pictures(images, folders) if images else {}
    pictures |= slide_pictures(predictions.rows)
    return PageInputs(
        predictions=predictions,
        order=order,
        evaluation=evaluation,
        settings=read_settings(model_path),
        model_path=model_path,
        history_path=args.history or find_history(model_path),
        image_folders=list(dict.fromkeys(chain.from_iterable(folders.values()))),
        pictures=pictures,
        groups=find_groups(args, predictions, pictures),
        command=command,
    )


def parse_arguments(argv):
    """Read the command line. A usage error ends the program with status 2."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add(
        "predictions",
        nargs="?",
        default=PREDICTIONS_DIR,
        type=Path,
        help="folder that predict.py wrote (default %(default)s)",
    )
    add(
        "--images",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders with the images that were predicted (default: where predict.py read them)",
    )
    add(
        "--model",
        type=Path,
        metavar="MODEL",
        help=f"the model used: {MODEL_HELP} (default: the one that predict.py used)",
    )
    add(
        "--history",
        type=Path,
        metavar="FILE",
        help="its training history (default: the one beside it)",
    )
    add(
        "--evaluation",
        type=Path,
        metavar="FILE",
        help=f"scores of evaluate.py (default PREDICTIONS/{EVALUATION_NAME}, if it exists)",
    )
    add(
        "--groups",
        type=Path,
        metavar="CSV",
        help="table with a column stem or image: compare its groups (default: the folders of "
        "the images, where there are several)",
    )
    add(
        "--group-column",
        metavar="NAME",
        help="column of --groups that names the group (default: group, else modality)",
    )
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"the page to write (default PREDICTIONS/{OUT_NAME})",
    )
    add_overwrite_flag(add)
    add_quiet_flag(parser)
    return parser.parse_args(argv)


def write_report(args, command):
    """Write the page. Args: as of `collect`."""
    out = args.out or args.predictions / OUT_NAME
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name the page to write: --out {out / OUT_NAME}")
    if out.suffix.lower() not in PAGE_SUFFIXES:  # so that no input can be its target
        raise ValueError(
            f"{out} is no name of a page; expected one that ends in .html: --out NAME.html"
        )
    with recording(out.parent, args.overwrite) as record:
        record.require(out)  # before the work
        inputs = collect(args, command)
        page = build_page(inputs).encode("utf-8")
        with replacing(out) as temporary:
            temporary.write_bytes(page)
    if inputs.evaluation.note:
        print(inputs.evaluation.note, file=sys.stderr)
    if missing := inputs.missing:
        images = plural(len(missing), "image")
        print(f"{images} shown without a picture, not found: {named(missing)}", file=sys.stderr)
    images = plural(inputs.predictions.num_images, "image")
    nuclei = plural(inputs.predictions.num_nuclei, "nucleus", "nuclei")
    print(f"Wrote {out}: {images}, {nuclei}, {len(page) / 1e6:.1f} MB. Open it in a browser.")


@user_errors_in_one_line
def main(argv=None):
    """Write the page and return the exit status."""
    args = parse_arguments(argv)
    words = ["python", Path(__file__).name, *map(str, sys.argv[1:] if argv is None else argv)]
    with quietly(args.quiet):
        write_report(args, " ".join(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
