"""Nuclei as instances: from the network's maps to labelled nuclei, a table of them, and how well two labellings agree.

    labels = separate(maps, **thresholds)               # (H, W, K) float32 -> (H, W) int32
    table = measure(labels, image, maps)                # one row per nucleus

    matching = match(truth, predicted)                  # one pass over the pixels
    tp, fp, fn = count_matches(matching)[0]             # at IoU 0.50, the first of IOU_THRESHOLDS
    average_precision(count_matches(matching)).mean()   # this image's share of Kaggle's DSB2018 score

A label image is (H, W), integer, 0 = background, 1…n = nuclei.
"""

from typing import NamedTuple

import numpy as np

# OpenCV, SciPy and scikit-image are imported by the functions that use them: together they take a second, which scores and
# every --help would wait for.

# 0.50, 0.55 … 0.95, the levels of the Data Science Bowl 2018. Divided rather than stepped, so that each is the float
# that its decimal reads as: a pair whose IoU is 3/5 then counts at 0.60.
IOU_THRESHOLDS = tuple(k / 20 for k in range(10, 20))

# What `separate` needs, until a training run has chosen better ones on its validation images and stored them.
THRESHOLDS = {
    "nucleus_threshold": 0.5,  # probability above which a pixel belongs to a nucleus
    "marker_threshold": 0.5,  # normalised depth above which a connected patch is the heart of one nucleus
    "contact_weight": 0.5,  # of the contact map, taken off the depth map before markers are sought
    "smoothing_px": 1.0,  # sigma of the blur of the depth map: one heart, not several ripples
    "min_area_px": 20,  # smaller objects are dropped: none of 25,460 nuclei of BBBC038 is smaller
    "min_probability": 0.5,  # objects with a lower mean nucleus probability are dropped
}
SMALLEST_PX = 10  # area in the image's own pixels below which nothing is a nucleus, however large the network saw it
HULLS_AT_ONCE = 256  # every corner of a hull is compared with every other: 256 of usual size take some 10 MB
NEIGHBOURHOOD_PX = 100  # centroids nearer than this count as nearby: some five diameters of a usual nucleus
MIN_MARKER_PX = 3  # a smaller heart is a ripple of the depth map
RIDGE = 1e-2  # of the calibration: keeps the weights finite where every nucleus is right
EMPTY_SHARE = 1e-3  # of an image; less nucleus than that is none, however undecided
SEARCH = {  # what `choose_thresholds` tries, one after the other
    "marker_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
    "nucleus_threshold": (0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
    "contact_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "smoothing_px": (0.5, 1.0, 1.5, 2.0),
    "min_area_px": (10, 20, 30, 45, 70),
    "min_probability": (0.5, 0.6, 0.7, 0.75, 0.8),
}


# --- Separating touching nuclei -------------------------------------------------------------------------------------


def separate(
    maps,
    nucleus_threshold=THRESHOLDS["nucleus_threshold"],
    marker_threshold=THRESHOLDS["marker_threshold"],
    contact_weight=THRESHOLDS["contact_weight"],
    smoothing_px=THRESHOLDS["smoothing_px"],
    min_area_px=THRESHOLDS["min_area_px"],
    min_probability=THRESHOLDS["min_probability"],
    zoom=1.0,
):
    """Turn the network's maps into nuclei: hearts of the depth map, grown over the nucleus pixels by watershed.

    Args:
        maps: (H, W, K) float32 in [0, 1]; channel 0 is the nucleus probability, channel 1, where there is one, the
            normalised depth inside a nucleus, channel 2, where there is one, the probability of a contact between two.
            With channel 0 alone touching nuclei stay one.
        nucleus_threshold, marker_threshold, contact_weight, smoothing_px, min_area_px, min_probability: see THRESHOLDS.
        zoom: how many times larger the network saw the image: smoothing_px and min_area_px are in the pixels that it saw.

    Returns:
        (H, W) int32 labels, 0 background, 1…n without gaps.
    """
    smoothing_px, min_marker_px = smoothing_px / zoom, MIN_MARKER_PX / zoom**2
    min_area_px = max(min_area_px / zoom**2, min(min_area_px, SMALLEST_PX))
    nucleus = maps[..., 0]
    mask = nucleus > nucleus_threshold
    # Pinholes, and no more: a gap between nuclei that surround it is background.
    holes, areas = connected(~mask)
    small = areas < min_area_px
    small[0] = False
    if small.any():
        mask |= small[holes]
    del holes

    labels, areas = connected(mask)
    if len(areas) > 1 and maps.shape[-1] > 1:
        labels = grow_hearts(labels, len(areas) - 1, mask, maps, marker_threshold, contact_weight, smoothing_px, min_marker_px)

    areas = np.bincount(labels.ravel())
    probabilities = np.bincount(labels.ravel(), nucleus.ravel(), minlength=len(areas)) / np.maximum(areas, 1)
    kept = (areas >= max(1, min_area_px)) & (probabilities >= min_probability)
    kept[0] = False
    new_ids = np.zeros(len(areas), np.int32)
    new_ids[kept] = np.arange(1, kept.sum() + 1)
    return new_ids[labels]


def connected(mask):
    """Components of a (H, W) bool mask, joined by edges: (H, W) int32 ids in the order of their first pixels, and their
    areas, of which entry 0 is the background's."""
    import cv2  # far faster than SciPy's and scikit-image's, with the same ids

    number, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return labels, np.bincount(labels.ravel(), minlength=number)  # a third of the time of OpenCV's own statistics


def grow_hearts(labels, num_components, mask, maps, marker_threshold, contact_weight, smoothing_px, min_marker_px):
    """Part the components of `separate`: (H, W) int32, one id for each heart, or for a component without any.

    Only where a component has several hearts does anything have to grow: elsewhere the component takes the id of its
    heart. And only the rims of the hearts grow, the pixels inside them have nowhere to go.
    """
    import cv2
    from skimage.segmentation import watershed

    depth = np.ascontiguousarray(maps[..., 1])
    if smoothing_px:
        reach = int(4 * smoothing_px + 0.5)
        depth = cv2.GaussianBlur(depth, (2 * reach + 1,) * 2, smoothing_px, borderType=cv2.BORDER_REFLECT)
    if maps.shape[-1] > 2 and contact_weight:
        depth = depth - np.float32(contact_weight) * maps[..., 2]
    hearts, areas = connected(mask & (depth > marker_threshold))
    home = np.zeros(len(areas), np.int32)  # the component that each heart lies in; 0 for what is no heart but a ripple
    inside = np.flatnonzero(hearts)
    home[hearts.ravel()[inside]] = labels.ravel()[inside]
    home[areas < min_marker_px] = 0
    num_hearts = np.bincount(home, minlength=num_components + 1)
    num_hearts[0] = 0
    # A nucleus too small or too faint for a heart of its own is not lost: its whole component becomes one.
    new_ids = np.arange(num_components + 1, dtype=np.int32) + np.int32(len(areas) - 1)
    new_ids[home] = np.arange(len(areas), dtype=np.int32)
    new_ids[0] = 0
    grown = new_ids[labels]
    if num_hearts.max() > 1:
        crowded = (num_hearts > 1)[labels]
        hearts[~crowded] = 0
        ripple = home == 0
        ripple[0] = False
        if ripple.any():
            hearts[ripple[hearts]] = 0
        core = cv2.erode((hearts > 0).view(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))).view(bool)
        rims = crowded & ~core
        flooded = watershed(-depth, np.where(core, 0, hearts), mask=rims)
        grown[rims] = flooded[rims]
        grown[core] = hearts[core]
    return grown


