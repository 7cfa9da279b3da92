"""The tissue mask of a slide: where there is something on the background.

In bright field tissue is darker than the background, in fluorescence it is brighter. Doubtful
places count as tissue: searching them costs only time.
"""

from pathlib import Path

import cv2
import numpy as np

MASK_GROW_PX = 2  # of the mask's pixels: pale borders of tissue belong to it
# Share of white. A background is at least so bright, so that a slide without any background is
# tissue throughout.
BACKGROUND = 0.86
# Limits of Otsu's threshold: darkness below the background. The noise of a background is 0.02.
TISSUE_LIMITS = (0.04, 0.10)
# The same for fluorescence: brightness above the background, as a share of the brightest signal.
SIGNAL_LIMITS = (4 / 255, 0.10)
UNSCANNED = 0.03  # share of white below which a pixel of bright field was never scanned
MIN_WHITE_16BIT = 2048.0  # grey levels: what a 16-bit slide must reach, if it is more than noise


def tissue_file(out, stem) -> Path:
    """Where the picture of a slide's tissue lies in the folder of the results."""
    return Path(out) / "tissue" / f"{stem}.png"


def find_tissue(overview, step=1):
    """Where a slide has tissue.

    The threshold is Otsu's, within TISSUE_LIMITS or SIGNAL_LIMITS.

    Args:
        overview: (H, W, 3) uint8 or uint16.
        step: how many times smaller the mask is than the overview.

    Returns:
        (ceil(H / step), ceil(W / step)) bool.
    """
    from scipy import ndimage  # late, like scikit-image below: `--help` need not wait for it

    height, width = (-(-length // step) for length in overview.shape[:2])
    small = cv2.resize(overview, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    brightest, darkest = small.max(axis=2), small.min(axis=2)
    if is_bright_field(overview):
        white = 255.0 if overview.dtype == np.uint8 else float(np.percentile(brightest, 99.9))
        background = float(np.percentile(darkest, 99)) / white
        darkness = max(BACKGROUND, background) - darkest / white
        threshold = TISSUE_LIMITS[0]
        if background > BACKGROUND:
            threshold = otsu_within(darkness, TISSUE_LIMITS)
        mask = (darkness > threshold) & (brightest > UNSCANNED * white)
    else:
        signal = (brightest - float(np.percentile(brightest, 1))) / white_level(overview, brightest)
        mask = signal > otsu_within(signal, SIGNAL_LIMITS)
    if not mask.any():
        return mask
    return ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=MASK_GROW_PX)


def white_level(overview, brightest):
    """The grey level that counts as white.

    A dim slide of 16 bits is nearly black: it is measured by what it reaches.

    Args:
        overview: (H, W, 3) uint8 or uint16, for its dtype.
        brightest: the largest of R, G and B of each pixel.
    """
    if overview.dtype == np.uint8:
        return 255.0
    return max(MIN_WHITE_16BIT, float(np.percentile(brightest, 99.9)))


def is_bright_field(overview):
    """Whether a slide is bright field: light where it was scanned, and not fluorescence.

    Black areas were never scanned. What was scanned must be bright for the most part, and either
    cover most of the slide or contain background; the bright nuclei of fluorescence do neither.

    Args:
        overview: (H, W, 3) uint8 or uint16.
    """
    brightest, darkest = overview.max(axis=2).astype(np.float32), overview.min(axis=2)
    white = white_level(overview, brightest)
    is_scanned = brightest > UNSCANNED * white
    if is_scanned.mean() < 0.01 or np.median(brightest[is_scanned]) <= 0.6 * white:
        return False
    has_background = (darkest[is_scanned] > 0.75 * white).mean() > 0.2
    return bool(is_scanned.mean() > 0.5 or has_background)


def otsu_within(values, limits):
    """Otsu's threshold of values, or the limit (low, high) that it passes."""
    from skimage.filters import threshold_otsu

    return float(np.clip(threshold_otsu(values), *limits)) if np.ptp(values) > 0 else limits[1]
