"""Compare the ground truth of a data set with what a model finds, to see truth in a wrong place.

    agreement = Agreement(find)                     # find: image -> (H, W) labels of a model
    agreement.add("a.png", image, truth)            # for each pair
    agreement.lines()                               # files that do not fit, and what would fit

No model is perfect, so a low agreement alone is only named. Where the truth of a file fits much
better moved, turned, mirrored, inverted, or on another image, this is said.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nuclei.truth.forms import Truth

LOW_DICE = 0.5  # below: the truth and the model disagree on most nuclei
MIN_GAIN = 0.15  # of Dice, by which another place or turn must fit better
MIN_FIT = 0.5  # Dice that it must reach
MIN_FOUND = 0.01  # share of the image that a model must find where the truth is empty
MIN_SHIFT_PX = 2  # smaller shifts are differences in taste about edges
MAX_SHIFT = 0.5  # of the height or width: of what is moved farther too little is left to compare
MIN_CONFIRMED = 0.7  # share of the truth that a model finds, where it is right as far as it goes
MANY_TIMES = 2.0  # area of what the model finds over the truth, where a part is not annotated
MIN_INSIDE = 0.95  # share of what the model finds that lies in the truth of whole cells
LARGE_TIMES = (1.8, 4.0)  # area of whole cells over what the model finds
COARSE_PX = 128  # height and width of the masks by which files are compared with each other


class Pair(NamedTuple):
    """How one truth fits its image.

    Attributes:
        name: of the truth.
        dice: Dice of truth and model, 0...1.
        better: what would fit better, in words, or "".
        shape: height and width in px.
        coarse_truth, coarse_found: (COARSE_PX, COARSE_PX) bool, both masks made small.
    """

    name: str
    dice: float
    better: str
    shape: tuple[int, int]
    coarse_truth: np.ndarray
    coarse_found: np.ndarray


class Suspect(NamedTuple):
    """A truth that does not fit what the model finds.

    Attributes:
        truth: its name.
        dice: of truth and model, 0...1.
        message: what would fit better, or that the agreement is low.
    """

    truth: str
    dice: float
    message: str


class Agreement:
    """Compares pairs, one after the other.

    Args:
        find: gives the (H, W) labels that a model finds in an (H, W, 3) image.
    """

    def __init__(self, find: Callable[[np.ndarray], np.ndarray]):
        self.find = find
        self.pairs: list[Pair] = []

    def add(self, name: str, image: np.ndarray, truth: Truth) -> None:
        """Compare one pair. It is left out where truth and model have no nuclei, or hardly any."""
        known = np.ones(truth.labels.shape, bool) if truth.void is None else ~truth.void
        found, true = (self.find(image) > 0) & known, (truth.labels > 0) & known
        value = dice(true, found)
        if not true.any():
            if found.mean() < MIN_FOUND:
                return
            better = "the truth is empty, and the model finds nuclei"
        elif not found.any():
            better = "the model finds no nucleus"
        else:
            better = best_change(true, found, known, value) or coverage(true, found)
        self.pairs.append(
            Pair(name, value, better, true.shape, coarse(true), coarse(found)),
        )

    def suspects(self) -> list[Suspect]:
        """The truths that do not fit, the worst first."""
        pairs = [pair for pair in self.pairs if pair.better or pair.dice < LOW_DICE]
        low = "low agreement: look at image and truth, one of them may be wrong"
        return [
            Suspect(pair.name, round(pair.dice, 4), pair.better or self.better_image(pair) or low)
            for pair in sorted(pairs, key=lambda pair: pair.dice)
        ]

    def lines(self) -> list[str]:
        """Say how well the truth fits, and name the files that do not, the worst first."""
        if not self.pairs:
            return ["Neither the truth nor the model has any nucleus: nothing to compare."]
        values = np.array([pair.dice for pair in self.pairs])
        suspects = self.suspects()
        lines = [
            f"Compared with the model: median Dice {np.median(values):.2f} in {len(values):,} "
            f"pairs, {len(suspects):,} to look at."
        ]
        for suspect in suspects:
            lines.append(f"    {suspect.truth}: Dice {suspect.dice:.2f}, {suspect.message}")
        return lines

    def better_image(self, suspect: Pair) -> str:
        """Say on which other image a truth fits much better, or ""."""
        others = [
            (dice(suspect.coarse_truth, pair.coarse_found), pair.name)
            for pair in self.pairs
            if pair.name != suspect.name and pair.shape == suspect.shape
        ]
        value, name = max(others, default=(0.0, ""))
        if value < max(MIN_FIT, suspect.dice + MIN_GAIN):
            return ""
        return f"it fits the image of {name} ({value:.2f}): files swapped?"


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """2|A∩B| / (|A|+|B|) of two bool masks of one shape; 0 where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 0.0