def median_diameter(labels):
    """Median diameter in px of the nuclei of (H, W) labels, each as a circle of its area; None without nuclei."""
    areas = np.bincount(labels.ravel())[1:]
    return float(np.median(np.sqrt(4 * areas[areas > 0] / np.pi))) if areas.any() else None


def choose_thresholds(maps, truths, zooms=None, start=None, search=None):
    """Search the thresholds of `separate` that fit a validation set best: one at a time, from THRESHOLDS on, two rounds.

    Best is the mean of two scores: pooled AP at IoU 0.5, and AP over IoU_THRESHOLDS averaged over images. The one
    counts every nucleus alike and forgives outlines, the other counts every image alike and does not.

    Args:
        maps: list of (H, W, K) float32.
        truths: list of (H, W) int32, in the same order.
        zooms: list of the zooms that the maps were made at; None for 1 throughout.
        start: thresholds to begin with; the default is THRESHOLDS.
        search: {name: values to try}; the default is SEARCH.

    Returns:
        (thresholds, score): the best dict, and its score in [0, 1].
    """

    images = list(zip(maps, truths, zooms or [1.0] * len(maps), strict=True))

    def score(thresholds):
        counts = [count_matches(match(truth, separate(m, zoom=zoom, **thresholds))) for m, truth, zoom in images]
        return (average_precision(np.sum(counts, axis=0)[0]) + average_precision(counts).mean()) / 2

    best = dict(THRESHOLDS if start is None else start)
    best_score, seen = score(best), {tuple(best.items())}
    for _ in range(2):
        before = dict(best)
        for name, values in (SEARCH if search is None else search).items():
            for value in values:
                candidate = {**best, name: value}
                if tuple(candidate.items()) in seen:
                    continue
                seen.add(tuple(candidate.items()))
                candidate_score = score(candidate)
                if candidate_score > best_score + 1e-9:
                    best, best_score = candidate, candidate_score
        if best == before:
            break
    return best, float(best_score)


