"""What came of one call of a program: read, refused in one line, or one of the faults.

outcome, detail = judge(case, room, before, call)
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from nuclei.contents import hash_of
from nuclei.images.stems import normal

GOOD = ("read", "refused")
FAULTS = ("traceback", "hang", "crash", "unclear", "noise", "lost", "litter", "status")
MAX_LINE = 3000  # characters of a message that a person still reads
# Lines of libraries, and of Python, beside ours. `Traceback` is judged before them.
NOISE = re.compile(
    r"Warning:|Exception ignored|^\s*File \"|libpng|libtiff|TIFFReadDirectory|^\[ ?(WARN|ERROR)|"
    r"^[IWEF]0000|^[IWEF]\d{4} |Corrupt JPEG|<tifffile|terminate called|Segmentation fault|"
    r"<class '",
    re.MULTILINE,
)
LITTER = re.compile(r"^\.(nuclei-)?[0-9a-f]{8}(\..*)?$|^\.nuclei\.lock$|^\.written\.|\.part$")
REPLACED = re.compile(r"^(out|found|slides_found|trained|set/out)(/|$)|^model/(Training_Graph|\.)")


class Call(NamedTuple):
    """What a program did.

    Attributes:
        status: of the exit; None where it raised.
        stdout, stderr: what it wrote, text.
        error: the name of what it raised, or "".
    """

    status: int | None
    stdout: str
    stderr: str
    error: str = ""


def files_of(room: Path) -> dict[str, bytes]:
    """{relative path: SHA-256} of all files below a folder, by the names that the disk has."""
    found = {}
    for folder, _, names in os.walk(room):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, room)] = hash_of(path).digest()
    return found


def litter_in(room: Path) -> list[str]:
    """Temporary files that were left behind."""
    return [
        os.path.relpath(os.path.join(folder, name), room)
        for folder, folders, names in os.walk(room)
        for name in [*names, *folders]
        if LITTER.search(name)
    ]


def judge(case, room: Path, before: dict, call: Call) -> tuple[str, str]:
    """One word for the outcome, and what shows it.

    Args:
        case: a `Case`.
        room: its folder.
        before: `files_of` it before the call.
        call: what the program did.
    """
    text = call.stdout + call.stderr
    if call.error or "Traceback (most recent call last)" in text:
        return "traceback", call.error or text[-2000:]
    if call.status not in (0, 1, 2):
        return "status", f"{call.status}: {text[-500:]}"
    after = files_of(room)
    changed = [
        name
        for name, content in before.items()
        if after.get(name) != content and not REPLACED.search(name)
    ]
    if changed:
        return "lost", f"input changed or gone: {changed[:3]}"
    if case.expected and not (room / case.expected).exists() and not refused_at_start(case, text):
        return "lost", f"{case.expected} is missing: {text[-500:]}"
    if left := litter_in(room):
        return "litter", str(left[:3])
    if noise := NOISE.search(text):
        line = next(line for line in text.splitlines() if noise[0].strip() in line)
        return "noise", line[:500]
    if call.status == 0:
        return "read", ""
    return judge_refusal(case, call)


def refused_at_start(case, text: str) -> bool:
    """Whether the program said before any work that it cannot tell what the user wants."""
    return case.argv[0] == "predict" and ("--out" in text and "folders" in text)


def judge_refusal(case, call: Call) -> tuple[str, str]:
    """Whether the message names the file and can be read."""
    lines = [line for line in call.stderr.splitlines() if line.strip()]
    if not lines and call.status:
        lines = [line for line in call.stdout.splitlines() if line.strip()]
    if not lines:
        return "unclear", "no message"
    if longest := [line for line in lines if len(line) > MAX_LINE]:
        return "unclear", f"a line of {len(longest[0])} characters: {longest[0][:300]}"
    name = case.path.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    flat = " ".join((call.stderr + call.stdout).split())
    stem = case.path.name.split(".")[0]
    words = {" ".join(name.split()), case.path.parent.name, stem, normal(stem)}
    if not any(word and word in flat for word in words):
        return "unclear", f"does not name {name}: {lines[-1][:500]}"
    return "refused", lines[-1][:300]
