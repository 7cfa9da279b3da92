"""Readers of slide files: OpenSlide for scanners, tifffile for TIFFs, zarr for OME-Zarr.

Each returns a `Slide`, with notes on what is odd in the file. Their packages are imported late,
because only a user who has slides needs them.
"""

import contextlib
import weakref
from xml.etree import ElementTree

import numpy as np
from nuclei.slides.planes import choose_planes

from nuclei.files import first_line
from nuclei.machine import is_installed
from nuclei.slides.slide import Slide

# µm per pixel. A TIFF of 300 dots per inch states 85, which is meant for a printer.
MPP_LIMITS = (0.02, 20.0)
MAX_MPP_RATIO = 1.05  # of height to width of a pixel, above which the user is told
MICRONS = {  # µm in each unit of length
    "µm": 1.0,
    "um": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "mm": 1e3,
    "millimeter": 1e3,
}
MICRONS_OF_RESOLUTION = {2: 25_400, 3: 10_000}  # TIFF's codes of pixels per inch and centimetre
OPENSLIDE_PACKAGES = "openslide-python openslide-bin"


def require_package(module, packages, path):
    """Stop where a package is missing. Raises: ValueError with the command that installs it."""
    if not is_installed(module):
        raise ValueError(
            f"{path} needs {packages}, not installed here: python -m pip install {packages}"
        )


def plausible_mpp(x, y, notes):
    """µm per pixel from the width and height of a pixel.

    Args:
        x, y: in µm, as the file states them; None, 0 or NaN where it does not.
        notes: a list that gets a line where something is odd.

    Returns:
        A float, or None where the file states nothing or makes no sense.
    """
    if not x or not y or np.isnan(x) or np.isnan(y):
        notes.append("it does not say how many µm a pixel has (--mpp gives them)")
        return None
    if not all(MPP_LIMITS[0] <= value <= MPP_LIMITS[1] for value in (x, y)):
        notes.append(
            f"it says {x:g} x {y:g} µm per pixel, which no slide has: ignored (--mpp gives them)"
        )
        return None
    if max(x / y, y / x) > MAX_MPP_RATIO:
        notes.append(
            f"its pixels are not square, {x:g} x {y:g} µm: areas and lengths are by their mean"
        )
    return float(np.sqrt(x * y)) if x != y else float(x)


def to_float(text):
    """A text as a number; None where it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def open_openslide(path):
    """A `Slide` of a scanner's format, by OpenSlide. Raises: as `open_slide`."""
    require_package("openslide", OPENSLIDE_PACKAGES, path)
    try:
        import openslide
    except OSError as error:  # the package without its library
        raise ValueError(
            f"{path}: OpenSlide does not start ({first_line(error)}): "
            f"python -m pip install {OPENSLIDE_PACKAGES}"
        ) from None
    file, notes = openslide.OpenSlide(path), []
    properties = file.properties
    mpp = plausible_mpp(
        to_float(properties.get("openslide.mpp-x")),
        to_float(properties.get("openslide.mpp-y")),
        notes,
    )
    power = properties.get("openslide.objective-power")
    if mpp is None and power:
        notes.append(f"its objective is {power}x: 40x has about 0.25 µm per pixel, 20x 0.5")
    background = np.frombuffer(
        bytes.fromhex(properties.get("openslide.background-color", "FFFFFF")), np.uint8
    )

    def read(level, box):
        downsample = file.level_downsamples[level]
        # OpenSlide wants x first, in pixels of level 0.
        corner = (round(box.left * downsample), round(box.top * downsample))
        rows, columns = box.shape
        pixels = np.asarray(file.read_region(corner, level, (columns, rows)))
        is_unscanned = pixels[..., 3:] == 0  # transparent
        return np.where(is_unscanned, background, pixels[..., :3])

    shapes = [(height, width) for width, height in file.level_dimensions]
    return Slide(path, shapes, np.uint8, read, mpp, notes)


def largest_series(tiff):
    """The image of a TIFF that has most pixels: labels and macro pictures have fewer."""
    return max(
        tiff.series, key=lambda series: series.keyframe.imagelength * series.keyframe.imagewidth
    )


