"""The names of fields, which say what they were cut from: STEM_x1024_y2048, STEM_field_1.

    field_stem("a", box, 1)                 # "a_x10_y20"
    source_of("a_x10_y20", {"a"})           # ("a", (10, 20))
    origin_of("a_x10_y20_x5_y5")            # "a"
    origin_of("slide_field_3")              # "slide"

The corner counts pixels of the image or slide that the field was cut from.
"""

import re
from collections.abc import Container

from nuclei.images.box import Box

MAX_OF_ONE_CORNER = 1000  # fields of different sizes
NAME = re.compile(r"(?P<source>.+)_x(?P<x>\d{1,9})_y(?P<y>\d{1,9})(_\d{1,3})?")
SLIDE_FIELD = re.compile(r"(?P<source>.+)_field_\d{1,9}")  # as nuclei.slides.fields names them


def field_stem(stem: str, box: Box, number: int) -> str:
    """The stem of a field.

    Args:
        stem: of what it is cut from.
        box: its place there.
        number: from 1, of fields with this corner.
    """
    return f"{stem}_x{box.left}_y{box.top}" + (f"_{number}" if number > 1 else "")


def source_of(stem: str, stems: Container[str]) -> tuple[str, tuple[int, int]] | None:
    """What an image is a field of, by its name.

    Args:
        stem: of the image.
        stems: of all images and slides of the folder.

    Returns:
        (stem, (x, y)) of the image it was cut from and of its corner there; None where it is no
        field of one of `stems`.
    """
    parts = NAME.fullmatch(stem)
    if not parts or parts["source"] not in stems:
        return None
    return parts["source"], (int(parts["x"]), int(parts["y"]))


def origin_of(stem: str) -> str:
    """The stem of the whole image or slide that an image shows a part of; its own if it is none.

    The name alone decides: the whole may lie elsewhere.
    """
    while parts := NAME.fullmatch(stem) or SLIDE_FIELD.fullmatch(stem):
        stem = parts["source"]
    return stem
