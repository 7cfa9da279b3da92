"""The kind of microscopy of an image, by its colours: fluorescence, tissue or bright field.

Training splits and reports by modality, so that both kinds of images stand on each side.
"""

import numpy as np

from nuclei.images.intensity import MIN_RANGE_8BIT, MIN_RANGE_16BIT, percentiles
from nuclei.images.outliers import without_flat_border

SAMPLE_PIXELS = 1_000_000  # px of an image that are looked at; more does not change an average
TISSUE_CHROMA = 0.05  # mean (max - min of R, G, B) / white: grey bright field 0.04, pale H&E 0.06
MIN_WHITE_8BIT = 128.0  # grey level: an underexposed slide still has a light background
# In DSB2018 the median lies at 0.48 to 0.96 of the range on light background, at 0.19 on dark.
MIN_LIGHT_MEDIAN = 0.45  # of the white level
MIN_LIGHT_RISE = 0.35  # of the range, above its lower end


def modality(image: np.ndarray) -> str:
    """Tell the kind of microscopy by colour statistics.

    Args:
        image: (H, W, 3) uint8 or uint16.

    Returns:
        "fluorescence" (dark background), "tissue" (coloured on light background, as H&E) or
        "brightfield" (grey on light background).
    """
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLE_PIXELS)))
    sample = image[::step, ::step]
    inside = without_flat_border(sample)
    if inside is not None and inside.any():
        sample = sample[inside][None]
    # The brightest channel: a blue (DAPI) or green signal on black counts as light, as it should.
    red, green, blue = (np.ascontiguousarray(sample[..., channel]) for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    low, median, high = percentiles(brightest, (0.5, 50, 99.8))
    if image.dtype == np.uint8:
        is_blank, white = high - low < MIN_RANGE_8BIT, max(high, MIN_WHITE_8BIT)
    else:  # cameras of 10 to 16 bits all come as uint16: the white level is what the image reaches
        is_blank = high - low < MIN_RANGE_16BIT
        white = 65535.0 if is_blank else high
    rises = is_blank or median - low > MIN_LIGHT_RISE * (high - low)
    if not (median > MIN_LIGHT_MEDIAN * white and rises):
        return "fluorescence"
    chroma = (brightest - np.minimum(np.minimum(red, green), blue)).mean() / white
    return "tissue" if chroma > TISSUE_CHROMA else "brightfield"
