"""Stacks of planes: which channel, focal plane or time point of a file is read.

A fluorescence file has several channels, of which one shows the nuclei. A z-stack has several
focal planes, of which the sharpest is read. Of a time series the first image is read.

    planes, notes = choose_planes(stack, channel="DAPI", plane="max")
    planes.indices          # {"C": 0, "Z": slice(None)}: all focal planes, their brightest values
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nuclei.files import named
from nuclei.images.modality import modality
from nuclei.images.plane_scores import best_looking, sharpness

NUCLEAR = re.compile(  # names of channels that show nuclei
    r"dapi|hoechst|draq|syto|nuc|(?<!mt)dna|h2b|haematox|hematox|\b405\b", re.IGNORECASE
)
NOT_NUCLEAR = re.compile(r"cyto(?!x)(?!\d)|membran|nucleol", re.IGNORECASE)
COLOUR_NAME = re.compile(r"r(ed)?|g(reen)?|b(lue)?|channel \d", re.IGNORECASE)
COLOURS = ("red", "green", "blue")
AUTO = "auto"  # the word for a choice by the program
BRIGHTEST = "max"  # the word for the brightest value of all focal planes


class Stack(NamedTuple):
    """What a file holds, before anything is chosen.

    Attributes:
        path: of the file, for messages.
        axes: a letter for each axis, such as "TCZYX"; S holds red, green and blue, Q are pages that
            the file says nothing of.
        shape: the length of each axis.
        names: of the channels; may be empty, or have empty names.
        sample: from {axis: index} of all axes but Y, X and S to pixels (h, w) of that plane, or a
            part of it.
    """

    path: object
    axes: str
    shape: tuple[int, ...]
    names: list[str]
    sample: Callable

    def size(self, axis: str) -> int:
        """Length of an axis; 1 where the file has none of this letter."""
        return dict(zip(self.axes, self.shape, strict=True)).get(axis, 1)

    def stacked(self) -> list[str]:
        """The letters of the axes of planes: all but rows, columns and colour."""
        return [axis for axis in self.axes if axis not in "YXS"]


class Planes(NamedTuple):
    """What is read of a stack.

    Attributes:
        axes: letters of the axes, such as "TCZYX".
        indices: {axis: index} for each axis that is neither rows, columns nor colour; a slice
            where the brightest value of several planes is taken.
        colour: the axis of colour, or None where one plane is read.
        channel: number of the channel taken, from 1; None where there is no choice.
        plane: number of the focal plane taken, from 1, or "max"; None where there is no choice.
    """

    axes: str
    indices: dict
    colour: str | None
    channel: int | None = None
    plane: int | str | None = None

    def sizes(self, arrays):
        """(h, w) of each level."""
        row, column = self.axes.index("Y"), self.axes.index("X")
        return [(array.shape[row], array.shape[column]) for array in arrays]

    def cut(self, array, rows=slice(None), columns=slice(None)):
        """The chosen pixels of an array with these axes: (h, w, 3), or (h, w) without colour."""
        spans = {"Y": rows, "X": columns, self.colour: slice(0, 3), **self.indices}
        pixels = np.asarray(array[tuple(spans[axis] for axis in self.axes)])
        left = [axis for axis in self.axes if isinstance(spans[axis], slice)]
        for axis in [axis for axis in left if axis not in ("Y", "X", self.colour)]:
            pixels = pixels.max(axis=left.index(axis))
            left.remove(axis)
        return pixels.transpose([left.index(axis) for axis in ("Y", "X", self.colour) if axis])

    def reader(self, arrays):
        """The `read` of a `Slide` over its levels; grey becomes three equal channels.

        Args:
            arrays: one for each level, with the axes of this record.
        """

        def read(level, box):
            pixels = self.cut(arrays[level], *box.place)
            return pixels if self.colour else np.repeat(pixels[..., None], 3, axis=2)

        return read


def choose_planes(stack: Stack, channel=None, plane=None) -> tuple[Planes, list[str]]:
    """Choose the planes to read.

    Args:
        stack: what the file holds.
        channel: name or number from 1; None or "auto" takes one that is named like nuclei, else
            the one that looks most like nuclei. Three channels without names on a light background
            are red, green and blue.
        plane: number from 1 in a z-stack, or "max"; None or "auto" takes the sharpest.

    Returns:
        `Planes`, and a line for each choice.

    Raises:
        ValueError: there is no such channel or plane, or there are no rows and columns.
    """
    if "Y" not in stack.axes or "X" not in stack.axes:
        raise ValueError(f"{stack.path} has the axes {stack.axes}; expected rows (Y) and columns")
    channel = None if channel is None or str(channel).lower() == AUTO else str(channel)
    plane = None if plane is None or str(plane).lower() == AUTO else str(plane).lower()
    colour, notes = colour_axis(stack, channel), []
    pages_are_channels = "C" not in stack.axes and channel is not None
    pages_are_planes = "Z" not in stack.axes and plane is not None and not pages_are_channels
    indices = {axis: stack.size(axis) // 2 if axis == "Z" else 0 for axis in stack.stacked()}
    indices.pop(colour, None)
    if colour == "C":
        notes.append("its 3 channels are taken as red, green and blue (--channel takes one)")
    taken = {}
    for axis in sorted(indices, key="CQZT".find):  # the channel first: its planes are compared
        count = stack.size(axis)
        if axis == "C" or axis == "Q" and pages_are_channels and stack.size("Q") > 1:
            indices[axis], note = choose_channel(stack, axis, indices, channel)
            taken["channel"] = indices[axis] + 1
        elif count == 1:
            continue
        elif axis == "Z" or axis == "Q" and pages_are_planes:
            indices[axis], note = choose_focus(stack, axis, indices, plane)
            taken["plane"] = BRIGHTEST if plane == BRIGHTEST else indices[axis] + 1
        elif axis == "Q":
            indices[axis], note = choose_page(stack, indices)
            taken["plane"] = indices[axis] + 1
        else:
            what = "time series" if axis == "T" else f"stack (axis {axis})"
            note = f"image 1 of {count} of the {what} is taken"
        notes += [note] if note else []
    if colour and channel is not None:
        indices[colour], colour = find_channel(stack.path, COLOURS, channel), None
        taken["channel"] = indices["S"] + 1
        notes.append(f"channel {taken['channel']} of 3 is taken, {COLOURS[indices['S']]}")
    elif channel is not None and "channel" not in taken:
        names = [name for name in stack.names if name]
        if len(names) == 1:
            find_channel(stack.path, names, channel)
        else:
            refuse_second_channel(stack, channel)
            notes.append(f"it has one channel without a name: --channel {channel} changes nothing")
    if plane is not None and "plane" not in taken:
        notes.append(f"it has one focal plane: --plane {plane} changes nothing")
    return Planes(stack.axes, indices, colour, **taken), notes


def colour_axis(stack: Stack, channel) -> str | None:
    """The axis that holds red, green and blue; None where one plane is to be read."""
    if "S" in stack.axes:
        return "S"
    names = [name for name in stack.names if name]
    if stack.size("C") != 3 or channel is not None:
        return None
    if any(not COLOUR_NAME.fullmatch(name) for name in names):
        return None
    if len({name[0].lower() for name in names} & set("rgb")) == 3:
        return "C"
    first = {axis: 0 for axis in stack.stacked()}
    colours = [stack.sample({**first, "C": index}) for index in range(3)]
    is_light = modality(as_8_bit(np.stack(colours, axis=-1))) != "fluorescence"
    return "C" if is_light else None


def as_8_bit(pixels: np.ndarray) -> np.ndarray:
    """Pixels whose brightest value becomes 255, for a look at them: uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    pixels = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(pixels * (255 / max(float(np.percentile(pixels, 99.9)), 1e-9)), 0, 255).astype(
        np.uint8
    )


