"""nuclei.slides.planes"""

import re

import numpy as np

NUCLEAR = re.compile(r"dapi|hoechst|draq|syto|nuc|dna|h2b|haematox|hematox", re.IGNORECASE)  # channels that show nuclei


def choose_planes(path, axes, shape, names, channel, notes):
    """Which plane of a stack is read: ({axis: index} of those that are neither rows, columns nor colour, the axis of colour
    or None); what is chosen and what is left is said in `notes`.

    Raises: ValueError where there is no such channel, or no rows and columns.
    """
    if "Y" not in axes or "X" not in axes:
        raise ValueError(f"{path} has the axes {axes}; expected rows (Y) and columns (X) among them")
    sizes, taken, colour = dict(zip(axes, shape, strict=True)), {}, "S" if "S" in axes else None
    names = [name or f"channel {k}" for k, name in enumerate(names[: sizes.get("C", 0)], start=1)]
    plain = not names or all(re.fullmatch(r"r(ed)?|g(reen)?|b(lue)?|channel \d", name.lower()) for name in names)
    if colour is None and sizes.get("C") == 3 and plain and channel is None:
        colour = "C"
    for axis in axes:
        if axis in ("Y", "X", colour):
            continue
        count, taken[axis] = sizes[axis], 0
        if axis == "C" and count > 1 or axis == "C" and channel is not None:
            names = names or [f"channel {k}" for k in range(1, count + 1)]
            taken[axis] = find_channel(path, names, channel)
            notes.append(f"channel {taken[axis] + 1} of {count} is taken, {names[taken[axis]]} (--channel takes another of: "
                         f"{', '.join(names)})")  # fmt: skip
        elif axis == "Z" and count > 1:
            taken[axis] = count // 2
            notes.append(f"plane {taken[axis] + 1} of {count} of the z-stack is taken, its middle")
        elif count > 1:
            what = "time series" if axis == "T" else f"stack (axis {axis})"
            notes.append(f"image 1 of {count} of the {what} is taken")
    if colour and channel is not None:
        notes.append("it is in colour: --channel changes nothing")
    return taken, colour


def find_channel(path, names, channel):
    """Index of the channel asked for, by its name or its number from 1; else the first that is named like nuclei, or 0."""
    if channel is None:
        return next((index for index, name in enumerate(names) if NUCLEAR.search(name)), 0)
    wanted = [index for index, name in enumerate(names) if name.lower() == str(channel).lower()]
    wanted = wanted or [index for index in range(len(names)) if str(channel) == str(index + 1)]
    if not wanted:
        raise ValueError(
            f"{path} has no channel {channel}; it has {', '.join(f'{k} {n}' for k, n in enumerate(names, start=1))}"
        )
    return wanted[0]


def plane_sizes(arrays, axes):
    """(h, w) of each level."""
    return [(array.shape[axes.index("Y")], array.shape[axes.index("X")]) for array in arrays]


def plane_reader(arrays, axes, taken, colour):
    """The `read` of a Slide over arrays that have more axes than rows, columns and colour; grey becomes three channels."""

    def read(level, box):
        spans = {"Y": slice(box.top, box.bottom), "X": slice(box.left, box.right), colour: slice(0, 3), **taken}
        pixels = np.asarray(arrays[level][tuple(spans[axis] for axis in axes)])
        kept = [axis for axis in axes if axis in ("Y", "X", colour)]
        pixels = pixels.transpose([kept.index(axis) for axis in ("Y", "X", colour) if axis])
        return pixels if colour else np.repeat(pixels[..., None], 3, axis=2)

    return read
