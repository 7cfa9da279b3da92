"""nuclei.cli"""

import argparse
import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

DATA_DIR = "data"  # holds raw/ and gt/
INPUT_DIR = "test_raw"  # images that predict.py reads
TRUTH_DIR = "data/test_gt"  # ground truth of these images
PREDICTIONS_DIR = "predictions"  # results of predict.py
MODEL_DIR = "Saved_Model"  # results of train.py



def positive(text):
    """argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def user_errors_in_one_line(main: Callable[..., int]) -> Callable[..., int]:
    """Decorator for a script's `main`: a user's mistake ends in one line on stderr and exit status 1, Ctrl-C in 130."""

    @functools.wraps(main)
    def guarded(argv=None) -> int:
        script = Path(main.__globals__.get("__file__", "script")).name
        try:
            status = main(argv)
            sys.stdout.flush()  # here, where a failure still can be caught
            return status
        except KeyboardInterrupt:
            message, status = "stopped by Ctrl-C; finished files are kept, nothing is half-written", 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader (`| head`) has gone
            return 1
        except OSError as error:
            message, status = str(error), 1
            if error.errno == errno.ENOSPC or "No space left on device" in message:
                message = f"the disk is full ({error.filename or 'while writing'}); free some space and run again"
            elif error.filename is not None and error.strerror:
                message = f"{error.strerror}: {error.filename}"
        except MemoryError:
            message, status = "out of memory; close other programs or use smaller images or batches", 1
        except ValueError as error:
            message, status = " ".join(str(error).split()), 1
        print(f"{script}: {message}", file=sys.stderr)
        return status

    return guarded


def show_progress(what: str, done: int, total: int, unit: str) -> None:
    """A bar on one line of the terminal; nothing where stderr is a file or a pipe."""
    if total and sys.stderr.isatty():
        filled = min(30, 30 * done // total)
        bar = "#" * filled + "-" * (30 - filled)
        print(f"\r{what} [{bar}] {done:,} of {total:,} {unit}", end="\n" if done >= total else "", file=sys.stderr)


def choice_of(choices):
    """argparse type: names among `choices`, with commas between them, as a list without repetition."""

    def parse(text):
        names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        wrong = [name for name in names if name not in choices]
        if wrong or not names:
            raise argparse.ArgumentTypeError(f"{', '.join(wrong) or 'nothing'} came; expected some of {', '.join(choices)}")
        return names

    return parse


def microns(text):
    """argparse type: µm per pixel."""
    value = float(text)
    if not 0.001 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} µm per pixel; expected 0.001 to 1000 (40x scanners have about 0.25)")
    return value
