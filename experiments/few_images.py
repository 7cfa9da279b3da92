"""How far a few annotated images go: fine-tuning to a kind of image that the first model has never seen.

    python tests/few_images.py RAW INSTANCES SPLIT.csv --without histology_purple histology_purple_white --out few

A model is trained without the images of these modalities (column `modality` of the split). Then so many of them as --sizes
says, taken evenly from those marked `train`, are given to `train.py --init` and, for comparison, to `train.py` from nothing.
Each model is scored on the validation images, apart for the held-out modalities and for the others: what was gained, and what
was forgotten. few/few_images.csv has a row for each model; a second run goes on where the first one stopped.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

HOME = Path(__file__).resolve().parent.parent


def run(*command):
    """One of the project's programs, in its folder; its seconds."""
    started = time.monotonic()
    subprocess.run([sys.executable, *map(str, command)], cwd=HOME, check=True)
    return time.monotonic() - started


def folder_of(rows, raw, truth, out):
    """A folder of pairs of its own, raw/ and gt/, with links to these images and masks."""
    for row in rows:
        image = next(Path(raw).glob(f"{row['stem']}.*"))
        for part, file in (("raw", image), ("gt", Path(truth) / f"{row['stem']}.png")):
            (out / part).mkdir(parents=True, exist_ok=True)
            link = out / part / file.name
            if not link.exists():
                os.symlink(file.resolve(), link)
    return out


def score(model, raw, truth, table, out):
    """Scores of a model on images: pooled AP at IoU 0.5, {"held out" or "others": AP}, and Kaggle's mAP, {"… mAP": mAP}."""
    run("predict.py", raw, "--model", model, "--out", out, "--formats", "labels", "--overwrite")
    run("evaluate.py", out, truth, "--groups", table, "--worst", 0)
    record = json.loads((out / "evaluation.json").read_text())
    groups = {name: record["groups"][name] for name in ("held out", "others")}
    scores = {name: group["pooled"]["ap_50"]["value"] for name, group in groups.items()}
    return scores | {f"{name} mAP": group["mean_of_images"]["mean_ap"]["value"] for name, group in groups.items()}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw")
    parser.add_argument("instances")
    parser.add_argument("split")
    parser.add_argument("--without", nargs="+", required=True, metavar="MODALITY")
    parser.add_argument("--sizes", nargs="+", type=int, default=[5, 10, 20], metavar="N")
    parser.add_argument("--base-epochs", type=int, default=15, metavar="N")
    parser.add_argument("--out", default="few")
    args = parser.parse_args(argv)
    out, raw, truth = Path(args.out).resolve(), Path(args.raw).resolve(), Path(args.instances).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with open(args.split, newline="") as file:
        rows = [row for row in csv.DictReader(file) if (truth / f"{row['stem']}.png").is_file()]
    held_out = [row for row in rows if row["modality"] in args.without]
    others = [row for row in rows if row not in held_out]
    pd.DataFrame(others).to_csv(out / "base.csv", index=False)
    validation = folder_of([row for row in rows if row["split"] == "validation"], raw, truth, out / "validation")
    groups = [{"stem": r["stem"], "modality": "held out" if r in held_out else "others"} for r in rows]
    pd.DataFrame(groups).to_csv(out / "groups.csv", index=False)
    table = out / "few_images.csv"
    done = pd.read_csv(table).to_dict("records") if table.is_file() else []

    def model_of(name, images, *flags):
        model = out / name / "trained_model.h5"
        if name in [row["model"] for row in done]:
            return model
        seconds = run("train.py", *flags, "--out", out / name)
        scores = score(model, validation / "raw", validation / "gt", out / "groups.csv", out / f"found_{name}")
        done.append({"model": name, "images": images, "minutes": round(seconds / 60, 2), **scores})
        pd.DataFrame(done).to_csv(table, index=False)
        return model

    num_base = sum(row["split"] == "train" for row in others)
    base_flags = ("--data-dir", raw.parent, "--gt-dir", truth, "--split", out / "base.csv", "--epochs", args.base_epochs)
    base = model_of("base", num_base, *base_flags)
    candidates = [row for row in held_out if row["split"] == "train"]
    for size in args.sizes:
        chosen = [candidates[k * len(candidates) // size] for k in range(size)]
        data = folder_of(chosen, raw, truth, out / f"images_{size}")
        model_of(f"tuned_{size}", size, "--data-dir", data, "--init", base)
        model_of(f"scratch_{size}", size, "--data-dir", data)
    print(pd.DataFrame(done).to_string(index=False))


if __name__ == "__main__":
    main()
