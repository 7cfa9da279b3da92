"""nuclei.images.intensity"""

import numpy as np

RANGE_PERCENTILES = (0.5, 99.8)  # of all values, to 0 and 1; sparse nuclei cover less than 1 %: cut little above
FLOAT_PERCENTILES = (0.02, 99.98)  # float and 32-bit files to uint16: wider, only to survive a few broken pixels
MIN_RANGE_8BIT = 8  # grey levels: real dim fluorescence spans 15 of 255, sensor noise of a blank field less than 8
MIN_RANGE_16BIT = 64  # counts: read noise of a blank camera frame spans 10-50, a dim stain some hundred
MIN_CONTRAST = 8 / 255  # least range of a 16-bit or float image as a share of its brightest value
BAND_PIXELS = 4_000_000  # px handled at once where a temporary array is wider than the image


def scaled_to_uint16(pixels: np.ndarray, path) -> np.ndarray:
    """Map percentiles of a float, signed or 32-bit image to 0...65535; a blank image stays within MIN_RANGE_16BIT."""
    if np.iscomplexobj(pixels):
        raise ValueError(f"{path} holds complex numbers; expected grey levels")
    sample = pixels[:: max(1, pixels.size // BAND_PIXELS)]  # every n-th row is plenty for a percentile
    finite = sample[np.isfinite(sample)]
    if finite.size == 0:
        raise ValueError(f"{path} holds no finite number (all NaN or infinite); export it again")
    low, high = (float(value) for value in np.percentile(finite.astype(np.float64), FLOAT_PERCENTILES))
    brightest = max(abs(low), abs(high))
    integers = np.issubdtype(pixels.dtype, np.integer)
    # Floats up to 1 are shares of a full scale of 65535 counts, larger ones are counts themselves.
    least = max(MIN_CONTRAST * brightest, MIN_RANGE_16BIT / (65535 if brightest <= 1 and not integers else 1))
    # A blank image gets few counts, so that `normalise` sees a blank one, too.
    factor = 65535 / (high - low) if high - low >= least else MIN_RANGE_16BIT / least
    result = np.empty(pixels.shape, np.uint16)
    rows = max(1, BAND_PIXELS // max(1, pixels[0].size))
    for start in range(0, len(pixels), rows):
        band = (pixels[start : start + rows].astype(np.float64) - low) * factor
        result[start : start + rows] = np.clip(np.nan_to_num(band, nan=0.0, posinf=65535, neginf=0), 0, 65535).round()
    return result


def percentiles(image: np.ndarray, shares) -> list[float]:
    """Exact percentiles (nearest rank, shares in 0...100) of all values of a uint8 or uint16 array, by histogram."""
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an image of dtype {image.dtype} came; expected uint8 or uint16, as read_image returns")
    counts = np.zeros(np.iinfo(image.dtype).max + 1, np.int64)
    rows = max(1, BAND_PIXELS // max(1, image[0].size))  # bincount makes 8 bytes of every value
    for start in range(0, len(image), rows):
        counts += np.bincount(image[start : start + rows].ravel(), minlength=counts.size)
    cumulative = counts.cumsum()
    ranks = [max(1, int(np.ceil(share / 100 * cumulative[-1]))) for share in shares]
    return [float(np.searchsorted(cumulative, rank)) for rank in ranks]


def intensity_range(image: np.ndarray) -> tuple[float, float]:
    """Grey levels (low, high) that `normalise` maps to 0 and 1: RANGE_PERCENTILES over all pixels and channels.

    One range for all channels keeps the colour of a stain. The range is never less than a floor (MIN_RANGE_8BIT, or
    MIN_RANGE_16BIT and MIN_CONTRAST), so that the noise of a blank image is not blown up into nuclei; what is missing
    is added below a bright image and above a dark one, so that empty glass stays white and an empty field black.

    image: (H, W, 3) or (H, W), uint8 or uint16. Compute it once for a whole image and pass it on for its tiles.
    """
    low, high = percentiles(image, RANGE_PERCENTILES)
    white = float(np.iinfo(image.dtype).max)
    floor = float(MIN_RANGE_8BIT) if image.dtype == np.uint8 else max(float(MIN_RANGE_16BIT), MIN_CONTRAST * high)
    if high - low < floor:
        low -= (floor - (high - low)) * low / white
        high = low + floor
    return low, high


measured_range = intensity_range  # the name for use where a parameter is called intensity_range


def normalise(image: np.ndarray, intensity_range: tuple[float, float] | None = None) -> np.ndarray:
    """Stretch grey levels to 0...1 for the network, clipped.

    image: (H, W, 3) uint8 or uint16. intensity_range: (low, high) of the whole image, where `image` is a tile of it.
    Returns: (H, W, 3) float32 in [0, 1].
    """
    low, high = measured_range(image) if intensity_range is None else intensity_range
    result = image.astype(np.float32)
    result -= np.float32(low)
    result *= np.float32(1 / (high - low))
    return np.clip(result, 0, 1, out=result)
