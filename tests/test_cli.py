"""Errors in one line, progress, and the types of flags."""

import argparse
import io
import sys

import pytest

from nuclei.cli import choice_of, decimal, microns, positive, user_errors_in_one_line, whole
from nuclei.progress import Progress
from nuclei.stopping import Terminated


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("a.png is\n  wrong"), 1, "a.png is wrong"),
        (FileNotFoundError("data does not exist"), 1, "data does not exist"),
        (PermissionError(13, "Permission denied", "a.png"), 1, "Permission denied: a.png"),
        (OSError(28, "No space left on device", "a.png"), 1, "the disk is full (a.png)"),
        (OSError("write failed (errno = 28, 'No space left on device')"), 1, "the disk is full"),
        (OSError(5, "Input/output error"), 1, "Input/output error"),
        (MemoryError(), 1, "out of memory"),
        (MemoryError("64 MB are too few"), 1, "64 MB are too few"),
        (RuntimeError("std::bad_alloc"), 1, "out of memory"),
        (ImportError("a.so: failed to map segment from shared object"), 1, "out of memory"),
        (OSError(12, "Cannot allocate memory"), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (Terminated(), 143, "stopped by SIGTERM"),
    ],
)
def test_a_users_mistake_ends_in_one_line(capsys, error, status, line):
    @user_errors_in_one_line
    def main(argv=None):
        raise error

    assert main([]) == status
    stderr = capsys.readouterr().err
    assert stderr.startswith("test_cli.py: ") and line in stderr and stderr.count("\n") == 1


def test_a_programming_error_keeps_its_traceback():
    @user_errors_in_one_line
    def main(argv=None):
        return {}["missing"]

    with pytest.raises(KeyError):
        main([])


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932", "utf-8"])
def test_a_console_of_any_encoding_prints_any_name(monkeypatch, encoding):
    consoles = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]

    @user_errors_in_one_line
    def main(argv=None):
        print("Größe 細胞 \udce9")
        with Progress("Größe", 10, "µm", log=True) as progress:
            progress.add(10, note="細胞")
        raise ValueError("細胞.png is damaged")

    monkeypatch.setattr("nuclei.progress.LOG_SECONDS", 0)
    monkeypatch.setattr(sys, "stdout", consoles[0])
    monkeypatch.setattr(sys, "stderr", consoles[1])
    assert main([]) == 1
    for console, words in zip(consoles, ("10 of 10", "png is damaged"), strict=True):
        console.flush()
        assert words in console.buffer.getvalue().decode(encoding)


def test_types_of_flags_say_what_came_and_what_is_expected():
    assert positive("3") == 3 and microns("0.25") == 0.25
    assert choice_of(["csv", "masks"])("masks, csv,masks") == ["masks", "csv"]
    for parse, text, message in (
        (positive, "0", "0 is not 1 or more"),
        (positive, "1,5", "expected a whole number, such as 8, not '1,5'"),
        (whole, "0.5", "expected a whole number, such as 8, not '0.5'"),
        (decimal, "0,5", "expected a number with a point, such as 0.5, not '0,5'"),
        (microns, "0,5", "expected a number with a point, such as 0.5, not '0,5'"),
        (microns, "x", "not 'x'"),
        (microns, "0", "expected 0.001 to 1000"),
        (choice_of(["csv", "masks"]), "png,csv", "png came; expected some of csv, masks"),
        (choice_of(["csv"]), ",", "nothing came"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            parse(text)
