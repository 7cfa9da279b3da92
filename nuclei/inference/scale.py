"""Estimate how much larger the network should see an image, so that its nuclei have the known size.

The network looks at a part of the image, its nuclei are measured, and the scale follows from them.
A network that misses half of the nuclei at the wrong size still shows whether the others are too
large or too small.

One size is not enough evidence: pieces of large nuclei have the known size, too. So the network
looks at half the scale as well, and both sizes, both uncertainties and what is lost are compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nuclei.images.box import Box
from nuclei.images.busiest import busiest_window
from nuclei.images.resize import Resized, resize_maps
from nuclei.inference.tiling import predict_tiled
from nuclei.instances.confidence import image_uncertainty
from nuclei.instances.separate import median_diameter, separate
from nuclei.model_file import Model

SCALE_LIMITS = (0.1, 3.0)  # of the estimate: nuclei of 8 to 240 px for a network that knows 24 px
# An estimate is one of so many for each doubling. Images of one size then become images of few
# sizes, for each of which an engine prepares itself. A step is smaller than MAX_MISFIT.
STEPS_PER_OCTAVE = 4
MAX_MISFIT = 1.35  # ratio of sizes up to which nothing is rescaled: the training varies as much
MAX_OVERSIZE = 1.2  # the same for nuclei that look too large: they may be larger than they look
MAX_LOOKS = 5  # to find the scale; three are the rule where it is far off
PROBE_SCALES = (0.4, 2.5)  # tried where no nuclei are found
PROBE_PX = 768  # side of a look at most; a smaller image is seen whole, and the look is the result
# Half the scale is taken where nuclei look so many times too large from there, for the root of the
# ratio of the uncertainties. At the right scale it is 0.8 to 1.7, of pieces of nuclei 1.5 to 5.
MIN_LARGENESS = 1.9
MAX_WORRY = 1.25  # and where the uncertainty rises by no more than this factor
MIN_WORRY = 0.8  # a fall below this factor says no more: crowds that merge from afar look certain
MIN_KEPT = 0.6  # and where so much of the nuclei is seen from there, too: pale ones may vanish
# Twice the scale is taken where it has at most this share of the uncertainty.
MAX_UNCERTAINTY_SHARE = 0.85
# No smaller scale is tried below this uncertainty: no validation image below it was better smaller.
CERTAIN = 0.06
UNCERTAIN = 0.15  # a larger scale is tried above this uncertainty only, since that look is dear


def nearest_step(scale: float) -> float:
    """The scale of STEPS_PER_OCTAVE nearest to another one; outside of SCALE_LIMITS the limit."""
    if not SCALE_LIMITS[0] < scale < SCALE_LIMITS[1]:
        return float(np.clip(scale, *SCALE_LIMITS))
    return 2.0 ** (round(STEPS_PER_OCTAVE * np.log2(scale)) / STEPS_PER_OCTAVE)


def separate_look(maps) -> np.ndarray:
    """The nuclei in maps (h, w, K): labels (h, w) int32.

    The default thresholds are used: a model's own were chosen at the scales that these give.
    """
    return separate(maps)


class ScaleEstimate(NamedTuple):
    """What is known of the scale of an image.

    Attributes:
        scale: how many times larger the network should see the image.
        maps: (H, W, K) of the whole image at its own size, where the last look saw all of it; else
            None.
        spread: largest ratio between estimates of the size of the nuclei, 1 or more: by the halves
            of the image and by looks at other scales. None without nuclei.
    """

    scale: float
    maps: np.ndarray | None
    spread: float | None


@dataclass(frozen=True)
class Look:
    """What the network saw at one scale.

    Attributes:
        scale: how many times larger it saw the image.
        box: the part seen, in px of the image at this scale.
        maps: (h, w, Z * K) of that part, of all zooms of the model.
        separate: from the maps of one zoom to labels.
        num_maps: K, of one zoom.
    """

    scale: float
    box: Box
    maps: np.ndarray
    separate: Callable
    num_maps: int

    @cached_property
    def labels(self) -> np.ndarray:
        """(h, w) int32, the nuclei of the maps of the first zoom."""
        return self.separate(self.maps[..., : self.num_maps])

    @cached_property
    def diameter_px(self) -> float | None:
        """Median diameter of the nuclei, or None without any."""
        return median_diameter(self.labels)


@dataclass(frozen=True)
class ScaleEstimator:
    """Looks at one image at several scales.

    Attributes:
        model, image, prepare, separate, uncertainty: as of `estimate_scale`.
        looks: all looks so far, by scale and box.
        others: ratios of the size at another scale to the size at the scale taken.
    """

    model: Model
    image: object
    prepare: Callable | None
    separate: Callable
    uncertainty: Callable | None
    looks: dict = field(default_factory=dict)
    others: list = field(default_factory=list)

    def size(self, scale: float) -> tuple[int, int]:
        """Height and width of the image at a scale."""
        return Resized(self.image, scale).shape[:2]

    def look(self, scale: float, box: Box | None = None) -> Look:
        """Run the network over a part of the image: the busiest one where no box is given."""
        resized = Resized(self.image, scale) if scale != 1 else self.image
        box = self.busiest_box(scale, resized.shape[:2]) if box is None else box
        if (scale, box) not in self.looks:
            part = resized[box.place]
            part = part if self.prepare is None else self.prepare(part)
            maps = predict_tiled(self.model, part)
            self.looks[scale, box] = Look(scale, box, maps, self.separate, self.model.maps_per_zoom)
        return self.looks[scale, box]

    def busiest_box(self, scale: float, size: tuple[int, int]) -> Box:
        """The busiest part of at most PROBE_PX, in px of the image at this scale."""
        height, width = (min(length, PROBE_PX) for length in size)
        if (height, width) == tuple(size):
            return Box.of_shape(size)
        # Sought in the image as it is, since this needs no resampling.
        top, left = busiest_window(self.image, int(height / scale), int(width / scale))
        top = min(int(top * scale), size[0] - height)
        left = min(int(left * scale), size[1] - width)
        return Box(top, top + height, left, left + width)

    def misfit(self, diameter_px: float | None) -> float:
        """Ratio of a diameter to the known one, 1 or more; infinite without nuclei."""
        known_px = self.model.diameter_px
        return max(diameter_px / known_px, known_px / diameter_px) if diameter_px else np.inf

    def fits(self, diameter_px: float) -> bool:
        """Whether nuclei of this diameter, as measured, need no other scale."""
        ratio = diameter_px / self.model.diameter_px
        return 1 / MAX_MISFIT <= ratio <= MAX_OVERSIZE

    def fit(self) -> Look | None:
        """Rescale until the nuclei that are found have the known size.

        Returns:
            The look that fitted, or else the one that came nearest to it; None without nuclei.
        """
        scale, untried = 1.0, list(PROBE_SCALES)
        for _ in range(MAX_LOOKS):
            look = self.look(scale)
            diameter_px = look.diameter_px
            if diameter_px is None:
                if not untried:
                    break
                scale = untried.pop(0)
                continue
            if self.fits(diameter_px):
                return look
            scale = nearest_step(scale * self.model.diameter_px / diameter_px)
        seen = [look for look in self.looks.values() if look.diameter_px]
        if not seen:
            return None
        nearest = min(reversed(seen), key=lambda look: self.misfit(look.diameter_px))
        size = nearest.diameter_px / nearest.scale
        self.others.extend(look.diameter_px / look.scale / size for look in seen)
        return nearest

    def fitted(self, look: Look) -> Look:
        """A look at the scale that the nuclei of this one ask for, where they do not fit."""
        if not look.diameter_px or self.fits(look.diameter_px):
            return look
        return self.look(nearest_step(look.scale * self.model.diameter_px / look.diameter_px))

    def refine(self, look: Look, factor: float) -> Look:
        """Go to scales `factor` times as large, again and again, while these are better."""
        limit = CERTAIN if factor < 1 else UNCERTAIN
        while (
            SCALE_LIMITS[0] <= look.scale * factor <= SCALE_LIMITS[1]
            and self.uncertainty(look.maps) > limit
        ):
            better = self.better_look(look, factor)
            if better is None:
                break
            look = better
        return look

    def better_look(self, look: Look, factor: float) -> Look | None:
        """The same part at a scale `factor` times as large, where that is better; else None."""
        # Both scales are judged by one part of the image, as large as a look may be.
        size = look.maps.shape[:2]
        height, width = (min(length, int(PROBE_PX / max(1, factor))) for length in size)
        top, left = (0, 0)
        if size != (height, width):
            top, left = busiest_window(look.maps[..., :1], height, width)
        box = Box(top, top + height, left, left + width)
        part, here = look.maps[box.place], median_diameter(look.labels[box.place])
        scale = look.scale * factor
        ratios = np.divide(self.size(scale), self.size(look.scale))
        box = box.shifted(look.box.top, look.box.left).scaled(*ratios)
        if not box.area_px:
            return None
        other = self.look(scale, box)
        there = other.diameter_px
        if here and there:
            self.others.append(there / factor / here)
        if not there or not self.is_better(part, other.maps, (here, there), factor):
            return None
        if here:
            self.others[:] = [1 / self.others[-1]]  # seen from the scale that is taken
        return other

    def is_better(self, part, other, diameters_px: tuple, factor: float) -> bool:
        """Whether maps at a scale `factor` times as large are better than those of `part`.

        Args:
            part, other: (h, w, K) maps of the same place at both scales.
            diameters_px: measured in `part`, None without nuclei, and in `other`.
            factor: 0.5 or 2.
        """
        here, there = diameters_px
        worry = self.uncertainty(other) / max(self.uncertainty(part), 1e-9)
        worry = max(worry, MIN_WORRY)
        if factor > 1:
            # At twice the size clumps of tiny nuclei fall apart and fit better. So do nuclei of the
            # right size, but these then fit worse.
            is_fitting = self.misfit(there) < self.misfit(here)
            return worry <= MAX_UNCERTAINTY_SHARE and is_fitting
        kept = (other[..., 0] > 0.5).mean() / max((part[..., 0] > 0.5).mean(), 1e-9)
        largeness = there / factor / self.model.diameter_px
        is_large = worry <= MAX_WORRY and largeness > MIN_LARGENESS * worry**0.5
        return bool(is_large and kept >= MIN_KEPT)

    def spread(self, look: Look) -> float | None:
        """Largest ratio between estimates of the size at the scale taken, see `ScaleEstimate`."""
        whole = look.diameter_px
        if not whole:
            return None
        labels, (row, column) = look.labels, (length // 2 for length in look.labels.shape)
        halves = (labels[:row], labels[row:], labels[:, :column], labels[:, column:])
        sizes = [median_diameter(half) for half in halves if half.size]
        ratios = [1.0, *self.others, *(size / whole for size in sizes if size)]
        return max(ratios) / min(ratios)


def estimate_scale(
    model: Model,
    image,
    prepare: Callable | None = None,
    separate: Callable = separate_look,
    uncertainty: Callable | None = image_uncertainty,
) -> ScaleEstimate:
    """Estimate how many times larger the network should see an image.

    The image is rescaled until its nuclei fit. But a network takes nuclei that are much too large
    to pieces of the size that it knows. So it looks again at half the scale, unless it is certain,
    and stays there if nuclei look large from there, no less certain, and none are lost. Where it is
    very uncertain it looks at twice the scale, too, and stays there if the uncertainty is lower and
    the nuclei fit better.

    Args:
        model: a `Model`, which knows nuclei of `diameter_px`.
        image: (H, W, 3), an array or anything that slices like one.
        prepare: as of `predict_tiled`.
        separate: as `separate_look`.
        uncertainty: from maps to how undecided they are; None goes by the size alone.

    Returns:
        A `ScaleEstimate`; without nuclei at any scale its scale is 1.
    """
    estimator = ScaleEstimator(model, image, prepare, separate, uncertainty)
    look = estimator.fit()
    if look is None:
        return ScaleEstimate(1.0, None, None)
    if uncertainty is not None:
        refined = estimator.refine(look, 0.5)
        look = estimator.refine(look, 2.0) if refined is look else estimator.fitted(refined)
    spread = estimator.spread(look)
    if look.maps.shape[:2] != tuple(estimator.size(look.scale)):
        return ScaleEstimate(look.scale, None, spread)
    return ScaleEstimate(look.scale, resize_maps(look.maps, image.shape[:2]), spread)
