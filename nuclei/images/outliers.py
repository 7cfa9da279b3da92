"""What must not decide the grey levels of an image: flat borders, and one bright thing.

    inside = without_flat_border(image)          # (H, W) bool, or None: there is no such border
    inside = without_bright_thing(image, low, high)

A mosaic has black or white borders where nothing was scanned. Debris, a scale bar or a saturated
fibre can be many times brighter than all nuclei. Both are recognised by their shape; otherwise
all pixels count.
"""

import numpy as np

LOOK_PX = 768  # side up to which an image is looked at; a larger one is thinned
FLAT = 0.02  # of the white level, by which the pixels of a border differ: JPEG blurs them
MIN_BORDER = 0.01  # share of the image from which a border matters
MIN_JUMP = 0.25  # of the white level, from a border to the image beside it
FIELD_PART = 8  # an image beside a border is at least this part of the shorter side wide
MIN_FIELD = 0.8  # share of the pixels beside a border that lie in such a wide field
THING = 1 / 3  # of the range: what is brighter is the thing, and all nuclei are dimmer
MAX_THINGS = 3  # a scale bar with its number, or debris in pieces
MAX_PIECES = 8  # blobs of which such things may consist: more are nuclei
DIM_PER_THING = 8  # so many dim nuclei for each bright thing, where there are more things
MAX_THING_SHARE = 0.25  # of the image
MIN_NUCLEI = 3  # fewer dim blobs do not tell nuclei from a glow
MIN_NUCLEUS_PX = 20


