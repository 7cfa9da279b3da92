"""How far a few annotated images go: fine-tuning to a kind of image that the model has never seen.

    python -m experiments.few_images RAW INSTANCES SPLIT.csv \\
        --without histology_purple histology_purple_white --out few

A model is trained without the images of these modalities (column `modality` of the split). Then
some of them, evenly taken from those marked `train`, are given to `train.py --init` and, for
comparison, to `train.py` from random weights. Each model is scored on the validation images,
separately for the held-out modalities and for the others: what was gained, and what was forgotten.
few/few_images.csv has a row for each model. A second run goes on where the first one stopped.
"""

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nuclei.cli import add_overwrite_flag, command_line, user_errors_in_one_line
from nuclei.results.tables import write_table
from nuclei.written import recording

HOME = Path(__file__).resolve().parent.parent  # the project, where its scripts are


def run(*command):
    """Run one of the project's scripts in its folder. Returns: the seconds it took."""
    started = time.monotonic()
    subprocess.run([sys.executable, *map(str, command)], cwd=HOME, check=True)
    return time.monotonic() - started


@dataclass
class Comparison:
    """The models trained so far, in a table on disk.

    Attributes:
        out: folder of all results.
        raw: folder of the images.
        truth: folder of label images as PNG.
        rows: one dict for each model, as in few_images.csv.
    """

    out: Path
    raw: Path
    truth: Path
    rows: list[dict] = field(default_factory=list)

    @property
    def table(self):
        """The CSV of the rows."""
        return self.out / "few_images.csv"

    def link_pairs(self, images, name):
        """Make a folder with raw/ and gt/ that hold links to these images (rows of the split)."""
        folder = self.out / name
        for row in images:
            image = next(self.raw.glob(f"{row['stem']}.*"))
            for part, file in (("raw", image), ("gt", self.truth / f"{row['stem']}.png")):
                (folder / part).mkdir(parents=True, exist_ok=True)
                link = folder / part / file.name
                if not link.exists():
                    os.symlink(file.resolve(), link)
        return folder

    def train(self, name, num_images, *flags):
        """Train and score a model, unless its row is there already. Returns: its file."""
        model = self.out / name / "trained_model.h5"
        if name not in [row["model"] for row in self.rows]:
            seconds = run("train.py", *flags, "--out", self.out / name)
            row = {"model": name, "images": num_images, "minutes": round(seconds / 60, 2)}
            validation, predictions = self.out / "validation", self.out / f"found_{name}"
            self.rows.append(row | score(model, validation, self.out / "groups.csv", predictions))
            write_table(self.table, pd.DataFrame(self.rows))
        return model


def score(model, data, groups_csv, out):
    """Score a model on a folder with raw/ and gt/.

    Returns:
        {"held out" or "others": pooled AP at IoU 0.5, the same with " mAP": Kaggle's mAP}.
    """
    flags = ("--formats", "labels", "--overwrite")
    run("predict.py", data / "raw", "--model", model, "--out", out, *flags)
    run("evaluate.py", out, data / "gt", "--groups", groups_csv, "--worst", 0)
    record = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    groups = {name: record["groups"][name] for name in ("held out", "others")}
    scores = {name: group["pooled"]["ap_50"]["value"] for name, group in groups.items()}
    means = {name: group["mean_of_images"]["mean_ap"]["value"] for name, group in groups.items()}
    return scores | {f"{name} mAP": value for name, value in means.items()}


def parse_arguments(argv):
    """Read the flags."""
    parser = command_line(__doc__)
    parser.add_argument("raw", type=Path, help="folder of the images")
    parser.add_argument("instances", type=Path, help="folder of their label images (PNG)")
    parser.add_argument("split", help="CSV with the columns stem, split and modality")
    parser.add_argument(
        "--without", nargs="+", required=True, metavar="MODALITY", help="modalities to hold out"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=[5, 10, 20],
        metavar="N",
        help="numbers of held-out images to train on (default 5 10 20)",
    )
    parser.add_argument(
        "--base-epochs",
        type=int,
        default=15,
        metavar="N",
        help="epochs of the first model (default %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("few"), metavar="DIR", help="results (default %(default)s)"
    )
    add_overwrite_flag(parser.add_argument)
    return parser.parse_args(argv)


@user_errors_in_one_line
def main(argv=None):
    """Compare the models in a folder of results. Returns: the exit status."""
    args = parse_arguments(argv)
    args.out = args.out.resolve()
    with recording(args.out, args.overwrite, [args.split]) as record:
        for name in ("few_images.csv", "base.csv", "groups.csv"):
            record.require(args.out / name)  # before the work
        compare(args)
    return 0


def compare(args):
    """Train and score all models that have no row yet, and print the table."""
    comparison = Comparison(args.out, args.raw.resolve(), args.instances.resolve())
    out, truth = comparison.out, comparison.truth
    if comparison.table.is_file():
        comparison.rows = pd.read_csv(comparison.table).to_dict("records")
    with open(args.split, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (truth / f"{row['stem']}.png").is_file()]
    held_out = [row for row in rows if row["modality"] in args.without]
    others = [row for row in rows if row["modality"] not in args.without]
    write_table(out / "base.csv", pd.DataFrame(others))
    comparison.link_pairs([row for row in rows if row["split"] == "validation"], "validation")
    groups = [
        {"stem": row["stem"], "modality": name}
        for name, part in (("held out", held_out), ("others", others))
        for row in part
    ]
    write_table(out / "groups.csv", pd.DataFrame(groups))

    folders = ("--data-dir", comparison.raw.parent, "--gt-dir", truth, "--split", out / "base.csv")
    num_images = sum(row["split"] == "train" for row in others)
    base = comparison.train("base", num_images, *folders, "--epochs", args.base_epochs)
    candidates = [row for row in held_out if row["split"] == "train"]
    for size in args.sizes:
        images = [candidates[k * len(candidates) // size] for k in range(size)]
        data = comparison.link_pairs(images, f"images_{size}")
        comparison.train(f"tuned_{size}", size, "--data-dir", data, "--init", base)
        comparison.train(f"scratch_{size}", size, "--data-dir", data)
    print(pd.DataFrame(comparison.rows).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
