"""nuclei.slides.formats"""

import contextlib
import weakref
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from nuclei.files import first_line
from nuclei.machine import is_installed
from nuclei.slides.planes import choose_planes, plane_reader, plane_sizes
from nuclei.slides.slide import Slide

OPENSLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".czi", ".dcm")
SUFFIXES = (*OPENSLIDE_SUFFIXES, ".zarr")  # .zarr is a folder
VENDORS = ("svs", "ndpi", "philips", "scn", "bif")  # tifffile's names of the TIFFs that OpenSlide knows better
SLIDE_PX = 8000  # side from which a tiled TIFF is read in windows, not as a whole
MPP_LIMITS = (0.02, 20.0)  # µm per pixel; a TIFF of 300 dots per inch says 85, which is for the printer
MICRONS = {"µm": 1.0, "um": 1.0, "micrometer": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3}


def open_slide(path, channel=None):
    """Open a slide of any format, as a `Slide`.

    Args:
        path: a file, or the folder of an OME-Zarr.
        channel: of a fluorescence slide, by its name or its number from 1; None takes one that is named like nuclei.

    Raises:
        FileNotFoundError; ValueError naming the file where it is damaged or cut short, a package is missing, or there is no
        such channel.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a slide")
    try:
        if path.is_dir():
            return open_omezarr(path, channel)
        return open_openslide(path) if tiff_kind(path) == "vendor" else open_tiff(path, channel)
    except Exception as error:
        if str(path) in str(error) and isinstance(error, ValueError):  # our own
            raise
        if isinstance(error, OSError) and error.errno is not None:  # a fault of the disk or a permission
            raise
        raise ValueError(f"{path} cannot be read as a slide ({first_line(error)}); copy it again from its source") from error


def find_slides(folder):
    """Slides of a folder that are known by their suffix: [(stem, path)], sorted. The many files of a DICOM slide are one,
    named as the folder."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix not in SUFFIXES or path.is_dir() != (suffix == ".zarr"):
            continue
        if suffix != ".dcm":
            found.append((path.stem, path))
        elif not any(other.suffix.lower() == ".dcm" for _, other in found):
            found.append((path.resolve().parent.name, path))
    return found


def is_slide(path):
    """Whether a file is read as a slide: by its suffix; a TIFF if it is a scanner's, has a pyramid, has channels or stacks
    that OME or ImageJ has named, or is tiled and larger than SLIDE_PX."""
    path = Path(path)
    if path.is_dir():
        return path.suffix.lower() == ".zarr"
    return path.suffix.lower() in OPENSLIDE_SUFFIXES or path.suffix.lower() in (".tif", ".tiff") and tiff_kind(path) != "image"


def tiff_kind(path):
    """What is in a file: "vendor" (for OpenSlide), "ours" (a TIFF for tifffile), or "image"; other files are "vendor"."""
    import tifffile

    if Path(path).suffix.lower() in OPENSLIDE_SUFFIXES:
        return "vendor"
    try:
        with tifffile.TiffFile(path) as tiff:
            if any(getattr(tiff, f"is_{vendor}", False) for vendor in VENDORS):
                return "vendor"
            series = largest_series(tiff)
            page = series.keyframe
            stacked = {
                axis: size for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 and axis not in "YXS"
            }
            named_stack = (tiff.is_ome or tiff.is_imagej) and stacked not in ({}, {"C": 3})
            large = page.is_tiled and max(page.imagelength, page.imagewidth) > SLIDE_PX
            return "ours" if large or named_stack or len(series.levels) > 1 else "image"
    except Exception:  # a damaged file, on which tifffile raises whatever it runs into: its reader will say what is wrong
        return "image"


def largest_series(tiff):
    """The image of a TIFF that has most pixels: labels and macro pictures have fewer."""
    return max(tiff.series, key=lambda series: series.keyframe.imagelength * series.keyframe.imagewidth)


def need(module, packages, path):
    """Stop where a package is missing. Raises: ValueError with the command that installs it."""
    if not is_installed(module):
        raise ValueError(f"{path} needs {packages}, not installed here: python -m pip install {packages}")


def sane_mpp(x, y, notes):
    """µm per pixel as a file says them, or None with a line in `notes` where there are none or they make no sense."""
    if not x or not y or x != x or y != y:
        notes.append("it does not say how many µm a pixel has (--mpp gives them)")
    elif not all(MPP_LIMITS[0] <= value <= MPP_LIMITS[1] for value in (x, y)):
        notes.append(f"it says {x:g} x {y:g} µm per pixel, which no slide has: ignored (--mpp gives them)")
    else:
        if max(x / y, y / x) > 1.05:
            notes.append(f"its pixels are not square, {x:g} x {y:g} µm: areas and lengths are by their mean")
        return float(np.sqrt(x * y)) if x != y else float(x)
    return None


