"""What all scripts share at the command line: folders, argument types, progress, short errors.

A script decorates its `main` with `user_errors_in_one_line`: a wrong file then ends in one line and
exit status 1, not in a traceback. `Progress` is the one way to show how far a long task is.
"""

import argparse
import contextlib
import errno
import functools
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nuclei.version import program_version

DATA_DIR = "data"  # holds raw/ and gt/
INPUT_DIR = "test_raw"  # images that predict.py reads
TRUTH_DIR = "data/test_gt"  # ground truth of these images
PREDICTIONS_DIR = "predictions"  # results of predict.py
MODEL_DIR = "Saved_Model"  # results of train.py

BAR_CHARACTERS = 20  # leaves room for the numbers on a terminal of 80 columns
REDRAW_SECONDS = 0.1  # a terminal that is redrawn more often flickers and slows the work down


def command_line(description: str) -> argparse.ArgumentParser:
    """The parser of a script, with the flags --help and --version.

    Args:
        description: the docstring of the script, shown as it is laid out there.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {program_version()}",
        help="show the version of the program and exit",
    )
    return parser


def positive(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def add_ignore_flag(add) -> None:
    """Add --ignore, the values of void in ground truth, by an `add_argument`."""
    add(
        "--ignore",
        action="append",
        type=int,
        metavar="VALUE",
        help="value of the ground truth that is neither nucleus nor background (void); may be "
        "given several times (default: 255 or 65535 where it lies beside a few small numbers)",
    )


def choice_of(choices) -> Callable[[str], list[str]]:
    """argparse type: names among `choices`, separated by commas, as a list without repetition."""

    def parse(text):
        names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        wrong = [name for name in names if name not in choices]
        if wrong or not names:
            came, expected = ", ".join(wrong) or "nothing", ", ".join(choices)
            raise argparse.ArgumentTypeError(f"{came} came; expected some of {expected}")
        return names

    return parse


def add_plane_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say what is read of files with several channels or focal planes."""
    group = parser.add_argument_group("files with several channels or focal planes")
    group.add_argument(
        "--channel",
        metavar="NAME",
        help="channel of the nuclei, by name or number from 1, or auto (default auto: one with a "
        "name like DAPI, else the one that looks most like nuclei)",
    )
    group.add_argument(
        "--plane",
        metavar="N",
        help="focal plane, by number from 1, or max for the brightest values of all, or auto "
        "(default auto: the sharpest)",
    )


def microns(text: str) -> float:
    """argparse type: µm per pixel."""
    value = float(text)
    if not 0.001 <= value <= 1000:
        raise argparse.ArgumentTypeError(
            f"{text} µm per pixel; expected 0.001 to 1000 (40x scanners have about 0.25)"
        )
    return value


