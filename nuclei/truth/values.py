"""What the values of an exact truth stand for: background, void, and the values of nuclei.

    exact = exact_values(pixels, ignore=(255,))
    exact.ids, exact.names              # 0 background, 1...n; names of the values in words

Grey levels and colours are understood alike: a colour is a value of three numbers.
"""

from typing import NamedTuple

import numpy as np

from nuclei.images.labels import joined

MAX_CLASSES = 9  # values of a mask that holds classes instead of nuclei, background included
VOID_VALUES = (255, 65535)  # what class maps of 8 and 16 bits set where nobody decided
MAX_SMALL = 20  # the other values of such a map are small numbers
MIN_BACKGROUND = 0.4  # share of the image of a background that is neither 0 nor black
MAX_NUCLEUS = 0.05  # share of the image of the largest region of black that can be a nucleus
MIN_BESIDE_VOID = 0.05  # area of the small numbers over that of a void value: less is stray pixels


class Exact(NamedTuple):
    """An image of exact values.

    Attributes:
        ids: (H, W) int32, 0 background or void, 1...n the other values in ascending order.
        names: n + 1 words for the values, such as "2" or "(255, 0, 0)".
        colours: (n + 1, k) float64, the values as vectors of 1 or 3 numbers.
        counts: (n + 1,) int64, pixels of each id; entry 0 without void.
        void: (H, W) bool, or None where nothing is void.
        void_names: words for the void values.
    """

    ids: np.ndarray
    names: tuple[str, ...]
    colours: np.ndarray
    counts: np.ndarray
    void: np.ndarray | None
    void_names: tuple[str, ...]

    @property
    def num_values(self) -> int:
        """Number of values other than background and void."""
        return len(self.names) - 1

    def renumbered(self, ids: np.ndarray) -> "Exact":
        """The same with changed ids, some of whose values may be gone."""
        counts = np.bincount(ids.ravel(), minlength=len(self.names))
        kept = np.flatnonzero(counts[1:]) + 1
        new_ids = np.zeros(len(counts), np.int32)
        new_ids[kept] = np.arange(1, len(kept) + 1)
        if self.void is not None:
            counts[0] -= self.void.sum()
        rows = np.concatenate([[0], kept])
        names = tuple(self.names[row] for row in rows)
        return self._replace(
            ids=new_ids[ids], names=names, colours=self.colours[rows], counts=counts[rows]
        )

    @property
    def has_usual_background(self) -> bool:
        """Whether the background is 0 or black."""
        return not self.colours[0].any()

    def meaning(self, nuclei: str, rest: str = "") -> str:
        """Say what each value was taken for.

        Args:
            nuclei: words for the values of nuclei, with their meaning.
            rest: the same for more values.
        """
        background = f"{self.names[0]} background" if self.counts[0] else ""
        void = f"{' and '.join(self.void_names)} void" if self.void is not None else ""
        return "; ".join(part for part in (background, nuclei, rest, void) if part)


def exact_values(pixels: np.ndarray, ignore=()) -> Exact:
    """Sort the values of a truth into background, void and others.

    Args:
        pixels: (H, W) or (H, W, 3) integer.
        ignore: numbers that the user calls void; a colour is void where its channels all have one
            of them. Without any, 255 beside a few small numbers is void.
    """
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    codes = channels[..., 0].astype(np.int64)
    for channel in range(1, channels.shape[2]):
        codes = codes << 16 | channels[..., channel].astype(np.int64)
    values, index, counts = counted(codes)
    shifts = 16 * np.arange(channels.shape[2])[::-1]
    colours = (values[:, None] if pixels.ndim == 2 else values[:, None] >> shifts & 0xFFFF) * 1.0
    is_coloured = pixels.ndim == 3
    is_void = np.isin(colours[:, 0], tuple(ignore)) & (colours == colours[:, :1]).all(axis=1)
    background = background_of(values, counts, index, is_void, is_coloured)
    if not is_coloured and not len(ignore):
        is_void = values_of_void(values, counts)
        if background is not None:
            is_void[background] = False  # white around everything is no void
    is_value = ~is_void
    if background is not None:
        is_value[background] = False
    order = np.flatnonzero(is_value)
    new_ids = np.zeros(len(values), np.int32)
    new_ids[order] = np.arange(1, len(order) + 1)
    words = [name_of(colour) for colour in colours]
    zero = np.zeros(colours.shape[1]) if background is None else colours[background]
    return Exact(
        ids=new_ids[index],
        names=(name_of(zero), *(words[k] for k in order)),
        colours=np.vstack([zero, colours[order]]),
        counts=np.array([0 if background is None else counts[background], *counts[order]]),
        void=is_void[index] if is_void.any() else None,
        void_names=tuple(words[k] for k in np.flatnonzero(is_void)),
    )


