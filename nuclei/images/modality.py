"""The kind of microscopy of an image, by its content: fluorescence, tissue or bright field.

Training splits and reports by modality, so that both kinds of images stand on each side. Stains are
measured in tissue alone.

Neither a border nor the share of background decides. A section may fill the whole image, and
crowded nuclei may make a fluorescence image light. So colours are asked first: light that passed a
stain is never of one pure colour. Then shapes are asked: nuclei are round, so edges curve around
the side that is nucleus.
"""

import numpy as np

from nuclei.images.intensity import MIN_RANGE_8BIT, MIN_RANGE_16BIT, percentiles
from nuclei.images.outliers import over_channels, without_flat_border

SAMPLE_PIXELS = 1_000_000  # px of an image that are looked at; more does not change an average
TISSUE_CHROMA = 0.1  # mean (max - min of R, G, B) / white: more than the tint of a grey camera
# Decades by which ratios of colours vary. A tint in JPEG has up to 0.006, pale H&E 0.013 and more.
TISSUE_HUES = 0.009
HUE_FLOOR = 0.1  # of the white level, added before ratios: nearly black pixels have any hue
PURE_COLOUR = 0.8  # mean (max - min) / max of the lighter half: one fluorescent dye has 1
MIN_WHITE_8BIT = 128.0  # grey level: an underexposed slide still has a light background
# In DSB2018 the median lies at 0.48 to 0.96 of the range on light background, at 0.19 on dark.
MIN_LIGHT_MEDIAN = 0.45  # of the white level
MIN_LIGHT_RISE = 0.35  # of the range, above its lower end
DIM_MEDIAN = 0.3  # of the white level, in colour: dense sections in dim light have 0.2 to 0.6
PLAIN_MEDIAN = 0.1  # of the range: a median so near to one end is background, whatever the shapes
EDGE_SIGMA_PX = 2.0  # blur before curvature: noise curves to both sides
EDGE_PERCENTILE = 60  # of the slopes; what is flatter is no edge
MIN_RADIUS_PX = 5.0  # of an edge that counts: tighter ones are corners between nuclei that touch
MIN_MAJORITY = 0.005  # of the edges, beyond one half; with less the shapes say nothing


def modality(image: np.ndarray) -> str:
    """Tell the kind of microscopy by colours, and by the side to which edges curve.

    Args:
        image: (H, W, 3) uint8 or uint16.

    Returns:
        "fluorescence" (bright nuclei), "tissue" (coloured, in transmitted light, as H&E) or
        "brightfield" (grey, dark nuclei).
    """
    sample = thinned(image)
    inside = without_flat_border(sample)
    pixels = sample if inside is None else sample[inside][None]
    # The brightest channel: a blue (DAPI) or green signal on black counts as light, as it should.
    brightest, darkest = (over_channels(extreme, pixels) for extreme in (np.maximum, np.minimum))
    low, median, high = percentiles(brightest, (0.5, 50, 99.8))
    if image.dtype == np.uint8:
        is_blank, white = high - low < MIN_RANGE_8BIT, max(high, MIN_WHITE_8BIT)
    else:  # cameras of 10 to 16 bits all come as uint16: the white level is what the image reaches
        is_blank = high - low < MIN_RANGE_16BIT
        white = 65535.0 if is_blank else high
    rise = (median - low) / max(high - low, 1e-9)
    is_light = median > MIN_LIGHT_MEDIAN * white and (is_blank or rise > MIN_LIGHT_RISE)
    chroma = float((brightest - darkest).mean()) / white
    is_coloured = chroma > TISSUE_CHROMA or (
        is_light and spread_of_hues(pixels, white) > TISSUE_HUES
    )
    if is_blank:
        return ("tissue" if is_coloured else "brightfield") if is_light else "fluorescence"
    if is_coloured:
        lighter = brightest >= max(median, 1)
        saturation = ((brightest - darkest)[lighter] / brightest[lighter]).mean()
        is_dim = median < DIM_MEDIAN * white and not nuclei_are_dark(sample, inside, rise)
        is_dye = saturation > PURE_COLOUR or is_dim
        return "fluorescence" if is_dye else "tissue"
    is_dark = nuclei_are_dark(sample, inside, rise)
    return "brightfield" if (is_light if is_dark is None else is_dark) else "fluorescence"


def nuclear_light(image: np.ndarray) -> np.ndarray:
    """Make nuclei brighter than the background, whatever the modality.

    Args:
        image: (H, W, 3) uint8 or uint16.

    Returns:
        (H, W) of the same dtype: the brightest channel in fluorescence, which may have any colour.
        Otherwise red inverted, the channel that shows haematoxylin best.
    """
    is_bright = modality(image) == "fluorescence"
    return over_channels(np.maximum, image) if is_bright else ~image[..., 0]


def thinned(image: np.ndarray) -> np.ndarray:
    """An image of at most SAMPLE_PIXELS, each the mean of several: stains and shapes stay."""
    import cv2  # late: import_data.py begins without it

    factor = float(np.sqrt(SAMPLE_PIXELS / max(1, image.shape[0] * image.shape[1])))
    if factor >= 1:
        return image
    height, width = (max(1, round(length * factor)) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def spread_of_hues(pixels: np.ndarray, white: float) -> float:
    """How much the ratios of the colours vary from pixel to pixel: standard deviation in decades.

    A tint of lamp or camera changes all pixels by one factor, stains change them by several.

    Args:
        pixels: (h, w, 3) or (1, n, 3) uint8 or uint16.
        white: grey level of white.
    """
    logs = np.log10(pixels.reshape(-1, 3).astype(np.float32) + np.float32(HUE_FLOOR * white))
    ratios = logs[:, [0, 2]] - logs[:, 1:2]
    return float(ratios.std(axis=0).max())


def nuclei_are_dark(sample: np.ndarray, inside: np.ndarray | None, rise: float) -> bool | None:
    """Whether nuclei are darker than what lies around them, by the shapes of the edges.

    Nuclei are convex. Where most edges curve around their darker side, the nuclei are dark, also
    where they cover more than half of the image.

    Args:
        sample: (h, w, 3) uint8 or uint16.
        inside: (h, w) bool without a flat border; None for all.
        rise: the median of the image, 0 its darkest and 1 its lightest value.

    Returns:
        None where the edges curve to both sides alike.
    """
    import cv2  # late, as above

    if not PLAIN_MEDIAN < rise < 1 - PLAIN_MEDIAN:
        return rise > 0.5
    if min(sample.shape[:2]) < 3:
        return None
    grey = sample.astype(np.float32).mean(axis=-1)
    low, high = np.percentile(grey if inside is None else grey[inside], (0.5, 99.8))
    blurred = cv2.GaussianBlur(np.minimum(grey, high), (0, 0), EDGE_SIGMA_PX)
    down, right = np.gradient(blurred)
    slope = np.hypot(down, right) + 1e-6 * max(float(high - low), 1.0)
    # The divergence of the unit gradient is negative where an edge curves around the lighter side.
    curvature = np.gradient(down / slope, axis=0) + np.gradient(right / slope, axis=1)
    weight = slope if inside is None else slope * cv2.erode(inside.view(np.uint8), np.ones((9, 9)))
    weight = weight * (weight > np.percentile(weight, EDGE_PERCENTILE))
    weight = weight * (np.abs(curvature) < 1 / MIN_RADIUS_PX)
    share_dark = float(weight[curvature > 0].sum() / max(float(weight.sum()), 1e-9))
    if abs(share_dark - 0.5) < MIN_MAJORITY:
        return None
    return share_dark > 0.5
