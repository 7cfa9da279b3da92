"""nuclei.results.pictures"""

import cv2
import numpy as np

from nuclei.files import replacing
from nuclei.images.intensity import normalise

JPEG_QUALITY = 92  # of overlays only: they are for the eye, nothing is measured on them
OVERLAY_COLOURS = (  # RGB; bright and far from both the purples of tissue and the greys of fluorescence
    (255, 221, 0), (0, 229, 118), (0, 214, 255), (255, 112, 67), (178, 255, 89), (255, 64, 129),
)  # fmt: skip


def draw_overlay(image, intensity, labels):
    """Outlines on the image as the network sees it (dark images brightened): (H, W, 3) uint8."""
    picture = (normalise(image, intensity) * 255).astype(np.uint8)
    edge = np.zeros(labels.shape, bool)  # of any two ids, on both sides
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[one] != labels[other]
        edge[one] |= differ
        edge[other] |= differ
    edge &= labels > 0
    colours = np.array(OVERLAY_COLOURS, np.uint8)
    picture[edge] = colours[labels[edge] % len(colours)]
    return picture


def write_png(path, array):
    """A grey or RGB PNG, 8 or 16 bits, whole or not at all."""
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]  # and a third smaller
    write_encoded(path, ".png", array, fast)


def write_encoded(path, suffix, array, options):
    """Write what OpenCV encodes; colours go in as BGR."""
    array = array if array.ndim == 2 else array[..., ::-1]
    good, code = cv2.imencode(suffix, np.ascontiguousarray(array), options)
    if not good:
        raise ValueError(f"{path}: an array of shape {array.shape}, type {array.dtype} cannot be written as {suffix}")
    with replacing(path) as temporary:
        temporary.write_bytes(code.tobytes())


def find_labels(folder, stem):
    """The label image that `write_labels` wrote for a stem: `folder`/STEM.tif where there is one, else STEM.png."""
    large = folder / f"{stem}.tif"
    return large if large.is_file() else folder / f"{stem}.png"


def write_labels(folder, stem, labels):
    """Labels as 16-bit PNG, or 32-bit TIFF where there are too many; a file of the other kind is removed."""
    small, large = folder / f"{stem}.png", folder / f"{stem}.tif"
    if labels.max() <= 65535:
        write_png(small, labels.astype(np.uint16))
        large.unlink(missing_ok=True)
    else:
        import tifffile

        with replacing(large) as temporary:
            tifffile.imwrite(temporary, labels.astype(np.uint32), compression="zlib")
        small.unlink(missing_ok=True)
