"""Write whole files, keep a folder to one run, refuse unsafe archives, name offenders in messages.

    with replacing(path) as temporary:      # the one atomic write of the project
        temporary.write_bytes(content)
    with only_run(out):                     # a second run in this folder stops with a message
        ...

Everything here works on files of any kind; no other room is imported.
"""

import contextlib
import errno
import lzma
import os
import platform
import stat
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

MAX_MEMBER_BYTES = 1 << 30  # of one archive member once unpacked; an image of DSB2018 has 10 MB
LOCK = ".lock"  # file in a folder of results while a run writes there
LOCK_POSITION = 1 << 20  # byte that Windows locks, far behind the text that other runs read
# Errors of a zip that is damaged, cut short or packed in a way that Python cannot unpack.
DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
MAX_NAMED = 5  # offenders named in one message; the rest is counted
MAX_LINE = 160  # characters of another program's message inside one of ours


def named(names: Iterable[object]) -> str:
    """Up to MAX_NAMED names and the count of the others, for messages."""
    names = [str(name) for name in names]
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
def replacing(path) -> Iterator[Path]:
    """Write a file whole or not at all.

    Yields:
        A temporary path in the same folder, to write to. It moves over `path` at the end and is
        removed on any error. It has the suffix of `path`, since writers choose the format by it,
        and a leading dot that hides it.
    """
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
    """Keep a second run out of a folder.

    The operating system holds the lock: it ends with the process, even where that is killed.

    Raises:
        ValueError: another run writes to the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(path, "a+", encoding="utf-8"))
            if not lock(file):
                file.seek(0)
                holder = file.read(100).strip() or "which has just begun"
                raise ValueError(
                    f"{folder} is being written to by another run ({holder}); wait until it ends "
                    "or give another folder with --out"
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


def is_companion(name: str) -> bool:
    """Whether a member of an archive is what a system left beside the files (`__MACOSX`, `._a`)."""
    parts = name.replace("\\", "/").split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".")


def refuse_unsafe_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Check the members of a zip before anything is unpacked.

    Raises:
        ValueError: a member would leave the folder that it is unpacked to, is a link, is encrypted
            or unpacks to more than MAX_MEMBER_BYTES.
    """
    for member in archive.infolist():
        parts = member.filename.replace("\\", "/").split("/")
        fault = None
        if not parts[0] or any(part == ".." or part[1:2] == ":" for part in parts):
            fault = "points outside the archive"
        elif stat.S_ISLNK(member.external_attr >> 16):
            fault = "is a symbolic link"
        elif member.file_size > MAX_MEMBER_BYTES:
            fault = f"unpacks to {member.file_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
        elif member.flag_bits & 1:
            fault = "is encrypted"
        if fault:
            raise ValueError(
                f"{path}: its member {member.filename!r} {fault}; nothing was unpacked, get the "
                "original archive"
            )
