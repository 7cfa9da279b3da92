"""What all scripts share at the command line: folders, argument types, notes, short errors.

A script decorates its `main` with `user_errors_in_one_line`: a wrong file then ends in one line and
exit status 1, not in a traceback. No package is needed here: doctor.py must open without any.
"""

import argparse
import errno
import functools
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from nuclei.full_disk import DiskFull
from nuclei.stopping import describe_stop, stops_as_interrupt
from nuclei.streams import lasting_streams, visible
from nuclei.version import program_version

DATA_DIR = "data"  # holds raw/ and gt/
INPUT_DIR = "test_raw"  # images that predict.py reads
TRUTH_DIR = "data/test_gt"  # ground truth of these images
PREDICTIONS_DIR = "predictions"  # results of predict.py
MODEL_DIR = "Saved_Model"  # results of train.py
SHIPPED = "shipped"  # stands for the shipped file wherever a model is asked for
MODEL_HELP = f'model file, folder of a training, or "{SHIPPED}"'
ENGINES = ("litert", "keras")  # exact; "auto" takes the first one that is installed and agrees
COARSE_ENGINES = ("litert-int8", "openvino-half")  # 8 bits, half precision: only on request
MAX_LINE = 160  # characters of another program's message inside one of ours
OUT_OF_MEMORY = "out of memory; close other programs or use smaller images or batches"
MEMORY_WORDS = re.compile(
    "cannot allocate|bad_alloc|failed to map segment|can't start new thread|out of memory|"
    "insufficient memory|OOM when|failed to allocate|unable to allocate|Resource_?Exhausted",
    re.IGNORECASE,
)


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


def decimal(text: str) -> float:
    """argparse type: a number. float alone does not say that a comma is none."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a number with a point, such as 0.5, not {text!r}"
        ) from None


def whole(text: str) -> int:
    """argparse type: a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a whole number, such as 8, not {text!r}"
        ) from None


def positive(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def add_ignore_flag(add) -> None:
    """Add --ignore, the values of void in ground truth, by an `add_argument`."""
    add(
        "--ignore",
        action="append",
        type=whole,
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
    value = decimal(text)
    if not 0.001 <= value <= 1000:
        raise argparse.ArgumentTypeError(
            f"{text} µm per pixel; expected 0.001 to 1000 (40x scanners have about 0.25)"
        )
    return value


def add_quiet_flag(parser) -> None:
    """Add `--quiet`, which `nuclei.progress.quietly` obeys."""
    text = "print warnings and errors only, and no progress (default: off)"
    parser.add_argument("--quiet", action="store_true", help=text)


def add_overwrite_flag(add) -> None:
    """Add --overwrite to a script whose results replace its earlier ones, by an `add_argument`."""
    text = "replace files, too, that this program did not write, or that you changed since "
    add("--overwrite", action="store_true", help=text + "(default: stop)")


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


def user_errors_in_one_line(main: Callable[..., int]) -> Callable[..., int]:
    """Decorate a script's `main`: a user's mistake ends in one line on stderr and exit status 1.

    Ctrl-C ends in 130. SIGTERM, by which systems ask a program to end, does the same and ends in
    143. A programming error keeps its traceback. Streams that are closed or full stop nothing.
    """

    @functools.wraps(main)
    def guarded(argv=None) -> int:
        script = Path(main.__globals__.get("__file__", "script")).name
        with lasting_streams() as streams:
            try:
                with stops_as_interrupt():
                    status = main(argv)
                sys.stdout.flush()
                message, status = (streams.fault, 1) if streams.fault else (None, status)
            except KeyboardInterrupt as stop:
                message, status = describe_stop(stop)
            except OSError as error:
                message, status = describe_system_fault(error), 1
            except MemoryError as error:
                message, status = str(error) or OUT_OF_MEMORY, 1
            except ValueError as error:
                message, status = " ".join(str(error).split()), 1
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                message, status = f"{OUT_OF_MEMORY} ({shortened(error)})", 1
            if message:
                print(f"{script}: {visible(message)}", file=sys.stderr)
            return status

    return guarded


def shortened(error: BaseException) -> str:
    """The message of a library in one line, and not all of it."""
    return " ".join(str(error).split())[:MAX_LINE]


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a library failed for want of memory, or threads: each says it in words of its own."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number == errno.ENOMEM or MEMORY_WORDS.search(f"{type(error).__name__}: {error}"):
            return True
        error = error.__cause__ or error.__context__
    return False


def describe_system_fault(error: OSError) -> str:
    """One line on an error of the system: the file first, where it is known."""
    message = str(error)
    if isinstance(error, DiskFull):
        return message
    if is_out_of_memory(error):
        return f"{OUT_OF_MEMORY} ({shortened(error)})"
    if error.errno == errno.ENOSPC or "No space left on device" in message:
        where = error.filename or f"while writing; temporary files lie in {tempfile.gettempdir()}"
        return f"the disk is full ({where}); free some space and run again"
    if error.filename is not None and error.strerror:
        return f"{error.strerror}: {error.filename}"
    return message
