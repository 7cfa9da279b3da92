"""Whole slides: images too large for the memory, read like arrays, and their nuclei found window by window.

    slide = open_slide("slide.svs")                  # or .ndpi, .mrxs, .scn, .czi, ..., OME-TIFF, BigTIFF, OME-Zarr
    slide[1000:1512, 2000:2512]                      # (512, 512, 3) uint8 or uint16, read where it is asked for
    slide.shape, slide.mpp, slide.downsamples        # (H, W, 3), µm per pixel or None, of each level of the pyramid
    slide.at(0.3)[0:100, 0:100]                      # seen at 0.3 times its size, from the nearest finer level
    slide.thumbnail(1024)                            # all of it, 1,024 px at most

    found = find_nuclei(slide, ...)                  # python predict.py slide.svs
    found.write(out, ["geojson.zip", "omezarr"])

A slide is cut into units. A unit owns the nuclei whose centroid lies in its core, and looks so far beyond the core that it
sees them as they are: every nucleus is found once, whatever the size of the windows, their order or the number of threads.
What a unit has found is one file in a work folder, OUT/.STEM.work. A run that was killed goes on from these files; at the
end the results are put together from them, a unit at a time, and the folder goes.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import time
import weakref
import zipfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np

import exports
import instances
import tiling
from import_data import fill, first_line, intensity_range, modality, normalise, replacing

OPENSLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".czi", ".dcm")
SUFFIXES = (*OPENSLIDE_SUFFIXES, ".zarr")  # .zarr is a folder
VENDORS = ("svs", "ndpi", "philips", "scn", "bif")  # tifffile's names of the TIFFs that OpenSlide knows better
SLIDE_PX = 8000  # side from which a tiled TIFF is read in windows, not as a whole
MPP_LIMITS = (0.02, 20.0)  # µm per pixel; a TIFF of 300 dots per inch says 85, which is for the printer
MICRONS = {"µm": 1.0, "um": 1.0, "micrometer": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3}
NUCLEAR = re.compile(r"dapi|hoechst|draq|syto|nuc|dna|h2b|haematox|hematox", re.IGNORECASE)  # channels that show nuclei
FORMATS = ("overlays", "csv", "geojson", "geojson.zip", "geojson.gz", "ometiff", "omezarr", "parquet")
FORMATS_DEFAULT = ("overlays", "csv", "geojson.zip")  # which QuPath opens, at a tenth of the size of plain GeoJSON

OVERVIEW_PX = 4096  # of the picture of the whole slide
WHOLE_PX = 36_000_000  # pixels up to which scale and grey levels are decided by the whole slide, as of an image
LOOK_PX = 4096  # side of the piece of a larger slide by which its scale is estimated
SAMPLES, SAMPLE_PX = 64, 512  # pieces of a larger slide by whose pixels the range of grey levels is decided, their side
MASK_PX, MASK_STEP_PX = 1024, 8  # the tissue mask: its longest side, and the least side of its pixels in px of the slide
MASK_GROW_PX = 2  # of the mask's pixels: pale borders of tissue belong to it
GLASS = 0.86  # of white: glass is at least so bright, so that a slide without any glass is tissue throughout
TISSUE_LIMITS = (0.04, 0.10)  # darkness below the glass that Otsu's threshold may not leave; noise of glass has 0.02
SIGNAL_LIMITS = (4 / 255, 0.10)  # fluorescence: the same above the background; of the brightest signal
UNSCANNED = 0.03  # of white: black areas among bright ones were never scanned

LARGEST = 2.5  # diameter of the largest nucleus, in median diameters; units see twice that beyond their core
REGION_PX = 4096  # side of what is separated at once: bounds the memory where a slide is seen much smaller than it is
SAY_SECONDS = 30.0  # between two lines of progress
THREADS = 1  # of separation, beside one that reads and one that runs the network
DENSITY_PX = 6.0  # blur of the map of nuclei over the overview
OUTLINES_BELOW = 3.0  # px of the slide for one of the overview, up to which outlines are drawn and not a map


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def place(self):
        """As an index."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


# --- Reading --------------------------------------------------------------------------------------------------------


