"""Which files are slides, and which reader opens one.

A slide is what a scanner writes (OpenSlide reads it), a TIFF with a pyramid or a very large tiled
TIFF (tifffile reads these), or the folder of an OME-Zarr. Every other TIFF is an image, which is
read as a whole, also with channels and stacks.
"""

from pathlib import Path

from nuclei.files import first_line
from nuclei.images.stems import normal
from nuclei.images.tiff import largest_series
from nuclei.machine import is_installed
from nuclei.slides.readers import open_omezarr, open_openslide, open_tiff

DICOM_SUFFIX = ".dcm"  # one slide in many files
ZARR_SUFFIX = ".zarr"  # a folder
CZI_SUFFIX = ".czi"  # a slide in bright field, or an image in fluorescence
ONE_FILE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".czi")
OPENSLIDE_SUFFIXES = (*ONE_FILE_SUFFIXES, DICOM_SUFFIX)
SUFFIXES = (*OPENSLIDE_SUFFIXES, ZARR_SUFFIX)  # by which a folder is searched for slides
TIFF_SUFFIXES = (".tif", ".tiff")
VENDORS = ("svs", "ndpi", "philips", "scn", "bif")  # tifffile's names of TIFFs of scanners
SLIDE_PX = 8000  # side above which a tiled TIFF is read in tiles, not as a whole


def open_slide(path, channel=None, plane=None):
    """Open a slide of any format, as a `Slide`.

    Args:
        path: a file, or the folder of an OME-Zarr.
        channel: of a fluorescence slide, by its name or its number from 1; None chooses it.
        plane: of a z-stack, a number from 1 or "max"; None takes the sharpest.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or cut short, a package is missing, or there is no such
            channel. The message names the file.
    """
    path = Path(path)
    if not (path.is_file() or path.is_dir()):
        fault = "is no file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"{path} {fault}; expected a slide")
    try:
        if path.is_dir():
            return open_omezarr(path, channel, plane)
        if is_from_scanner(path):
            return open_openslide(path)
        return open_tiff(path, channel, plane)
    except Exception as error:  # on a damaged file the libraries raise errors of any kind
        if str(path) in str(error) and isinstance(error, ValueError):  # a message of our own
            raise
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, or a permission
            raise
        raise ValueError(
            f"{path} cannot be read as a slide ({first_line(error)}); copy it again from its source"
        ) from error


def find_slides(folder):
    """The slides of a folder that are known by their suffix: a sorted list of (stem, path).

    The many files of a DICOM slide are one slide, named like the folder.
    """
    slides = []
    for path in sorted(Path(folder).iterdir()):
        suffix = path.suffix.lower()
        is_there = path.is_dir() if suffix == ZARR_SUFFIX else path.is_file()
        if path.name.startswith(".") or suffix not in SUFFIXES or not is_there:
            continue
        if suffix != DICOM_SUFFIX:
            slides.append((normal(path.stem), path))
        elif not any(other.suffix.lower() == DICOM_SUFFIX for _, other in slides):
            slides.append((path.resolve().parent.name, path))
    return slides


def is_slide(path):
    """Whether a file or folder is read as a slide; see the top of this room."""
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():  # a pipe would be waited for without end
        return suffix == ZARR_SUFFIX and path.is_dir()
    if suffix == CZI_SUFFIX:
        return is_slide_of_openslide(path)
    if suffix in OPENSLIDE_SUFFIXES:
        return True
    return suffix in TIFF_SUFFIXES and (is_from_scanner(path) or is_slide_tiff(path))


def is_from_scanner(path):
    """Whether OpenSlide reads a file: by its suffix, or a TIFF by what a scanner wrote into it."""
    import tifffile

    if Path(path).suffix.lower() in OPENSLIDE_SUFFIXES:
        return True
    try:
        with tifffile.TiffFile(path) as tiff:
            return any(getattr(tiff, f"is_{vendor}", False) for vendor in VENDORS)
    except Exception:  # a damaged file: the reader will describe the fault
        return False


def is_slide_of_openslide(path):
    """Whether OpenSlide is installed and reads a file: of Zeiss's it reads bright field only."""
    if not is_installed("openslide"):
        return False
    try:
        import openslide

        with openslide.OpenSlide(path) as slide:
            slide.read_region((0, 0), 0, (1, 1))
        return True
    except Exception:  # fluorescence, a damaged file, or the package without its library
        return False


def is_slide_tiff(path):
    """Whether a TIFF that tifffile reads has a pyramid, or is too large to be read as a whole."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            series = largest_series(tiff)
            page = series.keyframe
            is_large = page.is_tiled and max(page.imagelength, page.imagewidth) > SLIDE_PX
            return bool(is_large or len(series.levels) > 1)
    except Exception:  # a damaged file: the reader will describe the fault
        return False
