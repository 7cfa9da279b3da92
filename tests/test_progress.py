"""Progress: a bar on a terminal, sparse lines in a log, nothing with --quiet."""

import argparse
import io
import re
import sys
import threading

import pytest

from nuclei.cli import add_quiet_flag
from nuclei.progress import Progress, duration, quietly


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
    assert end.startswith("Reading ")
    assert "2 of 2 pairs 0:00:00 left 383 nuclei [red]" in end
    assert nothing == ""  # the line is closed
    with Progress("Reading", 0, "pairs") as progress:
        progress.add(0)
    assert capsys.readouterr().err == ""


def test_a_narrow_terminal_shows_the_time_left_and_cuts_the_note(capsys, monkeypatch):
    on_terminal(monkeypatch, columns=80)
    with Progress("Training", 480, "steps") as progress:
        progress.add(480, note="epoch 29 of 30, loss 0.590, validation 0.285")
    *_, end, _ = last_lines(capsys.readouterr().err)
    assert "480 of 480 steps 0:00:00 left epoch 29 of 30, loss 0.5" in end and "…" in end
    assert len(end) <= 80 and end.count("━") > 5


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_of_any_encoding_shows_the_bar(monkeypatch, encoding):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("Größe", 10, "µm") as progress:
        progress.add(10, note="細胞")
        progress.say("skipped: 細胞.png")
    terminal.flush()
    shown = terminal.buffer.getvalue().decode(encoding)
    assert "10 of 10" in shown and "skipped: " in shown


def test_an_error_closes_the_bar(capsys, monkeypatch):
    on_terminal(monkeypatch, columns=60)
    with pytest.raises(KeyboardInterrupt), Progress("Reading", 5, "pairs") as progress:
        progress.add(1, note="a long note " * 9)
        raise KeyboardInterrupt
    err = capsys.readouterr().err
    assert err.endswith("\x1b[?25h")  # the cursor is back
    assert max(map(len, last_lines(err))) <= 60


def test_a_log_has_a_line_for_each_tenth_of_the_work(capsys, monkeypatch):
    monkeypatch.setattr("nuclei.progress.LOG_SECONDS", 0)
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
    monkeypatch.setattr("nuclei.progress.LOG_SECONDS", 0)
    with Progress("a.svs", 2.5, "mm²", log=True, done=1.25) as progress:
        progress.started -= 100  # seconds ago
        progress.add(0.25)
        for _ in range(10):
            progress.add(0.1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.svs: 1.50 of 2.50 mm², 2 min, 7 min left"
    assert len(lines) == 5 and lines[-1] == "a.svs: 2.50 of 2.50 mm², 2 min"


def test_threads_may_add(capsys, monkeypatch):
    monkeypatch.setattr("nuclei.progress.LOG_SECONDS", 0)
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
