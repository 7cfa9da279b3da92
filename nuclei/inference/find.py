"""Find the nuclei of one image: the record of what the user asked, and the record of what was found.

    model = load_model("Saved_Model/pretrained.h5")
    found = find_nuclei(image, model, Options(mpp=0.5))      # (H, W, 3) uint8 or uint16
    found.labels                                             # (H, W) int32, 0 background, 1...n
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from nuclei.images.intensity import intensity_range, normalise
from nuclei.inference.scale import SCALE_LIMITS, predict_at_trained_scale
from nuclei.inference.tiling import TILE_PX
from nuclei.instances.confidence import image_uncertainty
from nuclei.instances.separate import THRESHOLDS, median_diameter, separate
from nuclei.model_file import Model

NUCLEUS_UM = 8.0  # expected median diameter where only mpp is known: lymphocytes have 6 to 7, cultured cells 10 to 15


@dataclass(frozen=True)
class Options:
    """What the user asked of a prediction.

    Attributes:
        scale: how many times larger the network sees the image; None estimates it.
        diameter_px: median nucleus diameter in the image, from which the scale follows; None if unknown.
        mpp: micrometres per pixel; the scale follows from it where neither scale nor diameter is given.
        threshold: probability above which a pixel is nucleus; None takes the model's.
        min_area_px: area in image pixels below which an object is dropped; None takes the model's.
        tile_px: side of the tiles that the network sees.
        batch_size: tiles in one call of the network.
        channel: name or number (from 1) of the channel of a fluorescence slide; None chooses it.
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
    tissue_mask: bool = True

    def scale_for(self, model: Model, mpp: float | None = None) -> float | None:
        """The scale that follows from scale, diameter or µm per pixel; None where it must be estimated.

        Args:
            model: whose nuclei have `model.diameter_px`.
            mpp: µm per pixel that the file states, used where the user gave none.
        """
        if self.scale is not None:
            return self.scale
        mpp = self.mpp or mpp
        diameter_px = self.diameter_px or (NUCLEUS_UM / mpp if mpp else None)
        return float(np.clip(model.diameter_px / diameter_px, *SCALE_LIMITS)) if diameter_px else None

    def thresholds_for(self, model: Model, scale: float | None = None) -> dict:
        """The thresholds of `separate`: the model's, changed by the user's.

        Args:
            model: whose thresholds were chosen on its validation images.
            scale: that the image was seen at, needed where min_area_px is given: it counts image pixels.
        """
        thresholds = {**THRESHOLDS, **model.thresholds}
        if self.threshold is not None:
            thresholds["nucleus_threshold"] = self.threshold
        if self.min_area_px is not None and scale is not None:
            thresholds["min_area_px"] = self.min_area_px * scale**2
        return thresholds


@dataclass(frozen=True)
class Found:
    """What one image became.

    Attributes:
        image: (H, W, 3) uint8 or uint16 RGB.
        intensity: (low, high) grey levels that the network saw as 0 and 1.
        labels: (H, W) int32, 0 background, 1...n without gaps.
        maps: (H, W, K) float32 in [0, 1]; channel 0 is the nucleus probability.
        scale: how many times larger the network saw the image.
    """

    image: np.ndarray
    intensity: tuple[float, float]
    labels: np.ndarray
    maps: np.ndarray
    scale: float


def find_nuclei(image, model: Model, options: Options | None = None) -> Found:
    """Find the nuclei of one image.

    Args:
        image: (H, W, 3) uint8 or uint16 RGB.
        model: a `Model`.
        options: what the user asked; None for the defaults.

    Returns:
        A `Found`.
    """
    options = options or Options()
    intensity = intensity_range(image)  # of the whole image: a tile of background alone must not be stretched
    maps, scale = predict_maps(model, image, intensity, options)
    labels = separate(maps, scale=scale, **options.thresholds_for(model, scale))
    return Found(image, intensity, labels, maps, scale)


def predict_maps(model: Model, image, intensity, options: Options | None = None):
    """Run a model over an image at the scale that brings its nuclei to the size of the training.

    Args:
        model: a `Model`.
        image: (H, W, 3) uint8 or uint16, an array or anything that slices like one.
        intensity: (low, high) grey levels that become 0 and 1.
        options: what the user asked; None for the defaults.

    Returns:
        (maps, scale): (H, W, K) float32 in [0, 1] at the size of the image, and the scale.
    """
    options = options or Options()
    return predict_at_trained_scale(
        model,
        image,
        model.num_maps,
        model.diameter_px,
        # By the default thresholds: the model's were chosen at the scales that these give.
        measure=lambda seen: median_diameter(separate(seen)),
        uncertainty=image_uncertainty,
        scale=options.scale_for(model),
        prepare=partial(normalise, intensity_range=intensity),
        tile=options.tile_px,
        batch_size=options.batch_size,
        margin=model.margin_px,
        multiple=model.multiple_px,
    )
