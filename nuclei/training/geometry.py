"""Where the pixels of a training crop come from: random place, scale, rotation, shear and bending.

`random_coordinates` draws for each pixel of a crop a position in the source image, and `sample_at`
reads image and labels there. Both are read at the same positions, so they always fit together:

    rows, columns, step = random_coordinates(labels, rng, size=256, diameter_px=18.0)
    crop, crop_labels = sample_at(image, labels, rows, columns, step)
"""

import cv2
import numpy as np

from nuclei.images.resize import SMOOTH_FROM, SMOOTHING

DIAMETER_PX = 24  # every image is scaled so that its median nucleus has this diameter
SCALE = (0.7, 1.4)  # range of random scale on top: sizes differ within an image
RESAMPLE_LIMITS = (0.25, 4)  # scaling further would destroy or invent detail
CENTRE_SHARE = 0.7  # of the crops lie near a nucleus, the others anywhere: some crops are empty
COARSE_SIDE_PX = 256  # a nucleus to centre on is sought in labels thinned to about this size: fast
CENTRE_SHIFT = 0.25  # largest distance of a crop's centre from that nucleus, in crop sizes
ROTATE_SHARE = 0.5  # of the crops get any angle and a shear; right angles keep edges sharp
SHEAR = 0.12  # largest change of an entry of the 2 x 2 matrix
ELASTIC_SHARE = 0.25  # of the crops are bent
ELASTIC_GRID_PX = 48  # distance between the control points of the bending
ELASTIC_STRENGTH = 0.08  # standard deviation of a control point's shift, in grid distances


def reflect(position, length):
    """Fold positions outside [0, length - 1] back inside, as a mirror does, as often as needed.

    Args:
        position: float array of any shape.
        length: number of pixels along this axis, 1 or more.

    Returns:
        Float array of the same shape, in [0, length - 1].
    """
    if length == 1:
        return np.zeros_like(position)
    period = 2.0 * (length - 1)
    position = np.abs(position)
    if position.max() > period:  # seldom needed, and the remainder is slow
        position %= period
    return np.minimum(position, period - position)


def scale_to_diameter(diameter_px):
    """Compute the scale that brings a median nucleus of this diameter to DIAMETER_PX.

    Args:
        diameter_px: float, or None for an image without nuclei, which keeps its scale.

    Returns:
        Float within RESAMPLE_LIMITS; above 1 enlarges.
    """
    return float(np.clip(DIAMETER_PX / diameter_px, *RESAMPLE_LIMITS)) if diameter_px else 1.0


def random_coordinates(labels, rng, size, diameter_px=None):
    """Draw where each pixel of a crop comes from.

    Args:
        labels: (H, W) int32; most crops are centred near a nucleus.
        rng: `numpy.random.Generator`.
        size: height and width of the crop in px.
        diameter_px: median nucleus diameter of the image, or None.

    Returns:
        (rows, columns, step): two (size, size) float32 arrays of positions inside the image, and
        the number of source pixels that one crop pixel spans.
    """
    height, width = labels.shape
    step = 1 / (scale_to_diameter(diameter_px) * np.exp(rng.uniform(*np.log(SCALE))))
    row, column = random_centre(labels, rng, size * step)
    matrix = random_matrix(rng, step)

    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    y, x = axis[:, None], axis[None, :]
    rows = (matrix[0, 0] * y + np.float32(row - 0.5)) + matrix[0, 1] * x
    columns = (matrix[1, 0] * y + np.float32(column - 0.5)) + matrix[1, 1] * x
    if rng.random() < ELASTIC_SHARE:
        num_points = max(4, round(size / ELASTIC_GRID_PX) + 1)
        sigma = ELASTIC_STRENGTH * ELASTIC_GRID_PX * step
        shift = rng.normal(0, sigma, (2, num_points, num_points)).astype(np.float32)
        rows += cv2.resize(shift[0], (size, size), interpolation=cv2.INTER_CUBIC)
        columns += cv2.resize(shift[1], (size, size), interpolation=cv2.INTER_CUBIC)
    return reflect(rows, height), reflect(columns, width), step


