"""Drawn truths of unusual forms: pairs of nuclei that touch, borders, void, and soft edges."""

import numpy as np
from images_tools import discs
from scipy import ndimage

LABELS = discs(200, 220, count=25, radius=9)
COLOURS = np.random.default_rng(5).integers(20, 255, (33, 3)).astype(np.uint8)
COLOURS[0] = 0


def touching_pairs(height=200, width=240, num=4, radius=9):
    """Labels of num x num pairs of discs that touch: (H, W) int32."""
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.int32)
    for place in range(num * num):
        row, column = divmod(place, num)
        for side in (-1, 1):
            from_row = rows - (row + 0.5) * height / num
            from_column = columns - (column + 0.5) * width / num - side * (radius - 0.5)
            inside = from_row**2 + from_column**2 <= radius**2
            labels[inside & (labels == 0)] = labels.max() + 1
    return labels


def inner_rim(labels, width_px):
    """(H, W) bool, the outermost pixels of each nucleus."""
    rim = np.zeros(labels.shape, bool)
    for nucleus in range(1, labels.max() + 1):
        mask = labels == nucleus
        rim |= mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), width_px)
    return rim


PAIRS = touching_pairs()
