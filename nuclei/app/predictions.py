"""What the network found in each image, kept in the hidden folder .nuclei/ until it is made anew.

    write_prediction(folder, "a", labels, describe(found, model, made_by, mpp))
    prediction = read_prediction(folder, "a")           # None: not there

Nothing of the user lies there: the edit logs hold all that was done.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nuclei.app.edit_log import decode_labels
from nuclei.contents import Content
from nuclei.files import replacing
from nuclei.images.writing import find_labels, write_labels
from nuclei.instances.confidence import confidence, confidence_features
from nuclei.instances.shape import solidities
from nuclei.instances.signs import image_signs
from nuclei.schema import read_json_file


@dataclass(frozen=True)
class Prediction:
    """What is known of a predicted image, beside its labels.

    Attributes:
        made_by: names the model.
        height, width: in px.
        num_nuclei: how many were found.
        uncertainty: of the image, 0 to about 1.
        flagged: whether it is out of distribution; None where unknown.
        scale: how many times larger the network saw it.
        intensity: grey levels that become black and white.
        mpp: µm per pixel that the file states, or None.
        confidences: of the nuclei 1...n, empty where the model is not calibrated.
        image: what the file of the image was; None in those of older versions.
    """

    made_by: str
    height: int
    width: int
    num_nuclei: int
    uncertainty: float
    flagged: bool | None
    scale: float
    intensity: list[float]
    mpp: float | None
    confidences: list[float]
    image: Content | None = None


def describe(
    found, model, made_by: str, mpp: float | None, image: Content | None = None
) -> Prediction:
    """The `Prediction` of a `Found`."""
    values: list[float] = []
    if model.calibration is not None and found.labels.any():
        features = confidence_features(found.labels, found.maps, found.scale)
        values = confidence(features, model.calibration).round(4).tolist()
    signs = image_signs(
        found.uncertainty, found.scale_spread, values, solidities(found.labels), found.hole_share
    )
    flagged = model.exceeds_limits(signs, found.kind)
    return Prediction(
        made_by=made_by,
        height=found.labels.shape[0],
        width=found.labels.shape[1],
        num_nuclei=int(found.labels.max()),
        uncertainty=round(found.uncertainty, 4),
        flagged=None if flagged is None else bool(flagged),
        scale=float(found.scale),
        intensity=[float(level) for level in found.intensity],
        mpp=mpp,
        confidences=values,
        image=image,
    )


def write_prediction(folder: Path, stem: str, labels: np.ndarray, prediction: Prediction) -> None:
    """Keep a prediction. The JSON file is written last: it marks the labels as whole."""
    write_labels(folder, stem, labels)
    with replacing(folder / f"{stem}.json") as temporary:
        temporary.write_text(json.dumps(asdict(prediction)), encoding="utf-8")


def read_prediction(folder: Path, stem: str) -> Prediction | None:
    """What is kept of an image; None where there is nothing."""
    try:
        prediction = read_json_file(folder / f"{stem}.json", Prediction)
    except (OSError, ValueError):  # what can be made again is not worth a message
        return None
    return prediction if find_labels(folder, stem).is_file() else None


def read_predicted_labels(folder: Path, stem: str) -> tuple[np.ndarray, bytes]:
    """The labels (H, W) int32 of a prediction that is kept, and the content of their file.

    Raises:
        OSError, ValueError: the file is gone or damaged.
    """
    path = find_labels(folder, stem)
    content = path.read_bytes()
    try:
        return decode_labels(content), content
    except ValueError as error:
        raise ValueError(
            f"{path.parent.name}/{path.name} is damaged ({error}); remove it and start anew"
        ) from None
