"""nuclei.instances.shape"""

import numpy as np

HULLS_AT_ONCE = 256  # every corner of a hull is compared with every other: 256 of usual size take some 10 MB


def hull_measures(inside, nucleus, width, num_nuclei):
    """Of the convex hulls of all nuclei, drawn around the corners of their pixels.

    Args:
        inside: flat indices of the nucleus pixels, ascending. nucleus: the place of each in the result. width: of the image.

    Returns:
        (num_nuclei, 3) float64: area in px, longest and shortest distance between two parallel tangents in px.
    """
    import cv2

    # Only the ends of a run of pixels of one nucleus within a row can be corners of its hull.
    row, column = np.divmod(inside, width)
    first = np.flatnonzero((np.diff(inside, prepend=-2) != 1) | (np.diff(nucleus, prepend=-1) != 0) | (column == 0))
    last = np.append(first[1:], len(inside)) - 1
    order = np.argsort(nucleus[first], kind="stable")
    first, last = first[order], last[order]
    ends = np.stack([column[first], row[first], column[last] + 1, row[last]], axis=1).reshape(-1, 2, 2)
    corners = np.concatenate([ends, ends + (0, 1)], axis=1).reshape(-1, 1, 2).astype(np.int32)
    stops = 4 * np.cumsum(np.bincount(nucleus[first], minlength=num_nuclei))
    hulls = [cv2.convexHull(corners[start:stop])[:, 0] for start, stop in zip([0, *stops][:-1], stops, strict=True)]
    measures = np.zeros((num_nuclei, 3))
    for start in range(0, num_nuclei, HULLS_AT_ONCE):
        group = hulls[start : start + HULLS_AT_ONCE]
        # Each filled up with its first corner: that adds sides without length, which are left out below, and no distance.
        place = np.arange(max(len(hull) for hull in group))
        hull = np.stack([hull[place * (place < len(hull))] for hull in group]).astype(float)
        sides = np.roll(hull, -1, axis=1) - hull
        lengths = np.hypot(sides[..., 0], sides[..., 1])
        normals = np.stack([-sides[..., 1], sides[..., 0]], axis=1) / np.maximum(lengths, 1e-9)[:, None]
        across = hull @ normals  # (nuclei, corners, sides): the shortest distance lies across one of the sides
        breadths = np.where(lengths > 0, across.max(axis=1) - across.min(axis=1), np.inf)
        between = hull[:, :, None] - hull[:, None]
        done = measures[start : start + len(group)]
        done[:, 0] = np.abs((hull[..., 0] * sides[..., 1] - hull[..., 1] * sides[..., 0]).sum(axis=1)) / 2
        done[:, 1] = np.sqrt((between**2).sum(axis=-1).max(axis=(1, 2)))
        done[:, 2] = breadths.min(axis=1)
    return measures


def perimeters(labels, inside, nucleus, num_nuclei):
    """Lengths of the outlines in px, corners rounded off: each border pixel counts 1, the root of 2 or something between,
    by which of its neighbours are border pixels of the same nucleus. As `skimage.measure.perimeter`, of all at once.

    Args:
        labels: (H, W) integer. inside: flat indices of its nucleus pixels. nucleus: the place of each in the result.

    Returns:
        (num_nuclei,) float64.

    References:
        Benkrid & Crookes 2000, "Design and FPGA implementation of a perimeter estimator".
    """
    framed = np.pad(labels, 1).ravel()  # so that every pixel has eight neighbours
    width = labels.shape[1] + 2
    place = (inside // labels.shape[1] + 1) * width + inside % labels.shape[1] + 1
    own = framed[place]
    border = np.zeros(framed.size, bool)
    border[place] = np.any([framed[place + step] != own for step in (-width, -1, 1, width)], axis=0)
    is_border = border[place]
    place, own, nucleus = place[is_border], own[is_border], nucleus[is_border]

    def beside(steps):
        return sum((border[place + step] & (framed[place + step] == own)).astype(np.intp) for step in steps)

    straight, diagonal = beside((-width, -1, 1, width)), beside((-width - 1, -width + 1, width - 1, width + 1))
    length = np.zeros((5, 5))  # by the numbers of straight and of diagonal neighbours
    length[2, 0] = length[3, 0] = length[2, 1] = length[3, 1] = length[2, 2] = length[3, 2] = 1
    length[0, 2] = length[1, 3] = np.sqrt(2)
    length[1, 1] = length[1, 2] = (1 + np.sqrt(2)) / 2
    return np.bincount(nucleus, length[straight, diagonal], minlength=num_nuclei)
