"""Draw crowds: the nuclei of a crop once more, many, close together, along a field of directions.

Public sets hardly show palisades of long nuclei, or dense heaps of round ones, yet guts and lymph
nodes are full of them. `draw_crowd` cuts whole nuclei out of a crop, turns and stretches each, and
lays them side by side. They touch and overlap a little; the labels tell which pixel belongs to
which.

    crop, labels = draw_crowd(crop, labels, labels == 0, rng)
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import find_objects

from nuclei.images.labels import without_gaps

CROWD_SHARE = 0.1  # of the crops are crowds
MIN_NUCLEI = 3  # whole ones in a crop, to draw a crowd from
MAX_KINDS = 12  # nuclei that are cut out
SIZE_RANGE = (0.4, 2.5)  # areas of these, in areas of the median nucleus
SIZE_SPREAD = 0.1  # standard deviation of the logarithm of a nucleus's size
MEDIAN_PIXELS = 4096  # of the background that its colour is taken from
MARGIN_PX = 3  # around a nucleus that is cut out, for its soft edge
LENGTH = (1.0, 2.2)  # how much longer than wide round nuclei become, as a factor
DISTANCE = (0.8, 1.15)  # from a nucleus to the next, in its own lengths and widths
JITTER = 0.15  # standard deviation of a place, in lengths and widths
TURN = 0.15  # standard deviation of a nucleus's direction around that of the field, in radians
BEND = 0.5  # standard deviation of the field's direction, in radians
MAX_HIDDEN = 0.3  # largest share of a nucleus that others may cover
STRENGTH = 0.25  # standard deviation of the logarithm of a nucleus's contrast
EDGE_PX = 0.8  # sigma of the soft edge
BLURRED = (0, 12)  # nuclei out of focus, beneath
TRANSLUCENT_SHARE = 0.5  # of the crowds show both of two nuclei where they overlap


@dataclass
class Stamp:
    """A nucleus cut out of a crop.

    Attributes:
        patch: (h, w, 4) float32: its colours less those of the background, and its soft mask.
        angle: direction of its long axis, in radians.
        length, width: of the ellipse with the same moments, in px.
    """

    patch: np.ndarray
    angle: float
    length: float
    width: float


def draw_crowd(crop, labels, background, rng):
    """Draw a crowd of the nuclei of a crop.

    Args:
        crop: (size, size, 3) float32, in the units of the image.
        labels: (size, size) int32, each id one nucleus.
        background: (size, size) bool, where there is surely no nucleus.
        rng: `numpy.random.Generator`.

    Returns:
        (crop, labels) of the same shapes and dtypes; the inputs themselves where the crop has too
        few whole nuclei or no background.
    """
    background = crop[background]
    if not len(background):
        return crop, labels
    colour = np.median(background[:: max(1, len(background) // MEDIAN_PIXELS)], axis=0)
    stamps = cut_out(crop, labels, colour, rng)
    if len(stamps) < MIN_NUCLEI:
        return crop, labels
    background = background - colour
    picture = colour + draw_grain(background, len(crop), rng)
    for _ in range(rng.integers(*BLURRED, endpoint=True)):
        add_blurred(picture, stamps[rng.integers(len(stamps))], rng)
    crowded = np.zeros_like(labels)
    stretch = np.sqrt(rng.uniform(*LENGTH))
    level = None if rng.random() < TRANSLUCENT_SHARE else colour
    spots = places(stamps, stretch, len(crop), rng)
    areas = np.zeros(len(spots) + 1, np.int64)
    for number, (*place, angle) in enumerate(spots, 1):
        patch = turned(stamps[rng.integers(len(stamps))], angle, stretch, rng)
        lay_on(picture, crowded, areas, patch, number, place, level)
    return np.clip(picture, 0, None, out=picture), without_gaps(crowded)


def cut_out(crop, labels, colour, rng):
    """Cut whole nuclei of about equal size out of a crop, on a background of this colour (3,).

    Returns:
        List of `Stamp`, in random order.
    """
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    areas[edge] = 0
    ids = np.flatnonzero(areas)
    if not len(ids):
        return []
    shares = areas[ids] / np.median(areas[ids])
    ids = rng.permutation(ids[(shares > SIZE_RANGE[0]) & (shares < SIZE_RANGE[1])])[:MAX_KINDS]
    boxes = find_objects(labels)
    stamps = []
    for number in ids:
        row, column = boxes[number - 1]
        top, left = max(0, row.start - MARGIN_PX), max(0, column.start - MARGIN_PX)
        window = np.s_[top : row.stop + MARGIN_PX, left : column.stop + MARGIN_PX]
        inside = labels[window] == number
        rows, columns = np.nonzero(inside)
        if np.ptp(rows) < 3 or np.ptp(columns) < 3:
            continue
        mask = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), EDGE_PX)
        spread, axes = np.linalg.eigh(np.cov(np.stack([columns, rows])))
        angle = np.arctan2(axes[1, 1], axes[0, 1])
        width, length = 4 * np.sqrt(np.maximum(spread, 0.25))
        patch = np.dstack([crop[window] - colour, mask]).astype(np.float32)
        stamps.append(Stamp(patch, angle, length, width))
    return stamps


def draw_grain(grains, size, rng):
    """Draw noise of the colours of some pixels (n, 3), which are around 0: (size, size, 3)."""
    picture = np.take(grains, rng.integers(len(grains), size=(size, size), dtype=np.int32), axis=0)
    sigma = rng.uniform(0.5, 4)
    return cv2.GaussianBlur(picture, (0, 0), sigma) * np.float32(np.sqrt(sigma))  # not too even


def add_blurred(picture, stamp, rng):
    """Add a nucleus that is out of focus, at a random place."""
    size, sigma = len(picture), rng.uniform(3, 7)
    margin = int(2 * sigma)
    contrast = stamp.patch[..., :3] * stamp.patch[..., 3:]
    contrast = np.pad(contrast, ((margin,) * 2,) * 2 + ((0, 0),))
    contrast = cv2.GaussianBlur(contrast, (0, 0), sigma) * np.float32(rng.uniform(0.3, 1.0))
    row, column = rng.integers(size, size=2)
    window, part = clipped((row, column), contrast.shape, size)
    picture[window] += contrast[part]


def places(stamps, stretch, size, rng):
    """Places of the nuclei of a crowd, in random order: a list of (row, column, angle)."""
    length = np.median([stamp.length for stamp in stamps]) * stretch * rng.uniform(*DISTANCE)
    width = np.median([stamp.width for stamp in stamps]) / stretch * rng.uniform(*DISTANCE)
    base = rng.uniform(0, np.pi)
    field = rng.normal(0, BEND, (3, 3)).astype(np.float32)
    field = cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)
    reach = size * 0.75
    along, across = np.meshgrid(np.arange(-reach, reach, length), np.arange(-reach, reach, width))
    along = along + np.where(np.arange(len(along)) % 2, length / 2, 0)[:, None]  # as bricks
    along = along + rng.normal(0, JITTER * length, along.shape)
    across = across + rng.normal(0, JITTER * width, across.shape)
    columns = (size / 2 + along * np.cos(base) - across * np.sin(base)).ravel()
    rows = (size / 2 + along * np.sin(base) + across * np.cos(base)).ravel()
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    rows, columns = rows[inside].astype(int), columns[inside].astype(int)
    # A crowd with a border: what lies beyond a line stays empty, in half of them.
    if rng.random() < 0.5:
        normal, limit = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.4) * size
        beyond = (columns - size / 2) * np.cos(normal) + (rows - size / 2) * np.sin(normal)
        rows, columns = rows[beyond < limit], columns[beyond < limit]
    order = rng.permutation(len(rows))
    angles = base + field[rows, columns] + rng.normal(0, TURN, len(rows))
    return [(rows[k], columns[k], angles[k]) for k in order]


def turned(stamp, angle, stretch, rng):
    """Turn a nucleus so that it lies along an angle, stretched, in a contrast of its own.

    Returns:
        (side, side, 4) float32, a patch as of `Stamp`.
    """
    side = int(np.hypot(*stamp.patch.shape[:2]) * stretch) + 2
    size = math.exp(rng.normal(0, SIZE_SPREAD))
    along, across = size * stretch, size / stretch * (1 if rng.random() < 0.5 else -1)
    # Turn its long axis to x, scale, turn x to the angle: the product of three matrices.
    own_cosine, own_sine = math.cos(stamp.angle), math.sin(stamp.angle)
    cosine, sine = math.cos(angle), math.sin(angle)
    xx = cosine * along * own_cosine + sine * across * own_sine
    xy = cosine * along * own_sine - sine * across * own_cosine
    yx = sine * along * own_cosine - cosine * across * own_sine
    yy = sine * along * own_sine + cosine * across * own_cosine
    height, width = stamp.patch.shape[:2]
    x, y, middle = (width - 1) / 2, (height - 1) / 2, (side - 1) / 2
    affine = np.array([(xx, xy, middle - xx * x - xy * y), (yx, yy, middle - yx * x - yy * y)])
    patch = cv2.warpAffine(stamp.patch, affine, (side, side))
    patch[..., :3] *= np.float32(np.exp(rng.normal(0, STRENGTH)))
    return patch


def lay_on(picture, labels, areas, patch, number, place, level):
    """Lay a nucleus on a picture, in place, unless it would hide too much of another one.

    Args:
        picture: (size, size, 3) float32.
        labels: (size, size) int32.
        areas: pixels of each id; that of the new nucleus is set.
        patch: of `turned`.
        number: id of the nucleus.
        place: (row, column) of its centre.
        level: (3,) colour of the background; None where the nucleus beneath shows through.
    """
    window, part = clipped(place, patch.shape, len(labels))
    share = patch[part][..., 3:]
    mask, below = share[..., 0] > 0.5, labels[window]
    hidden = np.bincount(below[mask], minlength=len(areas))
    area = int(hidden.sum())
    hidden[0] = 0
    if not area or (hidden > MAX_HIDDEN * np.minimum(areas, area)).any():
        return
    contrast, seen = patch[part][..., :3], picture[window]
    picture[window] = seen + share * (contrast if level is None else contrast + level - seen)
    areas[number] = area
    below[mask] = number


def clipped(place, shape, size):
    """Where an array of a shape, centred at a place, lies in a square, and which part of it.

    Returns:
        (window, part): two pairs of slices of equal size.
    """
    window, part = [], []
    for centre, length in zip(place, shape[:2], strict=True):
        start = int(centre) - length // 2
        window.append(slice(max(0, start), max(0, min(size, start + length))))
        part.append(slice(window[-1].start - start, window[-1].stop - start))
    return tuple(window), tuple(part)
