"""The baseline without learning: Otsu's threshold, then a watershed on the distance to the border.

    python tests/otsu_baseline.py RAW OUT             writes OUT/STEM.png, 16-bit labels, for every image of RAW
    python evaluate.py OUT TRUTH                      scores them

What most first attempts do; a trained network has to beat it. Two things are decided for each image by itself: nuclei
are bright in fluorescence and dark elsewhere, and two centres lie at least the median inner radius apart. The numbers
below were chosen on 90 training images of the Data Science Bowl 2018, where grey from all channels did better than red.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.segmentation import watershed

from nuclei.cli import user_errors_in_one_line
from nuclei.files import replacing
from nuclei.images.modality import modality
from nuclei.images.pairs import find_images
from nuclei.images.reading import read_image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project's modules, when run as a script

BLUR_PX = 0.5  # sigma; single noisy pixels would cross the threshold
DISTANCE_BLUR_PX = 1.0  # sigma; the exact distance has several maxima along the ridge of a long nucleus
MIN_AREA_PX = 20  # specks below it are dropped; the smallest nuclei of the Data Science Bowl 2018 have about 20
MIN_DISTANCE_SHARE = 1.0  # of the median inner radius: least distance between two centres
MIN_RANGE = 0.02  # of full scale: an image flatter than this holds no nuclei, only noise to threshold


def otsu_labels(image):
    """Segment one image without learning.

    Threshold: Otsu 1979, https://doi.org/10.1109/TSMC.1979.4310076. Separation: Euclidean distance transform, its
    maxima as seeds, watershed.

    Args:
        image: (H, W, 3) uint8 or uint16.

    Returns:
        (H, W) int32 labels, 0 = background, 1…n.
    """
    grey = gaussian(rgb2gray(image), BLUR_PX)
    if np.ptp(grey) < MIN_RANGE:
        return np.zeros(grey.shape, np.int32)
    threshold = threshold_otsu(grey)
    mask = grey > threshold if modality(image) == "fluorescence" else grey < threshold
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    pieces = label(mask)
    areas = np.bincount(pieces.ravel())
    mask &= areas[pieces] >= MIN_AREA_PX
    if not mask.any():
        return np.zeros(grey.shape, np.int32)
    distance = gaussian(ndimage.distance_transform_edt(mask), DISTANCE_BLUR_PX)
    pieces = label(mask)
    radii = ndimage.maximum(distance, pieces, np.arange(1, pieces.max() + 1))
    min_distance = max(2, round(MIN_DISTANCE_SHARE * float(np.median(radii))))
    centres = peak_local_max(distance, min_distance=min_distance, labels=pieces, exclude_border=False)
    seeds = np.zeros(grey.shape, np.int32)
    seeds[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    return watershed(-distance, seeds, mask=mask).astype(np.int32)


@user_errors_in_one_line
def main(argv=None):
    """Segment a folder and return the exit status."""
    parser = argparse.ArgumentParser(description="Segment nuclei without learning: Otsu's threshold and watershed.")
    parser.add_argument("raw", metavar="RAW", help="folder of images")
    parser.add_argument("out", metavar="OUT", help="folder for the label images")
    args = parser.parse_args(argv)
    images = find_images(args.raw)
    for stem, path in images.items():
        with replacing(Path(args.out) / f"{stem}.png") as temporary:
            Image.fromarray(otsu_labels(read_image(path)).astype(np.uint16)).save(temporary, format="PNG")
    print(f"Wrote {len(images)} label images to {args.out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
