"""From which public set images are, if their files tell. The name of the folder tells nothing.

origin = find_origin(paths)             # SYNTHETIC, BOWL or None
is_synthetic("test_raw/test_tissue_01.png")
"""

import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

SYNTHETIC = "synthetic images"  # of data/synthetic.py: data/raw and test_raw hold some
BOWL = "Data Science Bowl 2018"
MARK = "tests/synthetic.py"  # what data/synthetic.py writes into each file as its software
BOWL_STEM = re.compile(r"[0-9a-f]{64}")  # how that set names its images


def find_origin(paths: Iterable) -> str | None:
    """SYNTHETIC or BOWL where all images are from there, else None."""
    paths = [Path(path) for path in paths]
    if paths and all(BOWL_STEM.fullmatch(path.stem) for path in paths):
        return BOWL
    return SYNTHETIC if paths and all(map(is_synthetic, paths)) else None


def is_synthetic(path) -> bool:
    """Whether data/synthetic.py has drawn an image. Only the head of the file is read."""
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == MARK
    except OSError:  # no image that Pillow knows: a slide, a float TIFF
        return False
