"""The table of an image: one row for each nucleus, with place, shape, intensity and neighbours.

    columns = measure(labels, image, maps, stained=True, mpp=0.25)
    columns["area_px"]                  # (n,)

Units are in the names: _px, _um, _um2, _degrees, _od (optical density). docs/outputs.md explains
every column.
"""

from typing import NamedTuple

import numpy as np

from nuclei.images.box import Box
from nuclei.images.labels import equivalent_diameters
from nuclei.images.stains import optical_densities, stain_densities, white_of
from nuclei.instances.neighbours import count_touching, measure_neighbours
from nuclei.instances.pixels import NucleusPixels
from nuclei.instances.shape import hull_measures, perimeters

STAIN_COLUMNS = (
    "haematoxylin_od",
    "haematoxylin_od_std",
    "haematoxylin_od_max",
    "eosin_od",  # eosin stains what is not nucleus: its mean is enough
    "dab_od",
    "dab_od_std",
    "dab_od_max",
    "total_od",
)
# A nucleus is positive where its mean optical density of DAB reaches this, QuPath's own default ...
POSITIVE_DAB_OD = 0.2
POSITIVE_BROWN_OD = 0.0  # ... and it is brown: it dims blue by so much more than green, or more


class ImagePart(NamedTuple):
    """Where a part lies in a larger image, such as a tile in a slide.

    Attributes:
        box: the part, in px of the larger image.
        whole_shape: (height, width) of the larger image in px.
        white_level: grey level of empty background in bright field; None takes it from the part.
    """

    box: Box
    whole_shape: tuple[int, int]
    white_level: int | None = None


def measure(labels, image=None, maps=None, stained=False, mpp=None, part=None, dab=False):
    """Measure every nucleus.

    Args:
        labels: (H, W) int32, 0 background, 1...n.
        image: (H, W, 3) uint8 or uint16; None leaves the columns of intensities and stains out.
        maps: (H, W, K) float32, for the nucleus probability; None leaves its columns out.
        stained: whether the image is bright field in colour. Otherwise the optical densities of
            stains have no meaning and are NaN; the columns stay, so that tables fit together.
        mpp: µm per pixel; None leaves the columns in µm out.
        part: `ImagePart`, where the image is a part of a larger one. Places are then those in the
            larger image.
        dab: whether the image is immunostained, see `has_dab`. Otherwise no nucleus is called
            positive or negative.

    Returns:
        A dict of columns, each with n values:

        - id, centroid_row_px, centroid_column_px; box_top_px, box_left_px, box_height_px,
          box_width_px
        - area_px, diameter_px (of the circle of equal area), major_axis_px, minor_axis_px (of the
          ellipse of equal second moments), aspect_ratio, eccentricity (0 circle to 1 line),
          orientation_degrees (of the major axis, 0 along the rows, 90 along the columns,
          counter-clockwise), perimeter_px, circularity (4 pi area / perimeter squared; 1 circle),
          extent (share of the box), convex_area_px, solidity (share of the convex hull),
          longest_px, narrowest_px (largest and smallest caliper)
        - mean_probability, std_probability
        - mean_intensity, std_intensity, min_intensity, max_intensity (of the mean of red, green and
          blue, in grey levels of the image), mean_red, mean_green, mean_blue
        - STAIN_COLUMNS: optical densities, means unless std or max is said; see `stain_densities`
        - positive: 1 where a nucleus has DAB, else 0; NaN where `dab` is not set
        - touching_nuclei, nuclei_nearby (centroids up to `NEIGHBOURHOOD_PX` away), nearest_id (0:
          none), nearest_distance_px (between centroids; NaN: none), touches_border (1 where a
          nucleus may continue outside the image)
        - with mpp, as `in_microns`: centroid_row_um, ... area_um2, ...
    """
    part = part or ImagePart(Box.of_shape(labels.shape), labels.shape)
    nuclei = NucleusPixels(labels)
    row, column = np.divmod(nuclei.pixels, labels.shape[1])
    row, column = row + part.box.top, column + part.box.left
    centroids = np.stack([nuclei.mean(row), nuclei.mean(column)], axis=1)
    columns = {
        "id": nuclei.ids,
        **place_columns(nuclei, row, column, centroids),
        **ellipse_columns(nuclei, row, column, centroids),
    }
    columns.update(outline_columns(nuclei, labels, columns))
    if maps is not None:
        probability = maps[..., 0].ravel()[nuclei.pixels].astype(float)
        columns["mean_probability"] = nuclei.mean(probability).round(4)
        columns["std_probability"] = nuclei.std(probability).round(4)
    if image is not None:
        colours = image.reshape(-1, 3)[nuclei.pixels].astype(float)
        columns.update(intensity_columns(nuclei, colours))
        unknown = np.full(len(nuclei.ids), np.nan)
        columns.update(dict.fromkeys((*STAIN_COLUMNS, "positive"), unknown))
        if stained:
            white = part.white_level or white_of(image)
            columns.update(stain_columns(nuclei, colours, white))
            if dab:
                columns["positive"] = find_positive(nuclei, colours, white, columns["dab_od"])
    columns["touching_nuclei"] = count_touching(labels, nuclei.ids)
    columns.update(measure_neighbours(centroids, nuclei.ids))
    columns["touches_border"] = touches_border(columns, part)
    return columns if mpp is None else {**columns, **in_microns(columns, mpp)}


