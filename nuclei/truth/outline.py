"""One drawn nucleus, and what a file of outlines holds: outlines, and what was left out of it.

    drawn = Drawn()
    drawn.add([[ring]])
    drawn.leave_out(LINES)
    drawn.summary()                 # "points or lines 1"

Tools write (x, y) in pixels, where (0, 0) is the upper left corner of the image; an `Outline` has
(row, column).
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nuclei.files import first_line, is_system_fault
from nuclei.polygons import Polygon

# What can be left out of a file of outlines. Users read these words in front of a count.
LINES = "points or lines"
BOXES = "boxes without an outline"
CROWDS = "crowd regions"
DAMAGED = "damaged objects"
IGNORED = "objects of ignored classes"
NO_GEOMETRY = "objects without a geometry"
OUTSIDE = "outlines without a pixel of the image"
REGIONS = "regions around other objects"
SPOTS = "objects inside of cells"
STRANGERS = "annotations of images that the file does not list"
NO_LOSS = (IGNORED, REGIONS, SPOTS)  # a file may hold nothing else and be an image without nuclei

NUM_CORNERS = 72  # of a circle drawn as a polygon: its area is right to 0.2 %
MAX_GAP = 0.1  # of the length of a polyline: with a smaller gap between its ends it is an outline


class Outline(NamedTuple):
    """One drawn nucleus.

    Attributes:
        polygons: their areas add up. A polygon is a list of rings of (n, 2) float, (row, column) of
            points; what an even number of its rings encloses is a hole.
        may_be_region: whether it could also be the region that somebody worked in.
        pixels: flat indices of the pixels, where the file has these instead of polygons.
        may_be_crowd: whether it could also be several nuclei in one mask.
    """

    polygons: list[Polygon]
    may_be_region: bool = True
    pixels: np.ndarray | None = None
    may_be_crowd: bool = False


class Drawn:
    """What a file of outlines holds. Readers fill it, one object after the other.

    Attributes:
        outlines: the nuclei.
        left_out: what was left out, kind and count.
        num_groups: objects that were divided, since each held many nuclei.
        num_whole_cells: cells that count as a whole, since the file has no nucleus in them.
        fault: why the first damaged object is damaged.
        planes: numbers of the focal planes that the objects lie in, where the file says so.
    """

    def __init__(self) -> None:
        self.outlines: list[Outline] = []
        self.left_out: Counter[str] = Counter()
        self.num_groups = 0
        self.num_whole_cells = 0
        self.fault = ""
        self.planes: set = set()

    def add(self, polygons: list[Polygon], may_be_region: bool = True) -> None:
        """Add a nucleus; one without polygons counts as a point or a line."""
        if polygons:
            self.outlines.append(Outline(polygons, may_be_region))
        else:
            self.leave_out(LINES)

    def leave_out(self, kind: str, count: int = 1) -> None:
        """Count objects that are left out."""
        self.left_out[kind] += count

    def leave_out_damaged(self, error: Exception) -> None:
        """Count a damaged object."""
        self.leave_out(DAMAGED)
        if not self.fault:
            name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            self.fault = name + first_line(error)

    def try_each(self, objects, read: Callable[[object], None]) -> None:
        """Call `read` on each object; one that is damaged is counted and costs no other one."""
        for item in objects:
            try:
                read(item)
            except Exception as error:  # wrong types raise errors of all kinds
                if isinstance(error, MemoryError) or is_system_fault(error):
                    raise
                self.leave_out_damaged(error)

    def summary(self) -> str:
        """What was left out in words; "" for nothing."""
        counts = sorted(self.left_out.items())
        return ", ".join(f"{kind} {count:,}" for kind, count in counts if count)

    def meaning(self) -> str:
        """What objects were taken for, where it does not go without saying, in words."""
        parts = (
            (self.num_groups, "objects of many pieces, each piece a nucleus"),
            (self.num_whole_cells, "cells without a nucleus, each taken as a whole"),
        )
        words = [f"{count:,} {words}" for count, words in parts if count]
        if len(self.planes) > 1:
            words.append(f"objects of {len(self.planes)} focal planes, all drawn onto one image")
        return "; ".join(words)


def ring_of(points) -> np.ndarray:
    """A ring (n, 2) of (row, column) from three (x, y) or more; a height behind them is dropped.

    Raises:
        ValueError: there are fewer points, or they are not finite numbers.
    """
    ring = np.array(points, float)
    if ring.ndim != 2 or ring.shape[1] < 2 or len(ring) < 3:
        raise ValueError(f"{len(points)} points; an outline has three or more (x, y)")
    return finite(ring[:, 1::-1])


def finite(ring: np.ndarray) -> np.ndarray:
    """The ring itself.

    Raises:
        ValueError: a coordinate is infinite or NaN.
    """
    if not np.isfinite(ring).all():
        raise ValueError("a coordinate is no finite number")
    return ring


def polyline_polygons(points) -> list[Polygon]:
    """The area inside a polyline of (x, y) whose ends nearly meet; [] for an open one."""
    if len(points) < 3:
        return []
    ring = ring_of(points)
    length = np.hypot(*np.diff(ring, axis=0).T).sum()
    return [[ring]] if math.dist(ring[0], ring[-1]) <= MAX_GAP * length else []


def ellipse(x: float, y: float, radius_x: float, radius_y: float, angle: float = 0) -> np.ndarray:
    """An ellipse as a ring of (row, column).

    Args:
        x, y: its centre in px.
        radius_x, radius_y: in px.
        angle: by which it is turned from x to y, in radians.
    """
    if not (radius_x > 0 and radius_y > 0):
        raise ValueError(f"radii of {radius_x} and {radius_y} px; expected numbers above 0")
    turn = np.linspace(0, 2 * np.pi, NUM_CORNERS, endpoint=False)
    along, across = radius_x * np.cos(turn), radius_y * np.sin(turn)
    cosine, sine = np.cos(angle), np.sin(angle)
    rows, columns = y + along * sine + across * cosine, x + along * cosine - across * sine
    return finite(np.stack([rows, columns], axis=1))


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    """A box as a ring of (row, column), from its upper left corner and its sides in px."""
    return ring_of([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