# --- How sure: nuclei, and images ------------------------------------------------------------------------------------


def doubt_features(labels, maps, zoom=1.0):
    """What tells right nuclei from wrong ones, (n, 5) float64: logits of mean probability and of depth, size, a constant.

    Args:
        labels: (H, W) int32, 1…n.
        maps: (H, W, K) float32 in [0, 1], as for `separate`.
        zoom: as for `separate`.
    """
    from scipy import special

    n = int(labels.max())
    inside = np.flatnonzero(labels)
    nucleus = labels.ravel()[inside] - 1
    areas = np.maximum(np.bincount(nucleus, minlength=n), 1)
    mean = np.bincount(nucleus, maps[..., 0].ravel()[inside], minlength=n) / areas
    deepest = mean
    if maps.shape[-1] > 1:
        deepest = np.zeros(n, maps.dtype)
        np.maximum.at(deepest, nucleus, maps[..., 1].ravel()[inside])
    size = np.log(areas * zoom**2) / 2  # of the diameter that the network saw
    return np.stack(
        [special.logit(np.clip(mean, 0.01, 0.999)), special.logit(np.clip(deepest, 0.01, 0.99)), size, size**2, np.ones(n)], -1
    )


def calibrate(features, hits):
    """Weights with which `confidence` gives the share of such nuclei that are right: a logistic regression.

    Args:
        features: (n, 5) of `doubt_features`.
        hits: (n,) bool, whether a true nucleus overlaps with an IoU of 0.5 or more.

    Returns:
        A list of 5 floats.

    References:
        Platt 1999, "Probabilistic outputs for support vector machines".
    """
    from scipy import optimize, special

    def loss(weights):
        logits = features @ weights
        slope = features.T @ (special.expit(logits) - hits) + RIDGE * weights
        return np.sum(np.logaddexp(0, logits) - hits * logits) + RIDGE / 2 * weights @ weights, slope

    return [float(weight) for weight in optimize.minimize(loss, np.zeros(features.shape[1]), jac=True).x]


def confidence(features, weights):
    """Calibrated probability, (n,) in [0, 1], that a nucleus is a true one with an IoU of 0.5 or more."""
    from scipy import special

    return special.expit(features @ np.asarray(weights))


