"""A disk that is full, or takes no file of that size: one line with the file and the way out.

with explaining_full_disk("out/masks/a.png", temporary):
    temporary.write_bytes(content)      # DiskFull, which names out/masks/a.png
require_space("out", num_bytes, "the model and its checkpoint")
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# NumPy and libraries in C say the same without a number.
WORDS = re.compile("No space left on device|requested and [0-9]+ written|File too large")
SOME_BYTES = 1 << 20  # a disk that has so many free is not full
WAY_OUT = "free some space or write to another disk, and run the same command again"


class DiskFull(OSError):
    """A file cannot be written for want of space."""

    def __str__(self) -> str:
        return self.strerror


@contextlib.contextmanager
def explaining_full_disk(path, temporary=None) -> Iterator[None]:
    """Around the writing of a file: an error of the disk names the file and what it needs.

    Args:
        path: the file, for the message.
        temporary: where it is written first, if elsewhere.

    Raises:
        DiskFull: there is no space.
        OSError: another fault of the system, with the name of the file.
    """
    temporary = Path(path if temporary is None else temporary)
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise disk_full(path, temporary, error) from error
        if isinstance(error, OSError) and error.errno and error.strerror:
            error.filename = named_instead(error.filename, temporary, path)
        raise


def named_instead(filename, temporary: Path, path):
    """The file that an error shall name: the real one where it names none or the temporary one."""
    is_ours = filename is None or Path(os.fsdecode(filename)) == temporary
    return str(path) if is_ours else filename


def is_full(error: BaseException) -> bool:
    """Whether an error of any library says that there is no space."""
    if isinstance(error, DiskFull):
        return False  # it is explained already
    number = error.errno if isinstance(error, OSError) else None
    return number in FULL or bool(WORDS.search(str(error)))


def disk_full(path, temporary: Path, error: BaseException) -> DiskFull:
    """The error of a file that was written up to where the space ended."""
    num_written = temporary.stat().st_size if temporary.is_file() else 0
    free = free_bytes(temporary.parent)
    number = getattr(error, "errno", None)
    is_unknown = number is None and "No space" not in str(error)
    if number == errno.EFBIG or (is_unknown and (free or 0) > SOME_BYTES):
        fault = f"this system lets it have {num_written:,} bytes only (ulimit -f)"
        return DiskFull(errno.EFBIG, f"{path} cannot be written: {fault}; raise that limit")
    room = "" if free is None else f": {free + num_written:,} bytes are free"
    if num_written:
        room += f"{' and' if room else ':'} it needs more than {num_written:,}"
    return DiskFull(errno.ENOSPC, f"{path} cannot be written, the disk is full{room}; {WAY_OUT}")


def free_bytes(folder) -> int | None:
    """The free space of the disk of a folder that may not exist yet; None where unknown."""
    folder = Path(folder).absolute()
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def require_space(folder, num_bytes: int, what: str) -> None:
    """Check before the work that its files fit on the disk.

    Args:
        folder: where they go.
        num_bytes: what they need.
        what: words for them.

    Raises:
        DiskFull: they do not fit.
    """
    free = free_bytes(folder)
    if free is not None and free < num_bytes:
        raise DiskFull(
            errno.ENOSPC,
            f"{folder} has {free:,} bytes free, and {what} need {num_bytes:,}; {WAY_OUT}",
        )
