"""What the ground truth does not know, and therefore does not teach.

Pixels of void are neither nucleus nor background. A clump, a region of a binary mask that may hold
several nuclei, is nucleus, but where one nucleus ends and the next begins is unknown.

    truth = known_targets(labels, heads, clumps, void)      # what is not known is UNKNOWN
"""

import cv2
import numpy as np

from nuclei.training.targets import CONTACT_REACH_PX, UNKNOWN, targets


def known_targets(labels, heads, clumps=None, void=None):
    """Compute the maps of a crop and leave out what is not known.

    Args:
        labels, heads: as for `targets`.
        clumps: (H, W) bool, pixels of regions that may hold several nuclei, or None for none.
        void: (H, W) bool, or None for none.

    Returns:
        (H, W, len(heads)) float32 in [0, 1], or UNKNOWN, which the losses leave out.
    """
    truth = targets(labels, heads)
    if clumps is not None and clumps.any():
        kernel = np.ones((2 * CONTACT_REACH_PX + 1,) * 2, np.uint8)
        truth[cv2.dilate(clumps.view(np.uint8), kernel).view(bool), 1:] = UNKNOWN
    if void is not None:
        truth[void] = UNKNOWN
    return truth
