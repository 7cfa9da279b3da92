"""Grey levels: the intensity range of an image, and its values from 0 to 1 for the network.

    low, high = intensity_range(image)          # once for a whole image
    batch = normalise(tile, (low, high))        # then for each of its tiles

Training and prediction take the range from here, so the network sees the same values in both.
"""

import numpy as np

from nuclei.images.outliers import box_of, without_bright_thing, without_flat_border

RANGE_PERCENTILES = (0.5, 99.8)  # become 0 and 1; nuclei may cover under 1 %: little is cut above
FLOAT_PERCENTILES = (0.02, 99.98)  # float files to uint16: wider, only to survive broken pixels
MIN_RANGE_8BIT = 8  # grey levels: the noise of a blank field spans less, a dim stain more
MIN_RANGE_16BIT = 64  # counts: the read noise of a blank camera frame spans 10 to 50
MIN_CONTRAST = 8 / 255  # least range of a 16-bit or float image, as a share of its brightest value
BAND_PIXELS = 4_000_000  # px worked on at once where a temporary array is wider than the image


def scaled_to_uint16(pixels: np.ndarray, path) -> np.ndarray:
    """Map FLOAT_PERCENTILES of an image without a fixed white level to 0...65535.

    0 stays 0, as in an image of 16 bits, unless there are values below: optical densities of stains
    need the black that the file has.

    Args:
        pixels: (H, W) or (H, W, C), float, signed or 32-bit. NaN counts as the darkest value.
        path: names the file in an error.

    Returns:
        uint16 of the same shape. A blank image spans at most MIN_RANGE_16BIT.

    Raises:
        ValueError: the values are complex or none of them is finite.
    """
    if np.iscomplexobj(pixels):
        raise ValueError(f"{path} holds complex numbers; expected grey levels")
    sample = pixels[:: max(1, pixels.size // BAND_PIXELS)]  # some rows are enough for a percentile
    finite = sample[np.isfinite(sample)]
    if finite.size == 0:
        raise ValueError(f"{path} holds no finite number (all NaN or infinite); export it again")
    ends = np.percentile(finite.astype(float), FLOAT_PERCENTILES)
    darkest, high = (float(value) for value in ends)
    low, brightest, contrast = min(darkest, 0.0), max(abs(darkest), abs(high)), high - darkest
    integers = np.issubdtype(pixels.dtype, np.integer)
    # Floats up to 1 are shares of a full scale of 65535 counts, larger ones are counts themselves.
    count = 1 / 65535 if brightest <= 1 and not integers else 1
    least = max(MIN_CONTRAST * brightest, MIN_RANGE_16BIT * count)
    # A blank image gets few counts, so that `normalise` sees a blank image, too.
    factor = 65535 / (high - low) if contrast >= least else MIN_RANGE_16BIT / least
    result = np.empty(pixels.shape, np.uint16)
    rows = max(1, BAND_PIXELS // max(1, pixels[0].size))
    for start in range(0, len(pixels), rows):
        band = np.nan_to_num(pixels[start : start + rows].astype(np.float64), nan=darkest)
        result[start : start + rows] = ((np.clip(band, darkest, high) - low) * factor).round()
    return result


def percentiles(image: np.ndarray, shares) -> list[float]:
    """Exact percentiles (nearest rank) of all values of an image, by their histogram.

    Args:
        image: uint8 or uint16, of any shape.
        shares: in percent, 0...100.

    Raises:
        ValueError: the image has another dtype.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"an image of dtype {image.dtype} came; expected uint8 or uint16, as read_image returns"
        )
    counts = np.zeros(np.iinfo(image.dtype).max + 1, np.int64)
    rows = max(1, BAND_PIXELS // max(1, image[0].size))  # bincount makes 8 bytes of every value
    for start in range(0, len(image), rows):
        counts += np.bincount(image[start : start + rows].ravel(), minlength=counts.size)
    cumulative = counts.cumsum()
    ranks = [max(1, int(np.ceil(share / 100 * cumulative[-1]))) for share in shares]
    return [float(np.searchsorted(cumulative, rank)) for rank in ranks]


def intensity_range(image: np.ndarray) -> tuple[float, float]:
    """The grey levels that `normalise` maps to 0 and 1: RANGE_PERCENTILES of all values.

    A flat border, and one thing that is much brighter than all nuclei, do not count; see the room
    `outliers`.

    One range for all channels keeps the colour of a stain. The range has a floor (MIN_RANGE_8BIT,
    or MIN_RANGE_16BIT and MIN_CONTRAST), so that the noise of a blank image does not look like
    nuclei. A range below the floor grows downward in a bright image and upward in a dark one: a
    bright background stays white and an empty dark field black.

    Args:
        image: (H, W, 3), uint8 or uint16; the whole image, not a tile. Pixels without their places,
            (n, 3), are taken as they are.

    Returns:
        (low, high) in grey levels.
    """
    low, high = percentiles(image, RANGE_PERCENTILES)
    if image.ndim == 3 and high - low >= floor_of(image.dtype, high):
        inside = without_flat_border(image)
        if inside is not None:  # a white border would hide a bright thing beside it
            box = box_of(inside)
            image, inside = image[box], inside[box]
        part = image if inside is None else image[inside]
        low, high = percentiles(part, RANGE_PERCENTILES)
        rest = without_bright_thing(image, low, high)
        if rest is not None:
            part = image[rest if inside is None else rest & inside]
            low, dimmer = percentiles(part, RANGE_PERCENTILES)
            if dimmer - low >= 2 * floor_of(image.dtype, dimmer):  # more than noise
                high = dimmer
    white = float(np.iinfo(image.dtype).max)
    floor = floor_of(image.dtype, high)
    if high - low < floor:
        low -= (floor - (high - low)) * low / white
        high = low + floor
    return low, high


def floor_of(dtype, high: float) -> float:
    """The least range of an image of this dtype whose brightest value is `high`."""
    if dtype == np.uint8:
        return float(MIN_RANGE_8BIT)
    return max(float(MIN_RANGE_16BIT), MIN_CONTRAST * high)


def normalise(image: np.ndarray, intensity: tuple[float, float] | None = None) -> np.ndarray:
    """Stretch grey levels to 0...1 for the network and clip them.

    Args:
        image: (H, W, 3) uint8 or uint16.
        intensity: `intensity_range` of the whole image; needed where `image` is a tile of it.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    low, high = intensity_range(image) if intensity is None else intensity
    result = image.astype(np.float32)
    result -= np.float32(low)
    result *= np.float32(1 / (high - low))
    return np.clip(result, 0, 1, out=result)