def place_columns(nuclei, row, column, centroids):
    """Measure place and size.

    Args:
        nuclei: `NucleusPixels`.
        row, column: (p,) int, place of each of its pixels.
        centroids: (n, 2) float64, their means.
    """
    top, left = nuclei.min(row), nuclei.min(column)
    return {
        "centroid_row_px": centroids[:, 0].round(2),
        "centroid_column_px": centroids[:, 1].round(2),
        "box_top_px": top,
        "box_left_px": left,
        "box_height_px": nuclei.max(row) + 1 - top,
        "box_width_px": nuclei.max(column) + 1 - left,
        "area_px": nuclei.areas,
        "diameter_px": equivalent_diameters(nuclei.areas).round(2),
    }


def ellipse_columns(nuclei, row, column, centroids):
    """Measure the ellipse of equal second moments, from the 2 x 2 matrix of these.

    Args:
        nuclei, row, column, centroids: as for `place_columns`.
    """
    down, right = row - centroids[nuclei.nucleus, 0], column - centroids[nuclei.nucleus, 1]
    row_moment, column_moment = nuclei.mean(down**2), nuclei.mean(right**2)
    mixed = nuclei.mean(down * right)
    spread = np.sqrt((row_moment - column_moment) ** 2 + 4 * mixed**2)
    major = 4 * np.sqrt((row_moment + column_moment + spread) / 2)
    minor = 4 * np.sqrt(np.maximum((row_moment + column_moment - spread) / 2, 0))
    # Minus, because rows grow downwards.
    orientation = np.degrees(np.arctan2(-2 * mixed, column_moment - row_moment)) / 2 % 180
    ratio = minor / np.where(major > 0, major, np.inf)
    return {
        "major_axis_px": major.round(2),
        "minor_axis_px": minor.round(2),
        # A line of pixels has no minor axis, but its pixels are one wide.
        "aspect_ratio": (np.maximum(major, 1) / np.maximum(minor, 1)).round(4),
        "eccentricity": np.sqrt(1 - ratio**2 - (major == 0)).round(4),
        "orientation_degrees": orientation.round(2),
    }


