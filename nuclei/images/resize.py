"""Images and maps at another scale, computed where they are read.

Any part of a resized image equals that part of the whole resized image, to the last bit: so tiles
of a slide meet without seams. OpenCV's own resizing does not do that: it measures positions in
single precision from the start of what it gets.
"""

import cv2
import numpy as np

from nuclei.images.box import Box

SMOOTHING = 0.4  # sigma of the blur before shrinking, in pixels of the result
SMOOTH_FROM = 1.2  # image pixels for one pixel of the result, below which nothing is blurred
BLUR_PAD_PX = 64  # columns added before a blur: OpenCV rounds the last ones of a row differently
BLUR_SIGMAS = 4  # OpenCV cuts the Gaussian of a float image off at four sigma
NO_BLUR = 1e-3  # sigma for an axis without blur; OpenCV takes 0 as "like the other axis"


def taps(start: int, stop: int, length: int, new_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a resized axis come from.

    Pixel k of [start, stop) is the sum of weights[:, k] * old[indices[:, k]]: linear interpolation
    where the axis grows, the mean of the area covered where it shrinks.

    Args:
        start, stop: a part of the resized axis, in px.
        length, new_length: px of the whole axis before and after.

    Returns:
        (indices, weights): (taps, stop - start) intp within [0, length), and float32.
    """
    step = length / new_length
    pixels = np.arange(start, stop)
    if step <= 1:
        position = np.clip((pixels + 0.5) * step - 0.5, 0, length - 1)
        before = np.minimum(position.astype(np.intp), max(0, length - 2))
        weights = [1 - (position - before), position - before]
    else:
        first, last = pixels * step, (pixels + 1) * step
        before = first.astype(np.intp)
        weights = []
        for k in range(int(np.ceil(step)) + 1):
            overlap = np.minimum(last, before + k + 1) - np.maximum(first, before + k)
            weights.append(np.clip(overlap, 0, None) / step)
    indices = np.minimum(before + np.arange(len(weights))[:, None], length - 1)
    return indices, np.array(weights, np.float32)


def weighted(array: np.ndarray, axis: int, indices, weights) -> np.ndarray:
    """Apply `taps` along one axis.

    Args:
        array: (h, w, C) float32.
        axis: 0 or 1.
        indices, weights: what `taps` returned.

    Returns:
        (h, w, C) float32 of another height or width.
    """
    from scipy.sparse import csr_array  # late: its import takes longer than a small image

    # A sparse matrix takes half the time of indexing.
    num_taps, new_length = indices.shape
    starts = np.arange(0, num_taps * new_length + 1, num_taps)
    matrix = csr_array(
        (weights.T.ravel(), indices.T.ravel(), starts), shape=(new_length, array.shape[axis])
    )
    array = np.ascontiguousarray(array.swapaxes(0, axis))
    result = (matrix @ array.reshape(len(array), -1)).reshape(new_length, *array.shape[1:])
    return np.ascontiguousarray(result.swapaxes(0, axis))


class Resized:
    """An image at another scale: `Resized(image, scale)[top:bottom, left:right]`.

    Bilinear, and blurred first where it shrinks, as the crops of the training are.

    Args:
        image: (H, W, C), an array or anything that slices like one, of any number type.
        scale: px of the result for one px of the image.
        size: (height, width) of the result, in place of the scale.

    Attributes:
        shape: of the result; with a scale that of the image times the scale, rounded, at least 1.
        steps: px of the image for one px of the result, along both axes.
    """

    def __init__(self, image, scale=1.0, size=None):
        self.image = image
        if size is None:
            size = (max(1, round(length * scale)) for length in image.shape[:2])
        self.shape = (*size, *image.shape[2:])
        self.steps = tuple(image.shape[axis] / self.shape[axis] for axis in (0, 1))

    def __getitem__(self, place):
        """(rows, columns, C) float32, in the units of the image."""
        sigmas = [SMOOTHING * step if step > SMOOTH_FROM else 0.0 for step in self.steps]
        axes = [self.axis_taps(place[axis], axis, sigmas[axis]) for axis in (0, 1)]
        (rows, *row_taps), (columns, *column_taps) = axes
        part = np.ascontiguousarray(self.image[rows, columns], dtype=np.float32)
        if any(sigmas):
            part = blur(part, *sigmas)
        return weighted(weighted(part, 0, *row_taps), 1, *column_taps)

    def axis_taps(self, part: slice, axis: int, sigma: float):
        """What one axis of a part needs: (slice of the image, indices into it, weights)."""
        step, length = self.steps[axis], self.image.shape[axis]
        start, stop, _ = part.indices(self.shape[axis])
        position = np.clip((np.arange(start, stop) + 0.5) * step - 0.5, 0, length - 1)
        before = np.minimum(position.astype(np.intp), max(0, length - 2))
        reach = int(np.ceil(BLUR_SIGMAS * sigma)) + 2
        first, last = max(0, int(before[0]) - reach), min(length, int(before[-1]) + reach + 2)
        share = (position - before).astype(np.float32)
        indices = np.stack([before, np.minimum(before + 1, length - 1)]) - first
        return slice(first, last), indices, np.stack([1 - share, share])


def blur(image: np.ndarray, sigma_rows: float, sigma_columns: float) -> np.ndarray:
    """Gaussian blur of (h, w, C) float32 with a sigma in px along each axis; 0 for none."""
    width = image.shape[1]
    padded = np.pad(image, ((0, 0), (0, BLUR_PAD_PX), (0, 0)), "reflect")
    sigma_x, sigma_y = max(sigma_columns, NO_BLUR), max(sigma_rows, NO_BLUR)
    return cv2.GaussianBlur(padded, (0, 0), sigma_x, None, sigma_y, cv2.BORDER_REFLECT_101)[
        :, :width
    ]


def resize_maps(maps, shape, whole_shape=None, origin=(0, 0), box=None) -> np.ndarray:
    """Bring maps to another height and width.

    Args:
        maps: (h, w, K) float32: all of the maps, or a part of them.
        shape: (height, width, ...) of the whole result.
        whole_shape: height and width of all maps, where `maps` is a part; None if it is all.
        origin: row and column in all maps at which the part begins.
        box: the `Box` of the result that is wanted; None for all of it.

    Returns:
        (height, width, K) float32, or that box of it.
    """
    whole_shape = maps.shape[:2] if whole_shape is None else whole_shape
    box = Box.of_shape(shape) if box is None else box
    axes, needed = [], []
    for axis, span in enumerate(box.place):
        first, last, around = span.start, span.stop, None
        if whole_shape[axis] != shape[axis]:
            around = taps(span.start, span.stop, whole_shape[axis], shape[axis])
            first, last = int(around[0].min()), int(around[0].max()) + 1
        axes.append((first, around))
        needed.append(slice(first - origin[axis], last - origin[axis]))
    maps = maps[tuple(needed)]  # along both axes first: a part may be as wide as a large image
    for axis, (first, around) in enumerate(axes):
        if around:
            indices, weights = around
            maps = weighted(maps, axis, indices - first, weights)
    return maps if any(around for _, around in axes) else maps.copy()
