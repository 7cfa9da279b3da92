"""Which nuclei touch each other, and which are near."""

import numpy as np

NEIGHBOURHOOD_PX = 100  # nuclei are nearby up to this distance of centroids, some five diameters


def count_touching(labels, ids):
    """Count how many other nuclei touch each nucleus, by one of the 8 neighbours of a pixel.

    Args:
        labels: (H, W) integer.
        ids: (n,) the nuclei to count for.

    Returns:
        (n,) int64.
    """
    pairs = [np.zeros((0, 2), labels.dtype)]
    height, width = labels.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):  # each pair of neighbours once
        first = labels[: height - down, max(0, -right) : width - max(0, right)]
        second = labels[down:, max(0, right) : width + min(0, right)]
        touch = (first != second) & (first > 0) & (second > 0)
        pairs.append(np.stack([first[touch], second[touch]], axis=1))
    pairs = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    return np.bincount(pairs.ravel(), minlength=int(labels.max(initial=0)) + 1)[ids]


def measure_neighbours(centroids, ids):
    """Measure who is near whom.

    Args:
        centroids: (n, 2) px.
        ids: (n,) int.

    Returns:
        The columns nuclei_nearby, nearest_id and nearest_distance_px of `measure`.
    """
    num_nuclei = len(ids)
    num_near, nearest_id = np.zeros(num_nuclei, int), np.zeros(num_nuclei, int)
    nearest_px = np.full(num_nuclei, np.nan)
    if num_nuclei > 1:
        from scipy.spatial import KDTree

        tree = KDTree(centroids)
        near = tree.query_ball_point(centroids, NEIGHBOURHOOD_PX, return_length=True)
        num_near = near - 1  # without the nucleus itself
        distances, places = tree.query(centroids, k=2)
        # Two nuclei may share a centroid (a ring and what is in it): the nucleus itself then is not
        # always the first of the two.
        rows = np.arange(num_nuclei)
        other = np.where(places[:, 1] == rows, 0, 1)
        nearest_id, nearest_px = ids[places[rows, other]], distances[rows, other]
    return {
        "nuclei_nearby": num_near,
        "nearest_id": nearest_id,
        "nearest_distance_px": nearest_px.round(2),
    }