def image_doubt(maps):
    """How little the network is at home in an image: the undecided share of what it takes for nucleus, 0 to about 1.

    Undecided is a pixel by its distance to 0 or 1. An image without anything like a nucleus has none.
    """
    nucleus = maps[..., 0].astype(np.float64)
    return float(np.minimum(nucleus, 1 - nucleus).sum() / max(nucleus.sum(), EMPTY_SHARE * nucleus.size))


def expected_calibration_error(probabilities, hits, bins=10):
    """Mean distance between what is said and what is true, over bins of equal width weighted by what they hold.

    Args:
        probabilities: (n,) in [0, 1].
        hits: (n,) bool.

    Returns:
        (error, rows): rows of (nuclei, mean probability, share of hits) for each bin that holds any.

    References:
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    place = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    rows = [
        (int(np.sum(place == k)), float(probabilities[place == k].mean()), float(hits[place == k].mean()))
        for k in range(bins)
        if np.any(place == k)
    ]
    total = sum(number for number, _, _ in rows)
    return sum(number * abs(said - true) for number, said, true in rows) / max(1, total), rows


# --- Measuring nuclei -----------------------------------------------------------------------------------------------


def outlines(labels):
    """The outline of each nucleus along the edges of its pixels, so that the area inside is its number of pixels.

    Args:
        labels: (H, W) integer, 0 background.

    Yields:
        (id, polygons) by ascending id. A polygon is one piece of the nucleus (pixels joined by their edges): a list of
        rings, the outer one first, then its holes. A ring is (n, 2) int32, (row, column) of pixel corners, where
        (0, 0) is the upper left corner of the image; it is not closed (the first corner is not repeated), visits no
        corner twice, and its corners are real turns.
    """
    import cv2
    from scipy import ndimage

    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:  # an id without pixels
            continue
        num_pieces, pieces = cv2.connectedComponents((labels[box] == index).astype(np.uint8), connectivity=4)
        corner = np.array([box[0].start, box[1].start], np.int32)
        polygons = []
        for piece in range(1, num_pieces):
            # OpenCV walks through the centres of pixels, which would cut half a pixel off all around. In a picture of
            # twice the size each pixel has four, one for each of its corners: the walk then visits the corners.
            doubled = cv2.resize((pieces == piece).astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
            contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
            rings = []
            for contour in sorted(range(len(contours)), key=lambda contour: tree[0, contour, 3] >= 0):
                ring = (contours[contour][:, 0, ::-1] + 1) // 2
                rings.append(corner + ring[(ring != ring[np.arange(-1, len(ring) - 1)]).any(axis=1)])
            polygons.append(rings)
        yield index, polygons


def hull_measures(inside, nucleus, width, num_nuclei):
    """Of the convex hulls of all nuclei, drawn around the corners of their pixels.

    Args:
        inside: flat indices of the nucleus pixels, ascending. nucleus: the place of each in the result. width: of the image.

    Returns:
        (num_nuclei, 3) float64: area in px, longest and shortest distance between two parallel tangents in px.
    """
    import cv2

    # Only the ends of a run of pixels of one nucleus within a row can be corners of its hull.
    row, column = np.divmod(inside, width)
    first = np.flatnonzero((np.diff(inside, prepend=-2) != 1) | (np.diff(nucleus, prepend=-1) != 0) | (column == 0))
    last = np.append(first[1:], len(inside)) - 1
    order = np.argsort(nucleus[first], kind="stable")
    first, last = first[order], last[order]
    ends = np.stack([column[first], row[first], column[last] + 1, row[last]], axis=1).reshape(-1, 2, 2)
    corners = np.concatenate([ends, ends + (0, 1)], axis=1).reshape(-1, 1, 2).astype(np.int32)
    stops = 4 * np.cumsum(np.bincount(nucleus[first], minlength=num_nuclei))
    hulls = [cv2.convexHull(corners[start:stop])[:, 0] for start, stop in zip([0, *stops][:-1], stops, strict=True)]
    measures = np.zeros((num_nuclei, 3))
    for start in range(0, num_nuclei, HULLS_AT_ONCE):
        group = hulls[start : start + HULLS_AT_ONCE]
        # Each filled up with its first corner: that adds sides without length, which are left out below, and no distance.
        place = np.arange(max(len(hull) for hull in group))
        hull = np.stack([hull[place * (place < len(hull))] for hull in group]).astype(float)
        sides = np.roll(hull, -1, axis=1) - hull
        lengths = np.hypot(sides[..., 0], sides[..., 1])
        normals = np.stack([-sides[..., 1], sides[..., 0]], axis=1) / np.maximum(lengths, 1e-9)[:, None]
        across = hull @ normals  # (nuclei, corners, sides): the shortest distance lies across one of the sides
        breadths = np.where(lengths > 0, across.max(axis=1) - across.min(axis=1), np.inf)
        between = hull[:, :, None] - hull[:, None]
        done = measures[start : start + len(group)]
        done[:, 0] = np.abs((hull[..., 0] * sides[..., 1] - hull[..., 1] * sides[..., 0]).sum(axis=1)) / 2
        done[:, 1] = np.sqrt((between**2).sum(axis=-1).max(axis=(1, 2)))
        done[:, 2] = breadths.min(axis=1)
    return measures


class WindowOf(NamedTuple):
    """A part of a larger image: its upper left corner there, and what the whole is. white: grey level of empty glass."""

    top: int
    left: int
    height: int
    width: int
    white: int | None = None


def perimeters(labels, inside, nucleus, num_nuclei):
    """Lengths of the outlines in px, corners rounded off: each border pixel counts 1, the root of 2 or something between,
    by which of its neighbours are border pixels of the same nucleus. As `skimage.measure.perimeter`, of all at once.

    Args:
        labels: (H, W) integer. inside: flat indices of its nucleus pixels. nucleus: the place of each in the result.

    Returns:
        (num_nuclei,) float64.

    References:
        Benkrid & Crookes 2000, "Design and FPGA implementation of a perimeter estimator".
    """
    framed = np.pad(labels, 1).ravel()  # so that every pixel has eight neighbours
    width = labels.shape[1] + 2
    place = (inside // labels.shape[1] + 1) * width + inside % labels.shape[1] + 1
    own = framed[place]
    border = np.zeros(framed.size, bool)
    border[place] = np.any([framed[place + step] != own for step in (-width, -1, 1, width)], axis=0)
    is_border = border[place]
    place, own, nucleus = place[is_border], own[is_border], nucleus[is_border]

    def beside(steps):
        return sum((border[place + step] & (framed[place + step] == own)).astype(np.intp) for step in steps)

    straight, diagonal = beside((-width, -1, 1, width)), beside((-width - 1, -width + 1, width - 1, width + 1))
    length = np.zeros((5, 5))  # by the numbers of straight and of diagonal neighbours
    length[2, 0] = length[3, 0] = length[2, 1] = length[3, 1] = length[2, 2] = length[3, 2] = 1
    length[0, 2] = length[1, 3] = np.sqrt(2)
    length[1, 1] = length[1, 2] = (1 + np.sqrt(2)) / 2
    return np.bincount(nucleus, length[straight, diagonal], minlength=num_nuclei)


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


# --- Comparing two labellings ---------------------------------------------------------------------------------------


class Matching(NamedTuple):
    """Which nuclei of two label images overlap, and how far: all that any object or pixel score needs.

    Ids are the values in the label images. Pairs are sorted by truth id, then by predicted id.
    """

    truth_areas: np.ndarray  # (n + 1,) int64, pixels of each truth id; entry 0 is the background
    predicted_areas: np.ndarray  # (m + 1,) int64, the same for the prediction
    truth_ids: np.ndarray  # (pairs,) int64, the truth nucleus of each overlapping pair
    predicted_ids: np.ndarray  # (pairs,) int64, the predicted nucleus of each overlapping pair
    intersections: np.ndarray  # (pairs,) int64, pixels in common, 1 or more
    iou: np.ndarray  # (pairs,) float64 in (0, 1], intersection over union

    @property
    def num_truth(self):
        """Number of truth nuclei. Ids that no pixel carries do not count."""
        return int(np.count_nonzero(self.truth_areas[1:]))

    @property
    def num_predicted(self):
        """Number of predicted nuclei. Ids that no pixel carries do not count."""
        return int(np.count_nonzero(self.predicted_areas[1:]))


def match(truth, predicted):
    """Find every overlapping pair of nuclei, in one pass over the pixels.

    Args:
        truth: (H, W) integer label image, 0 = background.
        predicted: (H, W) integer label image of the same size.

    Returns:
        Matching. Counts at any IoU follow from it without looking at the pixels again.

    Raises:
        ValueError: sizes that differ, values that are no integers, or negative ones.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"The truth is {truth.shape} and the prediction {predicted.shape}: expected equal shapes.")
    for name, labels in (("truth", truth), ("prediction", predicted)):
        if labels.dtype.kind not in "iub":
            raise ValueError(f"The {name} holds {labels.dtype}: expected integer labels, 0 for background.")
        if labels.size and labels.min() < 0:
            raise ValueError(f"The {name} holds the label {labels.min()}: expected 0 for background and 1…n.")
    truth, predicted = truth.ravel().astype(np.int64), predicted.ravel().astype(np.int64)
    truth_areas, predicted_areas = np.bincount(truth, minlength=1), np.bincount(predicted, minlength=1)
    # Only the pairs that occur, not the n × m table: 5,000 × 5,000 nuclei would be 200 MB of zeros.
    both = (truth > 0) & (predicted > 0)
    pairs, intersections = np.unique(truth[both] * len(predicted_areas) + predicted[both], return_counts=True)
    truth_ids, predicted_ids = np.divmod(pairs, len(predicted_areas))
    iou = intersections / (truth_areas[truth_ids] + predicted_areas[predicted_ids] - intersections)
    return Matching(truth_areas, predicted_areas, truth_ids, predicted_ids, intersections, iou)