def open_openslide(path):
    """A slide of a scanner's format, by OpenSlide."""
    packages = "openslide-python openslide-bin"
    need("openslide", packages, path)
    try:
        import openslide
    except OSError as error:  # the package without its library
        raise ValueError(f"{path}: OpenSlide does not start ({first_line(error)}): python -m pip install {packages}") from None
    slide, notes = openslide.OpenSlide(path), []
    said = slide.properties
    mpp = sane_mpp(*(to_float(said.get(f"openslide.mpp-{axis}")) for axis in "xy"), notes)
    if mpp is None and said.get("openslide.objective-power"):
        notes.append(f"its objective is {said['openslide.objective-power']}x: 40x has about 0.25 µm per pixel, 20x 0.5")
    glass = np.array([int(said.get("openslide.background-color", "FFFFFF")[k : k + 2], 16) for k in (0, 2, 4)], np.uint8)

    def read(level, box):
        down = slide.level_downsamples[level]
        corner = (round(box.left * down), round(box.top * down))  # OpenSlide wants x first, in pixels of level 0
        pixels = np.asarray(slide.read_region(corner, level, (box.right - box.left, box.bottom - box.top)))
        return np.where(pixels[..., 3:] == 0, glass, pixels[..., :3])  # what was never scanned is transparent

    return Slide(path, [(height, width) for width, height in slide.level_dimensions], np.uint8, read, mpp, notes)


def to_float(text):
    """A text as a number; None where it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def open_tiff(path, channel):
    """An OME-TIFF or tiled TIFF, by tifffile and zarr."""
    need("zarr", "zarr imagecodecs", path)
    import tifffile
    import zarr

    with contextlib.ExitStack() as stack:
        tiff = stack.enter_context(tifffile.TiffFile(path))
        series, notes, names, x, y = largest_series(tiff), [], [], None, None
        if tiff.is_ome:
            pixels = next(part for part in ElementTree.fromstring(tiff.ome_metadata).iter() if part.tag.endswith("Pixels"))
            names = [part.get("Name") or "" for part in pixels if part.tag.endswith("Channel")]
            x, y = (
                (to_float(pixels.get(f"PhysicalSize{axis}")) or 0) * MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0)
                for axis in "XY"
            )
        elif series.keyframe.resolutionunit in (2, 3):  # pixels per inch, per centimetre
            unit = {2: 25_400, 3: 10_000}[series.keyframe.resolutionunit]
            x, y = (unit / value if value else None for value in series.keyframe.resolution)
        mpp = sane_mpp(x, y, notes)
        taken, colour = choose_planes(path, series.axes, series.shape, names, channel, notes)
        refuse_cut(path, series.levels)
        arrays = [zarr.open_array(series.aszarr(level=level), mode="r") for level in range(len(series.levels))]
        read = plane_reader(arrays, series.axes, taken, colour)
        slide = Slide(path, plane_sizes(arrays, series.axes), series.dtype, read, mpp, notes)
        weakref.finalize(slide, stack.pop_all().close)
        return slide


def refuse_cut(path, levels):
    """Stop where tiles lie beyond the end of a TIFF: they would come as black. Raises: ValueError."""
    size = path.stat().st_size
    for number, level in enumerate(levels):
        ends = [np.add(page.dataoffsets, page.databytecounts) for page in level.pages if page is not None]
        beyond = sum(int((end > size).sum()) for end in ends)
        if beyond:
            raise ValueError(
                f"{path} is cut short: {beyond} tiles of level {number} lie beyond its end at {size:,} bytes; copy it again "
                "from its source"
            )


def open_omezarr(path, channel):
    """An OME-Zarr of version 0.4 or 0.5: the first of its images."""
    need("zarr", "zarr", path)
    import zarr

    group = zarr.open_group(path, mode="r")
    said = group.attrs.get("ome", group.attrs)  # where 0.5 has it
    if "multiscales" not in said and "0" in group:  # the layout of bioformats2raw: a folder for each image
        group = group["0"]
        said = group.attrs.get("ome", group.attrs)
    if "multiscales" not in said:
        raise ValueError(f"{path} is no OME-Zarr image (no multiscales in its attributes); expected the folder of an image")
    image, notes, arrays = said["multiscales"][0], [], []
    for dataset in image["datasets"]:
        try:
            arrays.append(group[dataset["path"]])
        except KeyError:
            if not arrays:
                raise ValueError(
                    f"{path} lacks its full resolution, {dataset['path']}; copy it again from its source"
                ) from None
            notes.append(f"its level {dataset['path']} is missing: it is read from finer ones")
    axes = [axis if isinstance(axis, str) else axis["name"] for axis in image["axes"]]
    units = [MICRONS.get("" if isinstance(axis, str) else axis.get("unit", ""), 0) for axis in image["axes"]]
    steps = [step["scale"] for step in image["datasets"][0].get("coordinateTransformations", []) if step["type"] == "scale"]
    scale = dict(zip(axes, np.prod([units, *steps], axis=0) if steps else [0] * len(axes), strict=True))
    mpp = sane_mpp(scale.get("x"), scale.get("y"), notes)
    axes = "".join(axes).upper()
    names = [entry.get("label", "") for entry in said.get("omero", {}).get("channels", [])]
    taken, colour = choose_planes(path, axes, arrays[0].shape, names, channel, notes)
    return Slide(path, plane_sizes(arrays, axes), arrays[0].dtype, plane_reader(arrays, axes, taken, colour), mpp, notes)
