"""What tells two contents of a file apart: its size and hash; and two files: their place on disk.

digest("a.png")             # (size, SHA-256); also of a folder that counts as one file
content_of("a.png")         # a `Content`, to be noted; `is_changed` compares it later
state_of("a.png")           # size and time: enough within one run
identity("a.png")           # equal for two names of one file
"""

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20  # bytes that are read at once
MAX_HASHED = 1 << 26  # bytes of a `Content` that are hashed: slides have more, all of other sizes


@dataclass(frozen=True)
class Content:
    """What a picture was when something was made of it.

    Attributes:
        size: in bytes, of a folder that of all its files.
        time: of its last change in ns; 0 for a folder, whose time says nothing.
        sha256: of its first MAX_HASHED bytes; "" where they are not known, and for a folder.
    """

    size: int
    time: int
    sha256: str


def content_of(path, state=None) -> Content | None:
    """The `Content` of a file or folder.

    Args:
        path: of it.
        state: its `known_state` before it was read: where it is another one now, nobody knows what
            was read, and `is_changed` will say so.

    Returns:
        None where it is gone.
    """
    try:
        now = known_state(path)
        if now is None or state not in (None, now):
            return state and Content(*state, "")
        return Content(*now, "" if Path(path).is_dir() else hash_of(path, MAX_HASHED).hexdigest())
    except OSError:
        return None


def is_changed(path, content: Content) -> bool:
    """Whether a file is another one than it was; it is read only where its time is another one.

    One that is gone, or cannot be read, is not: its reader says so.
    """
    try:
        size, time = state_of(path)
        if size != content.size or time == content.time:
            return size != content.size
        return hash_of(path, MAX_HASHED).hexdigest() != content.sha256
    except OSError:
        return False


def identity(path) -> tuple | None:
    """What two names of one file have in common; None where it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def state_of(path) -> list:
    """Size and time of change of a file: they differ once another program wrote to it.

    A folder has the size of all its files, and the time 0.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return [content_size(path), 0]
    return [status.st_size, status.st_mtime_ns]


def known_state(path) -> tuple[int, int] | None:
    """`state_of` a file as a tuple; None where it is gone."""
    try:
        size, time = state_of(path)
    except OSError:
        return None
    return size, time


def files_below(folder: Path) -> Iterable[Path]:
    """All files of a folder, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def content_size(path) -> int:
    """Size of a file in bytes, or of all files of a folder."""
    path = Path(path)
    if path.is_dir():
        return sum(file.stat().st_size for file in files_below(path))
    return os.stat(path).st_size


def hash_of(path, size=None):
    """The SHA-256 hash of a file, or of its first `size` bytes, to be extended."""
    hasher, left = hashlib.sha256(), os.stat(path).st_size if size is None else size
    with open(path, "rb") as file:
        while left > 0 and (block := file.read(min(BLOCK, left))):
            hasher.update(block)
            left -= len(block)
    return hasher


def digest(path, size=None) -> tuple[int, str]:
    """(size, SHA-256) of a file, of its first `size` bytes, or of all files of a folder."""
    path = Path(path)
    if not path.is_dir():
        return content_size(path) if size is None else size, hash_of(path, size).hexdigest()
    hasher = hashlib.sha256()
    for file in files_below(path):
        name = file.relative_to(path).as_posix().encode("utf-8", "surrogateescape")
        hasher.update(name + b"\0" + hash_of(file).digest())
    return content_size(path), hasher.hexdigest()
