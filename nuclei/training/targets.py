"""What the network should predict: maps that are computed from the labels of a crop.

Three maps exist, called heads: "nucleus" (1 inside a nucleus), "distance" (0 outside, rising to 1
in the middle of each nucleus) and "contact" (1 where two nuclei meet). With them
`instances.separate` separates nuclei that touch. A pixel whose truth is not known is UNKNOWN.
"""

import cv2
import numpy as np

UNKNOWN = -1.0  # truth of a pixel that must not teach; the losses leave out every negative truth
CONTACT_REACH_PX = 2  # to both sides of a contact: four pixels are wide enough to learn


def distance_map(labels):
    """Compute the normalised distance to the border inside each nucleus.

    Args:
        labels: (H, W) int32, 0 is background.

    Returns:
        (H, W) float32 in [0, 1]: 0 outside, 1 at the innermost pixel of each nucleus. The border
        to a touching nucleus counts as border; the edge of the image does not.

    References:
        Scherr et al. 2020, "Cell segmentation and tracking using CNN-based distance predictions".
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    # Where a pixel and its right or lower neighbour have two ids, both lie on a border.
    inside = labels > 0
    border = np.zeros(labels.shape, bool)
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        touch = (labels[first] != labels[second]) & inside[first] & inside[second]
        border[first] |= touch
        border[second] |= touch
    core = (inside & ~border).astype(np.uint8)
    if core.all():  # no background pixel to measure a distance to
        distance = np.ones(core.shape, np.float32)
    else:
        distance = cv2.distanceTransform(core, cv2.DIST_L2, cv2.DIST_MASK_5)  # faster than exact
    pixels = np.flatnonzero(inside)
    ids = labels.ravel()[pixels]
    distances = distance.ravel()[pixels] + border.ravel()[pixels]  # a border pixel has 1, not 0
    largest = np.ones(ids.max() + 1, np.float32)
    np.maximum.at(largest, ids, distances)
    result = np.zeros(labels.shape, np.float32)
    result.ravel()[pixels] = distances / largest[ids]
    return result


def contact_map(labels):
    """Mark where nuclei meet.

    Args:
        labels: (H, W) int32, 0 is background, ids below 2**24.

    Returns:
        (H, W) float32: 1 within CONTACT_REACH_PX of two different nuclei, inside them or between
        them, else 0.

    References:
        Caicedo et al. 2019, "Nucleus segmentation across imaging experiments": the network that won
        the Data Science Bowl 2018 learned the borders between touching nuclei as a class.
    """
    ids = labels.astype(np.float32)  # OpenCV cannot dilate int32; float32 is exact up to 2**24
    kernel = np.ones((2 * CONTACT_REACH_PX + 1,) * 2, np.uint8)
    highest = cv2.dilate(ids, kernel)
    lowest = cv2.erode(np.where(labels > 0, ids, np.float32(2**24)), kernel)
    return ((highest > 0) & (lowest < highest)).astype(np.float32)


def targets(labels, heads):
    """Compute the maps that the network should predict for a crop.

    Args:
        labels: (H, W) int32.
        heads: names of the maps, of "nucleus", "distance" and "contact".

    Returns:
        (H, W, len(heads)) float32 in [0, 1].
    """
    compute = {"nucleus": lambda ids: ids > 0, "distance": distance_map, "contact": contact_map}
    truth = np.empty((*labels.shape, len(heads)), np.float32)
    for channel, head in enumerate(heads):
        truth[..., channel] = compute[head](labels)
    return truth
