"""Temporary files, and the folders that runs write to: what a killed run left is removed.

    with writing_into("predictions"):           # before the work: the folder can be written to
        path = temporary_name("predictions/masks/a.png")

Each file is written under a temporary name beside its place. A run that is killed leaves it there,
and the next run that writes into the folder removes it, unless another run is writing there now.
"""

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from nuclei.full_disk import disk_full, is_full

PREFIX = ".nuclei-"  # of temporary names; names may have 255 bytes, so it is short
NAME = re.compile(re.escape(PREFIX) + r"[0-9a-f]{8}(\..*)?")
DEPTH = 3  # folders below one another that are looked at: fields/labels/, .a.work/labels.zarr/
OLD_SECONDS = 86_400  # age of what is removed where another run may be writing
ELSEWHERE = "give another --out"  # the way out where a folder cannot take results
LOCK_TRIALS, LOCK_WAIT_SECONDS = 20, 0.1


def temporary_name(path) -> Path:
    """A new name beside a file. It has the file's suffix, since writers choose the format by it."""
    path = Path(path)
    return path.with_name(f"{PREFIX}{uuid.uuid4().hex[:8]}{path.suffix}")


def unshare(path) -> None:
    """Give a file that is to grow a content of its own, where hard links of a backup share it."""
    if os.stat(path).st_nlink > 1:
        temporary = temporary_name(path)
        try:
            shutil.copy2(path, temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def writing_into(folder, elsewhere: str = ELSEWHERE) -> Iterator[None]:
    """Around all writing into a folder, which is made where it is missing.

    A folder that was made for nothing is removed again.

    Args:
        folder: to write to.
        elsewhere: what the user can do where that is not possible.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder = Path(os.path.abspath(folder))
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    with contextlib.ExitStack() as stack:
        for place in reversed(missing):
            stack.callback(remove_if_empty, place)
        require_writable(folder, elsewhere)
        enter(folder, stack)
        yield


@contextlib.contextmanager
def adding_to(folder) -> Iterator[None]:
    """Around adding files to a folder of the user: like `writing_into`, but not what lies below.

    The folder must be there, and need not be writable: perhaps nothing is added.
    """
    with contextlib.ExitStack() as stack:
        enter(Path(folder), stack, depth=1)
        yield


def remove_if_empty(folder: Path) -> None:
    """Remove a folder without content."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def require_writable(folder: Path, elsewhere: str = ELSEWHERE) -> None:
    """Make a folder and try to write there. Raises: OSError in one line."""
    trial = temporary_name(folder / "trial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except FileExistsError as error:
        message = f"{error.filename} is a file; results need a folder: {elsewhere}"
        raise NotADirectoryError(message) from None
    except OSError as error:
        if is_full(error):
            raise disk_full(folder, trial, error) from None
        message = f"{folder} cannot be written to ({error.strerror}); {elsewhere}"
        raise type(error)(message) from None


def enter(folder: Path, stack: contextlib.ExitStack, depth: int = DEPTH) -> None:
    """Remove what killed runs left, and let other runs know that this one writes into a folder.

    The operating system keeps a lock of the folder itself: it needs no file, and it ends with the
    process.

    Args:
        folder: to write to.
        stack: the lock ends with it.
        depth: how many folders below one another are looked at.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows, which removes no file that is open
        remove_leftovers(folder, 0 if os.name == "nt" else OLD_SECONDS, depth)
        return
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_leftovers(folder, 0, depth)
    except OSError:
        remove_leftovers(folder, OLD_SECONDS, depth)
    for _ in range(LOCK_TRIALS):  # another run may be removing files
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except OSError:
            time.sleep(LOCK_WAIT_SECONDS)


def remove_leftovers(folder: Path, min_age_seconds: float, depth: int = DEPTH) -> None:
    """Remove the temporary files of killed runs in a folder and a few folders below."""
    latest = time.time() - min_age_seconds
    for path in list(temporary_files(folder, depth)):
        with contextlib.suppress(OSError):  # another run removes it, too, or it is open on Windows
            if min_age_seconds == 0 or path.lstat().st_mtime < latest:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def temporary_files(folder: Path, depth: int) -> Iterable[Path]:
    """The temporary files and folders below a folder; links are not followed."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        is_work = not entry.name.startswith(".") or entry.name.endswith(".work")
        if NAME.fullmatch(entry.name):
            yield Path(entry.path)
        elif depth > 1 and is_work and entry.is_dir(follow_symlinks=False):
            yield from temporary_files(Path(entry.path), depth - 1)
