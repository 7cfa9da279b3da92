"""From the maps of a model to nuclei, by all that its file says.

    separator = options.separator_for(model, scale)
    labels, maps = separator.separate(maps, scale)

A model may see an image at several sizes, see nuclei.inference.zooms. Each size proposes nuclei,
and where two proposals overlap, the one with the higher confidence is taken.
"""

from dataclasses import dataclass, field

import numpy as np

from nuclei.instances.confidence import confidence, confidence_features
from nuclei.instances.separate import (
    SMALLEST_PX,
    THRESHOLDS,
    connected,
    least_area,
    separate,
)

# A proposal of lower confidence is dropped: it would cost more in false nuclei than it brings.
MIN_CONFIDENCE = 0.4
MIN_FREE_SHARE = 0.75  # of its pixels that better proposals have left, below which one is dropped


@dataclass(frozen=True)
class Separator:
    """What separates the nuclei of one image or slide.

    Attributes:
        thresholds: of `separate`.
        calibration: weights of `confidence`; None where the model file has none.
        zooms: at which the network saw the image, see `with_zooms`.
    """

    thresholds: dict = field(default_factory=dict)
    calibration: list | None = None
    zooms: tuple[float, ...] = (1.0,)

    def separate(self, maps, scale=1.0):
        """Separate the nuclei.

        Args:
            maps: (H, W, Z * K) float32 in [0, 1], the K maps of each of Z zooms.
            scale: as of `separate`.

        Returns:
            (labels, maps): (H, W) int32, 0 background, 1...n without gaps, and (H, W, K) float32:
            in each nucleus the maps that showed it, elsewhere those of the first zoom.
        """
        if len(self.zooms) == 1:
            return separate(maps, scale=scale, **self.thresholds), maps
        views = np.split(maps, len(self.zooms), axis=-1)
        labels, chosen = np.zeros(maps.shape[:2], np.int32), views[0].copy()
        num_nuclei = 0
        min_area_px = self.thresholds.get("min_area_px", THRESHOLDS["min_area_px"])
        smallest_px = self.thresholds.get("smallest_px", SMALLEST_PX)
        least_px = least_area(min_area_px, scale, smallest_px)
        for _, view, pixels in self.proposals(views, scale):
            free = pixels[labels.flat[pixels] == 0]
            if len(free) < len(pixels):
                free = largest_piece(free, labels.shape[1])
            if len(free) < max(MIN_FREE_SHARE * len(pixels), least_px):
                continue
            num_nuclei += 1
            labels.flat[free] = num_nuclei
            rows, columns = np.divmod(free, labels.shape[1])
            chosen[rows, columns] = view[rows, columns]
        return labels, chosen

    def proposals(self, views, scale):
        """The nuclei of all views, from the highest confidence on.

        Args:
            views: for each zoom (H, W, K).
            scale: as of `separate`.

        Returns:
            A list of (confidence, the view, (n,) indices of its pixels).
        """
        found = []
        for view, zoom in zip(views, self.zooms, strict=True):
            thresholds = dict(self.thresholds)
            if "min_area_px" in thresholds:  # the same area of the image at every zoom
                thresholds["min_area_px"] *= zoom**2
            labels = separate(view, scale=scale * zoom, **thresholds)
            values = self.confidences(labels, view, scale)
            inside = np.flatnonzero(labels)
            ids = labels.ravel()[inside]
            order = np.argsort(ids, kind="stable")
            ends = np.cumsum(np.bincount(ids, minlength=len(values) + 1)[1:])
            groups = np.split(inside[order], ends[:-1]) if len(values) else []
            found += [(v, view, pixels) for v, pixels in zip(values, groups, strict=True)]
        found = [proposal for proposal in found if proposal[0] >= MIN_CONFIDENCE]
        return sorted(found, key=lambda proposal: -proposal[0])

    def confidences(self, labels, maps, scale):
        """How sure the network is of each nucleus.

        Args:
            labels: (H, W) int32, 1...n.
            maps: (H, W, K) float32 in [0, 1], of one zoom.
            scale: of the image, not of a zoom: the confidence of a size is that of the image.

        Returns:
            (n,) float64 in [0, 1]: `confidence`, or without a calibration the mean probability.
        """
        if self.calibration is not None:
            return confidence(confidence_features(labels, maps, scale), self.calibration)
        areas = np.bincount(labels.ravel())
        return (np.bincount(labels.ravel(), maps[..., 0].ravel()) / np.maximum(areas, 1))[1:]


def largest_piece(pixels, width):
    """The largest connected piece of some pixels.

    Args:
        pixels: (n,) intp, indices into an image, ascending.
        width: of the image in px.

    Returns:
        (m,) intp, those that belong to the piece; pixels that share an edge are connected.
    """
    if not len(pixels):
        return pixels
    rows, columns = np.divmod(pixels, width)
    rows, columns = rows - rows.min(), columns - columns.min()
    mask = np.zeros((rows.max() + 1, columns.max() + 1), bool)
    mask[rows, columns] = True
    pieces, areas = connected(mask)
    areas[0] = 0
    return pixels[pieces[rows, columns] == areas.argmax()]
