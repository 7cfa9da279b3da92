"""nuclei.training.targets"""

import cv2
import numpy as np

UNKNOWN = -1.0  # truth of a pixel that must not teach; the losses leave it out
CONTACT_REACH_PX = 2  # of a pixel to both nuclei that it parts: a line of some four pixels, wide enough to be learned


def nucleus_distance(labels):
    """Depth inside each nucleus: 0 outside, rising from its border to 1 at its deepest pixel.

    Args:
        labels: (H, W) int32, 0 is background.

    Returns:
        (H, W) float32 in [0, 1]. The border to a touching nucleus counts as border; the edge of the image does not.

    References:
        Scherr et al. 2020, "Cell segmentation and tracking using CNN-based distance predictions" (normalised distances).
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    # A pixel whose right or lower neighbour has another id lies on a border; both sides of a contact are borders.
    inside = labels > 0
    contact = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        touch = (labels[tuple(first)] != labels[tuple(second)]) & inside[tuple(first)] & inside[tuple(second)]
        contact[tuple(first)] |= touch
        contact[tuple(second)] |= touch
    core = (inside & ~contact).astype(np.uint8)
    # By steps to neighbours and knights' moves: within 2 % of the exact distance, in a third of the time.
    depth = cv2.distanceTransform(core, cv2.DIST_L2, cv2.DIST_MASK_5) if not core.all() else np.ones(core.shape, np.float32)
    places = np.flatnonzero(inside)
    ids, depths = labels.ravel()[places], depth.ravel()[places] + contact.ravel()[places]  # contact is nucleus: depth 1, not 0
    deepest = np.ones(ids.max() + 1, np.float32)
    np.maximum.at(deepest, ids, depths)  # all depths inside are 1 or more
    painted = np.zeros(labels.shape, np.float32)
    painted.ravel()[places] = depths / deepest[ids]
    return painted


def nucleus_contact(labels):
    """Where nuclei meet: 1 within CONTACT_REACH_PX of two different nuclei, in them or between them, else 0.

    Args:
        labels: (H, W) int32, 0 is background, ids below 16 million.

    Returns:
        (H, W) float32 of 0 and 1.

    References:
        Caicedo et al. 2019, "Nucleus segmentation across imaging experiments": the borders between touching nuclei were a
        class of their own in the winning network of the Data Science Bowl 2018.
    """
    ids = labels.astype(np.float32)  # OpenCV's morphology knows no int32; float32 is exact up to 2**24
    kernel = np.ones((2 * CONTACT_REACH_PX + 1,) * 2, np.uint8)
    highest = cv2.dilate(ids, kernel)
    lowest = cv2.erode(np.where(labels > 0, ids, np.float32(2**24)), kernel)
    return ((highest > 0) & (lowest < highest)).astype(np.float32)


def targets(labels, heads, has_instances=True):
    """What the network should paint for a crop.

    Args:
        labels: (H, W) int32.
        heads: names of the maps: "nucleus" (1 in a nucleus), "distance" (`nucleus_distance`), "contact"
            (`nucleus_contact`).
        has_instances: False where touching nuclei share an id: every map but the first is then unknown (-1).

    Returns:
        (H, W, len(heads)) float32 in [0, 1], or -1 for unknown.
    """
    painters = {
        "nucleus": lambda: labels > 0,
        "distance": lambda: nucleus_distance(labels),
        "contact": lambda: nucleus_contact(labels),
    }
    truth = np.empty(labels.shape + (len(heads),), np.float32)
    for channel, head in enumerate(heads):
        truth[..., channel] = painters[head]() if has_instances or head == "nucleus" else UNKNOWN
    return truth
