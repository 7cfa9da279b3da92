"""Score predicted nuclei against the truth: pixels, objects, and how certain the numbers are.

    python evaluate.py                                    # predictions/ against data/test_gt/
    python evaluate.py PRED TRUTH                         # two folders of masks with equal stems
    python evaluate.py --groups predictions/summary.csv   # and for each modality
    python evaluate.py PRED TRUTH --split split.csv --subset validation

PRED and TRUTH hold masks in any form that `import_data.py` reads: binary, instance labels, one
colour per nucleus. PRED may be a folder that predict.py wrote: its `labels/` are then scored. The
nuclei of a binary mask are its connected components, so touching nuclei count as one.

Writes `evaluation.csv` (one row per image, worst first) and `evaluation.json` (everything, with the
definitions) into PRED or the folder given by --out. An earlier evaluation there is replaced, a file
of yours is not. A pair that cannot be read is named and left out; the exit status is then 1.
"""

from nuclei.stopping import stop_while_importing

if __name__ == "__main__":
    stop_while_importing()

import sys
from pathlib import Path

from nuclei.cli import (
    PREDICTIONS_DIR,
    TRUTH_DIR,
    add_ignore_flag,
    add_overwrite_flag,
    add_quiet_flag,
    command_line,
    user_errors_in_one_line,
    whole,
)
from nuclei.datasets.split import read_split
from nuclei.files import named, plural
from nuclei.progress import quietly
from nuclei.results.comparison import compare_pairs, pair_masks, score_confidence
from nuclei.results.evaluation import (
    evaluation_files,
    print_calibration,
    print_scores,
    write_evaluation,
)
from nuclei.results.groups import groups_of
from nuclei.scores import DEFINITIONS, NO_GROUP, image_rows, summarise
from nuclei.written import recording

NUM_WORST = 5  # images named below the table


def mask_folder(folder):
    """`folder`/labels where predict.py wrote `folder`, else the folder itself."""
    labels = Path(folder) / "labels"
    return labels if labels.is_dir() else Path(folder)


def stems_of_subset(split_csv, subset):
    """The stems whose part in a split is `subset`.

    Raises:
        FileNotFoundError, ValueError: as `read_split`; ValueError also without any image.
    """
    split = read_split(split_csv)
    stems = {stem for stem, part in split.items() if part == subset}
    if not stems:
        raise ValueError(
            f"{split_csv}: no image is {subset!r}; the file has "
            f"{', '.join(sorted(set(split.values())))}. Choose one of them with --subset."
        )
    return stems


def make_parser():
    """The command line."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add(
        "predictions",
        nargs="?",
        default=PREDICTIONS_DIR,
        metavar="PRED",
        help="folder of predicted masks, or the folder that predict.py wrote (default %(default)s)",
    )
    add(
        "truth",
        nargs="?",
        default=TRUTH_DIR,
        metavar="TRUTH",
        help="folder of true masks with the same stems (default %(default)s)",
    )
    add = parser.add_argument_group("which images").add_argument
    add(
        "--split",
        metavar="CSV",
        help="table with the columns stem and split: score one subset (default: all images)",
    )
    add(
        "--subset",
        default="validation",
        metavar="PART",
        help="value of the column split to score (default %(default)s; counts only with --split)",
    )
    add(
        "--allow-missing",
        action="store_true",
        help="leave out images whose prediction is missing (default: stop) or unreadable (default: "
        "exit status 1)",
    )
    add_ignore_flag(add)
    add = parser.add_argument_group("results").add_argument
    add(
        "--groups",
        metavar="CSV",
        help="table with a column stem or image: score each group, too (default: no groups)",
    )
    add(
        "--group-column",
        metavar="NAME",
        help="column of --groups that names the group (default: group, else modality)",
    )
    add(
        "--worst",
        type=whole,
        default=NUM_WORST,
        metavar="N",
        help="how many of the worst images to print (default %(default)s)",
    )
    add("--out", metavar="DIR", help="folder for evaluation.csv and .json (default: PRED)")
    add_overwrite_flag(add)
    add_quiet_flag(parser)
    return parser


def evaluate(args):
    """Score a folder of predictions, print the scores and write them. Returns the exit status."""
    out = args.out or args.predictions
    with recording(out, args.overwrite, filter(None, (args.groups, args.split))) as record:
        for path in evaluation_files(out):
            record.require(path)  # before the work
        scores, calibration, unreadable = score(args)
        print_scores(scores["all"], scores["groups"], scores["images"], args.worst)
        if calibration:
            print_calibration(*calibration)
        print("".join(note + "\n" for note in scores["notes"]), end="")
        paths = write_evaluation(out, scores)
    print(f"Wrote {paths[0]} and {paths[1]}.")
    if unreadable and not args.allow_missing:
        count = plural(len(unreadable), "pair")
        print(f"evaluate.py: {count} could not be compared: skipped", file=sys.stderr)
        return 1
    return 0


def score(args):
    """Compare all pairs of masks.

    Returns:
        (record for `write_evaluation`, (calibration error, bins) or None, a line for each pair that
        cannot be compared).
    """
    stems = stems_of_subset(args.split, args.subset) if args.split else None
    predicted_dir, truth_dir = mask_folder(args.predictions), mask_folder(args.truth)
    pairs, notes = pair_masks(predicted_dir, truth_dir, stems, args.allow_missing)
    groups = groups_of(pairs, args.groups, args.group_column) if args.groups else {}
    comparisons, more_notes, unreadable = compare_pairs(pairs, args.ignore or ())

    sums = {stem: comparison.sums for stem, comparison in comparisons.items()}
    members = {}
    for stem in sums if args.groups else ():
        members.setdefault(groups.get(stem, NO_GROUP), []).append(sums[stem])
    if args.groups and (left := sorted(sums.keys() - groups.keys())):
        images = f"{len(left)} of {plural(len(sums), 'image')}"
        more_notes.append(f"No group in {args.groups} for {images}: {named(left)}.")
    record = {
        "predictions": str(predicted_dir),
        "truth": str(truth_dir),
        "subset": {"split": args.split, "value": args.subset} if args.split else None,
        "notes": notes + more_notes,
        "definitions": DEFINITIONS,
        "all": summarise(list(sums.values())),
        "groups": {name: summarise(members[name]) for name in sorted(members)},
        "images": [
            row | {"num_in_file": len(comparisons[row["stem"]].ids)}
            for row in image_rows(sums, groups)
        ],
    }
    calibration = score_confidence(comparisons, Path(args.predictions) / "nuclei.csv")
    if calibration:
        error, bins = calibration
        record["calibration"] = {"expected_calibration_error": error, "bins": bins}
    return record, calibration, unreadable


@user_errors_in_one_line
def main(argv=None):
    """Score a folder of predictions and return the exit status."""
    args = make_parser().parse_args(argv)
    with quietly(args.quiet):
        return evaluate(args)


if __name__ == "__main__":
    sys.exit(main())
