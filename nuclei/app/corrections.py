"""What the page asks for of one image: its nuclei, an edit, that it is accepted, a new image.

nuclei(workspace, key)                      # all of them, as JSON
changes(workspace, key, 7)                  # what is new since a revision
edit(workspace, key, request)               # a change; it is on disk when this returns
accept(workspace, key, True)                # gt/STEM.png
"""

import contextlib
import json
from pathlib import Path

from nuclei.app.actions import do_edit
from nuclei.app.corrected import Changes, CorrectedImage
from nuclei.app.edits import Refused
from nuclei.app.entry import FAILED, PREDICTING, SLIDE, WAITING, Entry
from nuclei.app.outlines import as_json, describe
from nuclei.app.requests import Head
from nuclei.app.workspace import Workspace
from nuclei.files import remove
from nuclei.images.labels import without_gaps
from nuclei.images.writing import find_labels, write_labels
from nuclei.written import Protected

WITHOUT_NUCLEI = (WAITING, PREDICTING, FAILED, SLIDE)


def confidences(entry: Entry, corrected: CorrectedImage) -> dict[int, float]:
    """{id: confidence} of the nuclei that are as the network found them."""
    if entry.prediction is None or entry.prediction.made_by != corrected.origin:
        return {}
    known = enumerate(entry.prediction.confidences, start=1)
    return {index: value for index, value in known if index not in corrected.changed_at}


def nuclei(workspace: Workspace, key: str) -> str:
    """The nuclei of an image, as JSON: an object with revision, nuclei and state."""
    workspace.wanted = key
    with contextlib.suppress(Refused):  # it is known now what it is
        workspace.require_same(workspace.entry(key))
    entry = workspace.entry(key)
    revision, found = 0, "[]"
    if entry.state not in WITHOUT_NUCLEI:
        corrected = workspace.corrected.get(key)
        with corrected.lock:
            revision = corrected.revision
            found = as_json(corrected.canvas, confidences(entry, corrected))
    return f'{{"revision":{revision},"nuclei":{found},"state":{json.dumps(entry.state)}}}'


def changes(workspace: Workspace, key: str, since: int) -> dict:
    """What has changed in an image since a revision."""
    entry = workspace.entry(key)
    if entry.state in WITHOUT_NUCLEI:
        nothing = {"changed": [], "removed": [], "made": (), "undo": 0, "redo": 0}
        return {"revision": 0, "state": entry.state, "note": entry.note, **nothing}
    corrected = workspace.corrected.get(key)
    with corrected.lock:
        return delta(entry, corrected, corrected.changes(since))


def delta(entry: Entry, corrected: CorrectedImage, changes: Changes) -> dict:
    """Changes as the page takes them."""
    known = confidences(entry, corrected)
    return {
        "revision": changes.revision,
        "changed": describe(corrected.canvas, changes.changed, known),
        "removed": changes.removed,
        "made": changes.made,
        "undo": len(corrected.undoable),
        "redo": len(corrected.redoable),
        "state": entry.state,
        "note": entry.note,
    }


def edit(workspace: Workspace, key: str, request: Head) -> dict:
    """Do an edit. It is on disk when this returns.

    Raises:
        Unknown: there is no such image.
        Refused, Stale, ValueError: as `do_edit`.
    """
    entry = workspace.entry(key)
    workspace.require_same(entry)
    corrected = workspace.corrected.get(key)
    with corrected.lock:
        changes = do_edit(
            corrected,
            request,
            lambda: workspace.pictures.get(key),
            workspace.models.get,
            lambda: workspace.scale(entry),
        )
        workspace.update(entry, corrected.summary)
        answer = delta(entry, corrected, changes)
    workspace.events.tell({"image": key, "revision": changes.revision})
    return answer


def accept(workspace: Workspace, key: str, accepted: bool) -> dict:
    """Write an image as ground truth, gt/STEM.png (STEM.tif above 65,535 nuclei), or remove it.

    Raises:
        Unknown: there is no such image.
        Refused: there is a truth of the user's own, or there are no nuclei yet.
        ValueError: as `Files.into_set`, or the log of the edits was changed by another program.
    """
    entry, files = workspace.entry(key), workspace.files
    workspace.require_same(entry)
    corrected = workspace.corrected.get(key)
    ours = (files.truth_dir / f"{entry.stem}.png", files.truth_dir / f"{entry.stem}.tif")
    with corrected.lock:
        before = workspace.truths.get(entry.stem)
        if before is not None and before.name not in [path.name for path in ours]:
            raise Refused(f"gt/{before.name} is the truth of this image: move it away first.")
        corrected.log.require_unchanged()  # before the truth changes
        try:
            if accepted:
                labels = without_gaps(corrected.canvas.labels)
                files.into_set(entry.stem)
                write_labels(files.truth_dir, entry.stem, labels)
                workspace.truths[entry.stem] = find_labels(files.truth_dir, entry.stem)
            else:
                for path in ours:
                    remove(path)
                workspace.truths.pop(entry.stem, None)
        except Protected:
            raise Refused(
                f"gt/{before.name if before else ours[0].name} was not written by this program, or "
                "was changed since: move it away, or start the program with --overwrite."
            ) from None
        corrected.accept(accepted)
        workspace.update(entry, corrected.summary)
    workspace.tell_state()
    return entry.describe()


def add_image(workspace: Workspace, name: str, temporary: Path) -> dict:
    """Take a new image into the folder. Raises: ValueError, as `Files.add`."""
    with workspace.files.adding:
        return workspace.add(workspace.files.add(name, temporary))[0].describe()
