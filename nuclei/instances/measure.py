"""nuclei.instances.measure"""

from typing import NamedTuple

import numpy as np

from nuclei.instances.shape import hull_measures, perimeters

NEIGHBOURHOOD_PX = 100  # centroids nearer than this count as nearby: some five diameters of a usual nucleus


class WindowOf(NamedTuple):
    """A part of a larger image: its upper left corner there, and what the whole is. white: grey level of empty glass."""

    top: int
    left: int
    height: int
    width: int
    white: int | None = None


def stain_densities(image, white):
    """Optical density of haematoxylin, eosin and DAB in each of n pixels, by colour deconvolution.

    Args:
        image: (n, 3) RGB grey levels. white: the grey level of empty glass.

    Returns:
        (n, 3) float64; a stain that is not there comes out around 0, and a little below it through noise.

    References:
        Ruifrok & Johnston 2001, "Quantification of histochemical staining by color deconvolution".
    """
    from skimage.color import hed_from_rgb

    density = -np.log10((np.asarray(image, float) + 1) / (white + 1))  # + 1: black is dense, not infinitely so
    return density @ hed_from_rgb


def count_touching(labels, ids):
    """How many other nuclei each of these touches, by one of the 8 neighbours of a pixel: (n,) int64."""
    touching = np.zeros((len(ids), 2), np.int64)[:0]
    height, width = labels.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):  # each of the 8 neighbours of a pixel, from one side
        one = labels[: height - down, max(0, -right) : width - max(0, right)]
        other = labels[down:, max(0, right) : width + min(0, right)]
        differ = (one != other) & (one > 0) & (other > 0)
        touching = np.concatenate([touching, np.stack([one[differ], other[differ]], axis=1)])
    pairs = np.unique(np.sort(touching, axis=1), axis=0)
    return np.bincount(pairs.ravel(), minlength=int(labels.max(initial=0)) + 1)[ids]


def measure_neighbours(centroids, ids):
    """Who is near whom, as columns: nuclei within NEIGHBOURHOOD_PX, the nearest one and how far. centroids: (n, 2) px."""
    num_near, nearest_id, nearest = np.zeros(len(ids), int), np.zeros(len(ids), int), np.full(len(ids), np.nan)
    if len(ids) > 1:
        from scipy.spatial import KDTree

        tree = KDTree(centroids)
        num_near = tree.query_ball_point(centroids, NEIGHBOURHOOD_PX, return_length=True) - 1
        distances, places = tree.query(centroids, k=2)
        # Of two nuclei with one centroid (a ring and its kernel) the first place need not be the nucleus itself.
        second = np.where(places[:, 1] == np.arange(len(ids)), 0, 1)
        rows = np.arange(len(ids))
        nearest_id, nearest = ids[places[rows, second]], distances[rows, second]
    return {"nuclei_nearby": num_near, "nearest_id": nearest_id, "nearest_distance_px": nearest.round(2)}