def outline_columns(nuclei, labels, places):
    """Measure outline and convex hull.

    Args:
        nuclei: `NucleusPixels` of `labels`.
        labels: (H, W) int32.
        places: columns of `place_columns`.
    """
    perimeter = perimeters(nuclei, labels)
    hulls = hull_measures(nuclei, labels.shape[1])
    box_area = places["box_height_px"] * places["box_width_px"]
    circularity = 4 * np.pi * nuclei.areas / np.maximum(perimeter, 1) ** 2
    return {
        "perimeter_px": perimeter.round(2),
        # Perimeters of the smallest nuclei come out too short: without the limit some exceed 1.
        "circularity": np.minimum(circularity, 1).round(4),
        "extent": (nuclei.areas / box_area).round(4),
        "convex_area_px": hulls[:, 0].round(2),
        "solidity": (nuclei.areas / hulls[:, 0]).round(4),
        "longest_px": hulls[:, 1].round(2),
        "narrowest_px": hulls[:, 2].round(2),
    }


def intensity_columns(nuclei, colours):
    """Measure intensities; `colours` (p, 3) float64 are the grey levels of the nucleus pixels."""
    grey = colours.mean(axis=1)
    return {
        "mean_intensity": nuclei.mean(grey).round(2),
        "std_intensity": nuclei.std(grey).round(2),
        "min_intensity": nuclei.min(grey).round(2),
        "max_intensity": nuclei.max(grey).round(2),
        "mean_red": nuclei.mean(colours[:, 0]).round(2),
        "mean_green": nuclei.mean(colours[:, 1]).round(2),
        "mean_blue": nuclei.mean(colours[:, 2]).round(2),
    }


def stain_columns(nuclei, colours, white):
    """Measure optical densities: STAIN_COLUMNS.

    Args:
        nuclei: `NucleusPixels`.
        colours: (p, 3) float64, grey levels of its pixels.
        white: grey level of empty background.
    """
    haematoxylin, eosin, dab = stain_densities(colours, white).T
    total = optical_densities(colours.mean(axis=1), white)
    values = (
        nuclei.mean(haematoxylin),
        nuclei.std(haematoxylin),
        nuclei.max(haematoxylin),
        nuclei.mean(eosin),
        nuclei.mean(dab),
        nuclei.std(dab),
        nuclei.max(dab),
        nuclei.mean(total),
    )
    return {name: value.round(4) for name, value in zip(STAIN_COLUMNS, values, strict=True)}


def find_positive(nuclei, colours, white, dab_od):
    """Find the nuclei that are stained with DAB: (n,) int, 1 or 0.

    The deconvolution alone would call pale purple and grey nuclei positive. So brown is asked, too.

    Args:
        nuclei: `NucleusPixels`.
        colours: (p, 3) float64, grey levels of its pixels.
        white: grey level of empty background.
        dab_od: (n,) of `stain_columns`.
    """
    green, blue = optical_densities(colours[:, 1:], white).T
    is_brown = nuclei.mean(blue - green) >= POSITIVE_BROWN_OD
    return (is_brown & (dab_od >= POSITIVE_DAB_OD)).astype(int)


def touches_border(places, part):
    """Find nuclei at the edge of the image: (n,) int, 1 or 0.

    Args:
        places: columns of `place_columns`.
        part: `ImagePart`.
    """
    top, left = places["box_top_px"], places["box_left_px"]
    bottom, right = top + places["box_height_px"], left + places["box_width_px"]
    at_start = (top == 0) | (left == 0)
    at_end = (bottom == part.whole_shape[0]) | (right == part.whole_shape[1])
    return (at_start | at_end).astype(int)


def in_microns(columns, mpp):
    """Convert lengths and areas to µm and µm²; boxes stay in pixels.

    Args:
        columns: a dict or table of columns, of `measure`. Names that end in _px count, as areas
            where "area" is in the name.
        mpp: µm per pixel.

    Returns:
        {"diameter_um": (n,), ... "area_um2": (n,), ...}, float64.
    """
    converted = {}
    for name, values in columns.items():
        if name.endswith("_px") and not name.startswith("box_"):
            is_area = "area" in name
            new_name = name.removesuffix("_px") + ("_um2" if is_area else "_um")
            factor = mpp**2 if is_area else mpp
            converted[new_name] = np.round(np.asarray(values, float) * factor, 4)
    return converted
