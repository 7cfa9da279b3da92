"""Convex hulls and perimeters of all nuclei of an image at once.

An image may hold thousands of nuclei, so nothing here is done for one nucleus at a time but the
convex hull itself.
"""

import numpy as np

from nuclei.instances.pixels import NucleusPixels

HULLS_AT_ONCE = 256  # the corners of a hull are compared in pairs: about 10 MB for usual nuclei


def hull_measures(nuclei, width):
    """Measure the convex hulls of all nuclei, drawn around the corners of their pixels.

    Args:
        nuclei: `NucleusPixels`.
        width: of the image in px.

    Returns:
        (n, 3) float64: area in px, longest and shortest distance between two parallel
        tangents in px.
    """
    hulls = convex_hulls(nuclei, width)
    measures = np.zeros((len(hulls), 3))
    for start in range(0, len(hulls), HULLS_AT_ONCE):
        group = hulls[start : start + HULLS_AT_ONCE]
        # Fill up each hull with its first corner, so that all have equal numbers of corners. This
        # adds sides without length, which are left out below.
        corner = np.arange(max(len(hull) for hull in group))
        hull = np.stack([points[corner * (corner < len(points))] for points in group])
        hull = hull.astype(float)
        sides = np.roll(hull, -1, axis=1) - hull
        lengths = np.hypot(sides[..., 0], sides[..., 1])
        normals = np.stack([-sides[..., 1], sides[..., 0]], axis=1)
        normals /= np.maximum(lengths, 1e-9)[:, None]
        across = hull @ normals  # (nuclei, corners, sides)
        # The narrowest breadth lies across one of the sides.
        breadths = np.where(lengths > 0, across.max(axis=1) - across.min(axis=1), np.inf)
        between = hull[:, :, None] - hull[:, None]
        cross = hull[..., 0] * sides[..., 1] - hull[..., 1] * sides[..., 0]
        rows = measures[start : start + len(group)]
        rows[:, 0] = np.abs(cross.sum(axis=1)) / 2
        rows[:, 1] = np.sqrt((between**2).sum(axis=-1).max(axis=(1, 2)))
        rows[:, 2] = breadths.min(axis=1)
    return measures


def solidities(labels):
    """Compute how much of its convex hull each nucleus fills.

    Args:
        labels: (H, W) int32.

    Returns:
        (n,) float64 in the order of the ids: 1 for a convex outline, less for a ragged one.
    """
    nuclei = NucleusPixels(labels)
    return nuclei.areas / hull_measures(nuclei, labels.shape[1])[:, 0]


def convex_hulls(nuclei, width):
    """Compute the convex hulls of all nuclei.

    Args:
        nuclei, width: as for `hull_measures`.

    Returns:
        A list of (corners, 2) int32 arrays, x and y of pixel corners.
    """
    import cv2

    # Only the ends of a run of pixels within a row can be corners of a hull.
    pixels, nucleus = nuclei.pixels, nuclei.nucleus
    row, column = np.divmod(pixels, width)
    is_first = (np.diff(pixels, prepend=-2) != 1) | (np.diff(nucleus, prepend=-1) != 0)
    first = np.flatnonzero(is_first | (column == 0))
    last = np.append(first[1:], len(pixels)) - 1
    order = np.argsort(nucleus[first], kind="stable")
    first, last = first[order], last[order]
    ends = np.stack([column[first], row[first], column[last] + 1, row[last]], axis=1)
    ends = ends.reshape(-1, 2, 2)
    corners = np.concatenate([ends, ends + (0, 1)], axis=1).reshape(-1, 1, 2).astype(np.int32)
    stops = 4 * np.cumsum(np.bincount(nucleus[first], minlength=len(nuclei.ids)))
    starts = [0, *stops][:-1]
    return [
        cv2.convexHull(corners[start:stop])[:, 0] for start, stop in zip(starts, stops, strict=True)
    ]


def perimeters(nuclei, labels):
    """Measure the lengths of the outlines of all nuclei, as `skimage.measure.perimeter` does.

    Each border pixel counts 1, the root of 2 or a value between, depending on which of its
    neighbours are border pixels of the same nucleus. So corners are rounded off.

    Args:
        nuclei: `NucleusPixels` of `labels`.
        labels: (H, W) integer.

    Returns:
        (n,) float64 in px.

    References:
        Benkrid & Crookes 2000, "Design and FPGA implementation of a perimeter estimator".
    """
    framed = np.pad(labels, 1).ravel()  # every pixel then has eight neighbours
    width = labels.shape[1] + 2
    row, column = np.divmod(nuclei.pixels, labels.shape[1])
    place = (row + 1) * width + column + 1
    own_id = framed[place]
    sides = (-width, -1, 1, width)
    corners = (-width - 1, -width + 1, width - 1, width + 1)
    border = np.zeros(framed.size, bool)
    border[place] = np.any([framed[place + step] != own_id for step in sides], axis=0)
    is_border = border[place]
    place, own_id = place[is_border], own_id[is_border]

    def num_border_neighbours(steps):
        return sum(
            (border[place + step] & (framed[place + step] == own_id)).astype(np.intp)
            for step in steps
        )

    length = np.zeros((5, 5))  # by the numbers of border neighbours at sides and at corners
    length[[2, 3, 2, 3, 2, 3], [0, 0, 1, 1, 2, 2]] = 1
    length[[0, 1], [2, 3]] = np.sqrt(2)
    length[[1, 1], [1, 2]] = (1 + np.sqrt(2)) / 2
    lengths = length[num_border_neighbours(sides), num_border_neighbours(corners)]
    sums = np.bincount(nuclei.nucleus[is_border], lengths, minlength=len(nuclei.ids))
    return sums.astype(float)  # where there is nothing to count, NumPy counts in whole numbers
