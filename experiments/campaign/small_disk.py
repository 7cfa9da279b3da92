"""A disk that is full: a small file system in memory where the system allows it, else a file limit.

with full_disk(folder, num_bytes) as grow:
    ...                                     # writing there fails beyond so many bytes
    grow()                                  # and now it does not
"""

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

PAGE = 4096  # bytes that the file system counts in
ROOMY = "512m"


@contextlib.contextmanager
def full_disk(folder: Path, num_bytes: int) -> Iterator[Callable]:
    """Let a folder take no more than so many bytes.

    Root mounts a file system of that size there. Where that is not allowed, the size of a single
    file is limited, for this process and those that it starts.

    Yields:
        A function that lifts the limit.
    """
    if os.geteuid() == 0 and mount(folder, f"size={max(PAGE, num_bytes // PAGE * PAGE)}"):
        try:
            yield lambda: mount(folder, f"remount,size={ROOMY}")
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def lift():
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield lift
    finally:
        lift()


def mount(folder: Path, options: str) -> bool:
    """Mount a file system in memory, or change it. Returns: whether the system allowed it."""
    command = ["mount", "-t", "tmpfs", "-o", options, "nuclei", str(folder)]
    return (
        bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True).returncode
    )
