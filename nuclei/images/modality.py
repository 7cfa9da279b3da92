"""nuclei.images.modality"""

import numpy as np

from nuclei.images.intensity import MIN_RANGE_8BIT, MIN_RANGE_16BIT, percentiles

TISSUE_CHROMA = 0.05  # mean (max - min of R, G, B) / white: in DSB2018 grey bright field <= 0.04, pale H&E >= 0.06


def modality(image: np.ndarray) -> str:
    """Kind of microscopy by colour statistics: "fluorescence" (dark ground), "tissue" (coloured on light ground, as
    H&E) or "brightfield" (grey on light ground).

    image: (H, W, 3) uint8 or uint16.
    """
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / 1_000_000)))  # a megapixel is enough for an average
    sample = image[::step, ::step]
    # By the brightest channel, so that a blue (DAPI) or green signal on black counts as light, its ground as dark.
    red, green, blue = (np.ascontiguousarray(sample[..., channel]) for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    low, median, high = percentiles(brightest, (0.5, 50, 99.8))
    if image.dtype == np.uint8:
        blank, white = high - low < MIN_RANGE_8BIT, max(high, 128.0)  # 128: an underexposed slide still is light
    else:  # cameras of 10 to 16 bits all come as uint16, so the white level is what the image reaches
        blank = high - low < MIN_RANGE_16BIT
        white = 65535.0 if blank else high
    # In DSB2018 the median lies at 0.48 to 0.96 of the range on light ground, at 0.19 or less on dark.
    light_ground = median > 0.45 * white and (blank or median - low > 0.35 * (high - low))
    if not light_ground:
        return "fluorescence"
    chroma = (brightest - np.minimum(np.minimum(red, green), blue)).mean() / white
    return "tissue" if chroma > TISSUE_CHROMA else "brightfield"
