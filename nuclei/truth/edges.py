"""Sets whose truth leaves out the nuclei that the edge of the image cuts.

Annotators often skip them, and NuInsSeg, for one, holds about six in ten. A network that learns
from such a set leaves them out, too.

    edges = Edges()
    edges.add(nuclear_light(image), labels, void)      # for each pair of a set
    if edges.leave_out_nuclei():
        void = edge_void(labels.shape, edge_depth_px(diameters_px))
"""

import math

import numpy as np

EDGE_PX = 3  # width of the outermost pixels that are compared with the inside
INSIDE_PX = 24  # distance from the edge at which the inside begins
MIN_SIDE_PX = 4 * INSIDE_PX  # of an image with an inside
MIN_PIXELS = 200  # px of nuclei and of background in an image that says something
MIN_IMAGES = 20  # images that say something, below which a set does not
# Annotated share of what looks like nuclei, at the edge over inside. NuInsSeg has 0.61, TNBC 0.80,
# the Data Science Bowl 0.94 in tissue and 1.05 in fluorescence.
MIN_SHARE = 0.72


class Edges:
    """Compares the truth at the edges of the images of a set with the truth inside.

    Attributes:
        num_images: that say something.
        pixels: (2, 2) number of pixels: at the edge and inside, in nuclei and like nuclei.
    """

    def __init__(self):
        self.num_images = 0
        self.pixels = np.zeros((2, 2))

    def add(self, light: np.ndarray, labels: np.ndarray, void: np.ndarray | None = None) -> None:
        """Count the pixels of one pair.

        Pixels look like nuclei that are nearer to the median brightness of the nuclei than to that
        of the background.

        Args:
            light: (H, W) uint8 or uint16, of `nuclear_light`.
            labels: (H, W) int32, 0 background.
            void: (H, W) bool, pixels that do not count; None for none.
        """
        known = np.ones(labels.shape, bool) if void is None else ~void
        annotated = (labels > 0) & known
        background = (labels == 0) & known
        if min(labels.shape) < MIN_SIDE_PX:
            return
        if min(annotated.sum(), background.sum()) < MIN_PIXELS:
            return
        middle = (np.median(light[annotated]) + np.median(light[background])) / 2
        alike = (light > middle) & known
        inside = np.zeros(labels.shape, bool)
        inside[INSIDE_PX:-INSIDE_PX, INSIDE_PX:-INSIDE_PX] = True
        parts = edge_void(labels.shape, EDGE_PX), inside
        self.pixels += [[annotated[part].sum(), alike[part].sum()] for part in parts]
        self.num_images += 1

    def leave_out_nuclei(self) -> bool:
        """Whether nuclei at the edges are in the images and not in the truth."""
        (edge, alike_edge), (inside, alike_inside) = self.pixels
        if self.num_images < MIN_IMAGES or not alike_edge:
            return False
        return bool(edge * alike_inside < MIN_SHARE * inside * alike_edge)


def edge_depth_px(diameters_px: np.ndarray) -> int:
    """How far the nuclei that an edge cuts reach into the image: half a median diameter, in px."""
    return math.ceil(np.median(diameters_px) / 2)


def edge_void(shape: tuple[int, int], depth_px: int) -> np.ndarray:
    """The outermost pixels of an image: (H, W) bool."""
    void = np.ones(shape, bool)
    void[depth_px:-depth_px, depth_px:-depth_px] = False
    return void
