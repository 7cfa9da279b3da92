"""nuclei.training.fine_tuning"""

from dataclasses import dataclass

import numpy as np

from nuclei.training.batches import draw_pair
from nuclei.training.light import change_light
from nuclei.training.samples import sampling_shares
from nuclei.training.stains import as_other_modality
from nuclei.training.targets import UNKNOWN

FEW_IMAGES = 50  # training images; with fewer, --init keeps its batch normalisation: theirs would be far from all others
REHEARSAL_SHARE = 0.6  # of the crops with --init and few images: in another modality, with the truth that --init paints
REHEARSAL_PIXELS = 6_000_000  # of those crops, 92 of the default size: 24 bytes each
BLENDS = (0.25, 0.5, 0.75, 1.0)  # of the way from --init to the end of the training, tried one after the other
FEW_BLEND = 0.75  # where there are too few nuclei to choose by: one image or another chose anything from 0.25 to 1
BLEND_GAIN = 0.85  # of what the training gains on the validation crops; the first of BLENDS that gives so much is taken
REHEARSAL_STREAM = 2**32 - 1  # in place of a step: of random numbers that no step takes


def choose_blend(model, start, end, crops, batch_size, blends=None):
    """How far to go from the weights of --init to those at the end of the training: no farther than pays.

    What fine-tuning learns of new images it gains early on that way; what it forgets of all others, late.

    Args:
        model: takes the weights; it ends with those chosen.
        start, end: lists of arrays.
        crops: validation images (N, size, size, 3) and truths (N, size, size, K), float32, of `validation_crops`.
        batch_size: of the prediction.
        blends: to choose from; the default is BLENDS.

    Returns:
        (blend, losses): the one chosen, and the validation losses at 0, at 1 and at each of them that was looked at.

    References:
        Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", https://arxiv.org/abs/2109.01903
    """
    from nuclei.training.losses import SegmentationLoss

    images, truths = crops
    loss = SegmentationLoss(range(truths.shape[-1]))

    def measure(blend):
        model.set_weights([(1 - blend) * one + blend * other for one, other in zip(start, end, strict=True)])
        parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
        values = [float(loss(truths[part], model.predict_on_batch(images[part]))) for part in parts]
        return float(np.average(values, weights=[len(images[part]) for part in parts]))

    found = {blend: measure(blend) for blend in (0.0, 1.0)}
    for blend in blends or BLENDS:
        found[blend] = measure(blend)
        if found[0.0] - found[blend] >= BLEND_GAIN * (found[0.0] - min(found.values())) > 0:
            return blend, found
    blend = min(blends or BLENDS, key=found.get)  # there was nothing to gain: the least harm
    measure(blend)
    return blend, found


def rehearse(model, learned, samples, heads, size, batch_size, share, seed):
    """What a model knows of other modalities than that of the few images that it shall learn: an `Rehearsal`.

    Args:
        model: paints `heads`, of which it has `learned` these.
        samples: the images, `Sample`.
        size: height and width of the crops, of which there are REHEARSAL_PIXELS.
        share: of the crops of the training that these shall be.
    """
    crops = rehearsal_crops(samples, size, max(1, round(REHEARSAL_PIXELS / size**2)), seed)
    parts = range(0, len(crops), batch_size)
    truths = np.concatenate([np.asarray(model.predict_on_batch(crops[first : first + batch_size])) for first in parts])
    truths[..., [head not in learned for head in heads]] = UNKNOWN
    return Rehearsal(crops, truths, share)


@dataclass
class Rehearsal:
    """What a model knows already, to be trained beside what it shall learn: `crops` (N, size, size, 3), what it paints on
    them, `truths` (N, size, size, K), both float32, and the `share` of all crops that is drawn from these."""

    crops: np.ndarray
    truths: np.ndarray
    share: float


def rehearsal_crops(samples, size, number, seed):
    """Crops that show the samples in another modality, for a model to say what it knows of that: `Rehearsal`.

    Returns:
        (number, size, size, 3) float32 in [0, 1].

    References:
        Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal"; Li & Hoiem 2016, "Learning without Forgetting"
        (the model's own output as the truth of what it shall not forget).
    """
    shares, crops = sampling_shares(samples, size), []
    for index in range(number):
        rng = np.random.default_rng([seed, REHEARSAL_STREAM, index])
        crop, labels, _ = draw_pair(samples, shares, size, rng)
        crops.append(change_light(as_other_modality(crop, labels, rng), rng))
    return np.stack(crops)