def counted(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values of an (H, W) int64 array, ascending, its indices into them, and their counts."""
    if codes.min() >= 0 and codes.max() < 1 << 20:  # a table is much faster than sorting all pixels
        table = np.bincount(codes.ravel())
        values = np.flatnonzero(table)
        indices = np.zeros(len(table), np.int32)
        indices[values] = np.arange(len(values))
        return values, indices[codes], table[values]
    values, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return values, index.reshape(codes.shape).astype(np.int32), counts


def name_of(colour: np.ndarray) -> str:
    """A value in words: "7", or "(255, 0, 0)" for a colour."""
    numbers = [f"{number:.0f}" for number in colour]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


def values_of_void(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which values of a grey truth are void: 255 or 65535 beside small numbers.

    Small are a few classes, or ids below half of it that are mostly in use.

    Args:
        values: (n,) the values, ascending.
        counts: (n,) pixels of each.

    Returns:
        (n,) bool.
    """
    is_void = np.zeros(len(values), bool)
    if len(values) < 3 or values[-1] not in VOID_VALUES:
        return is_void
    are_classes = len(values) <= MAX_CLASSES + 1 and values[-2] <= MAX_SMALL
    are_ids = values[-2] < values[-1] / 2 and len(values) - 2 >= values[-2] / 2
    beside = counts[:-1][values[:-1] > 0].sum()
    is_void[-1] = (are_classes or are_ids) and beside >= MIN_BESIDE_VOID * counts[-1]
    return is_void


def background_of(values, counts, index, is_void, is_coloured: bool) -> int | None:
    """Choose the value that is the background: 0 or black, unless another one surrounds it.

    Args:
        values: (n,) the codes of the values, ascending; 0 is black.
        counts: (n,) pixels of each value.
        index: (H, W) indices into `values`.
        is_void: (n,) bool.
        is_coloured: a coloured truth without black has its most frequent colour as background.

    Returns:
        Index into `values`; None where all values are nuclei.
    """
    known = np.flatnonzero(~is_void)
    if not len(known):
        return None
    zero = int(known[0]) if values[known[0]] == 0 else None
    most = int(known[counts[known].argmax()])
    if most == zero:
        return zero
    if len(known) == 1:
        return None
    if len(known) == 2 and (is_coloured or zero is not None):
        return most if zero is None else zero
    frame = np.concatenate([index[0], index[-1], index[1:-1, 0], index[1:-1, -1]])
    on_frame = np.bincount(frame, minlength=len(values))
    surrounds = counts[most] >= MIN_BACKGROUND * index.size and on_frame[most] > frame.size / 2
    if zero is None and len(known) == 2:
        # ilastik numbers its labels from 1 on, in the order in which they were drawn.
        return most if surrounds else int(known[0])
    if zero is None:
        return most if is_coloured or surrounds else None
    if surrounds and on_frame[zero] < on_frame[most]:
        largest_px = np.bincount(joined(index == zero).ravel())[1:].max()
        if largest_px < MAX_NUCLEUS * index.size:
            return most
    return zero
