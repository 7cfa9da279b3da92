"""Images and slides that other programs put into the folder while the app runs.

    arrivals = Arrivals(files)
    arrivals.take_up()              # stems of files that have come and are whole; `files` has them

It may be asked often: the folder is listed only after something in it has changed.
"""

import contextlib
import threading
import time
from pathlib import Path

from nuclei.app.files import Files, list_folder

LOOK_SECONDS = 2.0  # between two lists of the folder; a file that grows meanwhile is still copied
CLOCK_SECONDS = 3.0  # time stamps of folders are exact to 2 s on some disks


def signature(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written: its size and time; None where it is not there."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns
    return None


class Arrivals:
    """What is new in a folder.

    Args:
        files: of the folder.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.lock = threading.Lock()
        self.listed_at = time.monotonic()
        self.stamp: int | None = None  # of the folder when it was listed last
        self.stamped_at = 0.0
        self.growing: dict[Path, tuple] = {}  # signatures of files that may still be copied

    def take_up(self) -> list[str]:
        """Add the files that have come to `files`. Returns: their stems."""
        if not self.lock.acquire(blocking=False):
            return []  # another thread is looking
        try:
            if not self.is_due():
                return []
            self.listed_at = time.monotonic()
            with self.files.adding:
                return self.find_whole()
        except OSError:  # the folder is on a disk that is away for a while
            return []
        finally:
            self.lock.release()

    def is_due(self) -> bool:
        """Whether the folder should be listed. Raises: OSError, where it is not there."""
        now = time.monotonic()
        if now - self.listed_at < LOOK_SECONDS:
            return False
        stamp = self.files.source.stat().st_mtime_ns
        if stamp != self.stamp:
            self.stamp, self.stamped_at = stamp, now
        return bool(self.growing) or now - self.stamped_at < CLOCK_SECONDS

    def find_whole(self) -> list[str]:
        """List the folder; take up what has not changed since it was listed before."""
        files, stems, growing = self.files, [], {}
        images, slides = list_folder(files.source, set(files.known.values()))
        alone = {stem: paths[0] for stem, paths in images.items() if len(paths) == 1}
        for found, known in ((alone, files.images), (slides, files.slides)):
            for stem, path in found.items():
                if stem in files.known:  # two files of one stem: the one that came first counts
                    continue
                growing[path] = signature(path)
                if growing[path] is not None and growing[path] == self.growing.get(path):
                    del growing[path]
                    known[stem] = path
                    stems.append(stem)
        self.growing = growing
        return stems
