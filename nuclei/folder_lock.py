"""Keep a folder of results to one run: two runs there would mix their tables.

    with only_run("predictions"):           # a second run in this folder stops with a message
        ...

The lock is the operating system's, so it ends with the process.
"""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from nuclei.leftovers import ELSEWHERE, writing_into

LOCK = ".nuclei.lock"  # file in a folder of results while a run writes there
LOCK_POSITION = 1 << 20  # byte that Windows locks, far behind the text that other runs read


@contextlib.contextmanager
def only_run(folder, elsewhere: str = ELSEWHERE) -> Iterator[None]:
    """Keep a second run out of a folder.

    The operating system holds the lock: it ends with the process, even where that is killed.

    Args:
        folder: of results.
        elsewhere: what the user can do where the folder cannot take them.

    Raises:
        OSError: the folder cannot be made or written to.
        ValueError: another run writes to the folder, or a link stands in the place of the lock.
    """
    folder = Path(folder)
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing_into(folder, elsewhere))
        if path.is_symlink():
            raise ValueError(f"{path} is a link, in the place of a lock; remove it, or {elsewhere}")
        while True:
            file = stack.enter_context(open(path, "a+", encoding="utf-8", opener=open_itself))
            if not lock(file):
                file.seek(0)
                holder = file.read(100).strip() or "which has just begun"
                raise ValueError(
                    f"{folder} is being written to by another run ({holder}); wait until it ends, "
                    f"or {elsewhere}"
                )
            try:
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
            except FileNotFoundError:
                pass  # another run ended in between and removed the file: try again
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows does not remove an open file
                path.unlink()


def open_itself(path, flags) -> int:
    """Open a file, but not through a link: what a link points to is not ours to empty."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def lock(file) -> bool:
    """Take the lock of an open file.

    Returns:
        False where another process has it. A file system without locks lets every run pass.
    """
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            file.seek(LOCK_POSITION)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
