"""Files of any kind: written whole or not at all, and their faults said in one line.

    with replacing(path) as temporary:      # the one atomic write of the project
        temporary.write_bytes(content)
    append(path, content)                   # a table that grows
    remove(path)
    with explaining_damage(path, describe):
        pixels = decode(path)

These three obey the record of the folder (nuclei.written): they raise `Protected` where a file is
the user's own.
"""

import contextlib
import csv
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nuclei.full_disk import explaining_full_disk
from nuclei.leftovers import temporary_name, unshare
from nuclei.streams import visible
from nuclei.written import record_of

MAX_NAMED = 5  # offenders named in one message; the rest is counted
MAX_NAME = 300  # characters of one of them: a cell of a damaged table may have thousands
MAX_TABLE_MEGABYTES = 256  # of a table of stems, or of epochs: a million rows have less
REMOVAL_TRIALS, REMOVAL_WAIT_SECONDS = 10, 0.1
NAME_REFUSED = (
    "its name is too long for its results, or of characters that the disk does not take; rename it"
)
FAULTS_OF_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
MAX_LINE = 160  # characters of another program's message inside one of ours


def named(names: Iterable[object]) -> str:
    """Up to MAX_NAMED names and the count of the others, for messages; long ones are cut."""
    names = [visible(str(name))[:MAX_NAME] for name in names]
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """A count and its noun, for messages: "1 image", "1,200 images", "0 nuclei".

    Args:
        count: how many.
        noun: the word for one.
        nouns: the word for several (default: `noun` and an s).
    """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def first_line(error: BaseException) -> str:
    """The message of an error in one short line."""
    lines = str(error).strip().splitlines()
    return lines[0][:MAX_LINE] if lines else type(error).__name__


def is_system_fault(error: BaseException) -> bool:
    """Whether the disk or a permission failed, and not the content of the file.

    Decoders ask for impossible positions in a damaged file, which the system answers with EINVAL.
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def is_fault_of_name(error: BaseException) -> bool:
    """Whether the disk does not take the name of a file: other faults of writing concern all."""
    return isinstance(error, OSError) and error.errno in FAULTS_OF_NAME


def fault_of(error: Exception) -> str:
    """What is wrong with a file, also where the system says so: the name of the file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename} cannot be read ({error.strerror})"
    return str(error)


def unreadable(path, error: Exception) -> ValueError:
    """The error of one file among many that cannot be read: it names the file."""
    cause = getattr(error, "strerror", None)
    if cause is None and str(path) in str(error):
        return ValueError(" ".join(str(error).split()))
    cause = cause or first_line(error)
    return ValueError(f"{path} cannot be read ({cause}); allow reading it, or copy it again")


def existing_file(path) -> Path:
    """The path of a file that is there.

    Raises:
        FileNotFoundError: there is none, or it is a folder.
    """
    path = Path(path)
    if not path.is_file():
        fault = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {fault}")
    return path


def text_of_table(path, what: str = "a table", encoding: str = "utf-8-sig") -> str:
    """The text of a table that the user names, with the line ends that it has.

    Args:
        path: of the file.
        what: is expected, for the message.
        encoding: of the text.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is a folder, a pipe, a device or larger than MAX_TABLE_MEGABYTES, or no text.
    """
    path = Path(path)
    path.stat()  # says that it is not there
    if not path.is_file():
        fault = "a folder" if path.is_dir() else "a pipe or a device"
        raise ValueError(f"{path} is {fault}; expected {what} in a file")
    with open(path, "rb") as file:
        content = file.read(MAX_TABLE_MEGABYTES * 10**6 + 1)
    if len(content) > MAX_TABLE_MEGABYTES * 10**6:
        raise ValueError(
            f"{path} has more than {MAX_TABLE_MEGABYTES} MB; expected {what}, which has less"
        )
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is no CSV text in UTF-8, but UTF-16; expected {what}: save it so")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no CSV text in UTF-8 ({first_line(error)}); expected {what}"
        ) from None
    if "\0" in text:
        raise ValueError(f"{path} is no CSV text in UTF-8 (it holds NUL bytes); expected {what}")
    return text


@contextlib.contextmanager
def explaining_damage(path: Path, describe: Callable[[Exception], str]) -> Iterator[None]:
    """Around the reading of an image or a truth: whatever a decoder raises becomes one message.

    Args:
        path: the file. A ValueError that names it passes: it was raised by a reader of ours.
        describe: says what is wrong and the way out, after the name of the file.

    Raises:
        OSError: the disk or a permission failed.
        ValueError: everything else.
    """
    try:
        yield
    except MemoryError:
        raise ValueError(
            f"{path} does not fit into memory; cut its image into smaller ones"
        ) from None
    except Exception as error:  # decoders raise errors of all kinds on a damaged file
        if str(path) in str(error) and isinstance(error, ValueError):
            raise
        if is_system_fault(error):
            raise
        raise ValueError(f"{path} {describe(error)}") from error


@contextlib.contextmanager
def reading_own_table(path: Path) -> Iterator[None]:
    """Around the reading of a table that predict.py wrote and somebody may have changed since.

    Raises:
        ValueError: a column or a cell is missing or of another kind, or it is no text.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise ValueError(f"{path} is no file, and no table of predict.py; remove it")
    try:
        yield
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        if str(path) in str(error):  # a message of our own
            raise
        fault = f"no column {error}" if isinstance(error, KeyError) else first_line(error)
        raise ValueError(
            f"{path} is damaged, or no table of predict.py ({fault}); predict the images again, or "
            "remove it to go on without what it says"
        ) from None


@contextlib.contextmanager
def replacing(path) -> Iterator[Path]:
    """Write a file, or a folder that counts as one, whole or not at all.

    Yields:
        A temporary path in the same folder, to write to. It moves over `path` at the end and is
        removed on any error. It has the suffix of `path`, since writers choose the format by it.

    Raises:
        DiskFull: there is no space.
        Protected: `path` may not be replaced; see nuclei.written.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        with explaining_full_disk(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if record := record_of(path):
                record.require(path)
                record.note(path, temporary)
            if temporary.is_dir():
                remove_any(path)
            os.replace(temporary, path)
    finally:
        remove_any(temporary)


def copy_file(source, path) -> None:
    """Copy a file, whole or not at all. Raises: as `replacing`; OSError where it cannot be read."""
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)


def append(path, content: bytes) -> None:
    """Add to the end of a file; a new one is written whole. Raises: as `replacing`."""
    path = Path(path)
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        return
    record = record_of(path)
    if record:
        record.require(path)
    unshare(path)
    if record:
        record.begin_growth(path, content)
    size = path.stat().st_size
    try:
        with explaining_full_disk(path), open(path, "ab") as file:
            file.write(content)
    except OSError:
        os.truncate(path, size)  # no half of a row stays
        raise
    if record:
        record.note_growth(path, content)


def require_free(*paths) -> None:
    """Before files are written that belong together. Raises: Protected, if one may not go."""
    for path in paths:
        if record := record_of(path):
            record.require(path)


def remove(path) -> None:
    """Remove a file, if it is there. Raises: as `replacing`."""
    require_free(path)
    Path(path).unlink(missing_ok=True)


def remove_any(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for trial in range(REMOVAL_TRIALS):
        try:
            shutil.rmtree(path)
            return
        except OSError:  # threads of a writer that has failed may still add files
            if trial == REMOVAL_TRIALS - 1:
                raise
            time.sleep(REMOVAL_WAIT_SECONDS)