def choose_channel(stack: Stack, axis: str, indices: dict, channel) -> tuple[int, str]:
    """(index, note) of the channel to read."""
    count = stack.size(axis)
    names = [name or f"channel {k}" for k, name in enumerate(stack.names[:count], start=1)]
    names += [f"channel {k}" for k in range(len(names) + 1, count + 1)]
    if channel is not None:
        index, reason = find_channel(stack.path, names, channel), ""
    else:
        index, reason = named_like_nuclei(names), ""
        if index is None:
            planes = [stack.sample({**indices, axis: k}) for k in range(count)]
            index, reason = best_looking(planes), ", which looks most like nuclei"
            if index is None:
                index, reason = 0, ", because none looks like nuclei"
    if count == 1 and channel is None:
        return index, ""
    name, others = f", {names[index]}", f": {named(names)}"
    if not any(stack.names):
        name = others = ""  # numbers say it all
    return index, (
        f"channel {index + 1} of {count} is taken{name}{reason} (--channel takes another{others})"
    )


def named_like_nuclei(names) -> int | None:
    """Index of the first channel with a name like DAPI or Hoechst, or None."""
    likely = (
        index
        for index, name in enumerate(names)
        if NUCLEAR.search(name) and not NOT_NUCLEAR.search(name)
    )
    return next(likely, None)


def choose_focus(stack: Stack, axis: str, indices: dict, plane) -> tuple[int | slice, str]:
    """(index, note) of the focal plane to read: all of them for the brightest values."""
    count = stack.size(axis)
    if plane == BRIGHTEST:
        return slice(None), f"the brightest values of {count} planes of the z-stack are taken"
    if plane is not None:
        if not plane.isdigit() or not 1 <= int(plane) <= count:
            raise ValueError(
                f"{stack.path} has no plane {plane}; it has {count}: a number from 1, max or auto"
            )
        return int(plane) - 1, f"plane {plane} of {count} of the z-stack is taken"
    scores = [sharpness(stack.sample({**indices, axis: k})) for k in range(count)]
    index = int(np.argmax(scores))
    return index, (
        f"plane {index + 1} of {count} of the z-stack is taken, the sharpest "
        "(--plane takes another, or max)"
    )


def choose_page(stack: Stack, indices: dict) -> tuple[int, str]:
    """(index, note) of the page to read, of pages that may be channels or focal planes."""
    count = stack.size("Q")
    pages = [stack.sample({**indices, "Q": k}) for k in range(count)]
    index, reason = best_looking(pages), "which looks most like nuclei"
    if index is None:
        index, reason = int(np.argmax([sharpness(page) for page in pages])), "the sharpest"
    return index, (
        f"page {index + 1} of {count} is taken, {reason}; the file does not say whether its pages "
        "are channels or a z-stack (--channel or --plane takes another)"
    )


def find_channel(path, names, channel) -> int:
    """Index of a channel, by its name or its number from 1.

    Raises:
        ValueError: there is no such channel.
    """
    by_name = [i for i, name in enumerate(names) if name.lower() == str(channel).lower()]
    by_number = [i for i in range(len(names)) if str(channel) == str(i + 1)]
    if not by_name + by_number:
        listed = ", ".join(f"{number} {name}" for number, name in enumerate(names, start=1))
        raise ValueError(
            f"{path} has no channel {channel}; it has {listed} (--channel auto chooses)"
        )
    return (by_name + by_number)[0]


def refuse_second_channel(stack: Stack, channel) -> None:
    """Stop where a number above 1 is asked of a file with one channel."""
    if channel.isdigit() and channel != "1":
        raise ValueError(f"{stack.path} has no channel {channel}; it has one (--channel auto)")
