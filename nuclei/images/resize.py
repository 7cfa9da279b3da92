"""nuclei.images.resize"""

import cv2
import numpy as np

SMOOTHING = 0.4  # sigma of the blur before shrinking, in pixels of the result
BLUR_PAD_PX = 64  # columns added before a blur: OpenCV rounds the last few of a row unlike the others
SMOOTH_FROM = 1.2  # image pixels for one of the result, below which nothing is blurred


def taps(start, stop, length, full):
    """Where the pixels of a resized axis come from: pixel k of [start, stop) is the sum of weights[:, k] * old[indices[:, k]].

    Linear where it grows, the mean of the area covered where it shrinks. All positions are those of the whole axis, so that
    a part comes out as that part of the whole, to the last bit. By hand, since OpenCV measures positions in single precision
    from the start of what it is given: each part its own way.

    Args:
        start, stop: the part, in pixels of the resized axis.
        length, full: pixels of the whole axis before and after.

    Returns:
        (indices, weights): (taps, stop - start) intp within [0, length), and float32.
    """
    step = length / full
    pixels = np.arange(start, stop)
    if step <= 1:
        at = np.clip((pixels + 0.5) * step - 0.5, 0, length - 1)
        before = np.minimum(at.astype(np.intp), max(0, length - 2))
        weights = [1 - (at - before), at - before]
    else:
        from_, to = pixels * step, (pixels + 1) * step
        before = from_.astype(np.intp)
        weights = [
            np.clip(np.minimum(to, before + k + 1) - np.maximum(from_, before + k), 0, None) / step
            for k in range(int(np.ceil(step)) + 1)
        ]
    indices = np.minimum(before + np.arange(len(weights))[:, None], length - 1)
    return indices, np.array(weights, np.float32)


def weighted(array, axis, indices, weights):
    """The sums of `taps` along one axis (0 or 1) of (h, w, C) float32; a sparse matrix takes half the time of indexing."""
    from scipy.sparse import csr_array  # here: its import takes longer than all of a small image

    count, number = indices.shape
    shape = (number, array.shape[axis])
    matrix = csr_array((weights.T.ravel(), indices.T.ravel(), np.arange(0, count * number + 1, count)), shape=shape)
    array = np.ascontiguousarray(array.swapaxes(0, axis))
    return np.ascontiguousarray((matrix @ array.reshape(len(array), -1)).reshape(number, *array.shape[1:]).swapaxes(0, axis))


class Resized:
    """An image at another scale, computed where it is read: `Resized(image, scale)[top:bottom, left:right]`.

    Bilinear, and smoothed first where it shrinks, as the crops of the training are. Any part equals that part of the whole.

    Args:
        image: (H, W, C), an array or anything that slices like one, of any number type.
        scale: pixels of the result for one of the image; `shape` is that of the image times `scale`, rounded, at least 1.
        size: height and width of the result, where they are known instead.
    """

    def __init__(self, image, scale=1.0, size=None):
        self.image = image
        self.shape = (*(size or (max(1, round(length * scale)) for length in image.shape[:2])), *image.shape[2:])
        self.steps = tuple(image.shape[axis] / self.shape[axis] for axis in (0, 1))

    def __getitem__(self, place):
        """(rows, columns, C) float32, in the units of the image."""
        sigmas = [SMOOTHING * step if step > SMOOTH_FROM else 0.0 for step in self.steps]
        shares, needed = [], []
        for part, length, full, step, sigma in zip(place, self.shape, self.image.shape, self.steps, sigmas, strict=False):
            start, stop, _ = part.indices(length)
            at = np.clip((np.arange(start, stop) + 0.5) * step - 0.5, 0, full - 1)
            before = np.minimum(at.astype(np.intp), max(0, full - 2))
            reach = int(np.ceil(4 * sigma)) + 2  # OpenCV cuts the Gaussian of a float image off at four sigma
            first, last = max(0, int(before[0]) - reach), min(full, int(before[-1]) + reach + 2)
            share = (at - before).astype(np.float32)
            shares.append((np.stack([before, np.minimum(before + 1, full - 1)]) - first, np.stack([1 - share, share])))
            needed.append(slice(first, last))
        part = np.ascontiguousarray(self.image[needed[0], needed[1]], dtype=np.float32)
        if any(sigmas):
            near_zero = 1e-3  # OpenCV takes a sigma of zero as "like the other axis"
            width = part.shape[1]
            part = np.pad(part, ((0, 0), (0, BLUR_PAD_PX), (0, 0)), "reflect")
            part = cv2.GaussianBlur(
                part, (0, 0), max(sigmas[1], near_zero), None, max(sigmas[0], near_zero), cv2.BORDER_REFLECT_101
            )[:, :width]
        for axis, (indices, weights) in enumerate(shares):
            part = weighted(part, axis, indices, weights)
        return part


def resize_maps(maps, shape, whole=None, origin=(0, 0), place=None):
    """Bring maps (h, w, K) to the height and width of `shape`; float32.

    Where only a part is there and wanted, that part comes out as from the whole, to the last bit:

    Args:
        whole: height and width of the whole maps, of which `maps` is the part at `origin` (row, column).
        place: (top, bottom, left, right) of the result wanted, in pixels of `shape`.
    """
    whole = maps.shape[:2] if whole is None else whole
    place = (0, shape[0], 0, shape[1]) if place is None else place
    for axis in (0, 1):
        start, stop = place[2 * axis : 2 * axis + 2]
        if whole[axis] == shape[axis]:
            maps = maps.take(range(start - origin[axis], stop - origin[axis]), axis)
            continue
        indices, weights = taps(start, stop, whole[axis], shape[axis])
        maps = weighted(maps, axis, indices - origin[axis], weights)
    return maps
