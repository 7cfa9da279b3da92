"""nuclei.instances.separate"""

import numpy as np

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
MIN_MARKER_PX = 3  # a smaller heart is a ripple of the depth map


def separate(
    maps,
    nucleus_threshold=THRESHOLDS["nucleus_threshold"],
    marker_threshold=THRESHOLDS["marker_threshold"],
    contact_weight=THRESHOLDS["contact_weight"],
    smoothing_px=THRESHOLDS["smoothing_px"],
    min_area_px=THRESHOLDS["min_area_px"],
    min_probability=THRESHOLDS["min_probability"],
    scale=1.0,
):
    """Turn the network's maps into nuclei: hearts of the depth map, grown over the nucleus pixels by watershed.

    Args:
        maps: (H, W, K) float32 in [0, 1]; channel 0 is the nucleus probability, channel 1, where there is one, the
            normalised depth inside a nucleus, channel 2, where there is one, the probability of a contact between two.
            With channel 0 alone touching nuclei stay one.
        nucleus_threshold, marker_threshold, contact_weight, smoothing_px, min_area_px, min_probability: see THRESHOLDS.
        scale: how many times larger the network saw the image: smoothing_px and min_area_px are in the pixels that it saw.

    Returns:
        (H, W) int32 labels, 0 background, 1…n without gaps.
    """
    smoothing_px, min_marker_px = smoothing_px / scale, MIN_MARKER_PX / scale**2
    min_area_px = max(min_area_px / scale**2, min(min_area_px, SMALLEST_PX))
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
        labels = grow_markers(labels, len(areas) - 1, mask, maps, marker_threshold, contact_weight, smoothing_px, min_marker_px)

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


def grow_markers(labels, num_components, mask, maps, marker_threshold, contact_weight, smoothing_px, min_marker_px):
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
