"""From the maps of the network to separate nuclei.

Pixels above a probability are nucleus. In their connected components the distance map, less the
contact map, is high in the middle of each nucleus: patches of it above a threshold are markers.
Where a component has several markers, a watershed lets them grow until they meet.

    labels = separate(maps, scale=1.5, **model.thresholds)
"""

import numpy as np

from nuclei.images.labels import equivalent_diameters

# Defaults. A training chooses better ones on its validation images and stores them in the model.
THRESHOLDS = {
    "nucleus_threshold": 0.5,  # probability above which a pixel belongs to a nucleus
    "marker_threshold": 0.5,  # normalised distance above which connected pixels are one marker
    "contact_weight": 0.5,  # share of the contact map that is subtracted from the distance map
    "smoothing_px": 1.0,  # sigma of the blur of the distance map: one marker, not several ripples
    "min_area_px": 20,  # smaller objects are dropped; nuclei of BBBC038 are not smaller
    "min_probability": 0.5,  # objects of lower mean nucleus probability are dropped
}
SMALLEST_PX = 10  # area in the image's own pixels below which nothing is a nucleus, at any scale
PINHOLE_PX = 70  # area below which a hole in a nucleus is filled, in pixels that the network saw
MIN_MARKER_PX = 3  # a smaller marker is a ripple of the distance map


def separate(
    maps,
    nucleus_threshold=THRESHOLDS["nucleus_threshold"],
    marker_threshold=THRESHOLDS["marker_threshold"],
    contact_weight=THRESHOLDS["contact_weight"],
    smoothing_px=THRESHOLDS["smoothing_px"],
    min_area_px=THRESHOLDS["min_area_px"],
    min_probability=THRESHOLDS["min_probability"],
    smallest_px=SMALLEST_PX,
    scale=1.0,
):
    """Turn the maps of the network into labels.

    Each threshold is an argument of its own, hence nine of them: a model file's thresholds are
    passed as `**thresholds`, and a misspelt name is an error.

    Args:
        maps: (H, W, K) float32 in [0, 1]. Channel 0 is the nucleus probability, channel 1 the
            distance map, channel 2 the contact map. With channel 0 alone touching nuclei stay one.
        nucleus_threshold, marker_threshold, contact_weight, smoothing_px, min_area_px,
            min_probability: see THRESHOLDS.
        smallest_px: area in pixels of the image below which nothing is a nucleus.
        scale: how many times larger the network saw the image. smoothing_px and min_area_px are in
            pixels that the network saw.

    Returns:
        (H, W) int32, 0 background, 1...n without gaps.
    """
    smoothing_px, min_marker_px = smoothing_px / scale, MIN_MARKER_PX / scale**2
    min_area_px = least_area(min_area_px, scale, smallest_px)
    nucleus = maps[..., 0]
    mask = nucleus > nucleus_threshold
    fill_pinholes(mask, least_area(PINHOLE_PX, scale))
    labels, areas = connected(mask)
    if len(areas) > 1 and maps.shape[-1] > 1:
        heights = marker_heights(maps, contact_weight, smoothing_px)
        markers, marker_areas = connected(mask & (heights > marker_threshold))
        labels = grow_markers(labels, heights, markers, marker_areas >= min_marker_px)

    areas = np.bincount(labels.ravel())
    sums = np.bincount(labels.ravel(), nucleus.ravel())
    probabilities = sums / np.maximum(areas, 1)
    is_nucleus = (areas >= max(1, min_area_px)) & (probabilities >= min_probability)
    is_nucleus[0] = False
    new_ids = np.zeros(len(areas), np.int32)
    new_ids[is_nucleus] = np.arange(1, is_nucleus.sum() + 1)
    return new_ids[labels]


def least_area(min_area_px, scale, smallest_px=SMALLEST_PX):
    """Area in px of the image below which an object is dropped. Args: as of `separate`."""
    return max(min_area_px / scale**2, min(min_area_px, smallest_px))


