"""The edits of one image on disk, gt/STEM.edits.jsonl: what was answered is never lost.

    log = EditLog(path)
    lines = log.read()                          # all whole lines, each a dict
    log.add(start_line(labels_png, "model"))    # what the edits began from
    log.add(edit_line(edit))                    # on disk when it returns
    log.add({"kind": "undo"})

The first line holds the labels that the edits began from, as a PNG or TIFF in Base64. Each edit
holds the pixels that it put. So the file alone gives the labels, whatever network or version of the
program made them. A line that was cut off by a crash was not answered; it is dropped. A file that
another program has changed or removed meanwhile is left as it is.
"""

import base64
import io
import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NamedTuple, Required

import numpy as np
from annotated_types import Ge
from typing_extensions import TypedDict

from nuclei.app.canvas import Edit
from nuclei.contents import Content
from nuclei.files import first_line
from nuclei.images.box import Box
from nuclei.images.writing import MAX_PNG_LABELS, encode
from nuclei.leftovers import unshare
from nuclei.schema import read_json

SCHEMA = 1  # of the first line; a higher one is of a later version
SUFFIX = ".edits.jsonl"
HEAD = b'{"kind":"start",'  # how each log begins, also one of which no more was written


class Line(TypedDict, total=False):
    """A line of a log, whatever its kind; the pixels are checked where they are used."""

    kind: Required[str]
    nuclei: Annotated[int, Ge(0)]
    key: str
    schema: int
    origin: str
    accepted: bool
    labels: str
    pieces: list
    image: Content


class EditLog:
    """The file of one image.

    Args:
        path: of the file, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size: int | None = None  # of the file as it was left; None before the first look

    def read(self) -> list[Line]:
        """The lines, the first one the start; empty where there is no file, or no whole line.

        Raises:
            ValueError: the file is damaged, of a later version or none of ours.
        """
        content = self.path.read_bytes() if self.path.is_file() else b""
        self.size = len(content)
        lines = [
            self.read_line(text, number)
            for number, text in enumerate(content[: whole_size(content)].splitlines(), start=1)
        ]
        if lines and (lines[0]["kind"] != "start" or lines[0].get("schema", 0) > SCHEMA):
            raise ValueError(
                f"{self.path}: not an edit log of this version (schema {SCHEMA}); update the "
                "program, or move the file away"
            )
        if not lines and not content.startswith(HEAD[: len(content)]):
            raise ValueError(f"{self.path}: not an edit log of this program; move the file away")
        return lines

    def read_line(self, text: bytes, number: int) -> Line:
        """One line. Raises: ValueError where it is damaged."""
        try:
            return read_json(text, Line)
        except ValueError:
            raise ValueError(
                f"{self.path}: line {number} is damaged; restore the file, or move it away to "
                "begin this image anew"
            ) from None

    def size_now(self) -> int:
        """Bytes of the file, 0 where there is none; times of network disks are not reliable."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def require_unchanged(self) -> None:
        """Raise ValueError where the file is not as it was left: lines added would be lost."""
        if self.size is None:
            self.read()
        if self.size_now() != self.size:
            fault = "was changed by another program" if self.path.is_file() else "is gone"
            raise ValueError(
                f"{self.path.parent.name}/{self.path.name} {fault} meanwhile, and nothing was "
                "saved: put it back as it was, or start the program anew"
            )

    def add(self, *lines: dict) -> None:
        """Add lines at the end; they are on disk when this returns.

        Raises:
            OSError: the disk is full or read-only; then nothing was added.
            ValueError: as `require_unchanged`.
        """
        self.require_unchanged()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        if not is_new:
            unshare(self.path)
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        with open(self.path, "r+b" if not is_new else "x+b", buffering=0) as file:
            end = end_last_line(file)
            try:
                if file.write(text.encode("ascii")) != len(text):
                    raise OSError(28, os.strerror(28), str(self.path))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
            finally:
                self.size = self.size_now()
        if is_new:
            sync_folder(self.path.parent)


def whole_size(content: bytes) -> int:
    """How many bytes of a log are whole lines; the last one may lack its line end."""
    size = content.rfind(b"\n") + 1
    try:
        read_json(content[size:], Line)
    except ValueError:  # nothing follows, or what a crash has left: no part of an object is one
        return size
    return len(content)


