"""What tells two contents of a file apart: its size and hash; and two files: their place on disk.

digest("a.png")             # (size, SHA-256); also of a folder that counts as one file
state_of("a.png")           # size and time: enough within one run
identity("a.png")           # equal for two names of one file
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

BLOCK = 1 << 20  # bytes that are read at once


def identity(path) -> tuple | None:
    """What two names of one file have in common; None where it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def state_of(path) -> list:
    """Size and time of change of a file: they differ once another program wrote to it."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


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
