"""What the page may ask for, as types: each body is checked against one of them before it is used.

    request = read_edit(body)           # a `Delete`, `Merge`, `Split` ...; or ValueError
    points(request.stroke)              # (n, 2) float64
    box_of(request.box)                 # a `Box`

Points are flat lists x, y, x, y, ... in px of the image.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Len, Lt

from nuclei.images.box import Box
from nuclei.schema import read_json

MAX_COORDINATE = 1_000_000  # px
MAX_NUMBERS = 20_000  # of one stroke
MAX_NUCLEI = 5_000  # of one edit

Key = Annotated[str, Len(8, 64)]
Id = Annotated[int, Ge(1), Lt(2**31)]
Ids = Annotated[list[Id], Len(1, MAX_NUCLEI)]
Number = Annotated[float, Ge(-MAX_COORDINATE), Le(MAX_COORDINATE)]  # NaN is neither
Corners = Annotated[list[Number], Len(4, 4)]
Points = Annotated[list[Number], Len(2, MAX_NUMBERS)]
Steps = Annotated[int, Ge(1), Le(20)]


@dataclass(frozen=True)
class Head:
    """What all edits have: their kind, the revision that the user saw, and a random key.

    The key tells an edit that is sent again, after a lost answer, from a new one.
    """

    kind: str
    base: Annotated[int, Ge(0), Lt(2**53)]
    key: Key | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Delete(Head):
    """Remove nuclei."""

    ids: Ids


@dataclass(frozen=True)
class Merge(Head):
    """Make one nucleus of several."""

    ids: Ids


@dataclass(frozen=True)
class Split(Head):
    """Divide a nucleus along a stroke, or between two points: one of both is given."""

    id: Id
    stroke: Points | None = None
    points: Points | None = None


@dataclass(frozen=True)
class Draw(Head):
    """Add a nucleus by its outline."""

    outline: Points


@dataclass(frozen=True)
class Brush(Head):
    """Add to a nucleus, take from it, or, without an id, add one."""

    stroke: Points
    radius: Annotated[float, Gt(0), Le(500)]
    id: Id | None = None
    erase: bool = False


@dataclass(frozen=True)
class Grow(Head):
    """Move edges outward by so many px."""

    ids: Ids
    by: Steps = 1


@dataclass(frozen=True)
class Shrink(Head):
    """Move edges inward by so many px."""

    ids: Ids
    by: Steps = 1


@dataclass(frozen=True)
class Propose(Head):
    """Predict a region anew.

    Without a threshold it takes the model's. The scale counts from the one at which the network
    sees the image.
    """

    box: Corners
    threshold: Annotated[float, Gt(0), Lt(1)] | None = None
    scale: Annotated[float, Ge(0.05), Le(10)] | None = None


@dataclass(frozen=True)
class Step(Head):
    """Undo or redo."""


EDITS = {
    "delete": Delete,
    "merge": Merge,
    "split": Split,
    "draw": Draw,
    "brush": Brush,
    "grow": Grow,
    "shrink": Shrink,
    "propose": Propose,
    "undo": Step,
    "redo": Step,
}


@dataclass(frozen=True)
class CutField:
    """Make an image of its own of a part of an image or of a slide."""

    box: Corners


@dataclass(frozen=True)
class Accept:
    """Accept an image as it is, or no longer."""

    accepted: bool


@dataclass(frozen=True)
class Learn:
    """Begin to learn; None takes the usual number of epochs."""

    epochs: Annotated[int, Ge(1), Le(1000)] | None = None


@dataclass(frozen=True)
class UseModel:
    """Use the model that was learned, or the one before it."""

    use: Literal["new", "old"]


@dataclass(frozen=True)
class Export:
    """Write the nuclei of the folder in these formats."""

    formats: Annotated[list[str], Len(1, 20)]


def read_edit(body: bytes) -> Head:
    """The edit that a body asks for.

    Raises:
        ValueError: it is none; the message says what is wrong.
    """
    kind = read_json(body, Head).kind
    if kind not in EDITS:
        raise ValueError(f"there is no edit {kind[:40]!r}; expected one of {', '.join(EDITS)}")
    request = read_json(body, EDITS[kind])
    if kind == "split" and (request.stroke is None) == (request.points is None):
        raise ValueError("a split needs a stroke or two points")
    return request


def points(numbers: list[float]) -> np.ndarray:
    """x, y, x, y, ... as (n, 2) float64. Raises: ValueError, where one is missing."""
    if len(numbers) % 2:
        raise ValueError("a point has no y: expected x, y, x, y, ...")
    return np.array(numbers, np.float64).reshape(-1, 2)


def box_of(corners: list[float]) -> Box:
    """The smallest box of whole pixels around two opposite corners x, y, x, y."""
    x0, y0, x1, y1 = corners
    starts, stops = np.floor((min(y0, y1), min(x0, x1))), np.ceil((max(y0, y1), max(x0, x1)))
    (top, left), (bottom, right) = (ends.astype(int).tolist() for ends in (starts, stops))
    return Box(top, bottom, left, right)
