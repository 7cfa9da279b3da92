"""What each part of the recipe is worth: the same short training with one thing changed.

    python tests/ablation.py RAW INSTANCES SPLIT.csv --epochs 8 --out ablation                   # all of VARIANTS, in turn
    python tests/ablation.py RAW INSTANCES SPLIT.csv --out ablation --only "as it is" "no stain" # of them, these

Maps that the network could paint instead of ours (`maps: …`), and parts of the augmentation left out (`no …`). Each variant
is trained on `train` and scored on `validation` as `train.py` does it, with thresholds of its own; those that predict.py can
use are put through `evaluate.py --stress` too, on all validation images of tissue and every fourth other one.
ablation/ablation.csv has a row for each; a second run goes on where the first one stopped.

References of the maps that were compared:
    Caicedo et al. 2019, "Nucleus segmentation across imaging experiments" (boundaries as a map of their own).
    Graham et al. 2019, "HoVer-Net" (horizontal and vertical offsets from the centre of mass).
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

import train
from nuclei.instances.separate import separate as the_separate
from nuclei.model_file import read_settings
from nuclei.training.targets import targets as the_targets
from nuclei.training.thresholds import SEARCH
from unet import HEADS

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))
STRESS_PART = 4  # every such validation image that is no tissue is stressed
LEFT_OUT = {  # variant: constants of `augment` that leave a part of it out
    "no stain": {"STAIN_SHARE": 0},
    "no restaining": {"RESTAIN_SHARE": 0},
    "no colour change": {"SHUFFLE_SHARE": 0, "GREY_SHARE": 0, "TINT_SHARE": 0, "POLARITY_SHARE": 0},
    "no light": {"LIGHT_SHARE": 0, "SHADING_SHARE": 0},
    "no blur, noise, JPEG": {"BLUR_SHARE": 0, "NOISE_SHARE": 0, "JPEG_SHARE": 0},
    "no scale": {"SCALE": (1, 1)},
    "no rotation, shear, bending": {"ROTATE_SHARE": 0, "ELASTIC_SHARE": 0},
    "no crowding": {"CROWD_SHARE": 0},
    "no balance": {"GROUP_POWER": 1},
    "no pictures of nothing": {"NOTHING_SHARE": 0},
}
MAPS = {  # variant: channels after the nucleus
    "maps: none": (),
    "maps: distance": ("distance",),
    "maps: boundary": ("boundary",),
    "maps: horizontal, vertical": ("horizontal", "vertical"),
}
OTHERS = ("maps: boundary", "maps: horizontal, vertical")  # which the program does not know: painted and parted here
VARIANTS = ("as it is", "another seed", *MAPS, *LEFT_OUT)
CONTACT_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)  # tried for boundaries and offsets, which part nuclei alone
GRADIENT_PX = 2  # over which a fall of the offsets is measured, to both sides


def boundary(labels):
    """The outermost pixels of each nucleus: (H, W) float32 of 0 and 1."""
    from skimage.segmentation import find_boundaries

    return find_boundaries(labels, mode="inner").astype(np.float32)


def offsets(labels, axis):
    """Where in its nucleus a pixel lies along an axis: (H, W) float32 from 0 to 1, 0.5 at the centroid, -1 outside."""
    out = np.full(labels.shape, -1, np.float32)
    inside = np.flatnonzero(labels)
    if not len(inside):
        return out
    ids = labels.ravel()[inside]
    place = np.divmod(inside, labels.shape[1])[axis].astype(float)
    off = place - (np.bincount(ids, place) / np.maximum(np.bincount(ids), 1))[ids]
    ends = np.full((2, ids.max() + 1), 1e-6)
    np.maximum.at(ends[0], ids, -off)
    np.maximum.at(ends[1], ids, off)
    out.ravel()[inside] = (off / ends[(off > 0).astype(int), ids] + 1) / 2
    return out


def parting(names, maps, scale):
    """The maps as `instances.separate` wants them: what parts two nuclei, in the place of contacts, the nucleus for depth."""
    if names == ("boundary",):
        return np.stack([maps[..., 0], maps[..., 0], maps[..., 1]], -1)
    if names != ("horizontal", "vertical"):
        return maps
    # Between two nuclei offsets fall from 1 to 0; inside one they rise.
    reach = max(1, round(GRADIENT_PX / scale))
    fall = np.zeros_like(maps[..., 0])
    fall[:, reach:-reach] = maps[:, : -2 * reach, 1] - maps[:, 2 * reach :, 1]
    fall[reach:-reach] = np.maximum(fall[reach:-reach], maps[: -2 * reach, :, 2] - maps[2 * reach :, :, 2])
    return np.stack([maps[..., 0], maps[..., 0], np.clip(fall, 0, 1)], -1)


def change(variant):
    """Make the project's modules train this variant; in a process of its own, since it stays."""

    for name, value in LEFT_OUT.get(variant, {}).items():
        if not hasattr(augment, name):
            raise AttributeError(f"augment.{name} is no more; mend LEFT_OUT of {__file__}")
        setattr(augment, name, value)
    if variant not in MAPS:
        return
    names = MAPS[variant]
    HEADS = ("nucleus", *names)
    if variant in OTHERS:
        painters = {"boundary": boundary, "horizontal": lambda x: offsets(x, 1), "vertical": lambda x: offsets(x, 0)}
        separate, targets = the_separate, the_targets

        def paint(labels, heads, has_instances=True):
            others = [painters[name](labels) if has_instances else np.full(labels.shape, -1.0) for name in names]
            return np.concatenate([targets(labels, heads[:1]), *(other[..., None] for other in others)], -1, dtype=np.float32)

        the_targets = paint
        the_separate = lambda maps, scale=1.0, **thresholds: separate(parting(names, maps, scale), scale=scale, **thresholds)
        SEARCH["contact_weight"] = CONTACT_WEIGHTS


