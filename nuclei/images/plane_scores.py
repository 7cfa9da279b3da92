"""How sharp a plane is, and how much it looks like nuclei: by these planes are chosen.

Both are plain arithmetic without a network, so training and prediction choose alike.
"""

import numpy as np

MAX_SIDE_PX = 1200  # a larger plane is averaged to it: nuclei stay large enough to be judged
MIN_AREA_PX = 30  # of a blob that may be a nucleus: spots of a probe are smaller
NOISE_SEPARATED = 0.64  # 2 / pi: so well Otsu's threshold separates plain noise
CORE = 0.6  # of the radius of a blob: what lies deeper is the core of one nucleus
MAY_BE_NUCLEI = 0.15  # of the score of the plane around them, from which nuclei are believed
SURROUNDING = 0.15  # of its score is left to a plane that surrounds nuclei
INSIDE = 0.9  # share of the nuclei inside their cells
EDGE_PX = 100  # from the edge, within which a cell may be cut by it
LARGER = 1.3  # area of cells in areas of nuclei
NEARLY = 0.95  # of the best score, from which planes look alike
USUAL_PX = 18  # diameter of a nucleus; whole cells are larger, spots smaller
SIZE_FACTOR = 2.5  # by which diameters usually differ from it
USUAL_SHARE = 0.05  # of a plane that nuclei cover; a few specks cover less
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


def bright_part(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(grey (h, w) from 0 to 1, foreground (h, w) uint8) of a plane, by Otsu's threshold.

    The foreground is empty where it would be most of the plane.
    """
    import cv2

    grey = as_grey(plane)
    low, high = np.percentile(grey, FLOOR_PERCENTILES)
    grey = np.clip((grey - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), 1.0)
    foreground = cv2.threshold(
        (grey * 255).astype(np.uint8), 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU
    )[1]
    if not foreground.mean() < MAX_FOREGROUND:
        foreground[:] = 0
    return grey, foreground


def nuclear_likeness(grey: np.ndarray, foreground: np.ndarray) -> float:
    """How much a plane looks like bright nuclei on dark: 0, or a positive number.

    Nuclei are compact blobs with sharp borders, brighter than what is between them, and cover more
    than a few pixels. Cytoplasm has soft borders, membranes and fibres are not compact, spots are
    small, whole cells are large, and an empty channel has noise alone.

    Args:
        grey, foreground: (h, w), what `bright_part` returned for the plane.
    """
    import cv2

    share = float(foreground.mean())
    if not share:
        return 0.0
    is_bright = foreground > 0
    step = float(grey[is_bright].mean() - grey[~is_bright].mean())
    separated = share * (1 - share) * step**2 / max(float(grey.var()), 1e-12)  # 0...1
    contrast = max(0.0, separated - NOISE_SEPARATED) / (1 - NOISE_SEPARATED)
    inner = cv2.erode(foreground, np.ones((3, 3), np.uint8))
    slopes = np.hypot(*(cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))) / 8
    edge = float(slopes[is_bright & (inner == 0)].mean()) / max(step, 1e-6)
    return compact_share(foreground) * contrast * edge * min(1.0, share / USUAL_SHARE)


def compact_share(foreground: np.ndarray) -> float:
    """Share of the foreground (h, w) that lies in round blobs of usual size, 0...1.

    The largest circle inside a round blob covers most of it, inside a ring or a fibre little.
    Touching nuclei have a circle each.
    """
    import cv2
    from scipy import ndimage

    num, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=4)
    if num < 2:
        return 0.0
    distance = cv2.distanceTransform(foreground, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    deepest = ndimage.maximum(distance, labels, np.arange(num))
    cores = ((distance > CORE * deepest[labels]) & (foreground > 0)).astype(np.uint8)
    num_cores, core_labels = cv2.connectedComponents(cores)
    radius_px = ndimage.maximum(distance, core_labels, np.arange(1, num_cores))
    areas_px = np.pi * np.square(radius_px)
    misfit = np.log(2 * radius_px / USUAL_PX) / np.log(SIZE_FACTOR)
    weights = np.where(areas_px >= MIN_AREA_PX, np.exp(-(misfit**2) / 2), 0)
    foreground_px = int(stats[1:, cv2.CC_STAT_AREA].sum())
    # Cytoplasm has holes where the nuclei are.
    holes_px = int(ndimage.binary_fill_holes(foreground).sum()) - foreground_px
    filled = 1 - holes_px / (foreground_px + holes_px)
    return min(1.0, float((areas_px * weights).sum()) / foreground_px) * filled**2


def best_looking(planes) -> int | None:
    """Index of the plane that looks most like nuclei; None where none does.

    A plane whose bright part surrounds the nuclei of another shows whole cells, or is out of
    focus. Of planes that look nearly alike, such as a channel and its faint copy in another, it is
    the one with most contrast.
    """
    parts = [bright_part(plane) for plane in planes]
    looks = np.array([nuclear_likeness(*part) for part in parts])
    if not looks.max() > 0:
        return None
    bright = [foreground > 0 for _, foreground in parts]
    surrounded = [
        any(
            looks[i] >= MAY_BE_NUCLEI * looks[j] and surrounds(bright[j], bright[i])
            for i in range(len(bright))
            if i != j
        )
        for j in range(len(bright))
    ]
    looks = np.where(surrounded, looks * SURROUNDING, looks)
    contrast = [
        sharpness(plane) if look >= NEARLY * looks.max() else 0.0
        for plane, look in zip(planes, looks, strict=True)
    ]
    return int(np.argmax(contrast))


def surrounds(cells: np.ndarray, nuclei: np.ndarray) -> bool:
    """Whether nearly all of a mask (h, w) lies inside another one, which is clearly larger."""
    from scipy import ndimage

    if not nuclei.any() or not cells.any():
        return False
    # Cytoplasm has a hole at each nucleus. Mirrored, it is closed where the edge cuts the cell.
    reach = min(min(cells.shape), EDGE_PX)
    mirrored = ndimage.binary_fill_holes(np.pad(cells, reach, mode="symmetric"))
    cells = mirrored[reach:-reach, reach:-reach]
    return bool(
        (nuclei & cells).sum() >= INSIDE * nuclei.sum() and cells.sum() > LARGER * nuclei.sum()
    )