class Slide:
    """A slide that reads like an array: `slide[top:bottom, left:right]` is (rows, columns, 3) uint8 or uint16 RGB.

    path: of its file. shape: (H, W, 3). dtype: of its pixels. mpp: µm per pixel, or None. downsamples: pixels of the slide
    for one of each level, 1 first. notes: lines on what was taken of the file and what not.
    """

    def __init__(self, path, shapes, dtype, read, mpp=None, notes=()):
        """shapes: (h, w) of the levels, finest first. read: (level, Box) -> (rows, columns, 3)."""
        if np.dtype(dtype) not in (np.uint8, np.uint16):
            raise ValueError(f"{path} holds {np.dtype(dtype)}; expected 8 or 16 bits without sign: export it as uint16")
        self.path, self.dtype, self.mpp, self.notes, self.read = Path(path), np.dtype(dtype), mpp, list(notes), read
        order = sorted(range(len(shapes)), key=lambda level: -shapes[level][0] * shapes[level][1])
        self.levels = [Level(self, level, shapes[level]) for level in order]
        self.shape = self.levels[0].shape
        self.downsamples = [max(self.shape[0] / level.shape[0], self.shape[1] / level.shape[1]) for level in self.levels]

    def __getitem__(self, place):
        return self.levels[0][place]

    def at(self, zoom):
        """The slide at `zoom` times its size (up to 1 cheaply): slices like (rows, columns, 3), in its grey levels."""
        size = tuple(max(1, round(length * zoom)) for length in self.shape[:2])
        fine = [level for level, down in zip(self.levels, self.downsamples, strict=True) if down * zoom < 1.01]
        level = fine[-1] if fine else self.levels[0]
        return level if level.shape[:2] == size else tiling.Resized(level, size=size)

    def thumbnail(self, max_px):
        """The whole slide, (rows, columns, 3), its longest side at most max_px: averaged, in bands that fit into memory."""
        fine = [level for level in self.levels if max(level.shape) >= max_px] or self.levels[:1]
        level = fine[-1]
        height, width = level.shape[:2]
        step = -(-max(height, width) // max_px)
        rows = -(-height // step)
        band = max(1, 16_000_000 // (step * width))  # rows of the result at once
        picture = np.empty((rows, -(-width // step), 3), self.dtype)
        for top in range(0, rows, band):
            part = level[top * step : (top + band) * step, :]
            part = np.pad(part, ((0, -len(part) % step), (0, -width % step), (0, 0)), "edge")
            size = (part.shape[1] // step, part.shape[0] // step)  # OpenCV wants the width first
            picture[top : top + band] = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        return picture


class Level:
    """One level of a slide's pyramid. It remembers what it read last, since a unit asks for the same pixels twice."""

    def __init__(self, slide, index, shape):
        self.slide, self.index, self.shape, self.last = slide, index, (*shape, 3), None

    def __getitem__(self, place):
        box = Box(*(end for part, length in zip(place, self.shape, strict=False) for end in part.indices(length)[:2]))
        last = self.last  # (Box, pixels)
        if (
            last
            and last[0].top <= box.top
            and box.bottom <= last[0].bottom
            and last[0].left <= box.left <= box.right <= last[0].right
        ):
            return last[1][box.top - last[0].top : box.bottom - last[0].top, box.left - last[0].left : box.right - last[0].left]
        try:
            pixels = np.ascontiguousarray(self.slide.read(self.index, box))
        except MemoryError:
            raise
        except Exception as error:  # on a damaged file the decoders raise whatever they run into
            raise ValueError(
                f"{self.slide.path} is damaged at rows {box.top} to {box.bottom}, columns {box.left} to {box.right} of level "
                f"{self.index} ({first_line(error)}); copy it again from its source"
            ) from error
        self.last = (box, pixels)
        return pixels


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
    if not exports.is_installed(module):
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
    mpp = sane_mpp(*(number(said.get(f"openslide.mpp-{axis}")) for axis in "xy"), notes)
    if mpp is None and said.get("openslide.objective-power"):
        notes.append(f"its objective is {said['openslide.objective-power']}x: 40x has about 0.25 µm per pixel, 20x 0.5")
    glass = np.array([int(said.get("openslide.background-color", "FFFFFF")[k : k + 2], 16) for k in (0, 2, 4)], np.uint8)

    def read(level, box):
        down = slide.level_downsamples[level]
        corner = (round(box.left * down), round(box.top * down))  # OpenSlide wants x first, in pixels of level 0
        pixels = np.asarray(slide.read_region(corner, level, (box.right - box.left, box.bottom - box.top)))
        return np.where(pixels[..., 3:] == 0, glass, pixels[..., :3])  # what was never scanned is transparent

    return Slide(path, [(height, width) for width, height in slide.level_dimensions], np.uint8, read, mpp, notes)


def number(text):
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
                (number(pixels.get(f"PhysicalSize{axis}")) or 0) * MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0)
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


def choose_planes(path, axes, shape, names, channel, notes):
    """Which plane of a stack is read: ({axis: index} of those that are neither rows, columns nor colour, the axis of colour
    or None); what is chosen and what is left is said in `notes`.

    Raises: ValueError where there is no such channel, or no rows and columns.
    """
    if "Y" not in axes or "X" not in axes:
        raise ValueError(f"{path} has the axes {axes}; expected rows (Y) and columns (X) among them")
    sizes, taken, colour = dict(zip(axes, shape, strict=True)), {}, "S" if "S" in axes else None
    names = [name or f"channel {k}" for k, name in enumerate(names[: sizes.get("C", 0)], start=1)]
    plain = not names or all(re.fullmatch(r"r(ed)?|g(reen)?|b(lue)?|channel \d", name.lower()) for name in names)
    if colour is None and sizes.get("C") == 3 and plain and channel is None:
        colour = "C"
    for axis in axes:
        if axis in ("Y", "X", colour):
            continue
        count, taken[axis] = sizes[axis], 0
        if axis == "C" and count > 1 or axis == "C" and channel is not None:
            names = names or [f"channel {k}" for k in range(1, count + 1)]
            taken[axis] = find_channel(path, names, channel)
            notes.append(f"channel {taken[axis] + 1} of {count} is taken, {names[taken[axis]]} (--channel takes another of: "
                         f"{', '.join(names)})")  # fmt: skip
        elif axis == "Z" and count > 1:
            taken[axis] = count // 2
            notes.append(f"plane {taken[axis] + 1} of {count} of the z-stack is taken, its middle")
        elif count > 1:
            what = "time series" if axis == "T" else f"stack (axis {axis})"
            notes.append(f"image 1 of {count} of the {what} is taken")
    if colour and channel is not None:
        notes.append("it is in colour: --channel changes nothing")
    return taken, colour


def find_channel(path, names, channel):
    """Index of the channel asked for, by its name or its number from 1; else the first that is named like nuclei, or 0."""
    if channel is None:
        return next((index for index, name in enumerate(names) if NUCLEAR.search(name)), 0)
    wanted = [index for index, name in enumerate(names) if name.lower() == str(channel).lower()]
    wanted = wanted or [index for index in range(len(names)) if str(channel) == str(index + 1)]
    if not wanted:
        raise ValueError(
            f"{path} has no channel {channel}; it has {', '.join(f'{k} {n}' for k, n in enumerate(names, start=1))}"
        )
    return wanted[0]


def plane_sizes(arrays, axes):
    """(h, w) of each level."""
    return [(array.shape[axes.index("Y")], array.shape[axes.index("X")]) for array in arrays]


def plane_reader(arrays, axes, taken, colour):
    """The `read` of a Slide over arrays that have more axes than rows, columns and colour; grey becomes three channels."""

    def read(level, box):
        spans = {"Y": slice(box.top, box.bottom), "X": slice(box.left, box.right), colour: slice(0, 3), **taken}
        pixels = np.asarray(arrays[level][tuple(spans[axis] for axis in axes)])
        kept = [axis for axis in axes if axis in ("Y", "X", colour)]
        pixels = pixels.transpose([kept.index(axis) for axis in ("Y", "X", colour) if axis])
        return pixels if colour else np.repeat(pixels[..., None], 3, axis=2)

    return read


# --- Deciding: where there is tissue, how bright, how large ----------------------------------------------------------


def find_tissue(overview, step=1):
    """Where there is something on the glass, or light in the dark: (h, w) bool, of the picture or `step` times smaller.

    On light ground what is darker in any colour than glass; in fluorescence what is brighter than the background. The
    threshold is Otsu's within TISSUE_LIMITS or SIGNAL_LIMITS: what is doubtful is tissue, since that costs only time.

    Args:
        overview: (H, W, 3) uint8 or uint16.
    """
    from scipy import ndimage  # here, as pandas and scikit-image below: their imports take a second, which --help has not

    height, width = (-(-length // step) for length in overview.shape[:2])
    small = cv2.resize(overview, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    brightest, darkest = small.max(axis=2), small.min(axis=2)
    if ground_is_light(overview):
        white = 255.0 if overview.dtype == np.uint8 else float(np.percentile(brightest, 99.9))
        glass = float(np.percentile(darkest, 99)) / white
        signal = max(GLASS, glass) - darkest / white
        threshold = otsu_within(signal, TISSUE_LIMITS) if glass > GLASS else TISSUE_LIMITS[0]
        found = (signal > threshold) & (brightest > UNSCANNED * white)
    else:
        # A dim slide of 16 bits is nearly black: it is measured by what it reaches, if that is more than noise.
        top = 255.0 if overview.dtype == np.uint8 else max(2048.0, float(np.percentile(brightest, 99.9)))
        signal = (brightest - float(np.percentile(brightest, 1))) / top
        found = signal > otsu_within(signal, SIGNAL_LIMITS)
    return ndimage.binary_dilation(found, np.ones((3, 3)), iterations=MASK_GROW_PX) if found.any() else found


def ground_is_light(overview):
    """Whether it is bright field: what is not black, as areas that were never scanned are, is bright for the most part, and
    is either most of the picture or has glass in it, which the bright nuclei of a fluorescence slide have not."""
    brightest, darkest = (overview.max(axis=2).astype(np.float32), overview.min(axis=2))
    white = 255.0 if overview.dtype == np.uint8 else max(2048.0, float(np.percentile(brightest, 99.9)))
    scanned = brightest > UNSCANNED * white
    if scanned.mean() < 0.01 or np.median(brightest[scanned]) <= 0.6 * white:
        return False
    return bool(scanned.mean() > 0.5 or (darkest[scanned] > 0.75 * white).mean() > 0.2)


def otsu_within(values, limits):
    """Otsu's threshold, or the limit that it passes."""
    from skimage.filters import threshold_otsu

    return float(np.clip(threshold_otsu(values), *limits)) if np.ptp(values) > 0 else limits[1]


class Setup(NamedTuple):
    """What is decided of a slide before its units, so that all of them, of a later run, too, see it alike.

    key: of the slide and all settings. shape, seen: (h, w) of the slide and as the network sees it, `zoom` times as large.
    intensity: grey levels that become 0 and 1. white: grey level of glass. kind: as `modality`. side, margin, multiple: of
    the network's windows, in px that it sees. region, overlap: of what is separated at once, in px of the slide.
    """

    key: str
    shape: tuple
    seen: tuple
    zoom: float
    intensity: tuple
    white: int
    kind: str
    side: int
    margin: int
    multiple: int
    region: int
    overlap: int


def decide(slide, overview, mask, network, num_maps, seen_diameter, geometry, zoom, tile, key):
    """The `Setup` of a slide; `zoom` is estimated where it is None. Raises: ValueError where the tile is too small."""
    margin, multiple = geometry["margin"], geometry["multiple"]
    if slide.shape[0] * slide.shape[1] <= WHOLE_PX:  # as predict.py decides for an image
        block = sample = slide[:, :]
    else:
        block, sample = look(slide, overview, mask) if mask.any() else (None, overview)
    intensity = intensity_range(sample)
    if zoom is None and mask.any():
        zoom, _ = tiling.estimate_zoom(
            network,
            block,
            num_maps,
            seen_diameter,
            measure=lambda maps: instances.median_diameter(instances.separate(maps)),  # by default thresholds, as images
            doubt=instances.image_doubt,
            prepare=lambda part: normalise(part, intensity),
            **geometry,
        )
    zoom = zoom or 1.0
    side = tile // multiple * multiple
    overlap = int(np.ceil(2 * LARGEST * seen_diameter / zoom))
    # A window starts at a multiple, at most that far before what is needed; interpolation takes a pixel or two more.
    region = min(int((side - 2 * margin - multiple - 4) / zoom), max(REGION_PX, 3 * overlap))
    if region < 3 * overlap:
        least = int(2 * margin + 2 * multiple + 4 + 3 * overlap * zoom)
        raise ValueError(f"windows of {tile} px leave too little between the margins of slides; give --tile {least} or more")
    picture = overview if not ground_is_light(overview) else np.where(
        overview.max(axis=2, keepdims=True) > UNSCANNED * overview.max(), overview, overview.max())  # fmt: skip
    return Setup(
        key, slide.shape[:2], slide.at(zoom).shape[:2], zoom, intensity, 255 if slide.dtype == np.uint8 else int(sample.max()),
        modality(picture), side, margin, multiple, region, overlap,
    )  # fmt: skip


def look(slide, overview, mask):
    """Pixels of a large slide to decide by: the piece with the most in it, and many spread over the tissue, as (n, 3)."""
    scale = slide.shape[0] / overview.shape[0]
    tissue = cv2.resize(mask.astype(np.uint8), overview.shape[1::-1], interpolation=cv2.INTER_NEAREST)[..., None] > 0
    ground = overview[~tissue[..., 0]].mean(axis=0).astype(overview.dtype) if not tissue.all() else 0
    at = tiling.busiest_window(np.where(tissue, overview, ground), int(LOOK_PX / scale), int(LOOK_PX / scale))
    top, left = (int(min(place * scale, max(0, length - LOOK_PX))) for place, length in zip(at, slide.shape, strict=False))
    rows, columns = np.nonzero(mask)
    parts = []
    for chosen in np.unique(np.linspace(0, len(rows) - 1, SAMPLES).round().astype(int)):
        centre = (rows[chosen] + 0.5) * slide.shape[0] / mask.shape[0], (columns[chosen] + 0.5) * slide.shape[1] / mask.shape[1]
        row, column = (int(min(max(0, c - SAMPLE_PX / 2), length)) for c, length in zip(centre, slide.shape, strict=False))
        parts.append(slide[row : row + SAMPLE_PX, column : column + SAMPLE_PX].reshape(-1, 3))
    return slide[top : top + LOOK_PX, left : left + LOOK_PX], np.concatenate(parts)


# --- Units ----------------------------------------------------------------------------------------------------------


class Unit(NamedTuple):
    """A piece of work, done once: the core whose nuclei it owns and the region that it separates, in px of the slide, and
    the window that the network sees, in px that it sees."""

    index: int
    core: Box
    region: Box
    window: Box


def cut_axis(setup, axis):
    """Cores along an axis, which partition it: [(core start, stop, region start, stop, window start, stop)]."""
    length, seen, region, overlap = setup.shape[axis], setup.seen[axis], setup.region, setup.overlap
    starts = [0] if length <= region else [0, *range(region - overlap, length - overlap, region - 2 * overlap)]
    padded = -(-seen // setup.multiple) * setup.multiple
    cuts = []
    for start, stop in zip(starts, [*starts[1:], length], strict=True):
        first, last = max(0, start - overlap), min(length, stop + overlap)
        needed = tiling.taps(first, last, seen, length)[0].min() if seen != length else first
        window = max(0, (int(needed) - setup.margin) // setup.multiple * setup.multiple)
        window = max(0, min(window, padded - setup.side))  # all windows have one size, for which the network is made once
        cuts.append((start, stop, first, last, window, min(window + setup.side, padded)))
    return cuts


def cut_units(setup):
    """The units of a slide, rows first; their cores partition it."""
    units = []
    for rows in cut_axis(setup, 0):
        for columns in cut_axis(setup, 1):
            units.append(Unit(len(units), *(Box(*rows[k : k + 2], *columns[k : k + 2]) for k in (0, 2, 4))))
    return units


def has_tissue(mask, box, shape):
    """Whether the mask of a slide of (H, W) `shape` has anything in a box of it."""
    down, right = mask.shape[0] / shape[0], mask.shape[1] / shape[1]
    rows, columns = slice(int(box.top * down), int(np.ceil(box.bottom * down))), slice(int(box.left * right), None)
    return bool(mask[rows, columns][:, : int(np.ceil(box.right * right)) - int(box.left * right)].any())


def read_unit(slide, unit, setup):
    """(window for the network, float32 in [0, 1]; the region as it is)."""
    window = tiling.read_window(slide.at(setup.zoom), tiling.Window(*unit.window, *unit.window))
    return normalise(window, setup.intensity), slide[unit.region.place]


def search_unit(unit, painted, image, setup, mask, thresholds, weights):
    """The nuclei that a unit owns.

    Args:
        painted: maps of its window, (h, w, K) float32. image: its region, (rows, columns, 3).
        mask: of the tissue; what has its centroid elsewhere is dust. weights: of `instances.confidence`, or None.

    Returns:
        A dict of arrays: "t NAME" the columns of `instances.measure`, in their order; "centroids" (n, 2) px, not rounded;
        "corners" and "lengths", see `pack`; "doubt", the two sums of `instances.image_doubt` over the core; "cut", how many
        nuclei reach beyond the region although they are owned, and so are larger than any should be.
    """
    region, core = unit.region, unit.core
    maps = tiling.resize_maps(painted, setup.shape, setup.seen, (unit.window.top, unit.window.left), region)
    labels = instances.separate(maps, zoom=setup.zoom, **thresholds)
    inside = np.flatnonzero(labels)
    of = labels.ravel()[inside]
    areas = np.bincount(of, minlength=1)
    places = [np.bincount(of, at, minlength=1) for at in np.divmod(inside, labels.shape[1])]
    # Whole numbers until the division: each unit that sees a nucleus computes the same centroid to the last bit.
    rows, columns = ((sums + start * areas) / np.maximum(areas, 1) for sums, start in zip(places, region[::2], strict=True))
    owned = (core.top <= rows) & (rows < core.bottom) & (core.left <= columns) & (columns < core.right) & (areas > 0)
    owned &= mask[tuple((np.divide([rows, columns], np.transpose([setup.shape])) * np.transpose([mask.shape])).astype(int))]
    owned[0] = False
    new_ids = np.where(owned, owned.cumsum(), 0).astype(np.int32)
    mine = new_ids[labels]
    outlined = [(index, [[ring + (region.top, region.left) for ring in rings] for rings in polygons])
                for index, polygons in instances.outlines(mine)]  # fmt: skip
    window = instances.WindowOf(region.top, region.left, *setup.shape, setup.white)
    table = instances.measure(mine, image, maps, setup.kind == "tissue", window=window, outlined=outlined)
    table["touching_nuclei"] = instances.count_touching(labels, np.flatnonzero(owned))
    if weights is not None:
        sure = instances.confidence(instances.doubt_features(mine, maps, setup.zoom), weights).round(4)
        before = list(table).index("mean_probability")
        table = dict([*list(table.items())[:before], ("confidence", sure), *list(table.items())[before:]])
    edges = [edge for edge, whole in (
        (mine[0], region.top == 0), (mine[-1], region.bottom == setup.shape[0]),
        (mine[:, 0], region.left == 0), (mine[:, -1], region.right == setup.shape[1])) if not whole]  # fmt: skip
    cut = np.unique(np.concatenate([*edges, [0]])).size - 1
    part = maps[core.top - region.top : core.bottom - region.top, core.left - region.left : core.right - region.left, 0]
    sure = part.astype(np.float64)
    return {
        **{f"t {name}": values for name, values in table.items()},
        "centroids": np.stack([rows[owned], columns[owned]], axis=1),
        **pack([polygons for _, polygons in outlined]),
        "doubt": np.array([np.minimum(sure, 1 - sure).sum(), sure.sum()]),
        "cut": np.array(cut),
    }


def pack(nuclei):
    """Outlines, a list of polygons for each nucleus, as {"corners": (n, 2) int32, "lengths": int32}: for each nucleus its
    number of polygons, for each of these its number of rings, and for each of these its number of corners."""
    rings = [ring for polygons in nuclei for rings in polygons for ring in rings]
    lengths = [n for polygons in nuclei for n in (len(polygons), *(n for p in polygons for n in (len(p), *map(len, p))))]
    return {"corners": np.concatenate([np.zeros((0, 2)), *rings]).astype(np.int32), "lengths": np.array(lengths, np.int32)}


def unpack(corners, lengths):
    """What went into `pack`."""
    numbers, nuclei, start = iter(lengths.tolist()), [], 0
    for num_polygons in numbers:
        polygons = []
        for _ in range(num_polygons):
            rings = []
            for _ in range(next(numbers)):
                stop = start + next(numbers)
                rings.append(corners[start:stop])
                start = stop
            polygons.append(rings)
        nuclei.append(polygons)
    return nuclei


def run(units, read, network, keep, batch_size=1, threads=THREADS):
    """Do units: one thread reads ahead, this one runs the network, `threads` others separate; none gets far ahead.

    Args:
        read: unit -> (window, image). network: (B, h, w, 3) -> (B, h, w, K). keep: (unit, maps, image) -> anything.

    Yields:
        (unit, what `keep` returned), in the order of the units.
    """
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(threads) as separating:
        units, ahead, behind = iter(units), deque(), deque()
        try:
            while True:
                for unit in itertools.islice(units, 2 * batch_size - len(ahead)):
                    ahead.append((unit, reading.submit(read, unit)))
                if not ahead:
                    break
                group = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
                seen = [(unit, *coming.result()) for unit, coming in group]
                painted = np.asarray(network(np.stack([window for _, window, _ in seen])))
                for (unit, _, image), maps in zip(seen, painted, strict=True):
                    while len(behind) > threads:
                        unit_, done = behind.popleft()
                        yield unit_, done.result()
                    behind.append((unit, separating.submit(keep, unit, maps, image)))
            for unit, done in behind:
                yield unit, done.result()
        finally:
            for _, waiting in (*ahead, *behind):
                waiting.cancel()


# --- A slide --------------------------------------------------------------------------------------------------------


def work_folder(out, stem):
    """Where the units of a slide are kept until it is finished."""
    return Path(out) / f".{stem}.work"


def clear(out, stem):
    """Remove the work folder of a slide that is finished."""
    shutil.rmtree(work_folder(out, stem), ignore_errors=True)


def find_nuclei(
    slide, out, stem, network, num_maps, thresholds, seen_diameter, geometry, made_by, zoom=None, min_area=None,
    weights=None, mpp=None, tile=tiling.TILE_PX, batch_size=1, tissue_mask=True, threads=THREADS, channel=None, say=print,
    search=None,
):  # fmt: skip
    """Find the nuclei of a slide, going on where an earlier run was stopped.

    Args:
        slide: a `Slide`. out, stem: results go to out/FOLDER/STEM..., what is not finished to `work_folder`.
        network, num_maps, thresholds, seen_diameter, geometry, zoom, min_area, tile, batch_size: as of predict_image.
        made_by: names the model and the settings; what was begun by others is begun anew.
        weights: of `instances.confidence`. mpp: µm per pixel of the slide.
        tissue_mask: units without tissue are passed over; otherwise all are read.
        search: does units elsewhere: from (work folder, units, thresholds) a generator as of `search_units`. Everything else
            that it takes lies in the work folder: `read_setup`, mask.npy.

    Returns:
        `Found`.

    Raises:
        ValueError: the slide is damaged, or the tile too small. OSError: the disk is full.
    """
    folder = work_folder(out, stem)
    overview = slide.thumbnail(OVERVIEW_PX)
    longest = max(overview.shape)
    step = max(-(-longest // MASK_PX), -(-MASK_STEP_PX * longest // max(slide.shape)))
    mask = find_tissue(overview, step)
    if not tissue_mask:
        mask = np.ones_like(mask)
    stat = slide.path.stat()
    parts = [made_by, slide.path.name, stat.st_size, stat.st_mtime_ns, slide.shape, zoom, tile, geometry, channel, tissue_mask]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()
    setup = read_setup(folder)
    if setup is None or setup.key != key:
        if folder.exists():
            say(f"{stem}: what an earlier run began with other settings, or of another file, is begun anew")
            shutil.rmtree(folder)
        setup = decide(slide, overview, mask, network, num_maps, seen_diameter, geometry, zoom, tile, key)
        if tissue_mask:
            write_picture(Path(out) / "tissue" / f"{stem}.png", np.repeat(mask[..., None], 3, axis=2) * np.uint8(255))
        with replacing(folder / "setup.json") as temporary:
            temporary.write_text(json.dumps(setup._asdict()), encoding="utf-8")
    with replacing(folder / "mask.npy") as temporary:
        np.save(temporary, mask)
    if not mask.any():
        say(f"{stem}: no tissue was found on it (--no-tissue-mask has all of it searched)")
    units = [unit for unit in cut_units(setup) if has_tissue(mask, unit.core, setup.shape)]
    found = Found(slide, stem, folder, units, setup, overview, mpp)
    os.listdir(folder)  # a shared folder may remember for a minute what was not there: this asks its server
    counts = {unit.index: found.count(unit) for unit in units}
    todo = [unit for unit in units if counts[unit.index] is None]
    if len(todo) < len(units):
        say(f"{stem}: {len(units) - len(todo)} of {len(units)} windows were finished before")
    if min_area is not None:  # the user's pixels are the slide's, not the network's
        thresholds = {**thresholds, "min_area_px": min_area * setup.zoom**2}

    progress = Progress(stem, units, todo, sum(filter(None, counts.values())), mpp, say)
    if search is None:
        done = search_units(slide, folder, todo, setup, mask, network, thresholds, weights, batch_size, threads)
    else:
        done = search(folder, todo, thresholds)
    with contextlib.closing(done):
        for unit, nuclei in done:
            progress.add(unit, nuclei)
    os.listdir(folder)
    return found


def search_units(slide, folder, units, setup, mask, network, thresholds, weights, batch_size=1, threads=THREADS):
    """Search units and keep what each has in its file in `folder`; yields (unit, number of nuclei), in their order."""

    def keep(unit, maps, image):
        arrays = search_unit(unit, maps, image, setup, mask, thresholds, weights)
        told = read_setup(folder)
        if told is None or told.key != setup.key:
            raise ValueError(f"{folder} now belongs to another run; what this one has found is left out")
        with replacing(unit_path(folder, unit)) as temporary:
            np.savez_compressed(temporary, **arrays)
        return len(arrays["centroids"])

    return run(units, lambda unit: read_unit(slide, unit, setup), network, keep, batch_size, threads)


def unit_path(folder, unit):
    """The file of a unit in the work folder."""
    return Path(folder) / f"unit_{unit.index:06d}.npz"


def read_setup(folder):
    """The `Setup` in a work folder, or None where there is none that can be read."""
    try:
        told = json.loads((Path(folder) / "setup.json").read_text(encoding="utf-8"))
        return Setup(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})
    except (FileNotFoundError, ValueError, TypeError):
        return None


class Progress:
    """A line every SAY_SECONDS and at the end: what is done, how many nuclei so far, and how long it will take."""

    def __init__(self, stem, units, todo, nuclei, mpp, say):
        self.stem, self.left, self.nuclei, self.mpp, self.say = stem, len(todo), nuclei, mpp, say
        self.total = sum(self.area(unit) for unit in units)
        self.done = self.total - sum(self.area(unit) for unit in todo)
        self.before, self.started, self.said = self.done, time.monotonic(), time.monotonic()

    @staticmethod
    def area(unit):
        """Of its core, in px."""
        return (unit.core.bottom - unit.core.top) * (unit.core.right - unit.core.left)

    def add(self, unit, nuclei):
        """One more unit is finished."""
        self.done, self.nuclei, self.left = self.done + self.area(unit), self.nuclei + nuclei, self.left - 1
        now = time.monotonic()
        if self.left and now - self.said < SAY_SECONDS:
            return
        self.said = now
        if self.mpp is None:
            area = f"{self.done / 1e6:.1f} of {self.total / 1e6:.1f} MP"
        else:
            area = f"{self.done * self.mpp**2 / 1e6:.2f} of {self.total * self.mpp**2 / 1e6:.2f} mm²"
        passed = now - self.started
        left = passed / (self.done - self.before) * (self.total - self.done)
        self.say(f"{self.stem}: {area}, {self.nuclei} nuclei, {passed:.0f} s, {left:.0f} s left")


def write_picture(path, picture):
    """An RGB picture, uint8, as PNG or JPEG by its suffix, whole or not at all."""
    good, code = cv2.imencode(path.suffix, np.ascontiguousarray(picture[..., ::-1]))  # OpenCV wants BGR
    if not good:
        raise ValueError(f"{path}: a picture of shape {picture.shape} cannot be written")
    with replacing(path) as temporary:
        temporary.write_bytes(code.tobytes())


class Found:
    """The nuclei of a finished slide, taken from its units one at a time, so that millions need no memory."""

    def __init__(self, slide, stem, folder, units, setup, overview, mpp):
        self.slide, self.stem, self.folder, self.units, self.setup = slide, stem, folder, units, setup
        self.overview, self.mpp = overview, mpp

    def count(self, unit):
        """How many nuclei a unit has; None where it is not finished."""
        try:
            with np.load(unit_path(self.folder, unit)) as arrays:
                return len(arrays["centroids"])
        except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError, ValueError):  # a loss of power leaves such files
            return None

    def gather(self):
        """What is needed of all nuclei at once: centroids, diameters and neighbours, some 60 bytes for each."""
        centroids, diameters, doubts, cut = [np.zeros((0, 2))], [np.zeros(0)], np.zeros(2), 0
        area = 0
        for unit in self.units:
            with np.load(unit_path(self.folder, unit)) as arrays:
                centroids.append(arrays["centroids"])
                diameters.append(arrays["t diameter_px"])
                area += int(arrays["t area_px"].sum())
                doubts, cut = doubts + arrays["doubt"], cut + int(arrays["cut"])
        self.diameters, self.area, self.doubts, self.cut = np.concatenate(diameters), area, doubts, cut
        centroids = np.concatenate(centroids)
        self.neighbours = instances.measure_neighbours(centroids, np.arange(1, len(centroids) + 1))
        return self

    def parts(self):
        """For each unit (table, [(id, polygons)]), as `instances.measure` and `instances.outlines` have them."""
        import pandas as pd

        start = 0
        for unit in self.units:
            with np.load(unit_path(self.folder, unit)) as arrays:
                columns = {name[2:]: arrays[name] for name in arrays.files if name.startswith("t ")}
                nuclei = unpack(arrays["corners"], arrays["lengths"])
            stop = start + len(nuclei)
            columns["id"] = np.arange(start + 1, stop + 1)
            columns.update({name: values[start:stop] for name, values in self.neighbours.items()})
            if self.mpp is not None:
                columns.update(instances.in_microns(columns, self.mpp))
            yield pd.DataFrame({"image": self.stem, **columns}), list(enumerate(nuclei, start=start + 1))
            start = stop

    def summary(self):
        """Its row of summary.csv, as far as it comes from the slide."""
        searched = sum(Progress.area(unit) for unit in self.units)
        return {
            "height_px": self.setup.shape[0],
            "width_px": self.setup.shape[1],
            "modality": self.setup.kind,
            "nuclei": len(self.diameters),
            "median_diameter_px": round(float(np.median(self.diameters)), 2) if len(self.diameters) else "",
            "zoom": round(self.setup.zoom, 3),
            "doubt": round(float(self.doubts[0] / max(self.doubts[1], instances.EMPTY_SHARE * searched, 1e-9)), 4),
            "nucleus_share": round(self.area / (self.setup.shape[0] * self.setup.shape[1]), 4),
            "intensity_low": self.setup.intensity[0],
            "intensity_high": self.setup.intensity[1],
            "mpp": "" if self.mpp is None else self.mpp,
        }

    def write(self, out, formats):
        """Write out/FOLDER/STEM.SUFFIX in these of FORMATS (but csv, which is one table of all images)."""
        out = Path(out)
        paths = {name: out / exports.FORMATS[name].folder / (self.stem + exports.FORMATS[name].suffix)
                 for name in formats if name in exports.FORMATS}  # fmt: skip
        if "overlays" in formats:
            write_picture(out / "overlays" / f"{self.stem}.jpg", self.draw())
        for name in formats:
            if name.startswith("geojson"):
                features = (one for table, outlined in self.parts() for one in exports.features(self.stem, outlined, table))
                exports.write_features(paths[name], features, f"{self.stem}.geojson")
        if "omezarr" in formats or "ometiff" in formats:
            where = paths.get("omezarr", self.folder / "labels.zarr")
            with exports.new_omezarr(where, self.stem, self.setup.shape, self.mpp) as levels:
                for _, outlined in self.parts():
                    paint(levels[0], outlined)
                exports.fill_pyramid(levels)
                if "ometiff" in formats:
                    exports.write_label_levels(paths["ometiff"], self.stem, levels, self.mpp)
        if "parquet" in formats:
            write_parquet(paths["parquet"], (table for table, _ in self.parts()))

    def draw(self):
        """The overview with its nuclei: outlines where they can be seen, else how many there are where. (h, w, 3) uint8."""
        picture = (normalise(self.overview, self.setup.intensity) * 255).round().astype(np.uint8)
        scale = np.divide(self.setup.shape, picture.shape[:2])
        counts = np.zeros(picture.shape[:2], np.float32)
        for table, outlined in self.parts():
            if scale.max() < OUTLINES_BELOW:
                rings = [ring for _, polygons in outlined for rings in polygons for ring in rings]
                lines = [np.round((ring / scale - 0.5)[:, ::-1]).astype(np.int32) for ring in rings]  # OpenCV wants x first
                cv2.polylines(picture, lines, True, exports.CLASS_COLOUR)
            else:
                at = np.stack([table["centroid_row_px"], table["centroid_column_px"]]) / scale[:, None]
                np.add.at(counts, tuple(np.minimum(at, np.transpose([counts.shape]) - 1).astype(int)), 1)
        if counts.any():
            density = cv2.GaussianBlur(counts, (0, 0), DENSITY_PX)
            density = np.clip(density / np.percentile(density[density > 0], 99), 0, 1)
            colours = cv2.applyColorMap((density * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
            share = 0.7 * np.sqrt(density)[..., None]
            picture = (picture * (1 - share) + colours * share).astype(np.uint8)
        return picture


def paint(level, outlined):
    """Write the pixels of nuclei into an array of ids that lies on disk."""
    if not outlined:
        return
    corners = np.concatenate([rings[0] for _, polygons in outlined for rings in polygons])
    (top, left), (bottom, right) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    ids = level[top:bottom, left:right]
    for index, polygons in outlined:
        ids.flat[fill([[ring - (top, left) for ring in rings] for rings in polygons], ids.shape)] = index
    level[top:bottom, left:right] = ids


def write_parquet(path, tables):
    """Tables of equal columns as one Parquet file, a group of rows for each."""
    import pyarrow
    import pyarrow.parquet

    first = next(tables, None)
    if first is None:  # no tissue
        return
    schema = pyarrow.Schema.from_pandas(first, preserve_index=False)
    with replacing(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(pyarrow.Table.from_pandas(table, schema=schema, preserve_index=False))
