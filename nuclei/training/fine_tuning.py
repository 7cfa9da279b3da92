"""Fine-tuning (`--init`): learn new images without forgetting what the model knows.

Three things keep the old knowledge. With few images, the batch normalisation keeps its statistics,
and part of the crops are rehearsal: the new images in the look of another modality, with the old
model's own maps as their truth. At the end the new weights are blended with the old ones; the share
is chosen on the validation images.
"""

from dataclasses import dataclass

import numpy as np

from nuclei.training.batches import draw_pair
from nuclei.training.light import change_light
from nuclei.training.shares import sampling_shares
from nuclei.training.stains import as_other_modality
from nuclei.training.targets import UNKNOWN

FEW_IMAGES = 50  # fewer training images than this have statistics far from those of other images
REHEARSAL_SHARE = 0.6  # of the crops, with few images
REHEARSAL_PIXELS = 6_000_000  # of all rehearsal crops: 92 crops of 256 px, at 24 bytes a pixel
REHEARSAL_STREAM = 2**32 - 1  # seeds their random numbers in place of a step; no step is as large
BLENDS = (0.25, 0.5, 0.75, 1.0)  # shares of the new weights, tried in this order
BLEND_GAIN = 0.85  # the first share with so much of the possible gain in validation loss is taken
FEW_BLEND = 0.6  # the share where the validation images have too few nuclei to choose by


@dataclass
class Rehearsal:
    """Crops that the old model has labelled itself.

    Attributes:
        crops: (N, size, size, 3) float32 in [0, 1].
        truths: (N, size, size, K) float32, the old model's maps, UNKNOWN where it has no such map.
        share: of all crops of the training that are drawn from these.
    """

    crops: np.ndarray
    truths: np.ndarray
    share: float


def are_few(samples):
    """Whether so few training images need rehearsal and the old batch statistics."""
    return len(samples) < FEW_IMAGES


def rehearse(network, learned, samples, heads, recipe):
    """Make the rehearsal crops of a fine-tuning.

    Args:
        network: the old model as a `keras.Model` that predicts `heads`.
        learned: names of the maps that it has learned; the others of `heads` are new to it.
        samples: list of `Sample` to train on.
        heads: names of the maps of the training.
        recipe: a `Recipe`.

    Returns:
        A `Rehearsal`.

    References:
        Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal".
        Li & Hoiem 2016, "Learning without Forgetting" (the model's own output as the truth).
    """
    size, batch_size = recipe.crop_px, recipe.batch_size
    crops = rehearsal_crops(samples, size, max(1, round(REHEARSAL_PIXELS / size**2)), recipe.seed)
    firsts = range(0, len(crops), batch_size)
    parts = [network.predict_on_batch(crops[first : first + batch_size]) for first in firsts]
    truths = np.concatenate([np.asarray(part) for part in parts])
    truths[..., [head not in learned for head in heads]] = UNKNOWN
    return Rehearsal(crops, truths, REHEARSAL_SHARE)


def rehearsal_crops(samples, size, num_crops, seed):
    """Draw crops that show the samples in the look of another modality.

    Args:
        samples: list of `Sample`.
        size: height and width of a crop.
        num_crops: how many to draw.
        seed: random seed.

    Returns:
        (num_crops, size, size, 3) float32 in [0, 1].
    """
    shares, crops = sampling_shares(samples, size), []
    for index in range(num_crops):
        rng = np.random.default_rng([seed, REHEARSAL_STREAM, index])
        crop, labels, *_ = draw_pair(samples, shares, size, rng)
        crops.append(change_light(as_other_modality(crop, labels, rng), rng))
    return np.stack(crops)


def choose_blend(network, old, new, crops, loss, batch_size, blends=None):
    """Blend new weights with the old ones, by no larger a share of the new than is useful.

    On the way from the old weights to the new ones, most of the gain on the new images comes early,
    and most of the loss on all other images comes late.

    Args:
        network: a `keras.Model` that takes the weights; it ends with the blend.
        old, new: lists of arrays, the weights.
        crops: validation images (N, size, size, 3) and truths (N, size, size, K), float32.
        loss: of the training, a `SegmentationLoss`.
        batch_size: crops in one call of the network.
        blends: shares of the new weights to choose from; the default is BLENDS.

    Returns:
        (blend, losses): the share chosen, and {share: validation loss} for 0, 1 and all tried.

    References:
        Wortsman et al. 2022, "Robust fine-tuning of zero-shot models",
        https://arxiv.org/abs/2109.01903
    """
    images, truths = crops

    def measure(blend):
        pairs = zip(old, new, strict=True)
        network.set_weights([(1 - blend) * before + blend * after for before, after in pairs])
        parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
        values = [float(loss(truths[p], network.predict_on_batch(images[p]))) for p in parts]
        return float(np.average(values, weights=[len(images[p]) for p in parts]))

    losses = {blend: measure(blend) for blend in (0.0, 1.0)}
    for blend in blends or BLENDS:
        losses[blend] = measure(blend)
        possible_gain = losses[0.0] - min(losses.values())
        if losses[0.0] - losses[blend] >= BLEND_GAIN * possible_gain > 0:
            return blend, losses
    blend = min(blends or BLENDS, key=losses.get)  # no gain at all: the least harm
    measure(blend)
    return blend, losses