def coverage(true: np.ndarray, found: np.ndarray) -> str:
    """Say where a truth, right as far as it goes, covers too little or too much.

    Args:
        true, found: (H, W) bool.

    Returns:
        Words, or "".
    """
    shared, num_true, num_found = (np.count_nonzero(mask) for mask in (true & found, true, found))
    if shared >= MIN_CONFIRMED * num_true and num_found >= MANY_TIMES * num_true:
        return "the model finds as many nuclei again beside it: was only a part annotated?"
    times = num_true / max(1, num_found)  # above the highest, the model has missed nuclei
    if shared >= MIN_INSIDE * num_found and LARGE_TIMES[0] <= times <= LARGE_TIMES[1]:
        return "it is much larger than what the model finds inside of it: whole cells?"
    return ""


def coarse(mask: np.ndarray) -> np.ndarray:
    """A mask thinned to (COARSE_PX, COARSE_PX), for comparison with masks of the same size."""
    rows, columns = (np.arange(COARSE_PX) * side // COARSE_PX for side in mask.shape)
    return mask[np.ix_(rows, columns)]


def best_change(true: np.ndarray, found: np.ndarray, known: np.ndarray, value: float) -> str:
    """Say which change would make a truth fit much better.

    Args:
        true, found, known: (H, W) bool; both masks are empty where the truth is void.
        value: their Dice as they are.

    Returns:
        Words, or "" where no change gains MIN_GAIN and reaches MIN_FIT.
    """
    changes = {
        "black and white swapped": ~true & known,
        "mirrored left to right": true[:, ::-1],
        "mirrored top to bottom": true[::-1],
        "turned by 180 degrees": true[::-1, ::-1],
    }
    if true.shape[0] == true.shape[1]:
        changes |= {
            "transposed (rows and columns exchanged)": true.T,
            "transposed and turned by 180 degrees": true[::-1, ::-1].T,
            "turned left by 90 degrees": np.rot90(true),
            "turned right by 90 degrees": np.rot90(true, -1),
        }
    fits = {words: dice(changed, found) for words, changed in changes.items()}
    down, right = best_shift(true, found)
    if max(abs(down), abs(right)) >= MIN_SHIFT_PX:
        words = f"moved by {down} px down and {right} px to the right"
        fits[words] = dice(*overlap(true, found, down, right))
    words = max(fits, key=fits.__getitem__)
    if fits[words] < max(MIN_FIT, value + MIN_GAIN):
        return ""
    return f"it fits when {words} ({fits[words]:.2f})"


def best_shift(true: np.ndarray, found: np.ndarray) -> tuple[int, int]:
    """The shift of `true`, in px down and to the right, by which most of its pixels hit `found`."""
    from scipy.fft import irfft2, rfft2

    shape = [2 * side for side in true.shape]  # so that nothing comes back on the other side
    product = rfft2(found.astype(np.float32), shape) * np.conj(
        rfft2(true.astype(np.float32), shape)
    )
    hits = irfft2(product, shape)
    shifts = [np.fft.fftfreq(side, 1 / side).astype(int) for side in shape]
    for axis, (shift, side) in enumerate(zip(shifts, true.shape, strict=True)):
        too_far = np.abs(shift) > MAX_SHIFT * side
        hits[too_far if axis == 0 else np.s_[:, too_far]] = -1
    row, column = np.unravel_index(hits.argmax(), hits.shape)
    return int(shifts[0][row]), int(shifts[1][column])


def overlap(true, found, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of two masks that lie on each other when `true` is moved."""
    height, width = true.shape
    here = np.s_[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    there = np.s_[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    return true[there], found[here]
