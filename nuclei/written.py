"""What this program wrote into a folder: the rule by which a file there may be replaced.

    with recording("predictions", overwrite=False, inputs=files) as record:
        record.require("predictions/masks/a.png")   # Protected, where it is not ours to replace

A file is replaced only where the record of its folder says that this program wrote it and its
content is unchanged since, or where the user said --overwrite. An input is never replaced.
`nuclei.files` asks here before it replaces, extends or removes any file below an open folder, so
that the rule holds for all writers. Outside of open folders it asks nothing.

The record is RECORD in the folder: a line for each file that was written, added before the file
takes its place, so that a run that is killed in between leaves no file that looks foreign.
"""

import contextlib
import json
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nuclei.contents import Content, content_size, digest, hash_of, identity, state_of
from nuclei.full_disk import explaining_full_disk
from nuclei.leftovers import ELSEWHERE, unshare, writing_into
from nuclei.own_files import is_foreign, is_hidden, obstacle

# One JSON object in each line: file, size, sha256, growing; or image, size, time, sha256.
RECORD = "written.jsonl"
PART = ".written.*.jsonl"  # of a worker of a cluster: a shared disk mixes lines of two writers
LOCK = threading.RLock()
OPEN: dict[str, "Record"] = {}  # by absolute path of the folder


class Protected(ValueError):
    """A file may not be replaced."""


@dataclass
class Known:
    """What a record says of one file.

    Attributes:
        contents: (size, SHA-256) of all that this program ever wrote there.
        growing: (size, SHA-256) of a table to which a run was adding rows: before and after the
            last rows, which may have been written in part. Empty for other files.
    """

    contents: set = field(default_factory=set)
    growing: list = field(default_factory=list)


