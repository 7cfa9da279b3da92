"""The nuclei of one image under correction: labels, revision, undo and redo, all of it on disk.

    image = CorrectedImage(log, start)              # `start` is used where the log is empty
    image.edit(request, lambda draft: merge(draft, [3, 7]))
    image.step(request)                             # undo or redo
    image.changes(since=5)                          # what the page has not seen yet

Each change of the labels is one revision. An answer is given after its line is on disk.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nuclei.app.canvas import Canvas, Draft, Edit
from nuclei.app.edit_log import EditLog, Summary, edit_line, edit_pieces, start_labels, start_line
from nuclei.app.edits import Refused
from nuclei.app.requests import Head
from nuclei.contents import Content


class Start(NamedTuple):
    """What the edits of an image begin from.

    Attributes:
        labels: (H, W) int32; they are edited in place.
        content: the same as a PNG or TIFF file.
        origin: what made them.
        accepted: whether they are ground truth already.
        image: what the file of the image was; None where it is not known.
    """

    labels: np.ndarray
    content: bytes
    origin: str
    accepted: bool = False
    image: Content | None = None


class Changes(NamedTuple):
    """What has changed since a revision.

    Attributes:
        revision: the present one.
        changed: ids of nuclei that are there and are new or other ones.
        removed: ids of nuclei that are gone.
        made: ids of nuclei that the last edit added.
    """

    revision: int
    changed: list[int]
    removed: list[int]
    made: tuple[int, ...] = ()


class Stale(Exception):
    """An edit touches nuclei that were changed after the revision on which it was based."""


class CorrectedImage:
    """Labels, and the edits that led to them.

    Args:
        log: of the image.
        start: what the edits begin from; used where the log is empty.

    Attributes:
        canvas: the labels now.
        revision: number of changes so far.
        undoable, redoable: the edits that can be taken back, and done again, the next one last.
        accepted_at: the revision that the user accepted last; None if there is none.
        image: what the file of the image was when the edits began, where that is known.

    Raises:
        ValueError: the log is damaged.
    """

    def __init__(self, log: EditLog, start: Start | None = None) -> None:
        self.lock = threading.RLock()
        self.log, self.start = log, start
        self.revision = 0
        self.is_retired = False  # another prediction has taken its place
        self.undoable: list[Edit] = []
        self.redoable: list[Edit] = []
        self.changed_at: dict[int, int] = {}  # by id, the revision of its last change
        self.keys: set[str] = set()  # of the requests that were carried out
        lines = log.read()
        self.has_log = bool(lines)
        self.origin = lines[0].get("origin", "") if lines else start.origin
        self.image = lines[0].get("image") if lines else start.image
        is_truth = lines[0].get("accepted") if lines else start.accepted
        self.accepted_at = 0 if is_truth else None
        self.canvas = Canvas(start_labels(lines[0]) if lines else start.labels)
        try:
            for line in lines[1:]:
                self.replay(line)
        except (ValueError, IndexError) as error:
            fault = "an undo without an edit" if isinstance(error, IndexError) else error
            raise ValueError(
                f"{log.path}: {fault}; restore the file, or move it away to begin this image anew"
            ) from None

    def replay(self, line: dict) -> None:
        """Do what a line of the log says."""
        kind = line["kind"]
        if "key" in line:
            self.keys.add(line["key"])
        if kind == "accept":
            self.accepted_at = self.revision
        elif kind == "withdraw":
            self.accepted_at = None
        elif kind == "undo":
            self.count(self.step_back())
        elif kind == "redo":
            self.count(self.step_forward())
        else:
            draft = self.canvas.draft()
            for box, pixels in edit_pieces(line, self.canvas.labels.shape):
                draft.put(box, pixels)
            self.take_up(draft.finish(kind))

    def edit(self, request: Head, action: Callable[[Draft], None], ids=()) -> Changes:
        """Do an edit and write it to the log.

        Args:
            request: its kind, the revision that the user saw, and a key. A key that was carried out
                already does nothing: the answer was lost on its way, and the page asks again.
            action: puts pixels into a `Draft`.
            ids: nuclei that the user chose.

        Returns:
            The changes since `base`.

        Raises:
            Refused: it makes no sense, or changes nothing.
            Stale: nuclei that it touches were changed after `base`.
        """
        with self.lock:
            if request.key in self.keys:
                return self.changes(request.base)
            self.require_fresh(request.base, ids)
            draft = self.canvas.draft()
            try:
                action(draft)
                edit = draft.finish(request.kind)
                if not edit.pieces:
                    raise Refused("This changes nothing.")
                self.require_fresh(request.base, edit.ids)
                self.write(edit_line(edit), request.key)
            except BaseException:
                draft.cancel()
                raise
            self.take_up(edit)
            return self.changes(request.base)._replace(made=edit.made)

    def step(self, request: Head) -> Changes:
        """Undo: take the last edit back; or redo: do again what was taken back last.

        Raises:
            Refused: there is nothing to undo or redo.
            Stale: the user has not seen the last change.
        """
        with self.lock:
            edits, move, move_back = self.undoable, self.step_back, self.step_forward
            if request.kind == "redo":
                edits, move, move_back = self.redoable, self.step_forward, self.step_back
            if request.key in self.keys:
                return self.changes(request.base)
            if request.base != self.revision:
                raise Stale
            if not edits:
                raise Refused(f"There is nothing to {request.kind}.")
            edit = move()
            try:
                self.write({"kind": request.kind}, request.key)
            except BaseException:
                move_back()
                raise
            self.count(edit)
            return self.changes(request.base)

    def accept(self, accepted: bool) -> None:
        """Note that the user has accepted the labels as they are, or does so no longer."""
        with self.lock:
            self.write({"kind": "accept" if accepted else "withdraw"})
            self.accepted_at = self.revision if accepted else None

    @property
    def summary(self) -> Summary:
        """Its numbers."""
        num_undo, num_redo = len(self.undoable), len(self.redoable)
        num_nuclei = len(self.canvas.boxes)
        return Summary(num_nuclei, self.revision, num_undo, num_redo, self.accepted_at)

    def write(self, line: dict, key: str | None = None) -> None:
        """Add a line to the log, after the start where it is the first one."""
        if self.is_retired:
            raise Stale
        line = line | {"nuclei": len(self.canvas.boxes)} | ({"key": key} if key else {})
        if self.has_log:
            self.log.add(line)
        else:
            start = start_line(*self.start[1:])
            self.log.add(start, line)
            self.has_log = True
        if key:
            self.keys.add(key)

    def retire(self) -> bool:
        """Let another prediction take its place, unless the user has worked on it."""
        with self.lock:
            self.is_retired = not self.has_log
            return self.is_retired

    def take_up(self, edit: Edit) -> None:
        """Count an edit that was just made."""
        self.undoable.append(edit)
        self.redoable.clear()
        self.count(edit)

    def step_back(self) -> Edit:
        """Revert the last edit on the canvas."""
        edit = self.undoable.pop()
        self.canvas.revert(edit)
        self.redoable.append(edit)
        return edit

    def step_forward(self) -> Edit:
        """Apply the edit that was reverted last."""
        edit = self.redoable.pop()
        self.canvas.apply(edit)
        self.undoable.append(edit)
        return edit

    def count(self, edit: Edit) -> None:
        """Begin a new revision, in which the nuclei of this edit have changed."""
        self.revision += 1
        self.changed_at.update(dict.fromkeys(edit.ids, self.revision))

    def require_fresh(self, base: int, ids) -> None:
        """Raise `Stale` where one of these nuclei was changed after a revision, or none is known.

        A page of an earlier run may know revisions of a log that was moved away since.
        """
        if base > self.revision or any(self.changed_at.get(index, 0) > base for index in ids):
            raise Stale

    def changes(self, since: int = 0) -> Changes:
        """What has changed since a revision; since the beginning, where it is none of this log."""
        with self.lock:
            since = since if since <= self.revision else 0
            ids = sorted(index for index, at in self.changed_at.items() if at > since)
            boxes = self.canvas.boxes
            present = [index for index in ids if index in boxes]
            return Changes(self.revision, present, [index for index in ids if index not in boxes])
