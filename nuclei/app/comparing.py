"""The old model and the new one on the same images, against what the user has accepted.

record = compare(old_path, new_path, pairs, held_out=True, say=print)
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nuclei.images.reading import open_image
from nuclei.images.stems import stem_of
from nuclei.inference.engines import load_model
from nuclei.inference.find import Options, find_nuclei
from nuclei.instances.matching import match
from nuclei.scores import score, tally
from nuclei.truth.masks import read_truth

SHOWN = {"ap50": "ap_50", "map": "mean_ap", "dice": "dice"}  # by name on the page


def tally_model(path: Path, pairs: dict[str, tuple[Path, Path]], say: Callable) -> dict[str, dict]:
    """The sums of a model on some images.

    Args:
        path: the model file.
        pairs: {key: (image, truth)}.
        say: is told what happens while the model is loaded.
    """
    model = load_model(path, say=say)
    sums = {}
    for key, (image_path, truth_path) in pairs.items():
        file = open_image(image_path)
        truth = read_truth(truth_path, file.image.shape[:2], stem=stem_of(image_path))
        found = find_nuclei(file.image, model, Options(mpp=file.mpp))
        sums[key] = tally(match(truth.labels, found.labels, truth.void))
    return sums


def scores_of(sums: list[dict]) -> dict[str, float]:
    """The scores of some images together, pooled."""
    pooled = {name: np.array([sum(one[name] for one in sums)]) for name in sums[0]}
    values = score(pooled)
    return {shown: round(float(values[name][0]), 4) for shown, name in SHOWN.items()}


def compare(
    old: Path,
    new: Path,
    pairs: dict[str, tuple[Path, Path]],
    held_out: bool,
    say: Callable[[str], object],
) -> dict:
    """Score both models on the same images.

    Args:
        old, new: the model files.
        pairs: {key of an image: (image, truth)}.
        held_out: whether the new model has not learned from these images.
        say: is told what happens while a model is loaded.

    Returns:
        What the page shows: scores of both, and the AP@0.5 of each image.
    """
    before, after = (tally_model(path, pairs, say) for path in (old, new))
    images = [
        {
            "id": key,
            "old_ap50": scores_of([before[key]])["ap50"],
            "new_ap50": scores_of([after[key]])["ap50"],
        }
        for key in pairs
    ]
    record = {"images": images, "held_out": held_out}
    for side, path, sums in (("old", old, before), ("new", new, after)):
        name = f"{path.parent.name}/{path.name}"
        record[side] = {"name": name, "path": str(path), **scores_of(list(sums.values()))}
    return record
