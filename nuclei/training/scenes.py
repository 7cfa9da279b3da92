"""Change what a crop shows: more nuclei that touch (copy-paste), or none (negative images).

`copy_paste` lays nuclei of one crop on another one of the same image, where they touch and overlap.
`negative_image` draws a crop without any cell: empty, grain, noise, stripes, writing or fibres.
Without negative images a model finds nuclei in text.
"""

import cv2
import numpy as np

from nuclei.training.stains import EOSINS, RGB_FROM_HED, fibres

NEGATIVE_SHARE = 0.05  # of the crops are negative images
COPY_PASTE_SHARE = 0.3  # of the crops whose labels separate touching nuclei
COPY_PASTE_TRIES = 4  # random places, of which the one with most contacts is taken
COPY_PASTE_OVERLAP = 0.3  # largest share of a nucleus that may be covered
COPY_PASTE_EDGE_PX = 1.0  # sigma of the soft edge of what is laid on
TRANSLUCENT_SHARE = 0.5  # of these crops mix both layers, as nuclei above one another do


def copy_paste(crop, labels, other, other_labels, rng):
    """Lay whole nuclei of one crop on another crop of the same image, where they touch others.

    Args:
        crop, other: (size, size, 3) float32, in the units of the image.
        labels, other_labels: (size, size) int32.
        rng: `numpy.random.Generator`.

    Returns:
        (crop, labels) of the same shapes and dtypes; nuclei laid on have new ids. The inputs
        themselves where nothing fits.

    References:
        Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
        Segmentation".
    """
    is_whole = np.ones(other_labels.max() + 1, bool)
    is_whole[0] = False
    is_whole[other_labels[[0, -1]]] = False  # cut off by the edge
    is_whole[other_labels[:, [0, -1]]] = False
    if not is_whole.any():
        return crop, labels
    areas, other_areas = np.bincount(labels.ravel()), np.bincount(other_labels.ravel())
    most_contacts = -1
    for _ in range(COPY_PASTE_TRIES):
        shift = rng.integers(len(labels), size=2)
        moved_labels = np.roll(other_labels, shift, (0, 1))
        is_allowed, num_contacts = fitting_nuclei(
            labels, moved_labels, areas, other_areas, is_whole & ~wrapped_ids(moved_labels)
        )
        if num_contacts > most_contacts:
            most_contacts = num_contacts
            best_shift, best_labels, pasted = shift, moved_labels, is_allowed[moved_labels]
    if not pasted.any():
        return crop, labels
    layer = np.roll(other, best_shift, (0, 1))
    if rng.random() < TRANSLUCENT_SHARE:
        # Fluorescence adds light, so the brighter layer shows; transmitted light shows the darker.
        is_bright = other[other_labels > 0].mean() > other.mean()
        layer = np.maximum(crop, layer) if is_bright else np.minimum(crop, layer)
    share = cv2.dilate(pasted.astype(np.float32), np.ones((3, 3)))
    share = cv2.GaussianBlur(share, (0, 0), COPY_PASTE_EDGE_PX)[..., None]
    first_new_id = labels.max() + 1
    new_labels = np.where(pasted, best_labels + first_new_id, labels).astype(np.int32)
    return crop + share * (layer - crop), new_labels


def wrapped_ids(moved_labels):
    """Find nuclei that `np.roll` has cut: parts of them lie on two opposite sides.

    Args:
        moved_labels: (size, size) int32.

    Returns:
        (largest id + 1,) bool, for each id whether it is cut.
    """
    wrapped = np.zeros(moved_labels.max() + 1, bool)
    for side, opposite in (
        (moved_labels[0], moved_labels[-1]),
        (moved_labels[:, 0], moved_labels[:, -1]),
    ):
        wrapped[np.intersect1d(side, opposite)] = True
    return wrapped