def random_centre(labels, rng, span_px):
    """Draw the centre of a crop: near a nucleus or anywhere.

    Args:
        labels: (H, W) int32.
        rng: `numpy.random.Generator`.
        span_px: height and width of the crop in source pixels.

    Returns:
        (row, column) in source pixels. Where the image is large enough, the crop lies inside it:
        mirrored borders teach little.
    """
    height, width = labels.shape
    row, column = rng.uniform(0, height), rng.uniform(0, width)
    if rng.random() < CENTRE_SHARE:
        every_row, every_column = max(1, height // COARSE_SIDE_PX), max(1, width // COARSE_SIDE_PX)
        coarse = labels[::every_row, ::every_column]
        nucleus_pixels = np.flatnonzero(coarse > 0)
        if len(nucleus_pixels):
            pixel = nucleus_pixels[rng.integers(len(nucleus_pixels))]
            coarse_row, coarse_column = divmod(pixel, coarse.shape[1])
            row = coarse_row * every_row + rng.uniform(-CENTRE_SHIFT, CENTRE_SHIFT) * span_px
            column = (
                coarse_column * every_column + rng.uniform(-CENTRE_SHIFT, CENTRE_SHIFT) * span_px
            )
    reach = span_px / 2
    row = np.clip(row, reach, height - reach) if height > 2 * reach else height / 2
    column = np.clip(column, reach, width - reach) if width > 2 * reach else width / 2
    return row, column


def random_matrix(rng, step):
    """Draw rotation, reflection and shear, scaled by `step`: (2, 2) float32."""
    angle = rng.integers(4) * np.pi / 2
    shear = np.eye(2)
    if rng.random() < ROTATE_SHARE:
        angle = rng.uniform(0, 2 * np.pi)
        shear = shear + rng.uniform(-SHEAR, SHEAR, (2, 2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    reflection = np.diag([1, rng.choice([-1, 1])])
    return (rotation @ reflection @ shear * step).astype(np.float32)


def sample_at(image, labels, rows, columns, step):
    """Read an image and its labels at the given positions.

    The image is interpolated bilinearly, after a blur where it shrinks; labels take the nearest id.

    Args:
        image: (H, W, 3), any numeric dtype.
        labels: (H, W) int32, ids below 2**24.
        rows, columns, step: what `random_coordinates` returned.

    Returns:
        (size, size, 3) float32 in the units of the image, and (size, size) int32.
    """
    # Only the needed part of the image is read (it may lie on disk), with a margin to interpolate.
    top, left = max(0, int(rows.min()) - 2), max(0, int(columns.min()) - 2)
    bottom, right = int(rows.max()) + 4, int(columns.max()) + 4
    part = np.ascontiguousarray(image[top:bottom, left:right], dtype=np.float32)
    if step > SMOOTH_FROM:  # as an image is resized for the network
        sigma = SMOOTHING * step
        part = cv2.GaussianBlur(part, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    x, y = columns - np.float32(left), rows - np.float32(top)  # OpenCV takes x, then y
    crop = cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ids = labels[top:bottom, left:right].astype(np.float32)  # OpenCV cannot remap int32
    ids = cv2.remap(ids, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return crop, ids.astype(np.int32)


def void_at(void, rows, columns):
    """Read a mask of void at the given positions: the nearest pixel.

    Args:
        void: (H, W) bool.
        rows, columns: what `random_coordinates` returned.

    Returns:
        (size, size) bool.
    """
    return void[np.rint(rows).astype(np.intp), np.rint(columns).astype(np.intp)]


def turn(array, num_quarter_turns, mirrored=False):
    """Turn a square array by right angles; OpenCV does it much faster than `np.rot90`.

    Args:
        array: (size, size, K) float32.
        num_quarter_turns: 0 to 3.
        mirrored: flip it top to bottom first.

    Returns:
        (size, size, K) float32.
    """
    array = cv2.flip(array, 0) if mirrored else array
    if num_quarter_turns:
        array = cv2.rotate(array, num_quarter_turns - 1)
    return array.reshape(len(array), len(array), -1)  # OpenCV drops the last axis where K is 1