def train_variant(variant, args, out):
    """Train and score one variant: the row of it."""

    change(variant)
    seed = train.SEED + (variant == "another seed")
    train.main(
        [
            "--data-dir", str(args.data), "--gt-dir", args.instances, "--split", args.split, "--epochs", str(args.epochs),
            "--seed", str(seed), "--out", str(out),
        ]
    )  # fmt: skip


def row_of(variant, args, out):
    """The scores of a trained variant, for the table."""

    row = {"variant": variant}
    for group, score in read_settings(out / "trained_model.h5")["scores"]["validation"].items():
        row |= {f"ap50 {group}": score["ap50"]} | ({"map": score["map"], "dice": score["dice"]} if group == "all" else {})
    if variant in OTHERS:
        return row
    stress = [sys.executable, HOME / "evaluate.py", "--stress", args.data / "raw", args.instances]
    stress += ["--split", args.out / "stressed.csv", "--model", out / "trained_model.h5", "--out", out]
    subprocess.run([str(part) for part in stress], check=True, stdout=subprocess.DEVNULL)
    table = pd.read_csv(out / "stress.csv")
    changed = table[table["change"] != "as it is"]
    worst = changed.loc[changed["loss"].idxmax()]
    return row | {
        "stressed ap50": round(changed["ap_50"].mean(), 4),
        "mean loss": round(changed["loss"].mean(), 4),
        "worst loss": worst["loss"],
        "worst change": worst["change"],
    }


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw")
    parser.add_argument("instances")
    parser.add_argument("split")
    parser.add_argument("--epochs", type=int, default=8, metavar="N")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--out", default="ablation")
    parser.add_argument("--variant", help=argparse.SUPPRESS)  # of the process that trains one
    args = parser.parse_args(argv)
    args.instances, args.split = str(Path(args.instances).resolve()), str(Path(args.split).resolve())
    args.out = Path(args.out).resolve()
    args.data = args.out / "data"  # `train.py` wants a folder with raw/ in it
    args.data.mkdir(parents=True, exist_ok=True)
    if not (args.data / "raw").exists():
        os.symlink(Path(args.raw).resolve(), args.data / "raw", target_is_directory=True)
    folder = lambda variant: args.out / "".join(letter if letter.isalnum() else "_" for letter in variant)
    if args.variant:
        return train_variant(args.variant, args, folder(args.variant))

    with open(args.split, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    rows.sort(key=lambda row: row["stem"])
    tissue = [row for row in rows if row.get("modality", "").startswith("histology")]
    others = [row for row in rows if row not in tissue]
    pd.DataFrame(tissue + others[::STRESS_PART]).to_csv(args.out / "stressed.csv", index=False)
    table = args.out / "ablation.csv"
    done = pd.read_csv(table).to_dict("records") if table.is_file() else []
    for variant in args.only:
        if variant in [row["variant"] for row in done]:
            continue
        started = time.monotonic()
        same = [args.raw, args.instances, args.split, "--epochs", str(args.epochs), "--out", str(args.out)]
        subprocess.run([sys.executable, __file__, *same, "--variant", variant], check=True)
        minutes = round((time.monotonic() - started) / 60, 2)
        done.append(row_of(variant, args, folder(variant)) | {"minutes": minutes})
        pd.DataFrame(done).to_csv(table, index=False)
    print(pd.DataFrame(done).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