def end_last_line(file) -> int:
    """Go to the end of the whole lines; cut what a crash has left. Returns: the size then."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            content = file.read()
            whole = whole_size(content)
            file.truncate(whole)
            file.seek(whole)
            if whole == size:
                file.write(b"\n")
    return file.tell()


def sync_folder(folder: Path) -> None:
    """Bring the name of a new file to disk, where the system can."""
    if os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Summary(NamedTuple):
    """The numbers of one image: its nuclei, changes, and steps that can be undone and redone."""

    num_nuclei: int = 0
    revision: int = 0
    num_undo: int = 0
    num_redo: int = 0
    accepted_at: int | None = None  # the revision that was accepted last

    @property
    def is_accepted(self) -> bool:
        """Whether the user has accepted the labels and not changed them since."""
        return self.accepted_at == self.revision


def summarise(lines: list[Line]) -> Summary:
    """The numbers of an image from its log, without its pixels."""
    num_undo = num_redo = revision = 0
    accepted_at = 0 if lines[0].get("accepted") else None
    for line in lines[1:]:
        kind = line["kind"]
        if kind in ("accept", "withdraw"):
            accepted_at = revision if kind == "accept" else None
            continue
        revision += 1
        step = {"undo": -1, "redo": 1}.get(kind)
        num_undo, num_redo = num_undo + (step or 1), num_redo - step if step else 0
    return Summary(lines[-1].get("nuclei", 0), revision, num_undo, num_redo, accepted_at)


def start_line(
    labels_file: bytes, origin: str, accepted: bool, image: Content | None = None
) -> dict:
    """The first line.

    Args:
        labels_file: a label image as PNG or TIFF.
        origin: what made it: the name of the model, or of the truth file.
        accepted: whether it was ground truth already.
        image: what the file of the image was; None where it is not known.
    """
    code = base64.b64encode(labels_file).decode("ascii")
    head = {"kind": "start", "schema": SCHEMA, "origin": origin, "accepted": accepted}
    return head | ({"image": asdict(image)} if image else {}) | {"labels": code}


def start_labels(line: Line) -> np.ndarray:
    """The labels (H, W) int32 of a first line.

    Raises:
        ValueError: they are damaged.
    """
    try:
        return decode_labels(base64.b64decode(line["labels"], validate=True))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the first labels of an edit log are damaged ({error})") from None


def encode_labels(labels: np.ndarray) -> bytes:
    """Labels (H, W) as the content of a file: PNG of 16 bits, or TIFF where there are too many."""
    if labels.max(initial=0) <= MAX_PNG_LABELS:
        return encode(labels.astype(np.uint16), ".png")
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, labels.astype(np.uint32), compression="zlib")
    return file.getvalue()


def decode_labels(content: bytes) -> np.ndarray:
    """The labels (H, W) int32 of a file that this program wrote, PNG or TIFF.

    Raises:
        ValueError: it is damaged.
    """
    import cv2

    try:
        if content[:4] == b"\x89PNG":
            labels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        else:
            import tifffile

            labels = tifffile.imread(io.BytesIO(content))
    except Exception as error:  # decoders raise errors of all kinds
        raise ValueError(f"no label image: {first_line(error)}") from None
    if labels is None or labels.ndim != 2:
        raise ValueError("no label image")
    return labels.astype(np.int32)


def edit_line(edit: Edit) -> dict:
    """The line of an edit: the boxes and what they hold after it, little-endian int32 in zlib."""
    pieces = [
        [*piece.box, base64.b64encode(zlib.compress(piece.after.astype("<i4"), 1)).decode("ascii")]
        for piece in edit.pieces
    ]
    return {"kind": edit.kind, "pieces": pieces}


def edit_pieces(line: dict, shape: tuple[int, int]) -> list[tuple[Box, np.ndarray]]:
    """The boxes of an edit and the pixels that it put there.

    Args:
        line: of `edit_line`.
        shape: (H, W) of the image.

    Raises:
        ValueError: the line is damaged.
    """
    pieces = []
    try:
        for *ends, code in line["pieces"]:
            box = Box(*map(int, ends))
            if not Box.of_shape(shape).contains(box) or box.top > box.bottom:
                raise ValueError("a box lies outside of the image")
            unzip = zlib.decompressobj()
            content = unzip.decompress(base64.b64decode(code), 4 * box.area_px)
            pieces.append((box, np.frombuffer(content, "<i4").reshape(box.shape)))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(f"an edit is damaged ({error})") from None
    return pieces
