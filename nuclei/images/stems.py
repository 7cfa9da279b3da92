"""The stem of a file: its name without suffix, the same on every system.

    stem_of(Path("raw/a.ome.tif"))       # "a.ome"
    named_stem("images\\\\a.png")          # "a"

Macs write ü as two characters, u and dots, other systems as one. The names look the same, so stems
are compared in one form, NFC.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from nuclei.csv_cells import plain
from nuclei.streams import visible

# Ends of stems by which programs tell an image from its truth, the longer ones first.
IMAGE_ENDS = (".ome", "_img")
LABEL_STUDIO = re.compile(r"^[0-9a-f]{8}-(?=.)")
ROBOFLOW = re.compile(r"(?<=.)_(png|jpe?g|tiff?|bmp)\.rf\.[0-9a-zA-Z]+$")
TRUTH_ENDS = (".ome", "_cp_masks", "_masks", "_mask", "_labels", "_label", "_seg")


def text_of(name: str) -> str:
    """A file name as text that can be written to a file.

    Linux lets names hold bytes that are no UTF-8, such as names in an old archive, and Python keeps
    them as characters that no encoding has. They are taken as Latin-1. Line breaks and other
    control characters become their pictures, such as ␊.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("latin-1")
    return visible(name)


def normal(name: str) -> str:
    """A name in the form that all stems have."""
    return unicodedata.normalize("NFC", text_of(name))


def stem_of(path: Path, suffixes: Iterable[str] = ()) -> str:
    """The stem of a file.

    Args:
        path: of the file.
        suffixes: what may end the name, lower case, the longer ones first. Where none of them does,
            the part behind the last dot is the suffix.
    """
    return normal(path.name[: len(path.name) - len(suffix_of(path, suffixes))])


def suffix_of(path: Path, suffixes: Iterable[str] = ()) -> str:
    """The suffix that `stem_of` takes off, in lower case."""
    name = path.name.lower()
    return next((end for end in suffixes if name.endswith(end)), path.suffix.lower())


def named_stem(name) -> str:
    """The stem of a file that another program names, with / or \\ between folders."""
    return normal(PureWindowsPath(str(name)).stem)


def tabled_stem(cell: str | None, suffixes: tuple[str, ...]) -> str:
    """The stem that a cell of a user's table names, with or without one of `suffixes`."""
    name = plain((cell or "").strip())
    return normal(Path(name).stem if name.lower().endswith(suffixes) else name)


def bare_stem(stem: str) -> str:
    """A stem without what Label Studio, Roboflow and other programs add to the name of an image.

    Label Studio writes "1a2b3c4d-a" for a, Roboflow "a_png.rf.HASH".
    """
    stem = LABEL_STUDIO.sub("", ROBOFLOW.sub("", stem))
    return without_end(stem)


def without_end(stem: str, ends: Iterable[str] = IMAGE_ENDS) -> str:
    """A stem without the first of `ends` that it has."""
    return next((stem.removesuffix(end) for end in ends if stem.endswith(end)), stem)
