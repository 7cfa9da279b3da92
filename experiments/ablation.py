"""What each part of the recipe is worth: the same short training with one thing changed.

    python -m experiments.ablation RAW INSTANCES SPLIT.csv --epochs 8 --out ablation
    python -m experiments.ablation RAW INSTANCES SPLIT.csv --only unchanged no_stain_jitter

Variants `maps_...` learn other maps than the network of this project, variants `no_...` leave a
part of the augmentation out. Each is trained on `train` and scored on `validation` as train.py does
it, with thresholds of its own. Those that predict.py can use are tested by experiments/stress.py as
well, on all validation images of tissue and every fourth other one. ablation/ablation.csv has a row
for each variant; a second run goes on where the first one stopped.

A variant changes constants and functions of rooms, for which train.py has no flags. So the process
of a variant changes them and then calls `train.main`: this is the one place outside of the tests
where a program imports a script.

References of the maps that were compared:
    Caicedo et al. 2019, "Nucleus segmentation across imaging experiments" (borders as a map).
    Graham et al. 2019, "HoVer-Net" (horizontal and vertical offsets from the centre of mass).
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import train
from experiments.stress import measure_robustness, write_rows
from nuclei import load_model
from nuclei.cli import add_overwrite_flag, command_line, user_errors_in_one_line
from nuclei.inference import scale as scale_room
from nuclei.instances.separate import separate
from nuclei.model_file import read_settings
from nuclei.results.tables import write_table
from nuclei.training import batches, geometry, image_scores, light, shares, void
from nuclei.training import thresholds as threshold_search
from nuclei.training.recipe import Recipe
from nuclei.training.targets import UNKNOWN, targets
from nuclei.written import recording

HOME = Path(__file__).resolve().parent.parent  # the project's folder
STRESS_PART = 4  # every fourth validation image that is not tissue is stressed
CONTACT_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)  # tried for maps that separate nuclei alone
GRADIENT_PX = 2  # reach to both sides over which a fall of the offsets is measured


@dataclass(frozen=True)
class Variant:
    """One change of the recipe.

    Attributes:
        changes: (module, attribute, value), for the module that reads the attribute.
        flags: of train.py.
        is_usable: whether predict.py finds nuclei in the maps of such a network.
    """

    changes: tuple = ()
    flags: tuple = ()
    is_usable: bool = True


def border_map(labels):
    """The outermost pixels of each nucleus: (H, W) float32 of 0 and 1."""
    from skimage.segmentation import find_boundaries

    return find_boundaries(labels, mode="inner").astype(np.float32)


def offset_map(labels, axis):
    """Where in its nucleus a pixel lies along an axis.

    Returns:
        (H, W) float32 from 0 to 1, 0.5 at the centroid, UNKNOWN outside nuclei.
    """
    offsets = np.full(labels.shape, UNKNOWN, np.float32)
    inside = np.flatnonzero(labels)
    if not len(inside):
        return offsets
    ids = labels.ravel()[inside]
    place = np.divmod(inside, labels.shape[1])[axis].astype(float)
    centroids = np.bincount(ids, place) / np.maximum(np.bincount(ids), 1)
    distance = place - centroids[ids]
    ends = np.full((2, ids.max() + 1), 1e-6)  # distance of the first and of the last pixel
    np.maximum.at(ends[0], ids, -distance)
    np.maximum.at(ends[1], ids, distance)
    offsets.ravel()[inside] = (distance / ends[(distance > 0).astype(int), ids] + 1) / 2
    return offsets


def with_nucleus(labels, other_maps):
    """Stack the nucleus map and others as `targets` does: (H, W, K) float32."""
    nucleus = targets(labels, ("nucleus",))[..., 0]
    return np.stack([nucleus, *other_maps], -1, dtype=np.float32)


def border_targets(labels, heads):
    """Compute targets of nucleus and border, in place of `targets`."""
    return with_nucleus(labels, [border_map(labels)])


def offset_targets(labels, heads):
    """Compute targets of nucleus, horizontal and vertical offset, in place of `targets`."""
    offsets = [offset_map(labels, axis=1), offset_map(labels, axis=0)]
    return with_nucleus(labels, offsets)


def separate_borders(maps, scale=1.0, **thresholds):
    """Separate nuclei by borders, which take the place of contacts."""
    nucleus, border = maps[..., 0], maps[..., 1]
    return separate(np.stack([nucleus, nucleus, border], -1), scale=scale, **thresholds)


def separate_offsets(maps, scale=1.0, **thresholds):
    """Separate nuclei where offsets fall from 1 to 0, which they do between two nuclei."""
    nucleus, horizontal, vertical = np.moveaxis(maps, -1, 0)
    reach = max(1, round(GRADIENT_PX / scale))
    fall = np.zeros_like(nucleus)
    fall[:, reach:-reach] = horizontal[:, : -2 * reach] - horizontal[:, 2 * reach :]
    down = vertical[: -2 * reach] - vertical[2 * reach :]
    fall[reach:-reach] = np.maximum(fall[reach:-reach], down)
    contact = np.clip(fall, 0, 1)
    return separate(np.stack([nucleus, nucleus, contact], -1), scale=scale, **thresholds)


def other_maps(compute_targets, separate_maps, heads):
    """A variant whose network learns other maps, under the names of as many of our own."""
    search = {**threshold_search.SEARCH, "contact_weight": CONTACT_WEIGHTS}
    changes = (
        (batches, "targets", compute_targets),
        (void, "targets", compute_targets),
        (image_scores, "separate", separate_maps),
        (scale_room, "separate", separate_maps),
        (threshold_search, "separate", separate_maps),
        (threshold_search, "SEARCH", search),
    )
    return Variant(changes, ("--heads", *heads), is_usable=False)


VARIANTS = {
    "unchanged": Variant(),
    "other_seed": Variant(flags=("--seed", str(Recipe.seed + 1))),
    "maps_none": Variant(flags=("--heads", "nucleus")),
    "maps_distance": Variant(flags=("--heads", "nucleus", "distance")),
    "maps_border": other_maps(border_targets, separate_borders, ("nucleus", "distance")),
    "maps_offsets": other_maps(
        offset_targets, separate_offsets, ("nucleus", "distance", "contact")
    ),
    "no_stain_jitter": Variant(((light, "STAIN_SHARE", 0),)),
    "no_stain_augmentation": Variant(((batches, "STAIN_AUGMENTATION_SHARE", 0),)),
    "no_colour_change": Variant(
        (
            (light, "SHUFFLE_SHARE", 0),
            (light, "GREY_SHARE", 0),
            (light, "TINT_SHARE", 0),
            (light, "POLARITY_SHARE", 0),
        )
    ),
    "no_light": Variant(((light, "LIGHT_SHARE", 0), (light, "SHADING_SHARE", 0))),
    "no_blur_noise_jpeg": Variant(
        ((light, "BLUR_SHARE", 0), (light, "NOISE_SHARE", 0), (light, "JPEG_SHARE", 0))
    ),
    "no_scale": Variant(((geometry, "SCALE", (1, 1)),)),
    "no_rotation": Variant(((geometry, "ROTATE_SHARE", 0), (geometry, "ELASTIC_SHARE", 0))),
    "no_copy_paste": Variant(((batches, "COPY_PASTE_SHARE", 0),)),
    "no_balance": Variant(((shares, "GROUP_POWER", 1),)),
    "no_negative_images": Variant(((batches, "NEGATIVE_SHARE", 0),)),
}


def train_variant(name, args):
    """Train one variant. The changes stay, so it needs a process of its own."""
    variant = VARIANTS[name]
    for module, attribute, value in variant.changes:
        if not hasattr(module, attribute):
            raise AttributeError(f"{module.__name__}.{attribute} is gone; correct VARIANTS")
        setattr(module, attribute, value)
    return train.main(
        [
            *("--data-dir", str(args.out / "data")),
            *("--gt-dir", str(args.instances)),
            *("--split", str(args.split)),
            *("--epochs", str(args.epochs)),
            *("--out", str(args.out / name)),
            *variant.flags,
        ]
    )


def row_of(name, args, stems):
    """Score a trained variant: its row in the table.

    Args:
        name: one of VARIANTS.
        args: the flags.
        stems: set of images for the stress test.
    """
    row, model = {"variant": name}, args.out / name / "trained_model.h5"
    for group, score in read_settings(model)["scores"]["validation"].items():
        row[f"ap50_{group}"] = score["ap50"]
        if group == "all":
            row |= {"map": score["map"], "dice": score["dice"]}
    if not VARIANTS[name].is_usable:
        return row
    rows = measure_robustness(args.raw, args.instances, load_model(model), stems)
    write_rows(args.out / name / "stress.csv", rows)
    changed = [one for one in rows if one["change"] != "unchanged"]
    worst = max(changed, key=lambda one: one["loss"])
    return row | {
        "stressed_ap50": round(float(np.mean([one["ap_50"] for one in changed])), 4),
        "mean_loss": round(float(np.mean([one["loss"] for one in changed])), 4),
        "worst_loss": worst["loss"],
        "worst_change": worst["change"],
    }


def stems_to_stress(split_csv):
    """Choose validation images for the stress test: all of tissue, every fourth other one."""
    with open(split_csv, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    rows.sort(key=lambda row: row["stem"])
    tissue, others = [], []
    for row in rows:
        is_tissue = row.get("modality", "").startswith("histology")
        (tissue if is_tissue else others).append(row["stem"])
    return {*tissue, *others[::STRESS_PART]}


def parse_arguments(argv):
    """Read the flags."""
    parser = command_line(__doc__)
    parser.add_argument("raw", type=Path, help="folder of images")
    parser.add_argument("instances", type=Path, help="folder of their label images")
    parser.add_argument("split", type=Path, help="CSV with the columns stem, split and modality")
    parser.add_argument(
        "--epochs",
        type=int,
        default=8,
        metavar="N",
        help="epochs of each training (default %(default)s)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="VARIANT",
        help=f"variants to train (default: all of {', '.join(VARIANTS)})",
    )
    text = "results (default %(default)s)"
    parser.add_argument("--out", type=Path, default=Path("ablation"), metavar="DIR", help=text)
    add_overwrite_flag(parser.add_argument)
    parser.add_argument("--variant", help=argparse.SUPPRESS)  # of the process that trains one
    args = parser.parse_args(argv)
    for name in ("raw", "instances", "split", "out"):
        setattr(args, name, getattr(args, name).resolve())
    return args


@user_errors_in_one_line
def main(argv=None):
    """Train and score all variants that have no row yet, and print the table."""
    args = parse_arguments(argv)
    data = args.out / "data"  # train.py wants a folder that holds raw/
    data.mkdir(parents=True, exist_ok=True)
    if not (data / "raw").exists():
        os.symlink(args.raw, data / "raw", target_is_directory=True)
    if args.variant:
        return train_variant(args.variant, args)

    table = args.out / "ablation.csv"
    with recording(args.out, args.overwrite, [args.split]) as record:
        record.require(table)  # before the work
        rows = pd.read_csv(table).to_dict("records") if table.is_file() else []
        stems = stems_to_stress(args.split)
        done = [row["variant"] for row in rows]
        for name in [name for name in args.only if name not in done]:
            started = time.monotonic()
            command = [sys.executable, "-m", "experiments.ablation"]
            command += [str(args.raw), str(args.instances), str(args.split)]
            command += ["--epochs", str(args.epochs), "--out", str(args.out), "--variant", name]
            subprocess.run(command, check=True, cwd=HOME)
            minutes = round((time.monotonic() - started) / 60, 2)
            rows.append(row_of(name, args, stems) | {"minutes": minutes})
            write_table(table, pd.DataFrame(rows))
    print(pd.DataFrame(rows).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
