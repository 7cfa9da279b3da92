"""Test robustness to brightness, blur, noise, scale and stain (needs ground truth).

    python -m experiments.stress RAW TRUTH --model FILE --out stress

Each image is changed in a fixed way and its nuclei are found. The loss of AP at IoU 0.5 against the
same images without a change is printed and written to stress.csv.
"""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np

from nuclei import find_nuclei, load_model
from nuclei.cli import (
    INPUT_DIR,
    MODEL_HELP,
    PREDICTIONS_DIR,
    TRUTH_DIR,
    add_overwrite_flag,
    command_line,
    user_errors_in_one_line,
)
from nuclei.datasets.pairs import find_pairs, read_pair
from nuclei.datasets.split import read_split
from nuclei.files import replacing
from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.model_file import MODELS
from nuclei.progress import Progress
from nuclei.training.light import compress, is_grey
from nuclei.training.stains import HED_FROM_RGB, RGB_FROM_HED, optical_density
from nuclei.written import recording

NOISE_SIGMA = 0.08  # of the range between the percentiles 0.5 and 99.5
JPEG_QUALITY = 30
CAMERA_MAX = 4095  # a camera of 12 bits, whose values lie in files of 16 bits
STAIN_GAINS = (1.3, 0.7, 1.0)  # of haematoxylin, eosin and DAB
HUE_DEGREES = 20


def add_noise(light):
    """Add noise, the same for images of the same size; grey images stay grey."""
    low, high = np.percentile(light, (0.5, 99.5))
    shape = (*light.shape[:2], 1 if is_grey(light) else 3)
    grain = np.random.default_rng(light.size).standard_normal(shape, np.float32)
    return light + (high - low) * NOISE_SIGMA * grain


def shift_stain(light):
    """Show more haematoxylin and less eosin, and turn the hue."""
    stains = optical_density(light) @ HED_FROM_RGB * np.array(STAIN_GAINS, np.float32)
    light = np.exp(-np.maximum(stains @ RGB_FROM_HED, 0)).astype(np.float32)
    hue = cv2.cvtColor(np.clip(light, 0, 1), cv2.COLOR_RGB2HSV)
    hue[..., 0] = (hue[..., 0] + HUE_DEGREES) % 360
    return cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)


# Changes of (H, W, 3) float32 in [0, 1]; what leaves this range is clipped.
LIGHT_CHANGES = {
    "unchanged": lambda light: light,
    "brightness_x0.5": lambda light: light * 0.5,
    "brightness_x1.5": lambda light: light * 1.5,
    "contrast_x0.5": lambda light: light.mean() + 0.5 * (light - light.mean()),
    "gamma_0.5": lambda light: light**0.5,
    "gamma_2": lambda light: light**2,
    "blur_1.5px": lambda light: cv2.GaussianBlur(light, (0, 0), 1.5),
    "noise": add_noise,
    "stain": shift_stain,  # coloured images only
    "polarity": lambda light: 1 - light,  # grey images only
    "jpeg_30": lambda light: compress(light, JPEG_QUALITY),
}
SCALE_CHANGES = {"scale_x0.5": 0.5, "scale_x2": 2.0}
CHANGES = (*LIGHT_CHANGES, "16_bit", *SCALE_CHANGES)


def change_image(change, image, labels):
    """Change an image and its truth in a fixed way, the same each time.

    Args:
        change: one of CHANGES.
        image: (H, W, 3) uint8 or uint16.
        labels: (H, W) int32.

    Returns:
        (image, labels), of another size for SCALE_CHANGES; None where the change does not suit the
        image.
    """
    if change in SCALE_CHANGES:
        return rescale(image, labels, SCALE_CHANGES[change])
    full_range = np.float32(np.iinfo(image.dtype).max)
    light = image.astype(np.float32) / full_range
    if change == "16_bit":
        return (light * CAMERA_MAX).astype(np.uint16), labels
    if change == ("stain" if is_grey(light) else "polarity"):
        return None
    changed = np.clip(LIGHT_CHANGES[change](light), 0, 1)
    return (changed * full_range + 0.5).astype(image.dtype), labels


def rescale(image, labels, factor):
    """Enlarge or shrink an image (H, W, 3) and its labels (H, W)."""
    height, width = (max(1, round(length * factor)) for length in labels.shape)
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) / factor).astype(int), old - 1)
        for new, old in zip((height, width), labels.shape, strict=True)
    )
    return cv2.resize(image, (width, height), interpolation=way), labels[np.ix_(rows, columns)]