def open_tiff(path, channel):
    """A `Slide` of an OME-TIFF or tiled TIFF, by tifffile and zarr. Raises: as `open_slide`."""
    require_package("zarr", "zarr imagecodecs", path)
    import tifffile
    import zarr

    with contextlib.ExitStack() as opened:
        tiff = opened.enter_context(tifffile.TiffFile(path))
        series, notes = largest_series(tiff), []
        names, x, y = describe_tiff(tiff, series)
        mpp = plausible_mpp(x, y, notes)
        planes = choose_planes(path, series.axes, series.shape, names, channel, notes)
        refuse_cut(path, series.levels)
        arrays = [
            zarr.open_array(series.aszarr(level=level), mode="r")
            for level in range(len(series.levels))
        ]
        slide = Slide(path, planes.sizes(arrays), series.dtype, planes.reader(arrays), mpp, notes)
        weakref.finalize(slide, opened.pop_all().close)
        return slide


def describe_tiff(tiff, series):
    """(names of the channels, width and height of a pixel in µm) of a TIFF.

    The list is empty, and the lengths are 0 or None, where the file does not state them.
    """
    if tiff.is_ome:
        elements = ElementTree.fromstring(tiff.ome_metadata).iter()
        pixels = next(element for element in elements if element.tag.endswith("Pixels"))
        names = [child.get("Name") or "" for child in pixels if child.tag.endswith("Channel")]
        x, y = (
            (to_float(pixels.get(f"PhysicalSize{axis}")) or 0)
            * MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0)
            for axis in "XY"
        )
        return names, x, y
    microns = MICRONS_OF_RESOLUTION.get(series.keyframe.resolutionunit)
    if microns is None:
        return [], None, None
    x, y = (microns / value if value else None for value in series.keyframe.resolution)
    return [], x, y


def refuse_cut(path, levels):
    """Stop where tiles lie beyond the end of a TIFF, which would be read as black.

    Raises:
        ValueError: the file is cut short.
    """
    size = path.stat().st_size
    for number, level in enumerate(levels):
        pages = [page for page in level.pages if page is not None]
        ends = [np.add(page.dataoffsets, page.databytecounts) for page in pages]
        num_beyond = sum(int((end > size).sum()) for end in ends)
        if num_beyond:
            raise ValueError(
                f"{path} is cut short: {num_beyond} tiles of level {number} lie beyond its end at "
                f"{size:,} bytes; copy it again from its source"
            )


def open_omezarr(path, channel):
    """A `Slide` of the first image of an OME-Zarr (0.4 or 0.5). Raises: as `open_slide`."""
    require_package("zarr", "zarr", path)
    import zarr

    group = zarr.open_group(path, mode="r")
    metadata = omezarr_metadata(group)
    if "multiscales" not in metadata and "0" in group:  # bioformats2raw: a folder for each image
        group = group["0"]
        metadata = omezarr_metadata(group)
    if "multiscales" not in metadata:
        raise ValueError(
            f"{path} is no OME-Zarr image (no multiscales in its attributes); "
            "expected the folder of an image"
        )
    image, notes = metadata["multiscales"][0], []
    arrays = omezarr_levels(path, group, image["datasets"], notes)
    axes = [axis if isinstance(axis, str) else axis["name"] for axis in image["axes"]]
    x, y = omezarr_pixel_size(image, axes)
    mpp = plausible_mpp(x, y, notes)
    names = [entry.get("label", "") for entry in metadata.get("omero", {}).get("channels", [])]
    letters = "".join(axes).upper()
    planes = choose_planes(path, letters, arrays[0].shape, names, channel, notes)
    read = planes.reader(arrays)
    return Slide(path, planes.sizes(arrays), arrays[0].dtype, read, mpp, notes)


def omezarr_metadata(group):
    """The attributes that describe an OME-Zarr: under "ome" from version 0.5 on."""
    return group.attrs.get("ome", group.attrs)


def omezarr_levels(path, group, datasets, notes):
    """The arrays of the levels that are there, finest first.

    Raises:
        ValueError: the full resolution is missing.
    """
    arrays = []
    for dataset in datasets:
        try:
            arrays.append(group[dataset["path"]])
        except KeyError:
            if not arrays:
                raise ValueError(
                    f"{path} lacks its full resolution, {dataset['path']}; "
                    "copy it again from its source"
                ) from None
            notes.append(f"its level {dataset['path']} is missing: it is read from finer ones")
    return arrays


def omezarr_pixel_size(image, axes):
    """(width, height) in µm of a pixel of the finest level; None or 0 where it is not stated."""
    units = [
        MICRONS.get("" if isinstance(axis, str) else axis.get("unit", ""), 0)
        for axis in image["axes"]
    ]
    steps = [
        transformation["scale"]
        for transformation in image["datasets"][0].get("coordinateTransformations", [])
        if transformation["type"] == "scale"
    ]
    if not steps:
        return None, None
    sizes = dict(zip(axes, np.prod([units, *steps], axis=0), strict=True))
    return sizes.get("x"), sizes.get("y")