def one_to_one(matching, weights):
    """Choose pairs so that no nucleus is used twice and the sum of their weights is the largest possible.

    The linear assignment of `scipy.optimize.linear_sum_assignment`, on the overlapping pairs only (all other pairs
    weigh nothing), which takes milliseconds where the full matrix of 5,000 × 5,000 nuclei takes seconds.

    Args:
        matching: Matching.
        weights: (pairs,) float, positive.

    Returns:
        (chosen,) int64 indices of pairs, ascending.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    num_pairs = len(weights)
    if num_pairs == 0:
        return np.zeros(0, np.int64)
    rows = np.unique(matching.truth_ids, return_inverse=True)[1]
    columns = np.unique(matching.predicted_ids, return_inverse=True)[1]
    num_rows, num_columns = rows.max() + 1, columns.max() + 1
    # Every row gets a column of its own that stands for "unmatched", since SciPy wants all rows assigned. Each row
    # then takes exactly one entry, so that adding 1 to all of them (SciPy drops zeros) changes no choice.
    own = np.arange(num_rows)
    table = csr_array(
        (
            np.concatenate([np.asarray(weights, float) + 1, np.ones(num_rows)]),
            (np.concatenate([rows, own]), np.concatenate([columns, num_columns + own])),
        ),
        shape=(num_rows, num_columns + num_rows),
    )
    taken = min_weight_full_bipartite_matching(table, maximize=True)[1]
    return np.flatnonzero(taken[rows] == columns)


def matched_pairs(matching, threshold=0.5):
    """Choose the true positives at one IoU threshold: one-to-one pairs with IoU ≥ `threshold`.

    As in `stardist.matching.matching` (Schmidt et al. 2018, https://github.com/stardist/stardist): as many pairs as
    possible, ties broken by the larger sum of IoU. Kaggle's DSB2018 rule and Kirillov's PQ say IoU > threshold; the
    two differ only where an IoU equals the threshold to the last bit.

    Args:
        matching: Matching.
        threshold: float in (0, 1].

    Returns:
        (tp,) int64 indices into the pairs of `matching`, ascending.

    Raises:
        ValueError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"IoU threshold {threshold}: expected a number above 0 and up to 1.")
    above = np.flatnonzero(matching.iou >= threshold)
    ids = matching.truth_ids[above], matching.predicted_ids[above]
    if all(len(np.unique(one_side)) == len(above) for one_side in ids):
        return above  # always so above IoU 0.5: two nuclei cannot both share more than half with a third
    num_most = min(matching.num_truth, matching.num_predicted)
    chosen = one_to_one(matching, (matching.iou >= threshold) + matching.iou / (2 * num_most))
    return chosen[matching.iou[chosen] >= threshold]


