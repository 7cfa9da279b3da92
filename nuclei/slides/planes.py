"""Stacks of planes: which channel, focal plane or time point of a slide file is read.

A fluorescence slide has several channels, of which one shows the nuclei. A z-stack has several
focal planes, of which the middle one is read. Of a time series the first image is read.
"""

import re
from typing import NamedTuple

import numpy as np

NUCLEAR = re.compile(  # names of channels that show nuclei
    r"dapi|hoechst|draq|syto|nuc|dna|h2b|haematox|hematox", re.IGNORECASE
)
COLOUR_NAME = re.compile(r"r(ed)?|g(reen)?|b(lue)?|channel \d", re.IGNORECASE)


class Planes(NamedTuple):
    """What is read of a stack.

    Attributes:
        axes: letters of the axes, such as "TCZYX".
        indices: {axis: index} for each axis that is neither rows, columns nor colour.
        colour: the axis of colour, or None where the slide is grey.
    """

    axes: str
    indices: dict
    colour: str | None

    def sizes(self, arrays):
        """(h, w) of each level."""
        row, column = self.axes.index("Y"), self.axes.index("X")
        return [(array.shape[row], array.shape[column]) for array in arrays]

    def reader(self, arrays):
        """The `read` of a `Slide` over its levels; grey becomes three equal channels.

        Args:
            arrays: one for each level, with the axes of this record.
        """

        def read(level, box):
            rows, columns = box.place
            spans = {"Y": rows, "X": columns, self.colour: slice(0, 3), **self.indices}
            pixels = np.asarray(arrays[level][tuple(spans[axis] for axis in self.axes)])
            left = [axis for axis in self.axes if axis in ("Y", "X", self.colour)]
            pixels = pixels.transpose([left.index(a) for a in ("Y", "X", self.colour) if a])
            return pixels if self.colour else np.repeat(pixels[..., None], 3, axis=2)

        return read


def choose_planes(path, axes, shape, names, channel, notes):
    """Choose the planes to read, and describe the choice in `notes`.

    Three channels without names are red, green and blue, unless a channel is asked for.

    Args:
        path: of the slide, for messages.
        axes: letters of the file's axes, such as "TCZYX".
        shape: their lengths.
        names: of the channels; may be empty.
        channel: name or number from 1; None takes one that is named like nuclei.
        notes: a list that gets one line for each choice.

    Returns:
        `Planes`.

    Raises:
        ValueError: there is no such channel, or there are no rows and columns.
    """
    if "Y" not in axes or "X" not in axes:
        raise ValueError(f"{path} has the axes {axes}; expected rows (Y) and columns (X)")
    sizes, indices, colour = dict(zip(axes, shape, strict=True)), {}, "S" if "S" in axes else None
    names = [name or f"channel {k}" for k, name in enumerate(names[: sizes.get("C", 0)], start=1)]
    names_are_colours = all(COLOUR_NAME.fullmatch(name) for name in names)
    if colour is None and sizes.get("C") == 3 and names_are_colours and channel is None:
        colour = "C"
    for axis, count in sizes.items():
        if axis in ("Y", "X", colour):
            continue
        indices[axis] = 0
        if axis == "C" and (count > 1 or channel is not None):
            names = names or [f"channel {k}" for k in range(1, count + 1)]
            indices[axis] = find_channel(path, names, channel)
            notes.append(
                f"channel {indices[axis] + 1} of {count} is taken, {names[indices[axis]]} "
                f"(--channel takes another: {', '.join(names)})"
            )
        elif axis == "Z" and count > 1:
            indices[axis] = count // 2
            notes.append(
                f"plane {indices[axis] + 1} of {count} of the z-stack is taken, the middle"
            )
        elif count > 1:
            what = "time series" if axis == "T" else f"stack (axis {axis})"
            notes.append(f"image 1 of {count} of the {what} is taken")
    if colour and channel is not None:
        notes.append("it is in colour: --channel changes nothing")
    return Planes(axes, indices, colour)


def find_channel(path, names, channel):
    """Index of a channel, by its name or its number from 1.

    Without a channel it is the first that is named like nuclei, or else the first.

    Raises:
        ValueError: there is no such channel.
    """
    if channel is None:
        return next((index for index, name in enumerate(names) if NUCLEAR.search(name)), 0)
    by_name = [i for i, name in enumerate(names) if name.lower() == str(channel).lower()]
    by_number = [i for i in range(len(names)) if str(channel) == str(i + 1)]
    if not by_name + by_number:
        listed = ", ".join(f"{number} {name}" for number, name in enumerate(names, start=1))
        raise ValueError(f"{path} has no channel {channel}; it has {listed}")
    return (by_name + by_number)[0]
