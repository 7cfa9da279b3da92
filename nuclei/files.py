"""nuclei.files"""

import contextlib
import errno
import os
import platform
import stat
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_MEMBER_BYTES = 1 << 30  # of one archive member once unpacked: an image of DSB2018 has less than 10 MB
LOCK = ".lock"  # in a folder of results, while a run writes to it
MAX_NAMED = 5  # offenders named in one message; the rest is counted


def named(names: Iterable[object]) -> str:
    """Up to MAX_NAMED names and the count of the others, for messages."""
    names = [str(name) for name in names]
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """The message of an error in one short line."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


@contextlib.contextmanager
def replacing(path) -> Iterator[Path]:
    """Write a file whole or not at all: yields a temporary path beside `path` to write to, moves it over `path` at the
    end, removes it on any error. The suffix stays, since writers choose the format by it; the leading dot hides it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_run(folder) -> Iterator[None]:
    """Keep a second run out of a folder. The lock is the operating system's: it goes with the process, however that ends.

    Raises: ValueError where another run has the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(path, "a+", encoding="utf-8"))
            if not lock(file):
                file.seek(0)
                who = file.read(100).strip() or "which has just begun"
                raise ValueError(f"{folder} is being written to by another run ({who}); wait for its end or give --out another")
            try:
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
            except FileNotFoundError:
                pass  # the run that had it has ended in between, and removed it: again
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows does not remove what is open
                path.unlink()


def lock(file) -> bool:
    """Take the lock of an open file; False where another process has it. File systems without locks let everybody pass."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            file.seek(1 << 20)  # a place that nobody reads
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def refuse_unsafe_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """No member may leave the folder it is unpacked to, be a link, or be large beyond reason. Raises: ValueError."""
    for member in archive.infolist():
        parts = member.filename.replace("\\", "/").split("/")
        why = None
        if not parts[0] or any(part == ".." or part[1:2] == ":" for part in parts):
            why = "points outside the archive"
        elif stat.S_ISLNK(member.external_attr >> 16):
            why = "is a symbolic link"
        elif member.file_size > MAX_MEMBER_BYTES:
            why = f"unpacks to {member.file_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
        elif member.flag_bits & 1:
            why = "is encrypted"
        if why:
            raise ValueError(f"{path}: its member {member.filename!r} {why}; nothing was unpacked, get the original")
