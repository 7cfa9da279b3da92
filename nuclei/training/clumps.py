"""Clumps: regions of a binary mask that may hold several nuclei.

In a binary mask touching nuclei are one region. A convex region of usual size is nearly always one
nucleus: it teaches all maps. The others, the clumps, teach what is nucleus only.

    is_clump = find_clumps(labels)
    clumps = is_clump[labels]           # (H, W) bool
"""

import numpy as np

from nuclei.instances.pixels import NucleusPixels
from nuclei.instances.shape import hull_measures

# Measured with label images of DSB2018 made binary: 98 % of the regions within both limits are one
# nucleus, of tissue as of fluorescence.
MIN_SOLIDITY = 0.9  # area of a single nucleus over that of its convex hull
MAX_AREA = 2.5  # area of a single nucleus, in areas of the median region


def find_clumps(labels):
    """Find the regions that may hold several nuclei.

    Args:
        labels: (H, W) int32, the connected regions of a binary mask, 1...n without gaps.

    Returns:
        (n + 1,) bool, one entry for each id; that of the background is False.
    """
    nuclei = NucleusPixels(labels)
    is_clump = np.zeros(int(labels.max(initial=0)) + 1, bool)
    if len(nuclei.ids):
        hull_areas = hull_measures(nuclei, labels.shape[1])[:, 0]
        is_hollow = nuclei.areas < MIN_SOLIDITY * hull_areas
        is_clump[nuclei.ids] = is_hollow | (nuclei.areas > MAX_AREA * np.median(nuclei.areas))
    return is_clump
