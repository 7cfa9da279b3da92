"""Ground truth with one mask for each nucleus, as a stack of planes.

    labels = merged_planes(planes, path)            # planes: (N, H, W)

Mask R-CNN, Segment Anything and ImageJ macros write such stacks, and np.stack makes them.
"""

from pathlib import Path

import numpy as np

from nuclei.images.content import refuse_bomb
from nuclei.images.labels import components, merge_masks

MAX_MEAN_PIECES = 1.5  # of a mask, above which a plane is no single nucleus
MAX_SAMPLE = 50  # planes whose pieces are counted


def merged_planes(planes: np.ndarray, path: Path) -> np.ndarray:
    """One label image of many masks.

    Args:
        planes: (N, H, W), each with 0 and one other value.
        path: names the file in an error.

    Returns:
        (H, W) int32 labels without gaps.

    Raises:
        ValueError: the planes are no masks of single nuclei.
    """
    refuse_bomb(path, planes.shape)
    step = max(1, len(planes) // MAX_SAMPLE)
    are_masks = all(is_mask(plane) for plane in planes)
    pieces = [components(plane > 0).max() for plane in planes[::step]] if are_masks else []
    if not are_masks or np.mean(pieces) > MAX_MEAN_PIECES:
        size = " x ".join(map(str, planes.shape))
        what = "with several pieces in a plane" if are_masks else "of planes that are no masks"
        raise ValueError(
            f"{path} is a stack of {size} {what}; expected one 2-D image, or one mask for each "
            "nucleus: save the plane or channel to be used as a file of its own"
        )
    return merge_masks((plane > 0 for plane in planes), planes.shape[1:])[0]


def is_mask(plane: np.ndarray) -> bool:
    """Whether an (H, W) array holds nothing but 0 and one value above it."""
    highest = plane.max()
    return bool(highest > 0 and ((plane == 0) | (plane == highest)).all())


def are_apart(planes: np.ndarray) -> bool:
    """Whether planes (N, H, W) are masks of one piece each that lie beside one another.

    Ids and classes of one nucleus share all pixels, classes with their background cover all, and a
    map of borders encloses the nuclei.
    """
    from scipy.ndimage import binary_fill_holes

    if not all(is_mask(plane) and components(plane > 0).max() == 1 for plane in planes):
        return False
    depth = sum(binary_fill_holes(plane > 0).astype(np.uint8) for plane in planes)
    return bool(depth.max() == 1 and depth.min() == 0)


def planes_first(array: np.ndarray, shape: tuple[int, int] | None) -> np.ndarray | None:
    """An array of masks as (N, H, W), whether its planes come first or last.

    Args:
        array: of three axes.
        shape: height and width of the image in px; None takes the shortest axis for the planes.

    Returns:
        None where neither fits.
    """
    if shape is not None:
        is_first, is_last = array.shape[1:] == shape, array.shape[:2] == shape
    else:
        is_first = array.shape[0] < min(array.shape[1:])
        is_last = array.shape[2] < min(array.shape[:2])
    if is_first == is_last:
        return None
    return array if is_first else np.moveaxis(array, -1, 0)
