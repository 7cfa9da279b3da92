"""Regions of equal value in an exact truth: which are nuclei, soft edges or stray pixels.

    regions = Regions(ids)                   # ids: (H, W) int32, 0 background
    regions.soft_share()                     # 0 for exact ids, near 1 for soft edges
    labels, joined = regions.without_specks()    # each region a nucleus

A speck is a region too small for a nucleus. What it is depends on what it touches.
"""

import numpy as np

from nuclei.images.labels import joined

SPECK_PX = 6  # regions of fewer pixels are specks
MIN_PLACE = 0.1  # of the largest region of a value: smaller ones are strays, and no other place
FAR = 1.5  # distance over the sum of two diameters from which two regions are two nuclei
SOFT_REACH_PX = 12  # from a solid region: how far soft edges reach, with the ringing of resampling


class Regions:
    """The regions of one value each, joined by edges or corners.

    Args:
        ids: (H, W) int32, 0 background, 1...n the values.

    Attributes:
        ids: as given.
        pieces: (H, W) int, 0 background, 1...m the regions.
        areas_px: (m + 1,) pixels of each region.
        value: (m + 1,) the id of each region.
    """

    def __init__(self, ids: np.ndarray):
        self.ids = ids
        self.pieces = joined(ids)
        self.areas_px = np.bincount(self.pieces.ravel())
        self.value = np.zeros(len(self.areas_px), np.int32)
        self.value[self.pieces] = ids
        self.value[0] = 0

    def places(self) -> np.ndarray:
        """Count the places of each value, without strays, and a place far from others only.

        Returns:
            (n + 1,) int: 1 where a value lies in one place or in parts of one nucleus, more where
            it lies far apart.
        """
        num_values = int(self.value.max())
        height, width = self.pieces.shape
        rows = np.bincount(self.pieces.ravel(), np.repeat(np.arange(height), width))
        columns = np.bincount(self.pieces.ravel(), np.tile(np.arange(width), height))
        centres = np.stack([rows, columns], axis=1) / np.maximum(self.areas_px, 1)[:, None]
        diameters = 2 * np.sqrt(self.areas_px / np.pi)
        largest = np.zeros(num_values + 1, np.intp)  # the largest region of each value
        order = np.argsort(self.areas_px[1:], kind="stable") + 1
        largest[self.value[order]] = order
        home = largest[self.value]
        is_place = self.areas_px >= np.maximum(SPECK_PX, MIN_PLACE * self.areas_px[home])
        distance = np.hypot(*(centres - centres[home]).T)
        is_far = distance > FAR * (diameters + diameters[home])
        places = np.bincount(self.value[is_place & is_far], minlength=num_values + 1) + 1
        places[0] = 0
        return places

    def num_places(self) -> int:
        """Number of regions that are no specks."""
        return int((self.areas_px[1:] >= SPECK_PX).sum())

    def solid(self) -> np.ndarray:
        """(m + 1,) bool, whether each region holds a block of 3 x 3 pixels."""
        from scipy.ndimage import maximum_filter, minimum_filter

        lowest, highest = minimum_filter(self.pieces, 3), maximum_filter(self.pieces, 3)
        is_solid = np.zeros(len(self.areas_px), bool)
        is_solid[self.pieces[lowest == highest]] = True
        is_solid[0] = False
        return is_solid

    def soft_share(self) -> float:
        """How much of the outline of solid regions consists of other, thin regions.

        Exact ids border on the background themselves. Soft edges lie between the two.

        Returns:
            0...1; 0 where there are fewer specks than other regions.
        """
        is_speck = self.areas_px[1:] < SPECK_PX
        if is_speck.sum() <= (~is_speck).sum():
            return 0.0
        solid = self.solid()[self.pieces]
        edge = self.near(solid) & (self.pieces > 0) & touching(self.pieces == 0)
        return float((edge & ~solid).sum() / max(1, edge.sum()))

    def near(self, solid: np.ndarray) -> np.ndarray:
        """(H, W) bool, the pixels within SOFT_REACH_PX of a (H, W) bool mask."""
        from scipy.ndimage import distance_transform_edt

        if not solid.any():
            return solid
        return distance_transform_edt(~solid) <= SOFT_REACH_PX

    def hardened(self, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give each pixel of a soft edge to its solid region or to the background.

        A soft pixel is a mixture: it belongs to the nearer one of two values, that of the nearest
        solid region and that of the background.

        Args:
            colours: (n + 1, k) the values as vectors, the background first.

        Returns:
            (H, W) int32 ids, and (H, W) bool, which pixels were soft.
        """
        from scipy.ndimage import distance_transform_edt

        is_solid = self.solid()
        # Ringing may hold a block of 3 x 3 px, too.
        is_solid &= self.areas_px >= MIN_PLACE * np.median(self.areas_px[is_solid])
        solid = is_solid[self.pieces]
        soft = (self.pieces > 0) & ~solid & self.near(solid)
        nearest = distance_transform_edt(~solid, return_distances=False, return_indices=True)
        owner = self.ids[tuple(nearest[:, soft])]
        own = colours[self.ids[soft]]
        to_owner = np.linalg.norm(own - colours[owner], axis=1)
        to_background = np.linalg.norm(own - colours[0], axis=1)
        ids = self.ids.copy()
        ids[soft] = np.where(to_background < to_owner, 0, owner)
        return ids, soft

    def without_specks(self) -> tuple[np.ndarray, np.ndarray]:
        """Make each region a nucleus, after specks that touch a larger one have joined it.

        Returns:
            (H, W) int labels with gaps, and (H, W) bool, the pixels that joined another region.
        """
        from scipy.ndimage import distance_transform_edt

        is_speck = (self.areas_px < SPECK_PX)[self.pieces] & (self.pieces > 0)
        large = (self.pieces > 0) & ~is_speck
        stray = is_speck & np.isin(self.pieces, self.pieces[is_speck & touching(large)])
        labels = self.pieces.copy()
        if stray.any():
            nearest = distance_transform_edt(~large, return_distances=False, return_indices=True)
            labels[stray] = self.pieces[tuple(nearest[:, stray])]
        return labels, stray


def touching(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool, the pixels of a (H, W) bool mask and their eight neighbours."""
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
