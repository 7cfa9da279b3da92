"""What libraries write to descriptor 2 is held and shown on failure; what Python writes is seen."""

import contextlib
import logging
import os
import sys
import threading
import warnings

import pytest

from nuclei.quiet import TERMINAL, hold_noise, hush_readers


@pytest.fixture(autouse=True)
def noise_unwanted(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def python_stderr():
    """`sys.stderr` as it is in a program: a stream over descriptor 2."""
    stream = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115, descriptor 2 stays open
    with contextlib.redirect_stderr(stream):
        yield stream


def write(text):
    """Write as a library does that is not Python."""
    os.write(2, text.encode())


def test_noise_is_dropped_and_what_python_writes_is_seen(capfd):
    with python_stderr() as before, hold_noise():
        write("E0000 CUDA error\n")
        print("our message: µm", file=sys.stderr)
        with pytest.warns(UserWarning), warnings.catch_warnings():
            warnings.warn("kept", UserWarning, stacklevel=1)
        kept_by_a_logger = sys.stderr
        assert kept_by_a_logger.fileno() == TERMINAL.fd != 2 and not kept_by_a_logger.isatty()
        write("I0000 oneDNN\n")
        assert kept_by_a_logger is not before
    assert TERMINAL.fd == 2
    write("after\n")
    print("later", file=kept_by_a_logger)
    assert capfd.readouterr().err == "our message: µm\nafter\nlater\n"


def test_noise_is_shown_where_the_step_fails_but_not_where_the_user_stops(capfd):
    with pytest.raises(RuntimeError), hold_noise():
        write("why it failed\n")
        raise RuntimeError
    assert capfd.readouterr().err == "why it failed\n"
    with pytest.raises(KeyboardInterrupt), hold_noise():
        write("noise\n")
        raise KeyboardInterrupt
    assert capfd.readouterr().err == ""


def test_a_hold_within_a_hold_shows_what_failed_once(capfd):
    with hold_noise():
        write("first\n")
        with pytest.raises(RuntimeError), hold_noise():
            raise RuntimeError
        write("second\n")
    assert capfd.readouterr().err == "first\n"


def test_a_hold_can_end_before_its_block(capfd):
    with hold_noise() as noise:
        write("held\n")
        noise.release()
        write("seen\n")
        noise.release()
    assert capfd.readouterr().err == "seen\n"


def test_the_last_of_several_threads_ends_the_hold(capfd):
    entered, leave = threading.Event(), threading.Event()

    def other():
        with hold_noise():
            entered.set()
            leave.wait(10)
            write("held, too\n")

    thread = threading.Thread(target=other)
    with hold_noise():
        thread.start()
        assert entered.wait(10)
    write("still held\n")
    leave.set()
    thread.join()
    write("seen\n")
    assert capfd.readouterr().err == "seen\n" and TERMINAL.num_holders == 0


def test_a_user_who_wants_to_see_it_sees_it(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with hold_noise():
        write("all of it\n")
    assert capfd.readouterr().err == "all of it\n"


def test_without_a_descriptor_to_hold_all_goes_on(capfd, monkeypatch):
    def missing(fd):
        raise OSError

    with python_stderr() as before, monkeypatch.context() as patches:
        patches.setattr(os, "dup", missing)
        with hold_noise() as noise:
            write("seen\n")
            assert not noise.is_held and sys.stderr is before
    assert capfd.readouterr().err == "seen\n"


def test_readers_of_images_neither_log_nor_warn(monkeypatch, capsys):
    def warn(module):
        warnings.warn_explicit("odd tag", UserWarning, "file.py", 1, module=module)

    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a program, not in pytest
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hush_readers()  # who gives -W wants to see them
        logging.getLogger("tifffile").error("invalid tag 0")
        with pytest.raises(UserWarning):
            warn("PIL.TiffImagePlugin")
        monkeypatch.setattr(sys, "warnoptions", [])
        hush_readers()
        logging.getLogger("bioio.plugins").error("invalid tag 1")
        warn("PIL.TiffImagePlugin")
        with pytest.raises(UserWarning):
            warn("nuclei.images.reading")
    error = capsys.readouterr().err
    assert "tag 0" in error and "tag 1" not in error
