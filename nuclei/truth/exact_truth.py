"""Make a truth of exact values by the regions that they form.

    exact = exact_values(pixels)
    truth = truth_from_regions(exact, Regions(exact.ids), INSTANCES)

Soft edges are made hard first. Then each value is a border, the class of many nuclei, or one
nucleus.
"""

import numpy as np

from nuclei.images.labels import components, joined, without_gaps
from nuclei.truth.borders import filled_borders, find_borders
from nuclei.truth.forms import BINARY, EMPTY, FEW_VALUES, INSTANCES, Truth
from nuclei.truth.regions import SPECK_PX, Regions
from nuclei.truth.values import MAX_CLASSES, Exact

MAX_DUST = 0.5  # share of specks above which values are soft edges and no ids
MAX_PIECES = 1.5  # regions for each value, above which the values of dust are no ids
SHARED_TIMES = 3  # area over that of the median id, from which many nuclei may share a border
MAX_SOFT = 0.7  # share of soft edges in the foreground, above which no ids are left
MIN_SOFT_EDGE = 0.25  # share of the outline of nuclei from which their edges are soft
MIN_SCATTERED = 0.5  # share of the values that lie far apart, from which a value is no nucleus
MAX_SCATTERED = 0.1  # the same, from which ids are suspect
MIN_WRAPPED = 0.05  # the same, where the highest id is the highest number of 8 or 16 bits
MIN_CUT_PLACES = 3  # of that highest id, from which the ids above it were cut; also so many ids
TOP_VALUES = (255, 65535)  # the highest numbers of 8 and 16 bits


def truth_from_regions(exact: Exact, regions: Regions, form: str) -> Truth | None:
    """Understand exact values by the regions that they form.

    Args:
        exact: the values.
        regions: their regions.
        form: INSTANCES or INSTANCE_COLOURS, where each value is one nucleus.

    Returns:
        None where no ids are left: most pixels are soft edges, or specks.
    """
    if not exact.num_values:
        meaning = "" if exact.void is None else exact.meaning("")
        return Truth(regions.ids, EMPTY, void=exact.void, meaning=meaning)
    soft, is_usual = 0.0, exact.void is None and exact.has_usual_background
    if regions.soft_share() >= MIN_SOFT_EDGE:
        ids, is_soft = regions.hardened(exact.colours)
        exact, soft = exact.renumbered(ids), float(is_soft.mean())
        is_too_soft = is_soft.sum() > MAX_SOFT * (regions.pieces > 0).sum()
        is_grey_mask = exact.num_values == 1 and form == INSTANCES  # cut half-way by the caller
        regions = Regions(exact.ids)
        if is_too_soft or is_grey_mask:
            return None
    is_dust = dust_share(exact.ids, regions.pieces) > MAX_DUST
    if is_dust and not are_tiny_nuclei(exact.counts, regions.pieces):
        return None
    if exact.num_values == 1:
        meaning = "" if is_usual else exact.meaning(f"{exact.names[1]} nuclei")
        labels = components(exact.ids > 0)
        return Truth(labels, BINARY, soft, void=exact.void, meaning=meaning)
    borders = find_borders(exact.ids, border_candidates(exact))
    if borders:
        labels = without_gaps(filled_borders(exact.ids, borders))
        inside = [value for value in range(1, len(exact.names)) if value not in borders]
        nuclei = f"{listed(exact.names, inside)} nuclei"
        border = f"{listed(exact.names, borders)} border, part of the nearest nucleus"
        meaning = exact.meaning(nuclei, border)
        return Truth(labels, INSTANCES, soft, void=exact.void, meaning=meaning)
    places = regions.places()
    warning = warning_about_ids(exact, places)
    if are_classes(exact, regions, places):
        pieces, is_stray = regions.without_specks()
        words = listed(exact.names, range(1, len(exact.names)))
        meaning = exact.meaning(f"{words} nuclei, one for each region of equal value")
        soft += float(is_stray.mean())
        labels, form = pieces, FEW_VALUES
    else:
        labels = exact.ids
        if warning:  # ids that were cut or wrapped: each region of one is a nucleus
            pieces, _ = regions.without_specks()
            labels = np.where((places > 1)[labels], pieces + exact.num_values, labels)
        word = "value" if form == INSTANCES else "colour"
        meaning = "" if is_usual else exact.meaning(f"each other {word} one nucleus")
    return Truth(
        without_gaps(labels), form, soft, void=exact.void, meaning=meaning, warning=warning
    )


