"""The crops that measure the validation loss: unaugmented, and the same after every epoch.

crops = validation_crops(samples, heads, size=256)       # images and truths
crops = whole_batches(crops, batch_size=8, places=range(8))
"""

import math

import numpy as np

from nuclei.images.intensity import normalise
from nuclei.images.resize import Resized
from nuclei.training.geometry import scale_to_diameter
from nuclei.training.void import known_targets

MAX_CROPS = 256  # 0.3 GB of memory; more make epochs slower and the choice of the best no better


def validation_crops(samples, heads, size):
    """Cut the validation images into crops, at most MAX_CROPS of them, evenly spread.

    Nuclei have the size that training brings them to, as in prediction.

    Args:
        samples: list of `Sample`.
        heads: names of the maps.
        size: height and width of a crop.

    Returns:
        (N, size, size, 3) and (N, size, size, len(heads)), both float32.
    """
    corners, scaled = [], []
    for index, sample in enumerate(samples):
        scaled.append(Resized(sample.image, scale_to_diameter(sample.diameter_px)))
        corners += [(index, *corner) for corner in grid(scaled[-1].shape, size)]
    if len(corners) > MAX_CROPS:
        chosen = np.linspace(0, len(corners) - 1, MAX_CROPS).round().astype(int)
        corners = [corners[k] for k in chosen]
    images = np.empty((len(corners), size, size, 3), np.float32)
    truths = np.empty((len(corners), size, size, len(heads)), np.float32)
    for row, (index, top, left) in enumerate(corners):
        images[row], truths[row] = cut(samples[index], scaled[index], heads, size, (top, left))
    return images, truths


def grid(shape, size):
    """The upper left corners of the crops of an image: a list of (row, column).

    Args:
        shape: height and width of the image in px, and more that is not used.
        size: height and width of a crop.
    """
    # Less than half a crop at the end of a side does not become a crop of its own.
    tops, lefts = (range(0, max(1, side - size // 2), size) for side in shape[:2])
    return [(top, left) for top in tops for left in lefts]


def cut(sample, scaled, heads, size, corner):
    """Cut one crop and its truth. Images smaller than the crop are continued as in a mirror.

    Args:
        sample, scaled, size, corner: as of `window`.
        heads: names of the maps.

    Returns:
        (size, size, 3) and (size, size, len(heads)), both float32.
    """
    image, place = window(sample, scaled, size, corner)
    void = None if sample.void is None else sample.void[place]
    labels = sample.labels[place]
    truth = known_targets(labels, heads, sample.clumps(labels), void)
    missing = ((0, size - image.shape[0]), (0, size - image.shape[1]), (0, 0))
    return np.pad(image, missing, mode="reflect"), np.pad(truth, missing, mode="reflect")


def window(sample, scaled, size, corner):
    """Cut a window out of an image; it is smaller where the image is.

    Args:
        sample: a `Sample`.
        scaled: its image as a `Resized`.
        size: height and width of the window.
        corner: (row, column) of its upper left corner in the scaled image.

    Returns:
        (image, place): (h, w, 3) float32 in [0, 1], and what takes the same pixels out of the
        labels of the sample, `labels[place]`.
    """
    height, width = scaled.shape[:2]
    top = max(0, min(corner[0], height - size))
    left = max(0, min(corner[1], width - size))
    image = normalise(scaled[top : top + size, left : left + size], sample.intensity_range)
    rows, columns = (
        ((np.arange(start, start + length) + 0.5) * step).astype(int)
        for start, length, step in zip((top, left), image.shape[:2], scaled.steps, strict=True)
    )
    return image, np.ix_(rows, columns)


def whole_batches(crops, batch_size, places):
    """Fill the crops up to whole batches, by showing some twice, and take the part of this process.

    Args:
        crops: images and truths, (N, size, size, channels) each.
        batch_size: crops of a whole batch.
        places: range of each batch that this process needs.

    Returns:
        The same two arrays, with as many rows as there are places in all batches.
    """
    num_rows = math.ceil(len(crops[0]) / batch_size) * batch_size
    if num_rows == len(crops[0]) and len(places) == batch_size:
        return crops
    rows = np.linspace(0, len(crops[0]) - 1, num_rows).round().astype(int)
    rows = rows.reshape(-1, batch_size)[:, places.start : places.stop].ravel()
    return tuple(part[rows] for part in crops)
