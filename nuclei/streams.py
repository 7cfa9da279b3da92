"""Standard output and error that may be closed, full, or read by a program that leaves.

    with lasting_streams() as streams:
        print("...")
    streams.fault                   # why lines were lost, or None

The results of the scripts are files. A line that nobody can read must not stop the work on them:
`python predict.py | head -1` writes all results.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

NAMES = {1: "stdout", 2: "stderr"}  # by file descriptor
CONTROLS = {  # to their pictures; those of Latin-1 have none
    **{code: 0x2400 + code for code in range(32)},
    127: 0x2421,
    **dict.fromkeys(range(128, 160), 0xFFFD),
}


def visible(text: str) -> str:
    """A text in one line without control characters: they are shown by pictures, such as ␊.

    Names of files may hold line breaks, and sequences that a terminal obeys.
    """
    return text.translate(CONTROLS)


class LastingFile(io.FileIO):
    """A file descriptor that takes all that is written to it, also where it cannot be written.

    Attributes:
        fault: the first OSError of writing, but for a reader that has left; None if all is well.
    """

    fault: OSError | None = None

    def write(self, content) -> int:
        """Write, or lose the content."""
        try:
            return super().write(content)
        except BlockingIOError:
            raise
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.fault = self.fault or error
            return len(content)


class LastingStreams:
    """Both streams while they last.

    Attributes:
        files: {name: `LastingFile`} of the streams that were replaced.
    """

    def __init__(self) -> None:
        self.files: dict[str, LastingFile] = {}

    @property
    def fault(self) -> str | None:
        """What was lost and why, in words for the user, or None."""
        faults = [
            f"{name} ({file.fault.strerror})" for name, file in self.files.items() if file.fault
        ]
        return f"lines to {' and '.join(faults)} were lost; files are whole" if faults else None


@contextlib.contextmanager
def lasting_streams() -> Iterator[LastingStreams]:
    """Let `sys.stdout` and `sys.stderr` last, where they write to the streams of the process.

    A console of any encoding prints any name: what it lacks is escaped, such as \\u00fc. Streams of
    notebooks and tests stay what they are.
    """
    open_standard_descriptors()
    streams, before = LastingStreams(), (sys.stdout, sys.stderr)
    for descriptor, name in NAMES.items():
        stream = getattr(sys, name)
        if stream is None or is_of_process(stream, descriptor):
            streams.files[name] = LastingFile(descriptor, "w", closefd=False)
            setattr(sys, name, text_stream(streams.files[name], stream))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield streams
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def open_standard_descriptors() -> None:
    """Let descriptors 0 to 2 that are closed lead nowhere.

    The next file that is opened would get their numbers, and libraries that print would write into
    it.
    """
    for descriptor in (0, *NAMES):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def is_of_process(stream, descriptor: int) -> bool:
    """Whether a stream writes to this file descriptor of the process."""
    try:
        return type(stream) is io.TextIOWrapper and stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


def text_stream(file: LastingFile, like) -> io.TextIOWrapper:
    """A text stream on a `LastingFile` that is like another stream, or like none (None)."""
    if like is None:
        return io.TextIOWrapper(io.BufferedWriter(file), "utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        like.flush()
    return io.TextIOWrapper(
        file if like.write_through else io.BufferedWriter(file),
        like.encoding,
        "backslashreplace",
        line_buffering=like.line_buffering or file.isatty(),
        write_through=like.write_through,
    )
