"""How sharp a plane is, and how much it looks like nuclei: by these planes are chosen.

Both are plain arithmetic without a network, so training and prediction choose alike.
"""

import numpy as np

MAX_SIDE_PX = 1200  # a larger plane is averaged to it: nuclei stay large enough to be judged
MIN_AREA_PX = 30  # of a blob that may be a nucleus: spots of a probe are smaller
MIN_SOLIDITY = 0.85  # share of its convex hull that a nucleus fills
MAX_FOREGROUND = 0.6  # share of a plane above which the bright part is the background
FLOOR_PERCENTILES = (0.5, 99.8)  # grey levels that become 0 and 1


def as_grey(plane: np.ndarray) -> np.ndarray:
    """A plane as (h, w) float32 of at most MAX_SIDE_PX, NaN and infinity as its darkest value.

    Args:
        plane: (h, w), or (h, w, 3), which is averaged.
    """
    import cv2  # late: few files need it

    grey = plane.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.mean(axis=-1)
    if not np.isfinite(grey).all():
        finite = grey[np.isfinite(grey)]
        grey = np.where(np.isfinite(grey), grey, finite.min() if finite.size else 0)
    factor = MAX_SIDE_PX / max(grey.shape)
    if factor < 1:
        size = tuple(max(1, round(length * factor)) for length in grey.shape[::-1])
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return grey


def sharpness(plane: np.ndarray) -> float:
    """Mean local contrast of a plane (h, w): the largest of a z-stack is in focus.

    The mean of absolute values is taken, so that one bright grain of dust does not decide.
    """
    import cv2

    grey = as_grey(plane)
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1.0, 3.0))
    return float(np.abs(fine - coarse).mean())


def nuclear_likeness(plane: np.ndarray) -> float:
    """How much a plane (h, w) looks like bright nuclei on dark: 0, or a positive number.

    Nuclei are compact blobs with sharp borders, brighter than what is between them, and cover more
    than a few pixels. Cytoplasm has soft borders, membranes and fibres are not compact, spots are
    small, and an empty channel has noise alone.
    """
    import cv2

    grey = as_grey(plane)
    low, high = np.percentile(grey, FLOOR_PERCENTILES)
    if not high > low:
        return 0.0
    grey = np.clip((grey - low) / (high - low), 0, 1).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), 1.0)
    threshold, foreground = cv2.threshold(
        (grey * 255).astype(np.uint8), 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU
    )
    share = float(foreground.mean())
    if not 0 < share < MAX_FOREGROUND:
        return 0.0
    is_bright = foreground > 0
    step = float(grey[is_bright].mean() - grey[~is_bright].mean())
    separated = share * (1 - share) * step**2 / max(float(grey.var()), 1e-12)  # 0...1
    compact = compact_share(foreground)
    inner = cv2.erode(foreground, np.ones((3, 3), np.uint8))
    slopes = np.hypot(*(cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))) / 8
    edge = float(slopes[(foreground > 0) & (inner == 0)].mean()) / max(step, 1e-6)
    return compact * separated * edge * share**0.25


def compact_share(foreground: np.ndarray) -> float:
    """Share of the foreground (h, w) that lies in compact blobs, 0...1."""
    import cv2

    # Nuclei that just touch come apart.
    blobs = cv2.erode(foreground, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    num, labels, stats, _ = cv2.connectedComponentsWithStats(blobs, connectivity=4)
    area_px = stats[:, cv2.CC_STAT_AREA]
    compact_px = 0
    for index in np.nonzero(area_px >= MIN_AREA_PX)[0]:
        if index == 0:
            continue
        left, top, width, height = stats[index, :4]
        blob = labels[top : top + height, left : left + width] == index
        points = np.argwhere(blob).astype(np.int32)
        hull = cv2.convexHull(points)
        # The hull runs through pixel centres; half its length makes it one of pixel borders.
        hull_px = cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1
        if area_px[index] >= MIN_SOLIDITY * hull_px:
            compact_px += area_px[index]
    return float(compact_px) / max(1, int(area_px[1:].sum())) if num > 1 else 0.0