def thinned(image: np.ndarray, extreme=np.maximum) -> tuple[np.ndarray, int]:
    """(brightest channel (h, w) of every n-th pixel, n); the darkest by `extreme=np.minimum`."""
    step = max(1, -(-max(image.shape[:2]) // LOOK_PX))
    return over_channels(extreme, image[::step, ::step]), step


def over_channels(extreme, image: np.ndarray) -> np.ndarray:
    """`np.maximum` or `np.minimum` of the channels: (H, W) of (H, W, C), as many times faster.

    NumPy reduces a short last axis pixel by pixel.
    """
    result = image[..., 0]
    for channel in range(1, image.shape[-1]):
        result = extreme(result, image[..., channel])
    return result


def without_flat_border(image: np.ndarray) -> np.ndarray | None:
    """Where an image is no flat black or white border.

    A border is of one value, reaches the edge of the image, and differs from what lies beside it.
    The background of nuclei fades into them, and what is beside it is small: it is no border.

    Args:
        image: (H, W, 3) uint8 or uint16.

    Returns:
        (H, W) bool, or None where there is no border.
    """
    import cv2  # late: scripts that only read tables start faster without it

    brightest, step = thinned(image)
    highest = int(brightest.max())
    tolerance = FLAT * highest
    for value in (0, highest):
        flat = (np.abs(brightest.astype(np.float32) - value) <= tolerance).astype(np.uint8)
        if value:  # white in all channels
            flat &= thinned(image, np.minimum)[0] >= highest - tolerance
        border = touching_edge(flat)
        if not MIN_BORDER < border.mean() < 1:
            continue
        inside = (border == 0).astype(np.uint8)
        side = max(3, min(inside.shape) // FIELD_PART)
        wide = cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
        if wide.sum() < MIN_FIELD * inside.sum():
            continue
        # Two pixels beyond the border: the first is often a mixture.
        near = cv2.dilate(border, np.ones((7, 7), np.uint8)) & wide
        near &= 1 - cv2.dilate(border, np.ones((3, 3), np.uint8))
        if not near.any():
            continue
        # Beside a saturated thing, all dim nuclei of 16 bits are nearly black.
        if image.dtype != np.uint8 and count_dim_nuclei(brightest, border > 0) >= MIN_NUCLEI:
            continue
        jump = abs(float(np.median(brightest[near > 0])) - value)
        if jump > MIN_JUMP * highest:
            if np.ptp(brightest[border > 0]):  # JPEG blurs the outermost pixels of the image
                border = cv2.dilate(border, np.ones((3, 3), np.uint8))
            return enlarged(border == 0, step, image.shape[:2])
    return None


def box_of(inside: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold all of a mask (H, W) bool."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def with_mirrored_border(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) that is mirrored into its flat border, as at the edge of an image.

    A network takes a black border beside light tissue for a part of the nuclei there. What it finds
    in the mirrored part is to be dropped.

    Args:
        image: the image.
        inside: as of `without_flat_border`.
    """
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    mirrored = [
        np.clip(2 * index - place, 0, length - 1)
        for index, place, length in zip(
            nearest, np.ogrid[: image.shape[0], : image.shape[1]], inside.shape, strict=True
        )
    ]
    is_inside = inside[tuple(mirrored)]
    return image[tuple(np.where(is_inside, m, n) for m, n in zip(mirrored, nearest, strict=True))]


def touching_edge(mask: np.ndarray) -> np.ndarray:
    """The parts of a mask (h, w) uint8 that reach the edge of the image, as uint8."""
    import cv2

    _, labels = cv2.connectedComponents(mask, connectivity=4)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return (np.isin(labels, np.unique(edge[edge > 0]))).astype(np.uint8)


def without_bright_thing(image: np.ndarray, low: float, high: float) -> np.ndarray | None:
    """Where an image is no thing that is several times brighter than all its nuclei.

    Args:
        image: (H, W, 3) uint8 or uint16.
        low, high: grey levels between which all of the image lies, but for a few pixels.

    Returns:
        (H, W) bool, or None where there is no such thing, or where it is the only nucleus.
    """
    import cv2

    brightest, step = thinned(image)
    grey = brightest.astype(np.float32)
    bright = (grey > low + (high - low) * THING).astype(np.uint8)
    if not 0 < bright.mean() < MAX_THING_SHARE:
        return None
    if count_blobs(grey, bright > 0, 0.15 * (high - low), 8.0) > MAX_PIECES:
        return None
    reach = max(5, max(grey.shape) // 48) | 1  # px: the pieces of a thing, and its glow
    bright = cv2.dilate(bright, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    num_things = cv2.connectedComponents(bright)[0] - 1
    rest = bright == 0
    if rest.mean() < 1 - 2 * MAX_THING_SHARE:
        return None
    num_dim = count_dim_nuclei(grey, rest)
    if num_dim < MIN_NUCLEI or num_things > max(MAX_THINGS, num_dim // DIM_PER_THING):
        return None
    return enlarged(rest, step, image.shape[:2])


def count_dim_nuclei(grey: np.ndarray, rest: np.ndarray) -> int:
    """Number of blobs in the part `rest` (h, w) of an image that rise above noise and glow."""
    filled = np.where(rest, grey, np.median(grey[rest])).astype(np.float32)
    low, high = np.percentile(filled, (0.5, 99.8))
    if not high > low:
        return 0
    filled = np.minimum(filled, np.float32(high))
    return count_blobs(filled, rest, 0.3 * (high - low), max(grey.shape) / 12)


def count_blobs(grey: np.ndarray, part: np.ndarray, step: float, sigma_px: float) -> int:
    """Number of blobs in a part of an image that are brighter than their surroundings.

    Args:
        grey: (h, w) float32.
        part: (h, w) bool.
        step: least difference to the mean around. Smoothing leaves a seventh of noise, and most of
            a nucleus.
        sigma_px: how far around.
    """
    import cv2

    local = cv2.GaussianBlur(grey, (0, 0), 2.0) - cv2.GaussianBlur(grey, (0, 0), sigma_px)
    blobs = ((local > step) & part).astype(np.uint8)
    areas_px = cv2.connectedComponentsWithStats(blobs)[2][1:, cv2.CC_STAT_AREA]
    return int((areas_px >= MIN_NUCLEUS_PX).sum())


def enlarged(mask: np.ndarray, step: int, shape: tuple[int, int]) -> np.ndarray:
    """A mask of every n-th pixel, for all pixels of an image of this shape."""
    if step == 1:
        return mask
    return mask.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]
