"""Truth that does not fit its image: black and white swapped, or another image's truth.

    suspicion(nuclear_light(image), truth.labels, truth.void)      # "" or why, in words

No model is needed: nuclei are brighter than the background in fluorescence, and darker in
transmitted light. `contrast` measures how well brightness tells the two apart.
"""

import numpy as np

from nuclei.truth.hollow import are_lines

SAMPLE_PIXELS = 40_000  # px of an image that are compared; more does not change the result
MIN_PIXELS = 50  # px of nuclei and of background, below which nothing can be said
# The truth of 800 images of the Data Science Bowl, of TNBC and of NuInsSeg has 0.73 to 1 where the
# modality is right. The truth of another image has 0.5 in the mean.
MIN_CONTRAST = 0.62  # or its opposite: where the modality is wrong, nuclei have 0.2
MAX_SWAPPED = 0.38  # contrast of truth whose black and white are swapped
MIN_SWAPPED_SIDES = 3  # of the image that its largest region touches, as a background does
SWAPPED = "truth that seems to have black and white swapped (invert it: nuclei above 0)"
ELSEWHERE = (
    "truth that is not where the image has its nuclei (moved, turned or of another image; "
    "python import_data.py --compare says more)"
)

LINES = "truth of thin lines that enclose nothing (close the outlines, or fill the nuclei)"

CORNER = (
    "truth whose nuclei all lie in the upper left part of the image (drawn at another scale or in "
    "other units, or that part alone was annotated)"
)
MIN_NUCLEI = 10  # of which all lie in a corner
MAX_CORNER = 0.6  # of the height and width that they reach


def suspicion(light: np.ndarray, labels: np.ndarray, void: np.ndarray | None = None) -> str:
    """Say why the truth of an image may be wrong.

    Args:
        light: (H, W) uint8 or uint16, of `nuclear_light`.
        labels: (H, W) int32, 0 background.
        void: (H, W) bool, pixels that do not count; None for none.

    Returns:
        LINES, CORNER, SWAPPED, ELSEWHERE or "".
    """
    if are_lines(labels):
        return LINES
    if are_in_corner(labels):
        return CORNER
    value = contrast(light, labels, void)
    if value is None:
        return ""
    if value < MAX_SWAPPED and num_sides(labels) >= MIN_SWAPPED_SIDES:
        return SWAPPED
    return ELSEWHERE if max(value, 1 - value) < MIN_CONTRAST else ""


def contrast(light: np.ndarray, labels: np.ndarray, void: np.ndarray | None) -> float | None:
    """How often a pixel of a nucleus is brighter than one of the background.

    The arguments are those of `suspicion`.

    Returns:
        0...1, the area under the ROC curve: 1 where brightness tells nuclei from background, 0.5
        where it says nothing. None where there are too few pixels of either.
    """
    from scipy.stats import rankdata

    step = max(1, int(np.sqrt(labels.size / SAMPLE_PIXELS)))
    sample = np.s_[::step, ::step]
    light = light[sample]
    known = np.ones(light.shape, bool) if void is None else ~void[sample]
    inside = labels[sample][known] > 0
    num_inside, num_outside = int(inside.sum()), int((~inside).sum())
    if min(num_inside, num_outside) < MIN_PIXELS:
        return None
    ranks = rankdata(light[known])
    pairs = ranks[inside].sum() - num_inside * (num_inside + 1) / 2
    return float(pairs / (num_inside * num_outside))


def are_in_corner(labels: np.ndarray) -> bool:
    """Whether many nuclei all lie in the upper left part: (H, W) int32."""
    if labels.max() < MIN_NUCLEI:
        return False
    bottom, right = (np.flatnonzero(labels.any(axis=axis))[-1] + 1 for axis in (1, 0))
    return bool(bottom <= MAX_CORNER * labels.shape[0] and right <= MAX_CORNER * labels.shape[1])


def num_sides(labels: np.ndarray) -> int:
    """How many sides of the image the largest nucleus touches: 0...4."""
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    sides = largest[0], largest[-1], largest[:, 0], largest[:, -1]
    return sum(bool(side.any()) for side in sides)
