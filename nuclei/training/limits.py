"""The limits of the signs of `image_signs`, above which an image is out of distribution.

    found = find_limits(signs, set_names, kinds, rare_modalities(counts))
    found["limits"]["uncertainty"]

Each sign has a limit of its own, and an image is flagged that exceeds one of them. All limits are
equally far out, measured by how the sign varies among the validation images. They lie where no set
has more than MAX_FALSE_ALARMS of its images beyond. The signs of FIXED_LIMITS need no search.
"""

import numpy as np

from nuclei.model_settings import FIXED_LIMITS, SIGNS

MAX_FALSE_ALARMS = 0.05  # share of the validation images of a set that may be flagged by mistake
MIN_IMAGES = 20  # of a set, below which its share says nothing
RARE = 0.03  # share of the training images, below which the network hardly knows a modality
USUAL = 95  # percentile of a sign that is one unit away from its median
MODALITIES = ("brightfield", "fluorescence", "tissue")


def find_limits(signs: list[dict], set_names: list[str], kinds: list[str], rare: list[str]) -> dict:
    """Find the limits.

    Args:
        signs: of each validation image, see `image_signs`.
        set_names: the sets that they belong to.
        kinds: their modalities.
        rare: modalities whose images are flagged whatever their signs, of `rare_modalities`.

    Returns:
        {"limits", "rare_modalities", "false_alarm_rate", "images"} as the model file has them; {}
        where there are so few images that the limits would be a matter of chance.
    """
    if len(signs) < MIN_IMAGES:
        return {}
    names = np.array([name for name in SIGNS if name not in FIXED_LIMITS])
    values = np.array([[image.get(name, np.nan) for name in names] for image in signs])
    is_known = np.isfinite(values).sum(axis=0) >= MIN_IMAGES
    names, values = names[is_known], values[:, is_known]
    middle, usual = np.nanpercentile(values, (50, USUAL), axis=0)
    unit = np.maximum(usual - middle, 1e-6)
    distances = np.nanmax((values - middle) / unit, axis=1)
    set_names = np.array(set_names)
    sets = [set_names == name for name in np.unique(set_names)]
    large = [member for member in sets if member.sum() >= MIN_IMAGES] or [np.ones(len(signs), bool)]
    farthest = max(
        np.quantile(distances[member], 1 - MAX_FALSE_ALARMS, method="higher") for member in large
    )
    limits = middle + farthest * unit + 1e-9  # the farthest image itself is not flagged
    is_flagged = (values > limits).any(axis=1) | np.isin(kinds, rare)
    return {
        "limits": dict(zip(names.tolist(), limits.round(9).tolist(), strict=True)),
        "rare_modalities": list(rare),
        "false_alarm_rate": round(float(is_flagged.mean()), 4),
        "images": len(signs),
    }


def rare_modalities(counts: dict[str, int], base: dict | None = None) -> list[str]:
    """The modalities of which the network has seen hardly any image.

    Args:
        counts: number of training images of each modality.
        base: "out_of_distribution" of the model that the training started from, which knew all
            modalities but those that it calls rare; None for a training from nothing.
    """
    total = max(1, sum(counts.values()))
    rare = [kind for kind in MODALITIES if counts.get(kind, 0) < RARE * total]
    return (
        rare if base is None else [kind for kind in rare if kind in base.get("rare_modalities", ())]
    )