class Record:
    """The record of one folder.

    Args:
        folder: of the results.
        overwrite: the user said so: any file but an input may be replaced.
        inputs: files that are read; they are never replaced.
        journal: the file to which lines are added.
        elsewhere: what the user can do where files of others stand in the place of results.
    """

    def __init__(self, folder, overwrite=False, inputs=(), journal=RECORD, elsewhere=ELSEWHERE):
        self.elsewhere = elsewhere
        self.folder, self.overwrite = Path(os.path.abspath(folder)), overwrite
        self.journal = self.folder / journal
        self.inputs = set(filter(None, map(identity, inputs)))
        self.known: dict[str, Known] = {}
        self.tables: dict[str, tuple] = {}  # tables that grow now: (hash so far, size, time)
        self.images: dict[str, Content] = {}  # by stem, of what the results were made

    def read(self):
        """Read the lines of all runs before. A line that was cut off is left out.

        Raises:
            Protected: the file of that name is not ours.
        """
        if is_foreign(self.folder / RECORD):
            raise Protected(
                f"{self.folder / RECORD} is no record of this program, which keeps one under this "
                f"name; move it away, or {self.elsewhere}"
            )
        for path in [self.folder / RECORD, *sorted(self.folder.glob(PART))]:
            if path.is_file():
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                    self.learn(line)

    def learn(self, line):
        """Take up one line of a record."""
        try:
            entry = json.loads(line)
            if "image" in entry:
                content = int(entry["size"]), int(entry["time"]), str(entry["sha256"])
                self.images[str(entry["image"])] = Content(*content)
                return
            name, content = str(entry["file"]), (int(entry["size"]), str(entry["sha256"]))
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return
        known = self.known.setdefault(name, Known())
        if entry.get("growing"):
            known.growing = [*known.growing[-1:], content]
        else:
            known.growing = []
            known.contents.add(content)

    def key(self, path):
        """The name of a file in the record."""
        return Path(os.path.abspath(path)).relative_to(self.folder).as_posix()

    def is_known(self, path):
        """Whether this program has ever written a file of this name."""
        return self.key(path) in self.known

    def is_ours(self, path):
        """Whether a file that is there has the content that this program wrote."""
        known = self.known.get(self.key(path))
        if known is None or os.path.islink(path):
            return False
        size = content_size(path)
        if size in {size for size, _ in known.contents} and digest(path) in known.contents:
            return True
        if not known.growing or Path(path).is_dir():
            return False
        before, after = known.growing[0], known.growing[-1]
        if size == after[0] and digest(path) == after:
            return True
        return before[0] <= size < after[0] and digest(path, before[0]) == before

    def fault(self, path):
        """Why a file may not be replaced, with the way out; "" where it may, or is not there."""
        if fault := obstacle(path, self.folder):
            return f"{fault}, or {self.elsewhere}"
        if not os.path.lexists(path):
            return ""
        if identity(path) in self.inputs:
            return f"{path} is an input, which is never replaced; {self.elsewhere}"
        with LOCK:
            if self.overwrite or is_hidden(self.key(path)) or self.is_growing(path):
                return ""
            if self.is_ours(path):
                return ""
            self.read()  # a worker may have written the file meanwhile: one that died, or an orphan
            if self.is_ours(path):
                return ""
            what = "was changed since this program wrote it"
            if not self.is_known(path):
                what = "was not written by this program"
        return f"{path} {what}; {self.elsewhere}, or --overwrite to replace it"

    def require(self, path):
        """Raise `Protected` where a file may not be replaced."""
        if fault := self.fault(path):
            raise Protected(fault)

    def note(self, path, temporary):
        """Add a line for a file that is about to take its place; `temporary` is its content."""
        key = self.key(path)
        if not is_hidden(key):
            with LOCK:
                self.tables.pop(key, None)
                content = digest(temporary)
                known = self.known.get(key, Known())
                if known.growing or content not in known.contents:
                    self.add(key, *content)

    def is_growing(self, path):
        """Whether a table is as this run left it."""
        _, *state = self.tables.get(self.key(path), (None,))
        return bool(state) and state == state_of(path)

    def begin_growth(self, path, content):
        """Add a line for what a table will be with `content`, bytes, at its end.

        A run that is killed meanwhile leaves no rows that look like those of the user.
        """
        key = self.key(path)
        with LOCK:
            if not self.is_growing(path):
                hasher = hash_of(path)
                self.tables[key] = (hasher, *state_of(path))
                self.add(key, self.tables[key][1], hasher.hexdigest(), growing=True)
            hasher, size, _ = self.tables[key]
            hasher = hasher.copy()
            hasher.update(content)
            self.add(key, size + len(content), hasher.hexdigest(), growing=True)

    def note_growth(self, path, content):
        """Remember that `content` was added, as `begin_growth` said."""
        key = self.key(path)
        with LOCK:
            hasher = self.tables[key][0]
            hasher.update(content)
            self.tables[key] = (hasher, *state_of(path))

    def add(self, key, size, sha256, growing=False):
        """Add a line."""
        entry = {"file": key, "size": size, "sha256": sha256}
        line = json.dumps(entry | {"growing": True} if growing else entry)
        self.write(line + "\n")
        self.learn(line)

    def note_image(self, stem, content):
        """Add a line for the `Content` of the image of which the results of a stem are made."""
        with LOCK:
            if self.images.get(stem) != content:
                line = json.dumps({"image": stem, **asdict(content)})
                self.write(line + "\n")
                self.learn(line)

    def write(self, text):
        """Add whole lines in one call, so that two programs do not mix theirs."""
        if self.journal.is_file():
            unshare(self.journal)
        with explaining_full_disk(self.journal), open(self.journal, "ab", buffering=0) as file:
            if file.tell():
                with open(self.journal, "rb") as old:
                    old.seek(-1, os.SEEK_END)
                    text = text if old.read(1) == b"\n" else "\n" + text
            file.write(text.encode("ascii"))

    def close(self):
        """Say of the tables that grew what they are now: nothing may follow there unnoticed."""
        with LOCK:
            for key, (hasher, size, _) in self.tables.items():
                self.add(key, size, hasher.hexdigest())
            self.tables.clear()

    def gather_parts(self):
        """Move the lines of workers into the record. Only where no worker writes."""
        for path in sorted(self.folder.glob(PART)):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            if lines := [line for line in lines if line.isascii()]:
                self.write("".join(line + "\n" for line in lines))
            for line in lines:
                self.learn(line)
            path.unlink()

    def part(self, paths):
        """What a worker needs to write these files: arguments for `join`."""
        keys = [self.key(path) for path in paths]
        known = {key: self.known[key] for key in keys if key in self.known}
        return str(self.folder), self.overwrite, known


@contextlib.contextmanager
def recording(folder, overwrite=False, inputs=(), elsewhere=ELSEWHERE) -> Iterator[Record]:
    """Keep the record of a folder while results are written there.

    What a killed run left half-written there is removed first.

    Args:
        folder, overwrite, inputs, elsewhere: as of `Record`.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    with writing_into(folder, elsewhere):
        record = Record(folder, overwrite, inputs, elsewhere=elsewhere)
        record.read()
        earlier = OPEN.get(str(record.folder))
        OPEN[str(record.folder)] = record
        try:
            yield record
        except BaseException:
            with contextlib.suppress(OSError):  # the fault of the work counts, not this one
                record.close()
            raise
        else:
            record.close()
        finally:
            OPEN.pop(str(record.folder))
            if earlier is not None:
                OPEN[str(record.folder)] = earlier


def join(folder: str, overwrite: bool, known: dict) -> None:
    """Keep the record in a worker of a cluster, in a file of its own. Args: as of `Record.part`."""
    with LOCK:
        record = OPEN.get(folder)
        if record is None:
            name = PART.replace("*", uuid.uuid4().hex[:12])
            record = OPEN[folder] = Record(folder, journal=name)
        record.overwrite = overwrite
        record.known.update(known)


def record_of(path) -> Record | None:
    """The open record of the folder that a file lies in, or None."""
    if not OPEN:
        return None
    parents = Path(os.path.abspath(path)).parents
    return next((OPEN[str(parent)] for parent in parents if str(parent) in OPEN), None)
