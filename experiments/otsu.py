"""The baseline without learning: Otsu's threshold, then a watershed on the distance to the border.

    python -m experiments.otsu RAW OUT      write OUT/STEM.png, 16-bit labels, for each image of RAW
    python evaluate.py OUT TRUTH            score them

A trained network has to beat it. Two things are decided for each image by itself: nuclei are bright
in fluorescence and dark elsewhere, and two centres lie at least the median inner radius apart. The
constants were chosen on 90 training images of the Data Science Bowl 2018.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.segmentation import watershed

from nuclei.cli import INPUT_DIR, add_overwrite_flag, command_line, user_errors_in_one_line
from nuclei.images.folder import find_images
from nuclei.images.modality import modality
from nuclei.images.reading import read_image
from nuclei.images.writing import write_labels
from nuclei.progress import Progress
from nuclei.written import recording

OUT_DIR = "otsu"
BLUR_PX = 0.5  # sigma; single noisy pixels would cross the threshold
DISTANCE_BLUR_PX = 1.0  # sigma; the exact distance has several maxima along a long nucleus
MIN_AREA_PX = 20  # smaller pieces are dropped; the smallest nuclei of the data have about 20
MIN_DISTANCE_SHARE = 1.0  # of the median inner radius: least distance between two centres
MIN_RANGE = 0.02  # of full scale: a flatter image holds no nuclei, only noise


def otsu_labels(image: np.ndarray) -> np.ndarray:
    """Segment one image without learning.

    Threshold: Otsu 1979, https://doi.org/10.1109/TSMC.1979.4310076. Separation: Euclidean distance
    transform, its maxima as seeds, watershed.

    Args:
        image: (H, W, 3) uint8 or uint16.

    Returns:
        (H, W) int32 labels, 0 background, 1...n.
    """
    grey = gaussian(rgb2gray(image), BLUR_PX)
    if np.ptp(grey) < MIN_RANGE:
        return np.zeros(grey.shape, np.int32)
    threshold = threshold_otsu(grey)
    mask = grey > threshold if modality(image) == "fluorescence" else grey < threshold
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    pieces = label(mask)
    areas_px = np.bincount(pieces.ravel())
    mask &= areas_px[pieces] >= MIN_AREA_PX
    if not mask.any():
        return np.zeros(grey.shape, np.int32)
    distance = gaussian(ndimage.distance_transform_edt(mask), DISTANCE_BLUR_PX)
    pieces = label(mask)
    radii_px = ndimage.maximum(distance, pieces, np.arange(1, pieces.max() + 1))
    min_distance = max(2, round(MIN_DISTANCE_SHARE * float(np.median(radii_px))))
    centres = peak_local_max(
        distance, min_distance=min_distance, labels=pieces, exclude_border=False
    )
    seeds = np.zeros(grey.shape, np.int32)
    seeds[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    return watershed(-distance, seeds, mask=mask).astype(np.int32)


@user_errors_in_one_line
def main(argv=None) -> int:
    """Segment a folder."""
    parser = command_line(__doc__)
    add = parser.add_argument
    text = "folder of images (default %(default)s)"
    add("raw", nargs="?", default=INPUT_DIR, metavar="RAW", help=text)
    text = "folder for the label images (default %(default)s)"
    add("out", nargs="?", default=OUT_DIR, metavar="OUT", help=text)
    add_overwrite_flag(add)
    args = parser.parse_args(argv)
    images, out, elsewhere = find_images(args.raw), Path(args.out), "give another OUT"
    if out.is_dir() and out.samefile(args.raw):
        raise ValueError(
            f"{out} holds the images; expected another folder for the labels: {elsewhere}"
        )
    with recording(out, args.overwrite, images.values(), elsewhere) as record:
        for stem in images:
            record.require(out / f"{stem}.png")  # before the work
        with Progress("Segmenting", len(images), "images") as progress:
            for stem, path in images.items():
                write_labels(out, stem, otsu_labels(read_image(path)))
                progress.add()
    print(f"Wrote {len(images)} label images to {out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
