"""Signs that an image is unlike those that the network has learned from.

    signs = image_signs(found.uncertainty, found.scale_spread, confidences, solidities)
    model.exceeds_limits(signs, found.kind)

One sign is not enough. The network may be sure of shapes that are no nuclei: the outlines of some
are ragged, the size of others is another one at each scale, and most may be too pale for nuclei.
"""

import numpy as np


def image_signs(
    uncertainty: float,
    scale_spread: float | None = None,
    confidences=(),
    solidities=(),
    hole_share: float | None = None,
) -> dict[str, float]:
    """The signs of one image: the larger, the more unusual.

    Args:
        uncertainty: of `image_uncertainty`.
        scale_spread: of a `ScaleEstimate`; None where unknown.
        confidences: (n,) of `confidence`; empty where unknown, or without nuclei.
        solidities: (n,) of `solidities`; the same.
        hole_share: of `nuclei.instances.holes`; None where unknown.

    Returns:
        {name: value} for those of `SIGNS` that are known: "low_confidence" is one less the mean
        confidence, "low_solidity" one less the median solidity.
    """
    signs = {"uncertainty": float(uncertainty)}
    if scale_spread is not None:
        signs["scale_spread"] = float(scale_spread)
    if hole_share is not None:
        signs["hole_share"] = float(hole_share)
    if len(confidences):
        signs["low_confidence"] = 1 - float(np.mean(confidences))
    if len(solidities):
        signs["low_solidity"] = 1 - float(np.median(solidities))
    return signs
