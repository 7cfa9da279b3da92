"""Readers of slide files: OpenSlide for scanners, tifffile for TIFFs, zarr for OME-Zarr.

Each returns a `Slide`, with notes on what is odd in the file. Their packages are imported late,
because only a user who has slides needs them.
"""

import contextlib
import weakref

import numpy as np

from nuclei.files import first_line
from nuclei.images.box import Box
from nuclei.images.pixel_size import microns_of, plausible_mpp, tiff_pixel_size, to_float
from nuclei.images.planes import Planes, Stack, choose_planes
from nuclei.images.tiff import channel_names, largest_series
from nuclei.machine import is_installed
from nuclei.slides.slide import Slide

OPENSLIDE_PACKAGES = "openslide-python openslide-bin"
SAMPLES = 3  # pieces in each direction by which channels and focal planes are compared
SAMPLE_PX = 512  # side of such a piece


def require_package(module, packages, path):
    """Stop where a package is missing. Raises: ValueError with the command that installs it."""
    if not is_installed(module):
        raise ValueError(
            f"{path} needs {packages}, not installed here: python -m pip install {packages}"
        )


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


def choose_slide_planes(path, axes, names, arrays, channel, plane):
    """Choose what to read of a slide, by small pieces that are spread over it.

    Args:
        path: of the slide, for messages.
        axes: a letter for each axis.
        names: of the channels; may be empty.
        arrays: one for each level.
        channel, plane: as of `choose_planes`.

    Returns:
        `Planes` and lines for the user.
    """
    finest = max(arrays, key=lambda array: np.prod(array.shape))
    height, width = (finest.shape[axes.index(axis)] for axis in "YX")
    side = [min(SAMPLE_PX, length) for length in (height, width)]

    def sample(indices):
        planes = Planes(axes, indices, "S" if "S" in axes else None)
        rows = []
        for row in range(SAMPLES):
            top = (height - side[0]) * (row + 1) // (SAMPLES + 1)
            pieces = []
            for column in range(SAMPLES):
                left = (width - side[1]) * (column + 1) // (SAMPLES + 1)
                place = Box(top, top + side[0], left, left + side[1]).place
                pieces.append(planes.cut(finest, *place))
            rows.append(np.concatenate(pieces, axis=1))
        return np.concatenate(rows)

    return choose_planes(Stack(path, axes, finest.shape, names, sample), channel, plane)


def open_tiff(path, channel=None, plane=None):
    """A `Slide` of an OME-TIFF or tiled TIFF, by tifffile and zarr. Raises: as `open_slide`."""
    require_package("zarr", "zarr imagecodecs", path)
    import tifffile
    import zarr

    with contextlib.ExitStack() as opened:
        tiff = opened.enter_context(tifffile.TiffFile(path))
        series, notes = largest_series(tiff), []
        mpp = plausible_mpp(*tiff_pixel_size(tiff, series), notes)
        refuse_cut(path, series.levels)
        arrays = [
            zarr.open_array(series.aszarr(level=level), mode="r")
            for level in range(len(series.levels))
        ]
        names = list(channel_names(tiff, series))
        axes = "".join(axis if axis in "YXSCZT" else "Q" for axis in series.axes)
        planes, choices = choose_slide_planes(path, axes, names, arrays, channel, plane)
        notes += choices
        slide = Slide(path, planes.sizes(arrays), series.dtype, planes.reader(arrays), mpp, notes)
        slide.channel, slide.plane = planes.channel, planes.plane
        weakref.finalize(slide, opened.pop_all().close)
        return slide


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


def open_omezarr(path, channel=None, plane=None):
    """A `Slide` of the first image of an OME-Zarr (0.4 or 0.5). Raises: as `open_slide`."""
    require_package("zarr", "zarr", path)
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
    except zarr.errors.NodeNotFoundError:
        fault = "has neither zarr.json nor .zgroup" if any(path.iterdir()) else "is an empty folder"
        raise ValueError(
            f"{path} {fault}; expected the folder of an OME-Zarr image: copy it again from its "
            "source"
        ) from None
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
    planes, choices = choose_slide_planes(path, letters, names, arrays, channel, plane)
    notes += choices
    read = planes.reader(arrays)
    slide = Slide(path, planes.sizes(arrays), arrays[0].dtype, read, mpp, notes)
    slide.channel, slide.plane = planes.channel, planes.plane
    return slide


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
        microns_of("" if isinstance(axis, str) else axis.get("unit", "")) for axis in image["axes"]
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