def count_matches(matching, thresholds=IOU_THRESHOLDS):
    """Count true positives, false positives and false negatives at several IoU thresholds.

    Counts of several images may be added to pool them.

    Args:
        matching: Matching.
        thresholds: floats in (0, 1].

    Returns:
        (thresholds, 3) int64: tp, fp, fn.
    """
    tp = np.array([len(matched_pairs(matching, threshold)) for threshold in thresholds], np.int64)
    return np.stack([tp, matching.num_predicted - tp, matching.num_truth - tp], axis=-1)


def average_precision(counts):
    """TP / (TP + FP + FN), which StarDist, Cellpose and Kaggle's DSB2018 call average precision at an IoU threshold.

    It is the Jaccard index of objects, not the area under a precision-recall curve that COCO means by the name.
    For `counts = [count_matches(matching) for matching in matchings]`:

        average_precision(np.mean(counts, axis=0))      # pooled over images, one value per threshold
        average_precision(counts).mean()                # Kaggle's score: thresholds first, then images

    Args:
        counts: (…, 3) numbers: tp, fp, fn.

    Returns:
        (…) float64 in [0, 1]. Nothing there and nothing found is right, so 1 (StarDist says 0 there).
    """
    counts = np.asarray(counts, float)
    total = counts.sum(axis=-1)
    return np.divide(counts[..., 0], total, out=np.ones_like(total), where=total > 0)