def fill_pinholes(mask, limit_px):
    """Fill small holes, in place. A larger gap between nuclei is background.

    Args:
        mask: (H, W) bool.
        limit_px: area of the smallest hole that stays.
    """
    holes, areas = connected(~mask)
    is_small = areas < limit_px  # entry 0 is the mask itself: to fill it changes nothing
    if len(areas) > 1:
        is_small[1 + areas[1:].argmax()] = False  # the background, also of a very small image
    if is_small.any():
        mask |= is_small[holes]


def connected(mask):
    """Find the components of a mask; pixels that share an edge are connected.

    Args:
        mask: (H, W) bool.

    Returns:
        (labels, areas): (H, W) int32, ids in the order of their first pixels, and the number of
        pixels of each id; entry 0 is the background.
    """
    import cv2  # much faster than SciPy and scikit-image, with the same ids

    labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)[1]
    # Faster than OpenCV's own statistics.
    return labels, np.bincount(labels.ravel())


def marker_heights(maps, contact_weight, smoothing_px):
    """Smooth the distance map and subtract the contact map: high in the middle of each nucleus.

    Args:
        maps: (H, W, K) float32, as for `separate`.
        contact_weight, smoothing_px: see THRESHOLDS; smoothing_px is in pixels of the maps.

    Returns:
        (H, W) float32.
    """
    import cv2

    heights = np.ascontiguousarray(maps[..., 1])
    if smoothing_px:
        side = 2 * int(4 * smoothing_px + 0.5) + 1
        heights = cv2.GaussianBlur(
            heights, (side, side), smoothing_px, borderType=cv2.BORDER_REFLECT
        )
    if maps.shape[-1] > 2 and contact_weight:
        heights = heights - np.float32(contact_weight) * maps[..., 2]
    return heights


def grow_markers(components, heights, markers, is_large):
    """Divide components among the markers in them.

    A component with one marker, or with none (a nucleus too small or too faint for one), becomes
    one nucleus as a whole. Only components with several markers need a watershed, and in it only
    the borders of the markers grow, because pixels inside a marker have nowhere to go.

    Args:
        components: (H, W) int32, ids without gaps.
        heights: (H, W) float32, of `marker_heights`; the watershed floods from high to low.
        markers: (H, W) int32, ids without gaps, each marker inside one component.
        is_large: bool, for each id of `markers` whether it is a marker or a ripple.

    Returns:
        (H, W) int32, one id for each nucleus, with gaps.
    """
    import cv2
    from skimage.segmentation import watershed

    num_ids, num_components = len(is_large), int(components.max())
    component_of = np.zeros(num_ids, np.int32)  # of each marker; 0 for ripples
    pixels = np.flatnonzero(markers)
    component_of[markers.ravel()[pixels]] = components.ravel()[pixels]
    component_of[~is_large] = 0
    num_markers = np.bincount(component_of, minlength=num_components + 1)
    num_markers[0] = 0
    # A component takes the id of its marker; without a marker, an id above those of all markers.
    marker_ids = np.arange(num_ids, dtype=np.int32)
    new_ids = np.arange(num_components + 1, dtype=np.int32) + np.int32(num_ids - 1)
    new_ids[component_of] = marker_ids
    new_ids[0] = 0
    grown = new_ids[components]
    is_divided = num_markers > 1
    if is_divided.any():
        seeds = np.where(is_divided[component_of], marker_ids, 0)[markers]
        core = cv2.erode((seeds > 0).view(np.uint8), None).view(bool)  # all 8 neighbours, too
        to_flood = is_divided[components] & ~core
        flooded = watershed(-heights, seeds, mask=to_flood)
        grown[to_flood] = flooded[to_flood]
        grown[core] = seeds[core]
    return grown


def median_diameter(labels):
    """Compute the median diameter of the nuclei, each taken as a circle of its area.

    Args:
        labels: (H, W) int32.

    Returns:
        Float in px, or None without nuclei.
    """
    areas_px = np.bincount(labels.ravel())[1:]
    if not areas_px.any():
        return None
    return float(np.median(equivalent_diameters(areas_px[areas_px > 0])))
