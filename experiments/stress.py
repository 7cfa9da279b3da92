"""Test robustness to brightness, blur, noise, scale and stain (needs ground truth).

    python -m experiments.stress RAW TRUTH --model FILE --out stress

Each image is changed in a fixed way, predict.py finds its nuclei, and the loss of AP@0.5 is printed and written to stress.csv.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from evaluate import as_text, print_columns
from nuclei.cli import INPUT_DIR, PREDICTIONS_DIR, TRUTH_DIR, user_errors_in_one_line
from nuclei.files import replacing
from nuclei.images.masks import read_truth
from nuclei.images.pairs import find_images, find_pairs, read_pair
from nuclei.images.split import read_split
from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.training.light import is_grey
from nuclei.training.stains import HED_FROM_RGB, RGB_FROM_HED

STRESSES = (
    "as it is", "brightness x0.5", "brightness x1.5", "contrast x0.5", "gamma 0.5", "gamma 2", "blur 1.5 px", "noise",
    "JPEG 30", "stain", "polarity", "16 bit", "scale x0.5", "scale x2",
)  # fmt: skip


def stress(name, image, labels):
    """One of STRESSES, in a fixed strength, without chance but for noise, which is the same for equal images.

    Args:
        name: of STRESSES.
        image: (H, W, 3) uint8 or uint16.
        labels: (H, W) int32.

    Returns:
        image and labels, of another size for "scale x0.5" and "scale x2"; None where the change means nothing to this
        image: another colour to a grey image, inverted polarity to a coloured one.
    """
    top = np.float32(np.iinfo(image.dtype).max)
    light = image.astype(np.float32) / top
    low, high = np.percentile(light, (0.5, 99.5))
    grey = is_grey(light)
    if name.startswith("scale"):
        factor = 0.5 if name == "scale x0.5" else 2.0
        size = tuple(max(1, round(length * factor)) for length in labels.shape[::-1])  # OpenCV: width first
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) / factor).astype(int), m - 1)
            for n, m in zip(size[::-1], labels.shape, strict=True)
        )
        return cv2.resize(image, size, interpolation=way), labels[np.ix_(rows, columns)]
    if name == "16 bit":  # a 12-bit camera's values in a 16-bit file
        return (light * 4095).astype(np.uint16), labels
    if name == "JPEG 30":
        code = cv2.imencode(".jpg", (light * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
        return cv2.imdecode(code, cv2.IMREAD_COLOR), labels
    if (name == "polarity") != grey and name in ("polarity", "stain"):
        return None
    rng = np.random.default_rng(image.size)
    changed = {
        "as it is": lambda: light,
        "brightness x0.5": lambda: light * 0.5,
        "brightness x1.5": lambda: light * 1.5,
        "contrast x0.5": lambda: light.mean() + 0.5 * (light - light.mean()),
        "gamma 0.5": lambda: light**0.5,
        "gamma 2": lambda: light**2,
        "blur 1.5 px": lambda: cv2.GaussianBlur(light, (0, 0), 1.5),
        "noise": lambda: light + (high - low) * 0.08 * rng.standard_normal(light.shape[:2] + (1 if grey else 3,), np.float32),
        "stain": lambda: shift_stain(light),
        "polarity": lambda: 1 - light,
    }[name]()
    return (np.clip(changed, 0, 1) * top + 0.5).astype(image.dtype), labels


def shift_stain(image):
    """More haematoxylin, less eosin, and a hue turned by 20 degrees of (H, W, 3) float32 in [0, 1]."""
    density = -np.log(np.maximum(image, 1 / 255)) @ HED_FROM_RGB
    image = np.exp(-np.maximum((density * np.array([1.3, 0.7, 1], np.float32)) @ RGB_FROM_HED, 0)).astype(np.float32)
    hue = cv2.cvtColor(np.clip(image, 0, 1), cv2.COLOR_RGB2HSV)
    hue[..., 0] = (hue[..., 0] + 20) % 360
    return cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)


def run_stress(raw_dir, truth_dir, out_dir, model=None, stems=None):
    """Change images in the ways of `STRESSES`, have predict.py find their nuclei, compare with the truth.

    Args:
        raw_dir, truth_dir: folders of images and masks with the same stems.
        out_dir: folder for `stress.csv`.
        model: file for predict.py; None for its own choice.
        stems: set of stems to take; None for all.

    Returns:
        A list of rows {"change", "images", "ap_50", "loss"}: pooled AP at IoU 0.5, and what the change costs against the
        same images as they are.

    Raises:
        FileNotFoundError, ValueError: as `find_pairs`, no image is left, or predict.py failed.
    """
    pairs = {stem: pair for stem, pair in find_pairs(raw_dir, truth_dir).items() if stems is None or stem in stems}
    if not pairs:
        raise ValueError(f"{raw_dir}: none of its images is in the chosen subset")
    with tempfile.TemporaryDirectory() as folder:
        raw, found, truths, sources = Path(folder) / "raw", Path(folder) / "found", {}, {}
        raw.mkdir()
        for stem, paths in pairs.items():
            image, truth = read_pair(*paths)
            for number, name in enumerate(STRESSES):
                changed = stress(name, image, truth.labels)
                if changed is not None:
                    key = f"{stem}-{number:02d}"
                    cv2.imwrite(str(raw / f"{key}.png"), changed[0][..., ::-1])  # OpenCV: blue first
                    truths[key], sources[key] = changed[1], (stem, number)
        predict = Path(__file__).resolve().parents[1] / "predict.py"
        command = [sys.executable, str(predict), str(raw), "--out", str(found), *(["--model", str(model)] if model else [])]
        if subprocess.run(command).returncode:
            raise ValueError("predict.py failed on the changed images; its message is above")
        labels = find_images(found / "labels")
        counts = {key: count_matches(match(truth, read_truth(labels[key]).labels))[0] for key, truth in truths.items()}
    rows = []
    for number, name in enumerate(STRESSES):
        keys = [key for key, source in sources.items() if source[1] == number]
        if keys:
            plain = average_precision(np.sum([counts[f"{sources[key][0]}-00"] for key in keys], axis=0))
            changed = average_precision(np.sum([counts[key] for key in keys], axis=0))
            rows.append(
                {
                    "change": name,
                    "images": len(keys),
                    "ap_50": round(float(changed), 4),
                    "loss": round(float(plain - changed), 4),
                }
            )
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    with replacing(Path(out_dir) / "stress.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def print_stress(rows):
    """The table of the stress test, and its worst and mean loss."""
    print_columns(
        ("change", "images", "AP50", "loss"),
        [(r["change"], str(r["images"]), as_text(r["ap_50"]), as_text(r["loss"])) for r in rows],
    )
    losses = [row["loss"] for row in rows[1:]]
    print(f"AP at IoU 0.5, pooled. Worst loss {max(losses):.3f}, mean loss {np.mean(losses):.3f}.")


@user_errors_in_one_line
def main(argv=None):
    """Test a model on changed images and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default=INPUT_DIR, metavar="RAW", help="folder of images (default %(default)s)")
    parser.add_argument("truth", nargs="?", default=TRUTH_DIR, metavar="TRUTH", help="their ground truth (default %(default)s)")
    parser.add_argument("--out", default=PREDICTIONS_DIR, metavar="DIR", help="folder for stress.csv (default %(default)s)")
    parser.add_argument("--model", metavar="FILE", help="model file (default: that of predict.py)")
    parser.add_argument("--split", metavar="CSV", help="CSV with columns `stem` and `split`: take one subset only")
    parser.add_argument("--subset", default="validation", help="value of `split` to take (default %(default)s)")
    args = parser.parse_args(argv)
    stems = None
    if args.split:
        stems = {stem for stem, subset in read_split(args.split).items() if subset == args.subset}
    print_stress(run_stress(Path(args.images), Path(args.truth), Path(args.out), args.model, stems))
    print(f"Wrote {Path(args.out) / 'stress.csv'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