def merges_and_splits(matching):
    """Count the mistakes of separation: nuclei run together, torn apart, missed, made up.

    A nucleus lies in another when more than half of its pixels do, the detection test of Matula et al. 2015 (Cell
    Tracking Accuracy Measurement, https://doi.org/10.1371/journal.pone.0144959), who count merged nuclei by it.
    Unlike a low IoU bound (Caicedo et al. 2019 use 0.1) it also sees a clump of twenty nuclei, each with a small IoU.

    Returns:
        Four ints: merges (predicted nuclei in which two or more truth nuclei lie), splits (truth nuclei in which two
        or more predicted ones lie), misses (truth nuclei of which more than half was left as background), extras
        (predicted nuclei more than half of which lie on background).
    """
    truth_ids, predicted_ids, shared = matching.truth_ids, matching.predicted_ids, matching.intersections
    truth_inside = 2 * shared > matching.truth_areas[truth_ids]
    predicted_inside = 2 * shared > matching.predicted_areas[predicted_ids]
    merges = np.count_nonzero(np.bincount(predicted_ids[truth_inside]) > 1)
    splits = np.count_nonzero(np.bincount(truth_ids[predicted_inside]) > 1)
    truth_covered = np.bincount(truth_ids, shared, minlength=len(matching.truth_areas))
    predicted_covered = np.bincount(predicted_ids, shared, minlength=len(matching.predicted_areas))
    misses = np.count_nonzero((2 * truth_covered < matching.truth_areas)[1:])
    extras = np.count_nonzero((2 * predicted_covered < matching.predicted_areas)[1:])
    return merges, splits, misses, extras
