"""Void: pixels of the ground truth that are neither nucleus nor background, and teach nothing.

truth = known_targets(labels, heads, has_instances, void)       # void pixels are UNKNOWN
"""

from nuclei.training.targets import UNKNOWN, targets


def known_targets(labels, heads, has_instances=True, void=None):
    """Compute the maps of a crop and leave out the pixels of void.

    Args:
        labels, heads, has_instances: as for `targets`.
        void: (H, W) bool, or None for none.

    Returns:
        (H, W, len(heads)) float32 in [0, 1], or UNKNOWN, which the losses leave out.
    """
    truth = targets(labels, heads, has_instances)
    if void is not None:
        truth[void] = UNKNOWN
    return truth
