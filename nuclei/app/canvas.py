"""The labels of one image while they are edited: pixels, the box of each nucleus, and edits.

    canvas = Canvas(labels)
    draft = canvas.draft()
    draft.put(box, pixels)              # applied at once; the pixels before are kept
    edit = draft.finish()               # an `Edit`, which `canvas.revert` takes back
    draft.cancel()                      # or: as if nothing had been done

An edit touches the pixels of its pieces only, and the boxes of the nuclei in them. So its time does
not grow with the image.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nuclei.images.box import Box


class Piece(NamedTuple):
    """A rectangle that an edit has changed.

    Attributes:
        box: its place in the image.
        before, after: (rows, columns) int32 ids.
    """

    box: Box
    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class Edit:
    """What one action has changed.

    Attributes:
        kind: such as "delete".
        pieces: in the order in which they were made; they may overlap.
        ids: of the nuclei that it changed, made or removed.
        made: of those among them that are new.
    """

    kind: str
    pieces: list[Piece]
    ids: frozenset[int]
    made: tuple[int, ...] = ()


class Canvas:
    """Labels that are edited in place.

    Attributes:
        labels: (H, W) int32, 0 background; ids may have gaps.
        boxes: {id: `Box`} of all nuclei.
        next_id: an id that no nucleus has or ever had.
        texts: {id: what the page was told of a nucleus}; see `nuclei.app.outlines.as_json`. A
            nucleus that is changed has none.
    """

    def __init__(self, labels: np.ndarray) -> None:
        from scipy import ndimage  # late: --help does not need it

        self.labels = np.ascontiguousarray(labels, np.int32)
        places = ndimage.find_objects(self.labels)
        self.boxes = {
            index: Box(place[0].start, place[0].stop, place[1].start, place[1].stop)
            for index, place in enumerate(places, start=1)
            if place is not None
        }
        self.next_id = len(places) + 1
        self.texts: dict[int, str] = {}

    def draft(self) -> "Draft":
        """An edit that begins."""
        return Draft(self)

    def around(self, *boxes: Box, margin_px: int = 0) -> Box:
        """The smallest box around some boxes and a margin, within the image."""
        height, width = self.labels.shape
        return Box(
            max(0, min(box.top for box in boxes) - margin_px),
            min(height, max(box.bottom for box in boxes) + margin_px),
            max(0, min(box.left for box in boxes) - margin_px),
            min(width, max(box.right for box in boxes) + margin_px),
        )

    def apply(self, edit: Edit) -> None:
        """Do an edit again."""
        for piece in edit.pieces:
            self.write(piece.box, piece.before, piece.after)

    def revert(self, edit: Edit) -> None:
        """Take an edit back. The canvas must be as it was just after it."""
        for piece in reversed(edit.pieces):
            self.write(piece.box, piece.after, piece.before)

    def write(self, box: Box, before: np.ndarray, after: np.ndarray) -> set[int]:
        """Put pixels in place of others. Returns: ids of the nuclei that are changed by it."""
        self.labels[box.place] = after
        is_changed = before != after
        ids = {*np.unique(before[is_changed]).tolist(), *np.unique(after[is_changed]).tolist()}
        ids.discard(0)
        for index in ids:
            self.texts.pop(index, None)
            self.renew_box(index, box)
        return ids

    def renew_box(self, index: int, changed: Box) -> None:
        """Find the box of a nucleus anew; its pixels lie in its old box or in the changed one."""
        area = self.around(*filter(None, (self.boxes.pop(index, None), changed)))
        is_here = self.labels[area.place] == index
        rows, columns = np.flatnonzero(is_here.any(axis=1)), np.flatnonzero(is_here.any(axis=0))
        if len(rows):
            spans = (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)
            self.boxes[index] = Box.of_spans(*spans).shifted(area.top, area.left)
        self.next_id = max(self.next_id, index + 1)


@dataclass
class Draft:
    """An edit that is being made on a canvas. It is applied piece by piece, or not at all."""

    canvas: Canvas
    pieces: list[Piece] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)
    made: list[int] = field(default_factory=list)

    def mask(self, index: int, margin_px: int = 0) -> tuple[Box, np.ndarray]:
        """The box of a nucleus with a margin, and its pixels in it as bool."""
        box = self.canvas.around(self.canvas.boxes[index], margin_px=margin_px)
        return box, self.canvas.labels[box.place] == index

    def new_id(self) -> int:
        """An id for a new nucleus."""
        self.made.append(self.canvas.next_id)
        self.canvas.next_id += 1
        return self.made[-1]

    def put(self, box: Box, pixels: np.ndarray) -> None:
        """Put new ids (rows, columns) into a box. What is equal to before is no piece."""
        before = self.canvas.labels[box.place].copy()
        if not np.array_equal(before, pixels):
            after = np.array(pixels, np.int32)
            self.pieces.append(Piece(box, before, after))
            self.ids |= self.canvas.write(box, before, after)

    def finish(self, kind: str) -> Edit:
        """The edit that was made."""
        return Edit(kind, self.pieces, frozenset(self.ids), tuple(self.made))

    def cancel(self) -> None:
        """Take back all that was put."""
        self.canvas.revert(self.finish(""))
