"""Tests run with the TensorFlow options of the scripts, and with a cache of their own."""

import os
import signal
import tempfile

import pytest
from history_tools import find_browser

from nuclei.machine import set_up_backend

# Under `nohup ... &` Ctrl-C is ignored, and processes that the tests start would inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

set_up_backend()


@pytest.fixture(scope="session", autouse=True)
def prepared_models():
    """A cache folder of the tests' own, for the scripts that they start, too."""
    with tempfile.TemporaryDirectory() as folder:
        before = {name: os.environ.get(name) for name in ("XDG_CACHE_HOME", "LOCALAPPDATA")}
        os.environ.update(dict.fromkeys(before, folder))
        yield folder
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def browser():
    """One browser for all tests: playwright runs once in a process."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chrome or Chromium on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=path)
        yield started
        started.close()
