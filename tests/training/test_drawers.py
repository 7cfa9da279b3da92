"""Threads and processes draw the same crops, and say what went wrong."""

import os
import signal
import sys

import pytest
from training_drawing import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.mark.parametrize("echo", [1, 2, 3])
def test_processes_draw_what_threads_draw_in_the_memory_that_was_promised_and_end(echo):
    run("same_crops", echo)


def test_an_error_in_a_process_reaches_the_training():
    run("failure", "fail", "ValueError: no crop 3 1")


def test_a_process_that_died_is_noticed():
    run("failure", "die", "has died")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_training_and_none_complains(number):
    run("stopped", number)
