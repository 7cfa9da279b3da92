"""Errors in one line, progress, and the types of flags."""

import argparse
import io
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from images_tools import data_set

import import_data
from nuclei.cli import (
    Progress,
    Terminated,
    add_quiet_flag,
    choice_of,
    duration,
    microns,
    positive,
    quietly,
    user_errors_in_one_line,
)


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


def test_sigterm_ends_a_program_as_ctrl_c_does(capsys):
    @user_errors_in_one_line
    def main(argv=None):
        signal.raise_signal(signal.SIGTERM)

    assert main([]) == 143 and "stopped by SIGTERM" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_programming_error_keeps_its_traceback():
    @user_errors_in_one_line
    def main(argv=None):
        return {}["missing"]

    with pytest.raises(KeyError):
        main([])


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_leaves_is_no_error(tmp_path, buffered):
    data_set(tmp_path, 2)
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | ({} if buffered else {"PYTHONUNBUFFERED": "1"})
    command = [sys.executable, import_data.__file__, tmp_path]
    run = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (1, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932", "utf-8"])
def test_a_console_of_any_encoding_prints_any_name(monkeypatch, encoding):
    consoles = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]

    @user_errors_in_one_line
    def main(argv=None):
        print("Größe 細胞 \udce9")
        with Progress("Größe", 10, "µm", log=True) as progress:
            progress.add(10, note="細胞")
        raise ValueError("細胞.png is damaged")

    monkeypatch.setattr(sys, "stdout", consoles[0])
    monkeypatch.setattr(sys, "stderr", consoles[1])
    assert main([]) == 1
    for console, words in zip(consoles, ("10 of 10", "png is damaged"), strict=True):
        console.flush()
        assert words in console.buffer.getvalue().decode(encoding)


def on_terminal(monkeypatch, columns=100):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")


def last_lines(shown):
    """What a terminal shows in the end, without colours: later text overwrites a line."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    return [line.rsplit("\r", 1)[-1] for line in plain.split("\n")]


def test_progress_is_silent_where_stderr_is_no_terminal(capsys):
    with Progress("Reading", 2, "pairs") as progress:
        progress.add(2)
    assert capsys.readouterr() == ("", "")


def test_progress_is_a_bar_on_a_terminal_and_stdout_stays_clean(capsys, monkeypatch):
    on_terminal(monkeypatch)
    with Progress("Reading", 2, "pairs", log=True) as progress:
        progress.add(1, note="383 nuclei [red]")
        print("a result")
        progress.say("skipped: a[1].png")
        progress.add(1)
    out, err = capsys.readouterr()
    assert out == "a result\n"
    assert "skipped: a[1].png" in last_lines(err)
    *_, end, nothing = last_lines(err)
    assert (
        end.startswith("Reading ")
        and "2 of 2 pairs, 383 nuclei [red]" in end
        and "left 0:00:00" in end
    )
    assert nothing == ""  # the line is closed
    with Progress("Reading", 0, "pairs") as progress:
        progress.add(0)
    assert capsys.readouterr().err == ""


def test_an_error_closes_the_bar(capsys, monkeypatch):
    on_terminal(monkeypatch, columns=60)
    with pytest.raises(KeyboardInterrupt), Progress("Reading", 5, "pairs") as progress:
        progress.add(1, note="a long note " * 9)
        raise KeyboardInterrupt
    err = capsys.readouterr().err
    assert err.endswith("\x1b[?25h")  # the cursor is back
    assert max(map(len, last_lines(err))) <= 60


def test_a_log_has_a_line_for_each_tenth_of_the_work(capsys, monkeypatch):
    monkeypatch.setattr("nuclei.cli.LOG_SECONDS", 0)
    with Progress("Predicting", 40, "images", log=True) as progress:
        for done in range(1, 41):
            progress.add(1, note=f"{done} nuclei")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 10 and err == ""
    assert lines[0].startswith("Predicting: 4 of 40 images, 4 nuclei, ") and "left" in lines[0]
    assert lines[-1].startswith("Predicting: 40 of 40 images, 40 nuclei, ")
    assert "left" not in lines[-1]


def test_a_log_has_no_lines_of_the_first_seconds(capsys):
    with Progress("Predicting", 4, "images", log=True) as progress:
        progress.add()
        progress.logged -= 100  # seconds ago
        progress.add(2)
        progress.add()
    assert capsys.readouterr().out.splitlines() == ["Predicting: 3 of 4 images, 0 s, 0 s left"]


def test_fractions_add_up_and_work_done_before_does_not_count_for_the_time_left(
    capsys, monkeypatch
):
    monkeypatch.setattr("nuclei.cli.LOG_SECONDS", 0)
    with Progress("a.svs", 2.5, "mm²", log=True, done=1.25) as progress:
        progress.started -= 100  # seconds ago
        progress.add(0.25)
        for _ in range(10):
            progress.add(0.1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.svs: 1.50 of 2.50 mm², 2 min, 7 min left"
    assert len(lines) == 5 and lines[-1] == "a.svs: 2.50 of 2.50 mm², 2 min"


def test_threads_may_add(capsys, monkeypatch):
    monkeypatch.setattr("nuclei.cli.LOG_SECONDS", 0)
    with Progress("Reading", 400, "pairs", log=True) as progress:

        def work():
            for _ in range(100):
                progress.add()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert progress.done == 400 and len(capsys.readouterr().out.splitlines()) == 10


def test_quiet_leaves_warnings_and_errors_only(capsys, monkeypatch):
    on_terminal(monkeypatch)
    parser = argparse.ArgumentParser()
    add_quiet_flag(parser)
    for words in ([], ["--quiet"]):
        with quietly(parser.parse_args(words).quiet):
            with Progress("Reading", 2, "pairs", log=True) as progress:
                progress.add()
                progress.say("skipped: a.png")
            print("a result")
        out, err = capsys.readouterr()
        assert (out, err) == ("", "skipped: a.png\n") if words else "0 of 2" in err and out
    with quietly(), pytest.raises(ValueError, match="wrong"):
        raise ValueError("wrong")
    print("again")
    assert capsys.readouterr().out == "again\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (6000, "1.7 h")],
)
def test_durations_are_short_words(seconds, words):
    assert duration(seconds) == words


def test_types_of_flags_say_what_came_and_what_is_expected():
    assert positive("3") == 3 and microns("0.25") == 0.25
    assert choice_of(["csv", "masks"])("masks, csv,masks") == ["masks", "csv"]
    for parse, text, message in (
        (positive, "0", "0 is not 1 or more"),
        (microns, "0", "expected 0.001 to 1000"),
        (choice_of(["csv", "masks"]), "png,csv", "png came; expected some of csv, masks"),
        (choice_of(["csv"]), ",", "nothing came"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            parse(text)
