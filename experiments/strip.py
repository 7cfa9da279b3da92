"""Draw the README's picture strip: synthetic test images, what predict.py found in them, and the truth.

python train.py && python predict.py && python tests/strip.py       # test_raw + predictions -> docs/strip.png
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from nuclei.cli import user_errors_in_one_line
from nuclei.images.intensity import intensity_range, normalise
from nuclei.images.masks import read_truth
from nuclei.images.reading import read_image
from nuclei.results.pictures import draw_overlay, find_labels, write_png

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


STEMS = ("test_fluorescence_02", "test_fluorescence_03", "test_tissue_01", "test_tissue_03")
SIDE_PX = 200  # of each tile, cut from the upper left corner
GAP_PX = 6


def colour_labels(labels):
    """A bright colour for each nucleus on black, neighbours in numbering far apart: (H, W, 3) uint8."""
    hue = (labels * 0.618034) % 1  # the golden ratio spreads any run of ids over the circle
    rgb = np.clip(np.abs((hue[..., None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return ((0.25 + 0.75 * rgb) * 255 * (labels > 0)[..., None]).astype(np.uint8)


@user_errors_in_one_line
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default=ROOT / "test_raw", type=Path, metavar="DIR")
    parser.add_argument("--predictions", default=ROOT / "predictions", type=Path, metavar="DIR")
    parser.add_argument("--truth", default=ROOT / "data" / "test_gt", type=Path, metavar="DIR")
    parser.add_argument("--out", default=ROOT / "docs" / "strip.png", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    columns = []
    for stem in STEMS:
        image = read_image(args.images / f"{stem}.png")
        found = read_truth(find_labels(args.predictions / "labels", stem)).labels
        truth = read_truth(args.truth / f"{stem}.png").labels
        intensity = intensity_range(image)
        rows = [
            (normalise(image, intensity) * 255).astype(np.uint8),
            draw_overlay(image, intensity, found),
            colour_labels(found),
            colour_labels(truth),
        ]
        tiles = [np.pad(r[:SIDE_PX, :SIDE_PX], ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255) for r in rows]
        columns.append(np.vstack(tiles))
    write_png(args.out, np.hstack(columns)[:-GAP_PX, :-GAP_PX])
    print(f"Wrote {args.out}: rows are image, outlines, found nuclei, true nuclei")
    return 0


if __name__ == "__main__":
    sys.exit(main())
