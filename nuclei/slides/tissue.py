"""nuclei.slides.tissue"""

import cv2
import numpy as np

MASK_GROW_PX = 2  # of the mask's pixels: pale borders of tissue belong to it
BACKGROUND = 0.86  # of white: glass is at least so bright, so that a slide without any glass is tissue throughout
TISSUE_LIMITS = (0.04, 0.10)  # darkness below the glass that Otsu's threshold may not leave; noise of glass has 0.02
SIGNAL_LIMITS = (4 / 255, 0.10)  # fluorescence: the same above the background; of the brightest signal
UNSCANNED = 0.03  # of white: black areas among bright ones were never scanned


def find_tissue(overview, step=1):
    """Where there is something on the glass, or light in the dark: (h, w) bool, of the picture or `step` times smaller.

    On light ground what is darker in any colour than glass; in fluorescence what is brighter than the background. The
    threshold is Otsu's within TISSUE_LIMITS or SIGNAL_LIMITS: what is doubtful is tissue, since that costs only time.

    Args:
        overview: (H, W, 3) uint8 or uint16.
    """
    from scipy import ndimage  # here, as pandas and scikit-image below: their imports take a second, which --help has not

    height, width = (-(-length // step) for length in overview.shape[:2])
    small = cv2.resize(overview, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    brightest, darkest = small.max(axis=2), small.min(axis=2)
    if ground_is_light(overview):
        white = 255.0 if overview.dtype == np.uint8 else float(np.percentile(brightest, 99.9))
        glass = float(np.percentile(darkest, 99)) / white
        signal = max(BACKGROUND, glass) - darkest / white
        threshold = otsu_within(signal, TISSUE_LIMITS) if glass > BACKGROUND else TISSUE_LIMITS[0]
        found = (signal > threshold) & (brightest > UNSCANNED * white)
    else:
        # A dim slide of 16 bits is nearly black: it is measured by what it reaches, if that is more than noise.
        top = 255.0 if overview.dtype == np.uint8 else max(2048.0, float(np.percentile(brightest, 99.9)))
        signal = (brightest - float(np.percentile(brightest, 1))) / top
        found = signal > otsu_within(signal, SIGNAL_LIMITS)
    return ndimage.binary_dilation(found, np.ones((3, 3)), iterations=MASK_GROW_PX) if found.any() else found


def ground_is_light(overview):
    """Whether it is bright field: what is not black, as areas that were never scanned are, is bright for the most part, and
    is either most of the picture or has glass in it, which the bright nuclei of a fluorescence slide have not."""
    brightest, darkest = (overview.max(axis=2).astype(np.float32), overview.min(axis=2))
    white = 255.0 if overview.dtype == np.uint8 else max(2048.0, float(np.percentile(brightest, 99.9)))
    scanned = brightest > UNSCANNED * white
    if scanned.mean() < 0.01 or np.median(brightest[scanned]) <= 0.6 * white:
        return False
    return bool(scanned.mean() > 0.5 or (darkest[scanned] > 0.75 * white).mean() > 0.2)


def otsu_within(values, limits):
    """Otsu's threshold, or the limit that it passes."""
    from skimage.filters import threshold_otsu

    return float(np.clip(threshold_otsu(values), *limits)) if np.ptp(values) > 0 else limits[1]
