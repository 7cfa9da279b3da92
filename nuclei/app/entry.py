"""One image of the folder as the list of the page shows it: its state, its numbers, its place.

sorted(entries, key=Entry.need)         # those that need the user first
entry.describe()                        # for the page
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nuclei.app.edit_log import Summary
from nuclei.app.predictions import Prediction
from nuclei.images.stems import text_of

WAITING = "waiting"  # to be predicted
PREDICTING = "predicting"
PREDICTED = "predicted"  # perhaps corrected, and not accepted
ACCEPTED = "accepted"
FAILED = "failed"  # cannot be read; the note says why
SLIDE = "slide"  # fields are cut from it
BY_NEED = (PREDICTED, PREDICTING, WAITING, SLIDE, FAILED, ACCEPTED)

OTHER_NOTE = (
    "{name} is another picture than the one that was corrected. Put that one back under this name, "
    "or call the new one otherwise; or move gt/{stem}.edits.jsonl away, with the ground truth of "
    "this name, to begin anew. Then start the program again."
)


@dataclass
class Entry:
    """One image of the folder.

    Attributes:
        key: by which the page knows it.
        stem, path: of its file.
        state: one of BY_NEED.
        note: a sentence for the user, or "".
        size: (height, width) in px; (0, 0) where unknown.
        prediction: what the network said, or None.
        summary: of its edits.
        held_out: whether learning does not see it, so that models can be compared on it.
        is_slide: whether it is a slide, which is not corrected itself.
        step: px of it for one px of a field.
        mpp: µm per pixel of a slide, or None.
        source: key of what it is a field of, and (x, y) of its corner there; or None.
        seen: signature of the file that could not be read, so that it is tried again once changed.
    """

    key: str
    stem: str
    path: Path
    state: str = WAITING
    note: str = ""
    size: tuple[int, int] = (0, 0)
    prediction: Prediction | None = None
    summary: Summary = Summary()
    held_out: bool = False
    is_slide: bool = False
    step: float = 1.0
    mpp: float | None = None
    source: tuple[str, tuple[int, int]] | None = None
    seen: tuple[int, int] | None = None

    @property
    def other_note(self) -> str:
        """What is said of an image that was corrected and is another picture now."""
        return OTHER_NOTE.format(name=text_of(self.path.name), stem=self.stem)

    def need(self) -> tuple:
        """What the images are ordered by: those that need the user most come first."""
        flagged = bool(self.prediction and self.prediction.flagged)
        uncertainty = self.prediction.uncertainty if self.prediction else 0.0
        return BY_NEED.index(self.state), not flagged, -uncertainty, self.stem

    def describe(self) -> dict:
        """The image as the page knows it."""
        return {
            "id": self.key,
            "name": text_of(self.path.name),
            "width": self.size[1],
            "height": self.size[0],
            "state": self.state,
            "note": self.note,
            "nuclei": self.summary.num_nuclei,
            "uncertainty": self.prediction.uncertainty if self.prediction else 0.0,
            "flagged": bool(self.prediction and self.prediction.flagged),
            "revision": self.summary.revision,
            "undo": self.summary.num_undo,
            "redo": self.summary.num_redo,
            "held_out": self.held_out,
            "mpp": self.prediction.mpp if self.prediction else self.mpp,
            "slide": self.is_slide,
            "step": self.step,
            "source": self.source and {"id": self.source[0], "corner": self.source[1]},
        }


def key_of(stem: str) -> str:
    """The key of an image: the same in each run, and no part of a path."""
    return hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()[:16]