def measure_robustness(raw_dir, truth_dir, model, stems=None):
    """Find the nuclei of changed images and compare them with the truth.

    Args:
        raw_dir, truth_dir: folders of images and masks with the same stems.
        model: `Model`.
        stems: set of stems to take; None for all.

    Returns:
        A list of rows {"change", "images", "ap_50", "loss"}: AP at IoU 0.5, pooled, and what the
        change costs against the same images unchanged.

    Raises:
        FileNotFoundError, ValueError: as `find_pairs`, or no image is left.
    """
    pairs = find_pairs(raw_dir, truth_dir)
    pairs = {stem: paths for stem, paths in pairs.items() if stems is None or stem in stems}
    if not pairs:
        raise ValueError(f"{raw_dir}: none of its images is in the chosen subset")
    counts = {change: {} for change in CHANGES}  # of each image: tp, fp, fn at IoU 0.5
    with Progress("Testing", len(pairs), "images", log=True) as progress:
        for stem, paths in pairs.items():
            image, truth = read_pair(*paths)
            for change in CHANGES:
                changed = change_image(change, image, truth.labels)
                if changed is not None:
                    matching = match(changed[1], find_nuclei(changed[0], model).labels)
                    counts[change][stem] = count_matches(matching, (0.5,))[0]
            progress.add()
    return [
        row_of(change, counts[change], counts["unchanged"]) for change in CHANGES if counts[change]
    ]


def row_of(change, counts, unchanged_counts):
    """Score one change: a row of `measure_robustness`.

    Args:
        change: one of CHANGES.
        counts, unchanged_counts: {stem: (tp, fp, fn)} with and without the change.
    """
    unchanged = average_precision(np.sum([unchanged_counts[stem] for stem in counts], axis=0))
    changed = average_precision(np.sum(list(counts.values()), axis=0))
    return {
        "change": change,
        "images": len(counts),
        "ap_50": round(float(changed), 4),
        "loss": round(float(unchanged - changed), 4),
    }


def write_rows(path, rows):
    """Write the rows of `measure_robustness` as a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def print_rows(rows):
    """Print the table, and the worst and the mean loss."""
    print(f"{'change':<16} images   AP50   loss")
    for row in rows:
        name = row["change"].replace("_", " ")
        print(f"{name:<16} {row['images']:>6} {row['ap_50']:>6.3f} {row['loss']:>6.3f}")
    losses = [row["loss"] for row in rows if row["change"] != "unchanged"]
    print(f"AP at IoU 0.5, pooled. Worst loss {max(losses):.3f}, mean loss {np.mean(losses):.3f}.")


def parse_arguments(argv):
    """Read the flags."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("images", nargs="?", default=INPUT_DIR, metavar="RAW", help=f"images (default {INPUT_DIR})")
    add(
        "truth",
        nargs="?",
        default=TRUTH_DIR,
        metavar="TRUTH",
        help=f"their ground truth (default {TRUTH_DIR})",
    )
    text = f"{MODEL_HELP} (default {MODELS[0]}, or else {MODELS[1]})"
    add("--model", metavar="MODEL", help=text)
    add(
        "--out",
        default=PREDICTIONS_DIR,
        metavar="DIR",
        help=f"folder for stress.csv (default {PREDICTIONS_DIR})",
    )
    add(
        "--split",
        metavar="CSV",
        help="table with the columns stem and split: take one subset (default: all)",
    )
    add(
        "--subset",
        default="validation",
        metavar="PART",
        help="value of the column split to take (default %(default)s; counts only with --split)",
    )
    add_overwrite_flag(add)
    return parser.parse_args(argv)


@user_errors_in_one_line
def main(argv=None):
    """Measure, print and write the losses, and return the exit status."""
    args = parse_arguments(argv)
    stems = None
    if args.split:
        stems = {stem for stem, subset in read_split(args.split).items() if subset == args.subset}
    path = Path(args.out) / "stress.csv"
    with recording(args.out, args.overwrite, filter(None, [args.split])) as record:
        record.require(path)  # before the work
        model = load_model(args.model)
        rows = measure_robustness(Path(args.images), Path(args.truth), model, stems)
        write_rows(path, rows)
    print_rows(rows)
    print(f"Wrote {path}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
