"""Draw the README's picture strip: test images, the nuclei that predict.py found, and the truth.

    python predict.py --model shipped
    python -m experiments.strip             # test_raw + predictions -> docs/strip.png

The rows are image, outlines, predicted nuclei and true nuclei.
"""

import sys
from pathlib import Path

import numpy as np

from nuclei.cli import INPUT_DIR, PREDICTIONS_DIR, TRUTH_DIR, command_line, user_errors_in_one_line
from nuclei.images.intensity import intensity_range, normalise
from nuclei.images.reading import read_image
from nuclei.images.writing import find_labels, write_png
from nuclei.results.pictures import draw_overlay
from nuclei.truth.masks import read_truth

PROJECT = Path(__file__).resolve().parent.parent
STEMS = ("test_fluorescence_02", "test_fluorescence_03", "test_tissue_01", "test_tissue_03")
SIDE_PX = 200  # of each picture, cut from the upper left corner of its image
GAP_PX = 6  # white pixels between two pictures


def colour_labels(labels: np.ndarray) -> np.ndarray:
    """A bright colour for each nucleus on black, far from those of the next ids.

    Args:
        labels: (H, W) integer, 0 background.

    Returns:
        (H, W, 3) uint8.
    """
    hue = (labels * 0.618034) % 1  # the golden ratio spreads any run of ids over the circle
    rgb = np.clip(np.abs((hue[..., None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return ((0.25 + 0.75 * rgb) * 255 * (labels > 0)[..., None]).astype(np.uint8)


def draw_column(image_path: Path, labels_path: Path, truth_path: Path) -> np.ndarray:
    """The four pictures of one image, one below the other, each with a gap to its right and below.

    Returns:
        (4 * (SIDE_PX + GAP_PX), SIDE_PX + GAP_PX, 3) uint8.
    """
    image = read_image(image_path)
    labels, truth = read_truth(labels_path).labels, read_truth(truth_path).labels
    intensity = intensity_range(image)
    pictures = [
        (normalise(image, intensity) * 255).astype(np.uint8),
        draw_overlay(image, intensity, labels),
        colour_labels(labels),
        colour_labels(truth),
    ]
    gap = ((0, GAP_PX), (0, GAP_PX), (0, 0))
    return np.vstack(
        [np.pad(picture[:SIDE_PX, :SIDE_PX], gap, constant_values=255) for picture in pictures]
    )


@user_errors_in_one_line
def main(argv=None) -> int:
    """Draw the strip."""
    parser = command_line(__doc__)
    for flag, default, what in (
        ("--images", INPUT_DIR, "images"),
        ("--predictions", PREDICTIONS_DIR, "results of predict.py"),
        ("--truth", TRUTH_DIR, "ground truth"),
    ):
        parser.add_argument(
            flag,
            default=PROJECT / default,
            type=Path,
            metavar="DIR",
            help=f"{what} (default: {default} of this project)",
        )
    parser.add_argument(
        "--out",
        default=PROJECT / "docs" / "strip.png",
        type=Path,
        metavar="FILE",
        help="the strip (default: docs/strip.png of this project)",
    )
    args = parser.parse_args(argv)
    columns = [
        draw_column(
            args.images / f"{stem}.png",
            find_labels(args.predictions / "labels", stem),
            args.truth / f"{stem}.png",
        )
        for stem in STEMS
    ]
    write_png(args.out, np.hstack(columns)[:-GAP_PX, :-GAP_PX])
    print(f"Wrote {args.out}: rows are image, outlines, predicted nuclei, true nuclei")
    return 0


if __name__ == "__main__":
    sys.exit(main())
