"""Fields: parts of an image or of a slide that become images of their own, to be corrected whole.

image = add_field(workspace, key, box)      # FOLDER/STEM_x1024_y2048.png
"""

from pathlib import Path

import numpy as np

from nuclei.app.edits import Refused
from nuclei.app.entry import FAILED
from nuclei.app.workspace import Workspace
from nuclei.datasets.field_names import MAX_OF_ONE_CORNER, field_stem
from nuclei.files import replacing
from nuclei.images.box import Box
from nuclei.images.reading import declared_size
from nuclei.images.writing import write_picture

FIELD_PX = 512  # side of the field around a click
MIN_PX, MAX_PX = 32, 4096  # side of a field: more takes too long to correct, and to predict


def add_field(workspace: Workspace, key: str, box: Box) -> dict:
    """Cut a field and take it into the folder. A field that is there already is not cut again.

    Args:
        workspace: of the folder.
        key: of the image or slide.
        box: the field, in px of it; cut to its borders.

    Returns:
        The new image, as the page knows it.

    Raises:
        Unknown: there is no such image.
        Refused: the field is too small or too large.
        OSError: the folder cannot be written to.
    """
    source = workspace.entry(key)
    if source.state == FAILED:
        raise Refused("This image could not be read: no field can be cut from it.")
    picture = workspace.pictures.get(key)
    whole = Box.of_shape(picture.shape)
    box = Box(
        max(whole.top, box.top),
        min(whole.bottom, box.bottom),
        max(whole.left, box.left),
        min(whole.right, box.right),
    )
    require_size(box, picture.step)
    pixels, mpp = picture.cut(box)
    files = workspace.files
    with files.adding:
        for number in range(1, MAX_OF_ONE_CORNER):
            stem = field_stem(source.stem, box, number)
            if stem in files.images and declared_size(files.images[stem]) == pixels.shape[:2]:
                return workspace.entry_of(stem).describe()
            if not files.is_taken(stem):
                path = files.source / f"{stem}{'.tif' if mpp else '.png'}"
                write_field(path, pixels, mpp)
                files.images[stem] = path
                return workspace.add(stem)[0].describe()
    raise Refused("There are too many fields with this corner: remove some, or choose another.")


def require_size(box: Box, step: float) -> None:
    """Raise `Refused` where a field would be too small or too large; `step` as of `Picture`."""
    height, width = (round(length / step) for length in box.shape)
    if min(height, width) < MIN_PX:
        raise Refused(
            f"This box has {max(0, width):,} × {max(0, height):,} px; a field needs {MIN_PX} px or "
            f"more on each side. Drag a larger box, or click for {FIELD_PX} × {FIELD_PX} px."
        )
    if max(height, width) > MAX_PX:
        raise Refused(
            f"This box has {width:,} × {height:,} px; a field has at most {MAX_PX:,} px on each "
            f"side. Drag a smaller box, or click for {FIELD_PX} × {FIELD_PX} px."
        )


def write_field(path: Path, pixels: np.ndarray, mpp: float | None) -> None:
    """Write a field without loss: grey where all its colours are equal, with its pixel size.

    Args:
        path: PNG, or TIFF where the pixel size is known.
        pixels: (h, w, 3) uint8 or uint16.
        mpp: µm per pixel, or None.
    """
    is_grey = (pixels[..., :1] == pixels).all()
    picture = np.ascontiguousarray(pixels[..., 0] if is_grey else pixels)
    if mpp is None:
        write_picture(path, picture)
        return
    import tifffile  # late: few fields need it

    options = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    options |= {"photometric": "minisblack" if is_grey else "rgb", "metadata": None}
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, picture, compression="zlib", **options)