def border_candidates(exact: Exact) -> list[int]:
    """The ids that may be borders: all of a few values; of many, one that many nuclei share."""
    if exact.num_values < MAX_CLASSES:
        return list(range(1, exact.num_values + 1))
    most = int(exact.counts[1:].argmax()) + 1
    is_shared = exact.counts[most] > SHARED_TIMES * np.median(exact.counts[1:])
    return [most] if is_shared else []


def are_classes(exact: Exact, regions: Regions, places: np.ndarray) -> bool:
    """Whether values stand for many nuclei each: most of them lie in places far apart."""
    is_few = exact.num_values < MAX_CLASSES
    if is_few and regions.num_places() > 2 * (exact.num_values + 1):
        return True
    return float((places[1:] > 1).mean()) >= MIN_SCATTERED


def warning_about_ids(exact: Exact, places: np.ndarray) -> str:
    """Why ids may be wrong: several nuclei have one id; "" where few have."""
    if exact.num_values < MAX_CLASSES:
        return ""
    scattered = places[1:] > 1
    top = exact.names[-1]
    if top in map(str, TOP_VALUES):
        if places[-1] >= MIN_CUT_PLACES and scattered[:-1].mean() < MIN_WRAPPED:
            return f"one id, {top}, lies in {places[-1]} places: ids above {top} were cut"
        if scattered.mean() >= MIN_WRAPPED:
            return (
                f"one id lies in many places ({scattered.sum()} of {exact.num_values} ids): ids "
                f"above {top} seem to have wrapped round"
            )
    is_much = scattered.sum() >= MIN_CUT_PLACES and scattered.mean() >= MAX_SCATTERED
    if exact.colours.shape[1] == 1 and is_much:
        return f"one id lies in many places ({scattered.sum()} of {exact.num_values} ids)"
    return ""


def listed(names: tuple[str, ...], indices) -> str:
    """Names of values in words, such as "1, 2"; of more than MAX_CLASSES the number."""
    chosen = [names[index] for index in indices]
    return ", ".join(chosen) if len(chosen) <= MAX_CLASSES else f"{len(chosen)} values"


def are_tiny_nuclei(counts: np.ndarray, pieces: np.ndarray) -> bool:
    """Whether values that look like dust are the ids of nuclei of a pixel or two.

    Each such id is one piece, no id prevails, and most of the image is background.

    Args:
        counts: the pixels of each value, the background first.
        pieces: (H, W) labels of the regions of equal value.
    """
    foreground = counts[1:]
    none_prevails = foreground.max() < 0.3 * foreground.sum()
    is_sparse = foreground.sum() < 0.5 * counts.sum()
    return bool(pieces.max() <= MAX_PIECES * len(counts) and none_prevails and is_sparse)


def dust_share(values: np.ndarray, pieces: np.ndarray) -> float:
    """How much of the foreground is dust: near 0 for ids, near 1 for soft edges.

    Ids form whole nuclei, soft edges form specks of equal value around them.

    Args:
        values: (H, W) integer, 0 background.
        pieces: (H, W) labels of the regions of equal value.

    Returns:
        The share, 0...1, of specks in the foreground outside its most frequent value.
    """
    speck = (np.bincount(pieces.ravel()) < SPECK_PX)[pieces]
    counts = np.bincount(values.ravel())
    counts[0] = 0
    others = (values > 0) & (values != counts.argmax())
    return float((speck & others).sum() / max(1, others.sum()))


def are_grey_levels(ids: np.ndarray) -> bool:
    """Whether the ids of a label image are rather the grey levels of an image.

    These are dust, and each lies in many places.

    Args:
        ids: (H, W) integer, 0 background.
    """
    values = without_gaps(ids)
    pieces = joined(values)
    in_many_places = pieces.max() > MAX_PIECES * values.max()
    return bool(in_many_places and dust_share(values, pieces) > MAX_DUST)