class Progress:
    """Show how far a long task is.

    On a terminal this is one line on stderr that rewrites itself, with a bar and the time left.
    Where stderr is a file or a pipe, nothing is shown, or with `log` a plain line on stdout for
    each tenth of the work. Threads may call it.

        with Progress("Reading", len(pairs), "pairs") as progress:
            for pair in pairs:
                ...
                progress.add(1, note=f"{num_nuclei} nuclei")

    Args:
        what: the task, for example "Reading".
        total: the whole work in `unit`; 0 shows nothing.
        unit: what is counted, for example "pairs", "bytes" or "mm²".
        log: write plain lines where stderr is no terminal.
        done: work in `unit` that an earlier run has finished; it does not count for the time left.
    """

    def __init__(
        self, what: str, total: float, unit: str, log: bool = False, done: float = 0
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.done_before = done
        self.is_terminal = sys.stderr.isatty()
        self.log = log and not self.is_terminal
        self.note = ""
        self.started = time.monotonic()
        self.drawn = float("-inf")  # when the line was last drawn, in seconds
        self.line_length = 0  # characters of the open line on the terminal; 0: no line is open
        self.lock = threading.Lock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the line on the terminal; `with` does it by itself, also after an error."""
        with self.lock:
            self.close_line()

    def add(self, amount: float = 1, note: str = "") -> None:
        """Count `amount` more as done; `note` is shown behind the count, such as "383 nuclei"."""
        with self.lock:
            tenths_before = self.tenths()
            self.done += amount
            self.note = note or self.note
            if not self.total:
                return
            if self.is_terminal:
                now = time.monotonic()
                if now - self.drawn >= REDRAW_SECONDS or self.is_complete():
                    self.drawn = now
                    self.draw()
            elif self.log and self.tenths() > tenths_before:
                print(f"{self.what}: {self.numbers()}", flush=True)

    def say(self, message: str) -> None:
        """Print a message on stderr on a line of its own, such as a file that was skipped."""
        with self.lock:
            self.close_line()
            print(message, file=sys.stderr, flush=True)

    def tell(self, message: str) -> None:
        """Print a message on stdout on a line of its own, such as what was chosen in a file."""
        with self.lock:
            self.close_line()
            print(message, flush=True)

    def is_complete(self) -> bool:
        """Whether all work is done; sums of fractions may miss the total by their last digit."""
        return self.done >= self.total * (1 - 1e-9)

    def tenths(self) -> int:
        """Finished tenths of the work, 0...10."""
        return int(10 * self.done / self.total + 1e-9) if self.total else 0

    def numbers(self) -> str:
        """The numbers of the line: "12 of 20 pairs, 383 nuclei, 8 s, 5 s left"."""
        number = ",.2f" if isinstance(self.total, float) else ","
        parts = [f"{self.done:{number}} of {self.total:{number}} {self.unit}", self.note]
        seconds = time.monotonic() - self.started
        parts.append(duration(seconds))
        new = self.done - self.done_before
        if new > 0 and not self.is_complete():
            parts.append(f"{duration(seconds / new * (self.total - self.done))} left")
        return ", ".join(part for part in parts if part)

    def draw(self) -> None:
        """Rewrite the line on the terminal; the last one is closed."""
        filled = min(BAR_CHARACTERS, int(BAR_CHARACTERS * self.done / self.total))
        bar = "#" * filled + "-" * (BAR_CHARACTERS - filled)
        line = f"{self.what} [{bar}] {self.numbers()}"
        line = line[: shutil.get_terminal_size().columns - 1]  # a wrapped line cannot be rewritten
        padded = line.ljust(self.line_length)  # over what the line before leaves
        print(f"\r{padded}", end="", file=sys.stderr, flush=True)
        self.line_length = len(line)
        if self.is_complete():
            self.close_line()

    def close_line(self) -> None:
        """End the open line on the terminal, if there is one."""
        if self.line_length:
            print(file=sys.stderr, flush=True)
            self.line_length = 0


class Notes:
    """Lines on single files of many: each is shown once with its file, then only counted.

        with Notes(print) as notes:
            notes.add("a", "channel 2 of 3 is taken, DAPI")

    Args:
        say: called with each line.
    """

    def __init__(self, say: Callable[[str], object] = print) -> None:
        self.say = say
        self.num_more: dict[str, int] = {}  # by note, files after the first

    def __enter__(self) -> "Notes":
        return self

    def __exit__(self, *_) -> None:
        for note, count in self.num_more.items():
            if count:
                self.say(f"the same of {count:,} more: {note}")

    def add(self, name: str, *notes: str) -> None:
        """Show or count the notes on the file `name`."""
        for note in notes:
            if note not in self.num_more:
                self.say(f"{name}: {note}")
            self.num_more[note] = self.num_more.get(note, -1) + 1


def duration(seconds: float) -> str:
    """Seconds in words: "8 s", "12 min" or "3.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def print_any_character() -> None:
    """Let a console of any encoding print any name; what it lacks is escaped, such as \\u00fc."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # notebooks and tests put other objects here
            stream.reconfigure(errors="backslashreplace")


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: all that Ctrl-C brings about is done for it, too."""


@contextlib.contextmanager
def termination_as_interrupt():
    """Raise `Terminated` in the main thread on SIGTERM, unless somebody else handles it."""

    def stop(*_):
        raise Terminated

    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def user_errors_in_one_line(main: Callable[..., int]) -> Callable[..., int]:
    """Decorate a script's `main`: a user's mistake ends in one line on stderr and exit status 1.

    Ctrl-C ends in 130. SIGTERM, by which systems ask a program to end, does the same and ends in
    143. A programming error keeps its traceback.
    """

    @functools.wraps(main)
    def guarded(argv=None) -> int:
        print_any_character()
        script = Path(main.__globals__.get("__file__", "script")).name
        try:
            with termination_as_interrupt():
                status = main(argv)
            sys.stdout.flush()  # here, where a failure can still be caught
            return status
        except KeyboardInterrupt as stop:
            cause, status = ("SIGTERM", 143) if isinstance(stop, Terminated) else ("Ctrl-C", 130)
            message = f"stopped by {cause}; finished files are kept, nothing is half-written"
        except BrokenPipeError:  # the reader (`| head`) has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            message, status = str(error), 1
            if error.errno == errno.ENOSPC or "No space left on device" in message:
                where = error.filename or "while writing"
                message = f"the disk is full ({where}); free some space and run again"
            elif error.filename is not None and error.strerror:
                message = f"{error.strerror}: {error.filename}"
        except MemoryError:
            message = "out of memory; close other programs or use smaller images or batches"
            status = 1
        except ValueError as error:
            message, status = " ".join(str(error).split()), 1
        print(f"{script}: {message}", file=sys.stderr)
        return status

    return guarded
