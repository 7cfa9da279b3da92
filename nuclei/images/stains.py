"""Stains in transmitted light: their optical densities, and whether an image has DAB.

    densities = stain_densities(image, white)      # (..., 3): haematoxylin, eosin, DAB
    is_immunostained = has_dab(image)

References:
    Ruifrok & Johnston 2001, "Quantification of histochemical staining by color deconvolution".
"""

import numpy as np

from nuclei.images.intensity import RANGE_PERCENTILES, percentiles

# Brown is what DAB alone is: it takes more of blue than of green light. Haematoxylin and eosin take
# more of green, by 0.03 and more in each of 14,500 nuclei of H&E. So this, and not the DAB of the
# deconvolution, tells brown: other dyes than those of its vectors come out as DAB, too.
BROWN_OD = 0.05  # of a pixel: optical density of blue above that of green
BROWN_RED_OD = 0.1  # and above that of red: blood and pigment are red
DAB_SHARE = 0.005  # of all pixels from which an image has DAB; H&E with pigment has up to 0.0043
MAX_LOOK_PX = 1_000_000  # of an image that are looked at for DAB


def white_of(image: np.ndarray) -> int:
    """Grey level of empty background: 255, or in 16 bits what the image reaches.

    Cameras of 10 to 16 bits all give uint16: there the brightest values are the background, but
    for a few broken pixels.
    """
    if image.dtype == np.uint8 or not image.size:
        return 255
    return max(1, int(percentiles(image, RANGE_PERCENTILES[1:])[0]))


def optical_densities(colours: np.ndarray, white: float) -> np.ndarray:
    """Decades by which light is dimmed.

    Args:
        colours: grey levels, of any shape.
        white: grey level of empty background.

    Returns:
        Floats of the same shape, 0 at the background. Black is dense, but not infinitely.
    """
    return -np.log10((np.asarray(colours, float) + 1) / (white + 1))


def stain_densities(colours: np.ndarray, white: float) -> np.ndarray:
    """Compute optical densities of haematoxylin, eosin and DAB by colour deconvolution.

    Args:
        colours: (..., 3) grey levels of red, green and blue.
        white: the grey level of empty background.

    Returns:
        (..., 3) float64. A stain that is absent comes out around 0, through noise also below.
    """
    from skimage.color import hed_from_rgb

    return optical_densities(colours, white) @ hed_from_rgb


def has_dab(pixels: np.ndarray, white: float | None = None) -> bool:
    """Whether a stained image holds DAB (brown), as immunohistochemistry has it.

    Args:
        pixels: (H, W, 3) or (n, 3) uint8 or uint16, of tissue in bright field.
        white: grey level of empty background; None takes it from the image.
    """
    white = white_of(pixels) if white is None else white
    every = max(1, int(np.ceil((pixels.size / 3 / MAX_LOOK_PX) ** 0.5)))
    sample = pixels[::every, ::every] if pixels.ndim == 3 else pixels[:: every**2]
    red, green, blue = np.moveaxis(optical_densities(sample, white), -1, 0)
    is_brown = (blue - green > BROWN_OD) & (blue - red > BROWN_RED_OD)
    return bool(is_brown.mean() > DAB_SHARE) if is_brown.size else False