def fitting_nuclei(labels, moved_labels, areas, other_areas, is_candidate):
    """Find which nuclei may be laid on: those that cover little of any other nucleus.

    Args:
        labels, moved_labels: (size, size) int32, below and above.
        areas, other_areas: pixels of each id in the two.
        is_candidate: for each id of `moved_labels` whether it may be used at all.

    Returns:
        (is_allowed, num_contacts): the candidates that fit, and how many pairs of them overlap.
    """
    num_ids = len(areas)
    both = np.flatnonzero((labels > 0) & (moved_labels > 0))
    keys = moved_labels.ravel()[both].astype(np.int64) * num_ids + labels.ravel()[both]
    pairs, hidden = np.unique(keys, return_counts=True)
    upper, lower = np.divmod(pairs, num_ids)
    covers_much = hidden > COPY_PASTE_OVERLAP * np.minimum(areas[lower], other_areas[upper])
    is_allowed = is_candidate.copy()
    is_allowed[upper[covers_much]] = False
    return is_allowed, np.count_nonzero(is_allowed[upper])


def negative_image(rng, size):
    """Draw an image without cells.

    Returns:
        (size, size, 3) float32 in [0, 1].
    """
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    if pattern is stained_fibres:
        return stained_fibres(rng, size)
    paper, ink = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    if rng.random() < 0.5:  # grey
        paper, ink = np.repeat(paper[:1], 3), np.repeat(ink[:1], 3)
    amount = np.clip(pattern(rng, size), 0, 1)[..., None]  # of ink
    return np.clip(paper + amount * (ink - paper), 0, 1).astype(np.float32)


def empty(rng, size):
    """Draw nothing: (size, size) float32 amounts of ink, as all patterns but `stained_fibres`."""
    return np.zeros((size, size), np.float32)


def grain(rng, size):
    """Draw noise that differs from pixel to pixel."""
    noise = rng.standard_normal((size, size), np.float32)
    return noise * np.float32(rng.uniform(0.1, 0.5)) + 0.5


def rough_noise(rng, size):
    """Draw noise of all scales.

    Amplitudes fall with frequency to a power of -1 or less steep: a steeper fall draws blobs, which
    look like nuclei.
    """
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.hypot(rows, columns) + 1 / size
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    amount = np.fft.irfft2(spectrum * frequency ** -rng.uniform(0.2, 1.0), s=(size, size))
    return 0.5 + 0.2 * (amount - amount.mean()) / amount.std()


def stripes(rng, size):
    """Draw parallel stripes with soft or sharp borders."""
    angle, period_px = rng.uniform(0, np.pi), rng.uniform(4, 40)
    y, x = np.arange(size)[:, None], np.arange(size)[None]
    amount = 0.5 + 0.5 * np.sin((y * np.cos(angle) + x * np.sin(angle)) * 2 * np.pi / period_px)
    return (amount > 0.5) * 1.0 if rng.random() < 0.5 else amount


def writing(rng, size):
    """Draw lines of random letters."""
    scale, thickness = rng.uniform(0.3, 2.0), int(rng.integers(1, 4))
    line_px, sheet = round(30 * scale), np.zeros((size, size), np.uint8)
    for row in range(line_px, size + line_px, line_px):
        text = "".join(chr(letter) for letter in rng.integers(33, 123, 200))
        font = int(rng.integers(0, 8))
        cv2.putText(sheet, text, (0, row), font, scale, 255, thickness, cv2.LINE_AA)
    return sheet / np.float32(255)


def stained_fibres(rng, size):
    """Draw tissue without nuclei, stained by eosin: (size, size, 3) float32 in [0, 1]."""
    eosin = EOSINS[0] + rng.uniform(0, 1) * (EOSINS[1] - EOSINS[0])
    stain = eosin + rng.uniform(0, 0.3) * RGB_FROM_HED[0]
    return np.exp(-(fibres(rng, size)[..., None] * stain + rng.uniform(0, 0.1)))


# Fibres twice: they are the most frequent of these in real slides.
PATTERNS = (empty, grain, rough_noise, stripes, writing, stained_fibres, stained_fibres)
