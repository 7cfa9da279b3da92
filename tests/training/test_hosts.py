"""Processes on several hosts open no more than they must, and send no pickles."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import nuclei.training.hosts
from nuclei.training.hosts import Processes, broadcast

ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS = 90
MEET = """
import sys
from nuclei.training.hosts import Processes, meet
meet(Processes(2, 0, sys.argv[1]))  # waits for process 1, which never comes
"""


def listening_hosts(process):
    """The addresses at which a process listens, once it does."""
    end = time.monotonic() + MAX_SECONDS
    while process.is_running() and time.monotonic() < end:
        connections = process.net_connections("inet")
        if hosts := {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}:
            return {host.removeprefix("::ffff:") for host in hosts}  # IPv4 in the form of IPv6
        time.sleep(0.1)
    raise AssertionError("it never listened")


def test_the_first_process_listens_at_the_address_that_it_was_told():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    words = [sys.executable, "-c", MEET, coordinator]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            assert listening_hosts(psutil.Process(process.pid)) == {"127.0.0.1"}
        finally:
            process.kill()


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 3])
def test_bytes_come_as_they_were_sent(content, monkeypatch):
    from jax.experimental import multihost_utils

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda array: array)
    assert broadcast(lambda: content, Processes(2, 0)) == content
    assert broadcast(lambda: content, Processes()) == content


def test_nothing_here_can_open_a_pickle():
    assert "pickle" not in vars(nuclei.training.hosts)
