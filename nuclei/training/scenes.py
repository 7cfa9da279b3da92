"""nuclei.training.scenes"""

import cv2
import numpy as np

from nuclei.training.stains import EOSINS, RGB_FROM_HED, fibres

NEGATIVE_SHARE = 0.05  # of the crops show no cells at all: noise, writing, fibres. Without them, text is full of nuclei
# Crowding: nuclei of one crop laid among those of another of the same image, where they touch and overlap.
COPY_PASTE_SHARE = 0.3  # of the crops
COPY_PASTE_TRIES = 4  # places of which the one with most contacts is taken
COPY_PASTE_OVERLAP = 0.3  # of a nucleus at most that another one covers
COPY_PASTE_EDGE_PX = 1.0  # sigma of the edge along which what is laid on fades


def copy_paste(crop, labels, other, other_labels, rng):
    """Lay whole nuclei of one crop on another of the same image, where they touch those that are there and hide little.

    Args:
        crop, other: (size, size, 3) float32, in the units of the image.
        labels, other_labels: (size, size) int32.

    Returns:
        The crop and labels with them, of the same shapes and dtypes; what is laid on has ids of its own.

    References:
        Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation".
    """
    whole = np.ones(other_labels.max() + 1, bool)
    whole[0] = whole[np.concatenate([other_labels[[0, -1]].ravel(), other_labels[:, [0, -1]].ravel()])] = False
    if not whole.any():
        return crop, labels
    first_id = labels.max() + 1
    areas, other_areas = np.bincount(labels.ravel()), np.bincount(other_labels.ravel())
    best = None
    for _ in range(COPY_PASTE_TRIES):
        shift = rng.integers(len(labels), size=2)
        moved = np.roll(other_labels, shift, (0, 1))
        allowed = whole.copy()
        for one, other_side in ((moved[0], moved[-1]), (moved[:, 0], moved[:, -1])):
            seen = np.zeros(len(whole), bool)
            seen[one] = True
            allowed[other_side[seen[other_side]]] = False  # a part of it came in again on the other side
        both = np.flatnonzero((labels > 0) & (moved > 0))
        pairs, hidden = np.unique(moved.ravel()[both].astype(np.int64) * first_id + labels.ravel()[both], return_counts=True)
        upper, lower = np.divmod(pairs, first_id)
        allowed[upper[hidden > COPY_PASTE_OVERLAP * np.minimum(areas[lower], other_areas[upper])]] = False
        contacts = np.count_nonzero(allowed[upper])
        if best is None or contacts > best[0]:
            best = contacts, shift, moved, allowed[moved]
    _, shift, moved, laid = best
    if not laid.any():
        return crop, labels
    moved_crop = np.roll(other, shift, (0, 1))
    if rng.random() < 0.5:  # translucent, as nuclei above one another are: the brighter counts, in transmitted light the darker
        brighter = other[other_labels > 0].mean() > other.mean()
        moved_crop = np.maximum(crop, moved_crop) if brighter else np.minimum(crop, moved_crop)
    share = cv2.GaussianBlur(cv2.dilate(laid.astype(np.float32), np.ones((3, 3))), (0, 0), COPY_PASTE_EDGE_PX)[..., None]
    return crop + share * (moved_crop - crop), np.where(laid, moved + first_id, labels).astype(np.int32)


def negative_image(rng, size):
    """A picture without cells, (size, size, 3) float32 in [0, 1]: empty, grain, noise, stripes, writing, stained fibres."""
    kind = rng.choice(["empty", "grain", "noise", "stripes", "writing", "fibres", "fibres"])
    if kind == "fibres":
        eosin = EOSINS[0] + rng.uniform(0, 1) * (EOSINS[1] - EOSINS[0])
        stain = eosin + rng.uniform(0, 0.3) * RGB_FROM_HED[0]
        return np.exp(-(fibres(rng, size)[..., None] * stain + rng.uniform(0, 0.1)))
    paper, ink = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    if rng.random() < 0.5:
        paper, ink = np.repeat(paper[:1], 3), np.repeat(ink[:1], 3)
    amount = np.zeros((size, size), np.float32)  # of ink
    if kind == "grain":
        amount = rng.standard_normal((size, size), np.float32) * np.float32(rng.uniform(0.1, 0.5)) + 0.5
    elif kind == "noise":  # amplitude falling with frequency to the power of -1 or less: rough at every scale, without blobs
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) + 1 / size
        wave = np.fft.rfft2(rng.standard_normal((size, size))) * frequency ** -rng.uniform(0.2, 1.0)
        amount = np.fft.irfft2(wave, s=(size, size))
        amount = 0.5 + 0.2 * (amount - amount.mean()) / amount.std()
    elif kind == "stripes":
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
        phase = (np.arange(size)[:, None] * np.cos(angle) + np.arange(size)[None] * np.sin(angle)) * 2 * np.pi / period
        amount = 0.5 + 0.5 * np.sin(phase)
        amount = (amount > 0.5) * 1.0 if rng.random() < 0.5 else amount
    elif kind == "writing":
        scale, thickness = rng.uniform(0.3, 2.0), int(rng.integers(1, 4))
        height, sheet = round(30 * scale), np.zeros((size, size), np.uint8)
        for row in range(height, size + height, height):
            text = "".join(chr(letter) for letter in rng.integers(33, 123, 200))
            cv2.putText(sheet, text, (0, row), int(rng.integers(0, 8)), scale, 255, thickness, cv2.LINE_AA)
        amount = sheet / np.float32(255)
    return np.clip(paper + np.clip(amount, 0, 1)[..., None] * (ink - paper), 0, 1).astype(np.float32)
