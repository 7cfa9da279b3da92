"""Keep what libraries write to the terminal out of sight while all goes well.

    with hold_noise():
        import keras

TensorFlow, LiteRT and CUDA write lines straight to file descriptor 2, some of them marked as errors
on a machine where nothing is wrong. Settings of these libraries do not stop the lines written while
they are imported. So the descriptor itself is held. What Python writes to `sys.stderr`, such as our
own messages, warnings and tracebacks, is shown as ever.

    hush_readers()

What readers of images log and warn about is not shown either: it stands beside our own message on
the same file, or concerns nobody.

TF_CPP_MIN_LOG_LEVEL=0 shows every line at once: for a program that dies without a word.
"""

import contextlib
import faulthandler
import io
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

STDERR = 2  # the file descriptor
READERS = "PIL|tifffile|imagecodecs|bioio|zarr|openslide|roifile"  # modules that warn
WANTED = ("0", "1")  # values of TF_CPP_MIN_LOG_LEVEL of a user who wants to see the lines


class Terminal:
    """File descriptor 2. While it is held, all that is written to it goes into a temporary file.

    Several threads may hold it at once: the last one to release it ends the hold.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.num_holders = 0
        self.fd = STDERR  # leads to the user's terminal
        self.held = None  # the temporary file
        self.python_stream = None  # sys.stderr before the hold, where it was replaced
        self.watches_crashes = False  # whether this hold has started faulthandler

    def take(self) -> bool:
        """Begin to hold, or join those who hold. Returns: whether this was possible."""
        with self.lock:
            if self.num_holders == 0:
                with contextlib.suppress(OSError):  # no descriptor 2, or no place for a file
                    self.begin()
            self.num_holders += self.held is not None
            return self.held is not None

    def begin(self) -> None:
        """Let descriptor 2 lead to a new temporary file, and `fd` to the terminal."""
        held = tempfile.TemporaryFile()  # noqa: SIM115, closed by `end`
        try:
            if writes_to(sys.stderr, STDERR):
                sys.stderr.flush()
                self.python_stream, sys.stderr = sys.stderr, VisibleStream(sys.stderr)
            self.fd = os.dup(STDERR)
            os.dup2(held.fileno(), STDERR)
        except OSError:
            held.close()
            self.restore()
            raise
        self.held = held
        if not faulthandler.is_enabled():
            faulthandler.enable(self.fd)  # a crash in here would otherwise leave no trace
            self.watches_crashes = True

    def release(self, show: bool) -> None:
        """Leave the hold.

        Args:
            show: first write what was held until now to the terminal.
        """
        with self.lock:
            if show:
                self.held.seek(0)
                with contextlib.suppress(OSError):
                    write_all(self.fd, self.held.read())
                self.held.truncate(0)
                self.held.seek(0)
            self.num_holders -= 1
            if self.num_holders == 0:
                if self.watches_crashes:
                    faulthandler.disable()
                    self.watches_crashes = False
                self.restore()
                self.held.close()
                self.held = None

    def restore(self) -> None:
        """Let descriptor 2 and `sys.stderr` be what they were."""
        if self.fd != STDERR:
            fd, self.fd = self.fd, STDERR
            os.dup2(fd, STDERR)
            os.close(fd)
        if self.python_stream is not None:
            sys.stderr, self.python_stream = self.python_stream, None


class VisibleStream(io.TextIOBase):
    """Stands for `sys.stderr` during a hold and writes to the terminal.

    A library may keep it, in a logger for instance: it stays good after the hold.
    """

    def __init__(self, stream) -> None:
        self.original = stream

    @property
    def encoding(self) -> str:
        """That of the stream it stands for."""
        return self.original.encoding

    def fileno(self) -> int:
        """The descriptor that leads to the terminal now."""
        return TERMINAL.fd

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(TERMINAL.fd)

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """Write at once; descriptor 2 has no buffer either."""
        with contextlib.suppress(OSError):  # a reader that has left, or a full disk: see streams
            write_all(TERMINAL.fd, text.encode(self.encoding, "backslashreplace"))
        return len(text)


TERMINAL = Terminal()


class Hold:
    """One hold of the terminal; `release` ends it before its block does."""

    def __init__(self) -> None:
        self.is_held = not is_wanted() and TERMINAL.take()

    def release(self, show: bool = False) -> None:
        """End the hold, if it has not ended; `show` writes what was held to the terminal."""
        if self.is_held:
            self.is_held = False
            TERMINAL.release(show)


@contextlib.contextmanager
def hold_noise() -> Iterator[Hold]:
    """Hold what libraries write to file descriptor 2; show it only where the block fails.

    Yields:
        The `Hold`, for a block that outlasts the noise.
    """
    hold = Hold()
    try:
        yield hold
    except Exception:
        hold.release(show=True)
        raise
    finally:
        hold.release()


def hush_readers() -> None:
    """Keep the log and the warnings of libraries that read images out of sight, from now on."""
    if is_wanted() or sys.warnoptions:  # the user asked for them
        return
    root = logging.getLogger()
    if not root.handlers:  # without any, Python itself writes the lines to stderr
        root.addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module=READERS)


def is_wanted() -> bool:
    """Whether the user wants to see what libraries write."""
    return os.environ.get("TF_CPP_MIN_LOG_LEVEL") in WANTED


def writes_to(stream, fd: int) -> bool:
    """Whether a stream, or None, writes to this file descriptor."""
    try:
        return stream is not None and stream.fileno() == fd
    except (OSError, ValueError):  # a stream of a notebook or a test has no descriptor
        return False


def write_all(fd: int, content: bytes) -> None:
    """Write all bytes to a file descriptor; `os.write` may take a part of them."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
