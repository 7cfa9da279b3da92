"""What lies in a folder of results and is no result: our bookkeeping, and what is in its way.

is_hidden(".nuclei-1a2b3c4d.png")       # ours, without a line in the record
is_foreign(Path("out/written.jsonl"))   # under the name of the record, and no record
obstacle("out/masks/a.png", Path("out"))        # "" or what stands there, with a way out
"""

import os
import re
from pathlib import Path

# Temporary names, the lock, the cache of app.py, waiting rows, work folders of slides.
HIDDEN = re.compile(r"\.nuclei|\.summary_changed\.csv$|\.written\.|\.[^/]+\.work/")
HEAD = 100_000  # characters of a record, among which some are ours, however damaged it is


def is_hidden(key: str) -> bool:
    """Whether a file is the program's own bookkeeping, and no result."""
    return bool(HIDDEN.match(key))


def is_foreign(path: Path) -> bool:
    """Whether the file where a record should be is something else: a link, or other text."""
    if not os.path.lexists(path):
        return False
    if path.is_symlink() or not path.is_file():
        return True
    with open(path, encoding="utf-8", errors="replace") as file:
        head = file.read(HEAD)
    return bool(head.strip()) and '"sha256"' not in head


def obstacle(path, folder: Path) -> str:
    """What keeps a result from its place, also where the user said --overwrite; "" for nothing.

    The message ends with one way out, to which the caller adds another.

    Args:
        path: of the result.
        folder: of the results, in which it lies.
    """
    for parent in (folder / way for way in Path(os.path.abspath(path)).relative_to(folder).parents):
        if os.path.lexists(parent) and not parent.is_dir():
            return f"{parent} is no folder, as results need it; remove it"
    if os.path.isdir(path) and Path(path).suffix != ".zarr":
        return f"{path} is a folder where a file should go; remove it"
    return ""
