"""nuclei.training.geometry"""

import cv2
import numpy as np

# Geometry.
DIAMETER_PX = 24  # median nucleus diameter that every image is brought to, so that one size has to be learned, not all
SCALE = (0.7, 1.4)  # times that: sizes differ within an image, and prediction only estimates them
RESAMPLE_LIMITS = (0.25, 4)  # never further than this from native: resampling makes or destroys detail
CENTRE_SHARE = 0.7  # of the crops are centred near a nucleus, the others lie anywhere: empty ones included, not dominating
ROTATE_SHARE = 0.5  # of the crops get any angle and shear, the others a multiple of 90 degrees (no interpolation of edges)
SHEAR = 0.12
ELASTIC_SHARE = 0.25
ELASTIC_GRID_PX = 48  # distance of the control points
ELASTIC_STRENGTH = 0.08  # standard deviation of a control point's shift, in control point distances


def reflect(position, length):
    """Fold positions outside of [0, length - 1] back inside, mirror-wise and as often as needed."""
    if length == 1:
        return np.zeros_like(position)
    period = 2.0 * (length - 1)
    position = np.abs(position)
    if position.max() > period:  # seldom, and the remainder is what takes the time
        position %= period
    return np.minimum(position, period - position)


def scale_to_diameter(diameter_px):
    """How many times larger to show an image whose median nucleus has this diameter; 1 where it is None (no nuclei)."""
    return float(np.clip(DIAMETER_PX / diameter_px, *RESAMPLE_LIMITS)) if diameter_px else 1.0


def random_coordinates(labels, rng, size, diameter_px=None):
    """Draw where each pixel of a crop comes from.

    Args:
        labels: (H, W) int32; crops are centred near nuclei.
        size: height and width of the crop.
        diameter_px: median nucleus diameter of the image, or None.

    Returns:
        (rows, columns), each (size, size) float32 positions inside the image, and the number of source pixels that one
        crop pixel spans.
    """
    height, width = labels.shape
    step = 1 / (scale_to_diameter(diameter_px) * np.exp(rng.uniform(*np.log(SCALE))))

    row, column = rng.uniform(0, height), rng.uniform(0, width)
    if rng.random() < CENTRE_SHARE:
        inside = np.flatnonzero(labels[:: max(1, height // 256), :: max(1, width // 256)] > 0)
        if len(inside):
            coarse_width = len(range(0, width, max(1, width // 256)))
            at = inside[rng.integers(len(inside))]
            row = at // coarse_width * max(1, height // 256) + rng.uniform(-0.25, 0.25) * size * step
            column = at % coarse_width * max(1, width // 256) + rng.uniform(-0.25, 0.25) * size * step
    # Where the image is larger than the crop, keep the crop inside it: mirrored borders teach little.
    reach = size * step / 2
    row = np.clip(row, reach, height - reach) if height > 2 * reach else height / 2
    column = np.clip(column, reach, width - reach) if width > 2 * reach else width / 2

    angle = rng.integers(4) * np.pi / 2
    matrix = np.eye(2)
    if rng.random() < ROTATE_SHARE:
        angle = rng.uniform(0, 2 * np.pi)
        matrix = matrix + rng.uniform(-SHEAR, SHEAR, (2, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.diag([1, rng.choice([-1, 1])])
    matrix = (turn @ flip @ matrix * step).astype(np.float32)

    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    y, x = axis[:, None], axis[None, :]
    rows = (matrix[0, 0] * y + np.float32(row - 0.5)) + matrix[0, 1] * x
    columns = (matrix[1, 0] * y + np.float32(column - 0.5)) + matrix[1, 1] * x
    if rng.random() < ELASTIC_SHARE:
        points = max(4, round(size / ELASTIC_GRID_PX) + 1)
        shift = rng.normal(0, ELASTIC_STRENGTH * ELASTIC_GRID_PX * step, (2, points, points)).astype(np.float32)
        rows += cv2.resize(shift[0], (size, size), interpolation=cv2.INTER_CUBIC)
        columns += cv2.resize(shift[1], (size, size), interpolation=cv2.INTER_CUBIC)
    return reflect(rows, height), reflect(columns, width), step


def sample_at(image, labels, rows, columns, step):
    """Read image (bilinear, smoothed first where it shrinks) and labels (nearest) at the given positions.

    Returns:
        (size, size, 3) float32 in the units of the image, and (size, size) int32.
    """
    # Only the part of the image that is needed is touched; one pixel around it for the interpolation.
    top, left = max(0, int(rows.min()) - 2), max(0, int(columns.min()) - 2)
    bottom, right = int(rows.max()) + 4, int(columns.max()) + 4
    part = np.ascontiguousarray(image[top:bottom, left:right], dtype=np.float32)
    if step > 1.2:
        part = cv2.GaussianBlur(part, (0, 0), 0.4 * step, borderType=cv2.BORDER_REFLECT_101)
    x, y = columns - np.float32(left), rows - np.float32(top)  # OpenCV's maps are x, then y
    crop = cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ids = labels[top:bottom, left:right].astype(np.float32)  # OpenCV reads no int32; float32 is exact up to 2**24
    return crop, cv2.remap(ids, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE).astype(np.int32)


def turn(array, turns, mirrored=False):
    """A square array (size, size, K) float32, mirrored top to bottom or not, then turned by so many right angles.

    By OpenCV, whose copies cost a training nothing that can be measured; those of `np.rot90` cost it 5 %.
    """
    array = cv2.flip(array, 0) if mirrored else array
    return (cv2.rotate(array, turns - 1) if turns else array).reshape(len(array), len(array), -1)
