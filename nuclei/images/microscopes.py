"""Files of microscopes (.nd2, .lif, .czi), by the readers of bioio.

They are no requirement: a file that needs one names the packages. The licence of bioio-czi is the
GPL, that of the others MIT or BSD.
"""

from pathlib import Path

import numpy as np

from nuclei.files import first_line
from nuclei.images.content import MAX_PIXELS, MAX_STACK, Content, refuse_bomb
from nuclei.images.pixel_size import plausible_mpp
from nuclei.machine import is_installed

PACKAGES = {".nd2": "bioio-nd2", ".lif": "bioio-lif", ".czi": "bioio-czi"}
MICROSCOPE_SUFFIXES = tuple(PACKAGES)


def read_microscope(path: Path) -> Content:
    """Read the first scene of a microscope's file, with all its planes of the first time.

    Raises:
        ValueError: a package is missing, or the reader cannot read the file.
    """
    package = PACKAGES[path.suffix.lower()]
    try:
        return content_of(path, opened(path))
    except MemoryError:
        raise
    except Exception as error:  # the readers raise errors of any kind on a damaged file
        if str(path) in str(error) and isinstance(error, ValueError):
            raise
        raise ValueError(
            f"{path} cannot be read by {package} ({first_line(error)}); export it as OME-TIFF, or "
            "copy it again from its source"
        ) from error


def opened(path: Path):
    """A `bioio.BioImage`, of which nothing but the head is read yet.

    Raises:
        ValueError: a package is missing.
        Exception: of any kind, where the reader cannot read the head.
    """
    package = PACKAGES[path.suffix.lower()]
    if not (is_installed("bioio") and is_installed(package.replace("-", "_"))):
        hint = ""
        if package == "bioio-czi":
            hint = " (a whole slide in bright field needs openslide-python openslide-bin instead)"
        raise ValueError(
            f"{path} needs bioio {package}, not installed here: python -m pip install bioio "
            f"{package}{hint}"
        )
    from bioio import BioImage

    return BioImage(path)


def size_of(path: Path) -> tuple[int, int]:
    """Height and width that the head of a microscope's file declares. Raises: as `opened`."""
    dims = opened(path).dims
    return dims.Y, dims.X


def content_of(path: Path, image) -> Content:
    """The `Content` of an opened file.

    Args:
        path: for messages.
        image: a `bioio.BioImage`, or what has its attributes.
    """
    sizes = dict(zip(image.dims.order, image.shape, strict=True))
    refuse_bomb(path, (sizes["Y"], sizes["X"]))
    notes = []
    if sizes.get("T", 1) > 1:
        notes.append(f"image 1 of {sizes['T']} of the time series is taken")
    if len(image.scenes) > 1:
        notes.append(
            f"image 1 of {len(image.scenes)} in the file is taken, {image.scenes[0]}; save the "
            "others as files of their own"
        )
    axes = [axis for axis in "CZYXS" if axis in sizes and (sizes[axis] > 1 or axis in "YX")]
    refuse_bomb(path, tuple(sizes[axis] for axis in axes), MAX_STACK * MAX_PIXELS)
    others = {axis: 0 for axis in sizes if axis not in axes}
    pixels = np.asarray(image.get_image_data("".join(axes), **others))
    size = image.physical_pixel_sizes
    mpp = plausible_mpp(size.X, size.Y, notes) if size.X and size.Y else None
    names = tuple(str(name) for name in image.channel_names or ())
    return Content(pixels, "".join(axes), False, names, mpp, tuple(notes))
