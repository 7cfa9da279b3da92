"""The pixel size that an image file states, in µm per pixel, whatever unit the file uses.

    mpp = plausible_mpp(0.325, 0.325, notes)     # 0.325, or None with a line that says why
    x, y = tiff_pixel_size(tiff, series)         # of OME, ImageJ, Micro-Manager and plain TIFF

Many programs write a resolution that is meant for a printer or a screen: 72 dots per inch are
353 µm per pixel. Such a value is no pixel size of a microscope, and is ignored.
"""

import math
from xml.etree import ElementTree

# µm per pixel. 5 µm leave a nucleus less than two pixels; 0.02 are finer than light resolves.
MPP_LIMITS = (0.02, 5.0)
MAX_MPP_RATIO = 1.05  # of height to width of a pixel, above which the user is told
MICRONS = {  # µm in each unit of length; names in lower case
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "centimetre": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "å": 1e-4,
    "a": 1e-4,
    "angstrom": 1e-4,
    "ångström": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
    "in": 25_400.0,
    "inch": 25_400.0,
    "inches": 25_400.0,
    '"': 25_400.0,
    "mil": 25.4,
    "thou": 25.4,
    "li": 25_400.0 / 12,
    "pt": 25_400.0 / 72,
}
MICRONS_OF_RESOLUTION = {2: 25_400, 3: 10_000}  # TIFF's codes of pixels per inch and centimetre
METAMORPH = ("spatial-calibration-x", "spatial-calibration-y", "spatial-calibration-units")


def microns_of(unit) -> float:
    """µm in a unit of length; 0 where it is none, such as "pixel".

    Three characters look like µ, two like Å, and ImageJ writes µ as the six characters \\u00B5.
    """
    unit = str(unit or "").replace("\\u00B5", "µ").strip().lower()
    unit = unit.replace("\N{GREEK SMALL LETTER MU}", "u").replace("µ", "u")
    return MICRONS.get(unit, 0.0)


def plausible_mpp(x, y, notes: list) -> float | None:
    """µm per pixel from the width and height of a pixel.

    Args:
        x, y: in µm, as the file states them; None, 0 or NaN where it does not.
        notes: a list that gets a line where something is odd.

    Returns:
        A float, or None where the file states nothing or makes no sense.
    """
    if not x or not y or math.isnan(x) or math.isnan(y):
        notes.append("it does not say how many µm a pixel has (--mpp gives them)")
        return None
    if not all(MPP_LIMITS[0] <= value <= MPP_LIMITS[1] for value in (x, y)):
        notes.append(
            f"it says {x:g} x {y:g} µm per pixel, which no microscope image of nuclei has: "
            "ignored (--mpp gives them)"
        )
        return None
    if max(x / y, y / x) > MAX_MPP_RATIO:
        notes.append(
            f"its pixels are not square, {x:g} x {y:g} µm: areas and lengths are by their mean"
        )
    return float(math.sqrt(x * y)) if x != y else float(x)


def to_float(text) -> float | None:
    """A text as a number; None where it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def tiff_pixel_size(tiff, series) -> tuple[float | None, float | None]:
    """(width, height) in µm of a pixel of a series of a TIFF; 0 or None where it is not stated.

    Args:
        tiff: an open `tifffile.TiffFile`.
        series: one of its series.
    """
    if tiff.is_ome:
        pixels = ome_pixels(tiff, series)
        return (None, None) if pixels is None else ome_pixel_size(pixels)
    page = series.keyframe
    metadata = tiff.imagej_metadata or {} if tiff.is_imagej else {}
    microns = microns_of(metadata.get("unit"))
    if not microns and tiff.is_micromanager:
        size = to_float((tiff.micromanager_metadata or {}).get("Summary", {}).get("PixelSize_um"))
        if size:
            return size, size
    if not microns and tiff.is_metaseries:
        values = (tiff.metaseries_metadata or {}).get("PlaneInfo", {})
        x, y, unit = (values.get(name) for name in METAMORPH)
        return (to_float(x) or 0) * microns_of(unit), (to_float(y) or 0) * microns_of(unit)
    microns = microns or MICRONS_OF_RESOLUTION.get(page.resolutionunit)
    if not microns:
        return None, None
    x, y = (microns / value if value else None for value in page.resolution)
    return x, y


def ome_pixels(tiff, series):
    """The element Pixels of a series of an OME-TIFF; None where its XML has none, or is damaged."""
    try:
        elements = ElementTree.fromstring(tiff.ome_metadata).iter()
    except ElementTree.ParseError:
        return None
    pixels = [element for element in elements if element.tag.endswith("Pixels")]
    if not pixels:  # they are in a file of their own
        return None
    index = next(index for index, other in enumerate(tiff.series) if other is series)
    return pixels[min(index, len(pixels) - 1)]


def ome_pixel_size(pixels) -> tuple[float, float]:
    """(width, height) in µm that an element Pixels of OME-XML states; 0 where it does not."""
    x, y = (
        (to_float(pixels.get(f"PhysicalSize{axis}")) or 0)
        * microns_of(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "XY"
    )
    return x, y


def is_for_printers(x, y) -> bool:
    """Whether a pixel of this width and height in µm is one of a screen or printer.

    Below 5,080 dots per inch it is. Plain images state such values by default, so nobody need be
    told.
    """
    return bool(x and y and min(x, y) > MPP_LIMITS[1])
