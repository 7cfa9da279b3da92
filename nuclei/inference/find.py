"""Find the nuclei of one image: the records `Options` and `Found`, and the step between them.

    model = load_model("Saved_Model/pretrained.h5")
    found = find_nuclei(image, model, Options(mpp=0.5))      # (H, W, 3), any dtype
    found.labels                                             # (H, W) int32, 0 background, 1...n

No file is needed. nuclei.inference.folder does the same with the images of a folder.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nuclei.images.intensity import intensity_range, normalise
from nuclei.images.modality import modality
from nuclei.images.outliers import with_mirrored_border, without_flat_border
from nuclei.images.reading import as_rgb
from nuclei.images.stains import has_dab
from nuclei.inference.scale import SCALE_LIMITS, ScaleEstimate, estimate_scale
from nuclei.inference.tiling import TILE_PX, predict_scaled
from nuclei.instances.confidence import image_uncertainty
from nuclei.instances.holes import hole_share, without_holes
from nuclei.instances.separate import THRESHOLDS
from nuclei.instances.separator import Separator
from nuclei.model_file import Model

# Median diameter expected where only mpp is known: lymphocytes have 6 to 7, cultured cells 10 to 15
NUCLEUS_UM = 8.0


@dataclass(frozen=True)
class Options:
    """What the user asked of a prediction.

    Attributes:
        scale: how many times larger the network sees the image; None estimates it.
        diameter_px: median nucleus diameter in the image, from which the scale follows; None if
            unknown.
        mpp: micrometres per pixel; the scale follows from it where neither scale nor diameter is
            given.
        threshold: probability above which a pixel is nucleus; None takes the model's.
        min_area_px: area in image pixels below which an object is dropped; None takes the model's.
        tile_px: side of the tiles that the network sees.
        batch_size: tiles in one call of the network.
        channel: name or number (from 1) of the channel of a file; None chooses it.
        plane: number (from 1) of a focal plane, or "max"; None takes the sharpest.
        tissue_mask: search only where a slide has tissue.
    """

    scale: float | None = None
    diameter_px: float | None = None
    mpp: float | None = None
    threshold: float | None = None
    min_area_px: int | None = None
    tile_px: int = TILE_PX
    batch_size: int = 1
    channel: str | None = None
    plane: str | None = None
    tissue_mask: bool = True

    def __post_init__(self):
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"a threshold of {self.threshold} came; expected one between 0 and 1")

    def scale_for(self, model: Model, mpp: float | None = None) -> float | None:
        """The scale that follows from the options; None where it must be estimated.

        Args:
            model: whose nuclei have `model.diameter_px`.
            mpp: µm per pixel that the file states, used where the user gave none.
        """
        if self.scale is not None:
            return self.scale
        mpp = self.mpp or mpp
        diameter_px = self.diameter_px or (NUCLEUS_UM / mpp if mpp else None)
        if diameter_px is None:
            return None
        return float(np.clip(model.diameter_px / diameter_px, *SCALE_LIMITS))

    def thresholds_for(self, model: Model, scale: float | None = None) -> dict:
        """The thresholds of `separate`: the model's, changed by the user's.

        The lowest mean probability of a nucleus moves with the threshold of its pixels: a lower
        one finds more nuclei, a higher one fewer.

        Args:
            model: whose thresholds were chosen on its validation images.
            scale: that the image was seen at, needed where min_area_px is given: it counts image
                pixels.
        """
        thresholds = {**THRESHOLDS, **model.thresholds}
        if self.threshold is not None:
            usual, lowest = thresholds["nucleus_threshold"], thresholds["min_probability"]
            if self.threshold < usual:  # else what comes in would lower the mean of a nucleus
                thresholds["min_probability"] = lowest * self.threshold / usual
            elif self.threshold > usual:
                share = (1 - self.threshold) / (1 - usual)
                thresholds["min_probability"] = 1 - (1 - lowest) * share
            thresholds["nucleus_threshold"] = self.threshold
        if self.min_area_px is not None and scale is not None:
            thresholds["min_area_px"] = self.min_area_px * scale**2
            thresholds["smallest_px"] = 0  # the user knows best
        return thresholds

    def separator_for(self, model: Model, scale: float) -> Separator:
        """What separates the nuclei of an image that a model sees at a scale."""
        return Separator(self.thresholds_for(model, scale), model.calibration, model.zooms)


@dataclass(frozen=True)
class Found:
    """What one image became.

    Attributes:
        image: (H, W, 3) uint8 or uint16 RGB.
        intensity: (low, high) grey levels that the network saw as 0 and 1.
        labels: (H, W) int32, 0 background, 1...n without gaps.
        maps: (H, W, K) float32 in [0, 1]; channel 0 is the nucleus probability.
        scale: how many times larger the network saw the image.
        scale_spread: largest ratio between estimates of the scale, 1 or more; None where it was
            given or no nuclei were found. See `ScaleEstimate`.
        kind: of microscopy: "fluorescence", "tissue" or "brightfield"; "" has the image looked at.
        hole_share: how much of what was found was dropped as white holes of a section, 0 to 1.
    """

    image: np.ndarray
    intensity: tuple[float, float]
    labels: np.ndarray
    maps: np.ndarray
    scale: float
    scale_spread: float | None = None
    kind: str = ""
    hole_share: float = 0.0

    def __post_init__(self):
        if not self.kind:
            object.__setattr__(self, "kind", modality(self.image))

    @cached_property
    def has_dab(self) -> bool:
        """Whether the image is tissue with DAB, so that nuclei are positive or negative."""
        return self.kind == "tissue" and has_dab(self.image)

    @cached_property
    def uncertainty(self) -> float:
        """How undecided the network was, 0 to about 1; see `image_uncertainty`."""
        return image_uncertainty(self.maps)


def find_nuclei(image, model: Model, options: Options | None = None) -> Found:
    """Find the nuclei of one image.

    Args:
        image: (H, W) or (H, W, 3) array of any real dtype. Values other than uint8 and uint16 are
            scaled in the way of float files, see `as_rgb`.
        model: what `load_model` returned.
        options: what the user asked; None for the defaults.

    Returns:
        A `Found`.

    Raises:
        ValueError: the array is no image, or the tile is too small for the model.
    """
    options = options or Options()
    image = as_rgb(image)
    # The range is that of the whole image: a tile of background alone must not be stretched.
    intensity = intensity_range(image)
    scale, maps, scale_spread = predict_image(model, image, intensity, options)
    labels, maps = options.separator_for(model, scale).separate(maps, scale)
    kind = modality(image)
    kept = without_holes(labels, image) if kind == "tissue" else labels
    share = hole_share(labels, kept)
    return Found(image, intensity, kept, maps, scale, scale_spread, kind, share)


def predict_image(
    model: Model, image, intensity: tuple[float, float], options: Options | None = None
) -> ScaleEstimate:
    """`predict_maps` of a whole image: there are no nuclei in a flat border around it."""
    inside = without_flat_border(image)
    if inside is None:
        return predict_maps(model, image, intensity, options)
    estimate = predict_maps(model, with_mirrored_border(image, inside), intensity, options)
    return estimate._replace(maps=estimate.maps * inside[..., None])


def predict_maps(
    model: Model, image, intensity: tuple[float, float], options: Options | None = None
) -> ScaleEstimate:
    """Run a model over an image at the scale that brings its nuclei to the size of the training.

    Args:
        model: a `Model`.
        image: (H, W, 3) uint8 or uint16, an array or anything that slices like one.
        intensity: (low, high) grey levels that become 0 and 1.
        options: what the user asked; None for the defaults.

    Returns:
        A `ScaleEstimate` with maps (H, W, K) float32 in [0, 1] at the size of the image. Its spread
        is None where the options give the scale.
    """
    options = options or Options()

    def prepare(part):
        return normalise(part, intensity)

    scale = options.scale_for(model)
    if scale is None:
        estimate = estimate_scale(model, image, prepare)
    else:
        estimate = ScaleEstimate(scale, None, None)
    if estimate.maps is not None:
        return estimate
    tile_px, batch_size = options.tile_px, options.batch_size
    maps = predict_scaled(model, image, estimate.scale, prepare, tile_px, batch_size)
    return estimate._replace(maps=maps)
