"""A disk that is full, for tests, without a disk."""

import contextlib

import pytest

LIMIT = 300  # bytes


@contextlib.contextmanager
def short_files(limit=LIMIT):
    """Let this process write files of so many bytes at most."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