def measure(labels, image=None, maps=None, stained=False, mpp=None, window=None, outlined=None):
    """One row for each nucleus: where it is, its size and shape, how sure the network is, how bright it is, who is near.

    Args:
        labels: (H, W) int32, 0 background, 1…n.
        image: (H, W, 3) uint8 or uint16; intensities are means over R, G and B, in its grey levels. None leaves the
            columns of intensities and stains out.
        maps: (H, W, K) float32, for the nucleus probability; None leaves its columns out.
        stained: the image is bright field in colour. Otherwise the optical densities of the stains, which mean nothing
            there, are NaN: the columns stay, so that the tables of two images fit together.
        mpp: µm per pixel; None leaves the columns in µm out.
        window: of what larger image this is a part, a `WindowOf`; places are then those in the larger one.
        outlined: list of `outlines(labels)`, where they are known already.

    Returns:
        A dict of columns, each with n values:

        - id, centroid_row_px, centroid_column_px; box_top_px, box_left_px, box_height_px, box_width_px
        - area_px, diameter_px (of the circle of equal area), major_axis_px, minor_axis_px (of the ellipse of equal
          second moments), aspect_ratio, eccentricity (0 circle to 1 line), orientation_degrees (of the major axis,
          0 along the rows, 90 along the columns, counter-clockwise), perimeter_px, circularity (4 pi area / perimeter
          squared; 1 circle), extent (share of the box), convex_area_px, solidity (share of the convex hull),
          longest_px, narrowest_px (largest and smallest caliper)
        - mean_probability, std_probability
        - mean_intensity, std_intensity, min_intensity, max_intensity, mean_red, mean_green, mean_blue
        - haematoxylin_od, haematoxylin_od_std, haematoxylin_od_max, eosin_od, dab_od, dab_od_std, dab_od_max, total_od
          (means, unless std or max is said; `stain_densities`)
        - touching_nuclei, nuclei_nearby (centroids within NEIGHBOURHOOD_PX), nearest_id (0: none), nearest_distance_px
          (between centroids; NaN: none), touches_border (1 where a part may lie outside of the image)
        - with mpp, as `in_microns`: centroid_row_um, … area_um2, …
    """
    whole = window or WindowOf(0, 0, *labels.shape)
    width = labels.shape[1]
    ids = np.flatnonzero(np.bincount(labels.ravel(), minlength=1))
    ids = ids[ids > 0]
    rank = np.zeros(int(labels.max(initial=0)) + 1, np.intp)
    rank[ids] = np.arange(len(ids))
    inside = np.flatnonzero(labels)
    nucleus = rank[labels.ravel()[inside]]  # of each pixel inside, the row in the table
    area = np.bincount(nucleus, minlength=len(ids))

    def mean_of(values):
        return np.bincount(nucleus, values, minlength=len(ids)) / area

    def std_of(values):
        return np.sqrt(mean_of((values - mean_of(values)[nucleus]) ** 2))

    def extreme_of(values, which, start):
        found = np.full(len(ids), start, np.asarray(values).dtype)
        which.at(found, nucleus, values)
        return found

    row, column = np.divmod(inside, width)
    row, column = row + whole.top, column + whole.left
    top, left = extreme_of(row, np.minimum, whole.height), extreme_of(column, np.minimum, whole.width)
    tall, wide = extreme_of(row, np.maximum, -1) + 1 - top, extreme_of(column, np.maximum, -1) + 1 - left
    centroids = np.stack([mean_of(row), mean_of(column)], axis=1)
    # The ellipse of equal second moments, from their 2 x 2 matrix.
    down, right = row - centroids[nucleus, 0], column - centroids[nucleus, 1]
    of_rows, of_columns, mixed = mean_of(down**2), mean_of(right**2), mean_of(down * right)
    spread = np.sqrt((of_rows - of_columns) ** 2 + 4 * mixed**2)
    major = 4 * np.sqrt((of_rows + of_columns + spread) / 2)
    minor = 4 * np.sqrt(np.maximum((of_rows + of_columns - spread) / 2, 0))
    orientation = np.degrees(np.arctan2(-2 * mixed, of_columns - of_rows)) / 2 % 180  # minus: rows grow downwards
    perimeter = perimeters(labels, inside, nucleus, len(ids))
    hulls = hull_measures(inside, nucleus, width, len(ids))
    columns = {
        "id": ids,
        "centroid_row_px": centroids[:, 0].round(2),
        "centroid_column_px": centroids[:, 1].round(2),
        "box_top_px": top,
        "box_left_px": left,
        "box_height_px": tall,
        "box_width_px": wide,
        "area_px": area,
        "diameter_px": np.sqrt(4 * area / np.pi).round(2),
        "major_axis_px": major.round(2),
        "minor_axis_px": minor.round(2),
        # A line of pixels has no minor axis; its pixels still are one wide.
        "aspect_ratio": (np.maximum(major, 1) / np.maximum(minor, 1)).round(4),
        "eccentricity": np.sqrt(1 - (minor / np.where(major > 0, major, np.inf)) ** 2 - (major == 0)).round(4),
        "orientation_degrees": orientation.round(2),
        "perimeter_px": perimeter.round(2),
        # Digital perimeters of the smallest nuclei come out short, so that a few would pass 1: cut there.
        "circularity": np.minimum(4 * np.pi * area / np.maximum(perimeter, 1) ** 2, 1).round(4),
        "extent": (area / (tall * wide)).round(4),
        "convex_area_px": hulls[:, 0].round(2),
        "solidity": (area / hulls[:, 0]).round(4),
        "longest_px": hulls[:, 1].round(2),
        "narrowest_px": hulls[:, 2].round(2),
    }
    if maps is not None:
        probability = maps[..., 0].ravel()[inside].astype(float)
        columns["mean_probability"] = mean_of(probability).round(4)
        columns["std_probability"] = std_of(probability).round(4)
    if image is not None:
        colours = image.reshape(-1, 3)[inside].astype(float)
        grey = colours.mean(axis=1)
        columns["mean_intensity"] = mean_of(grey).round(2)
        columns["std_intensity"] = std_of(grey).round(2)
        columns["min_intensity"] = extreme_of(grey, np.minimum, np.inf).round(2)
        columns["max_intensity"] = extreme_of(grey, np.maximum, -np.inf).round(2)
        for name, colour in zip(("mean_red", "mean_green", "mean_blue"), colours.T, strict=True):
            columns[name] = mean_of(colour).round(2)
        # Cameras of 10 to 16 bits all come as uint16: there the brightest value stands for the empty glass.
        white = whole.white or (255 if image.dtype == np.uint8 else int(image.max(initial=1)))
        densities = stain_densities(colours, white).T if stained else (None,) * 3
        unknown = np.full(len(ids), np.nan)
        for name, density in zip(("haematoxylin", "eosin", "dab"), densities, strict=True):
            columns[f"{name}_od"] = mean_of(density).round(4) if stained else unknown
            if name != "eosin":  # it stains what is not nucleus
                columns[f"{name}_od_std"] = std_of(density).round(4) if stained else unknown
                columns[f"{name}_od_max"] = extreme_of(density, np.maximum, -np.inf).round(4) if stained else unknown
        columns["total_od"] = mean_of(-np.log10((grey + 1) / (white + 1))).round(4) if stained else unknown
    columns["touching_nuclei"] = count_touching(labels, ids)
    columns.update(measure_neighbours(centroids, ids))
    touches = (top == 0) | (left == 0) | (top + tall == whole.height) | (left + wide == whole.width)
    columns["touches_border"] = touches.astype(int)
    return columns if mpp is None else {**columns, **in_microns(columns, mpp)}


def in_microns(columns, mpp):
    """The columns of lengths and areas in µm and µm²: {"diameter_um": …, "area_um2": …}; boxes stay in pixels.

    Args:
        columns: as of `measure`; those whose names end in _px count, as areas where "area" is in the name.
        mpp: µm per pixel.
    """
    return {
        name.removesuffix("_px") + ("_um2" if "area" in name else "_um"): np.round(
            np.asarray(values, float) * (mpp**2 if "area" in name else mpp), 4
        )
        for name, values in columns.items()
        if name.endswith("_px") and not name.startswith("box_")
    }
