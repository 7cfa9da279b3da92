"""Training batches without end, drawn on threads while the network works on the batch before.

Every crop follows from the seed, the step and its place in the batch alone. So a resumed training
sees the batches that it would have seen, and several processes can make parts of one batch:

    plan = CropPlan(samples, heads=("nucleus", "distance", "contact"), size=256, seed=7)
    for images, truths in batches(plan, batch_size=8):
        ...
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import count

import cv2
import numpy as np

from nuclei.training.crowds import CROWD_SHARE, draw_crowd
from nuclei.training.drawers import ThreadDrawer
from nuclei.training.geometry import random_coordinates, sample_at, turn, void_at
from nuclei.training.holes import HOLE_SHARE, add_holes
from nuclei.training.light import change_light
from nuclei.training.samples import Sample
from nuclei.training.scenes import COPY_PASTE_SHARE, NEGATIVE_SHARE, copy_paste, negative_image
from nuclei.training.shares import sampling_shares
from nuclei.training.stains import STAIN_AUGMENTATION_SHARE, augment_stain
from nuclei.training.targets import targets
from nuclei.training.void import known_targets

ECHO = 2  # times that each crop is shown, each time turned differently: drawing is slow
ECHO_STEPS = 8  # of training between two showings of a crop
NUM_AHEAD = 4  # batches that are made in advance


@dataclass
class CropPlan:
    """What training crops are drawn from, and how.

    Attributes:
        samples: list of `Sample`.
        heads: names of the maps to learn, as for `targets`.
        size: height and width of a crop in px.
        seed: all that is random follows from it, from the step and from the place in the batch.
        rehearsal: a `fine_tuning.Rehearsal` that gives some of the crops, or None.
        shares: (len(samples),) float64, how often each sample is drawn.
    """

    samples: list[Sample]
    heads: tuple[str, ...]
    size: int
    seed: int
    rehearsal: object = None
    shares: np.ndarray = field(init=False)

    def __post_init__(self):
        self.shares = sampling_shares(self.samples, self.size)


def draw_pair(samples, shares, size, rng):
    """Draw a crop whose colours are those of its image.

    Args:
        samples: list of `Sample`.
        shares: (len(samples),) float64, how often each is drawn.
        size: height and width of the crop in px.
        rng: `numpy.random.Generator`.

    Returns:
        (crop, labels, clumps, void): (size, size, 3) float32 in [0, 1], (size, size) int32, and
        two masks (size, size) bool or None, as for `known_targets`.
    """
    sample = samples[rng.choice(len(samples), p=shares)]
    first = random_coordinates(sample.labels, rng, size, sample.diameter_px)
    crop, labels = sample_at(sample.image, sample.labels, *first)
    void = None if sample.void is None else void_at(sample.void, *first[:2])
    clumps = sample.clumps(labels)
    if rng.random() < CROWD_SHARE:
        nuclei = labels if clumps is None else np.where(clumps, 0, labels)
        background = labels == 0 if void is None else (labels == 0) & ~void
        crowded, crowded_labels = draw_crowd(crop, nuclei, background, rng)
        if crowded is not crop:
            crop, labels, clumps, void = crowded, crowded_labels, None, None
    elif rng.random() < COPY_PASTE_SHARE:
        second = random_coordinates(sample.labels, rng, size, sample.diameter_px)
        other, other_labels = sample_at(sample.image, sample.labels, *second)
        below = labels
        if clumps is not None:  # only single nuclei are laid on
            other_labels[sample.is_clump[other_labels]] = 0
        crop, labels = copy_paste(crop, labels, other, other_labels, rng)
        if clumps is not None:
            clumps &= labels == below
    low, high = sample.intensity_range
    crop -= np.float32(low)
    crop /= np.float32(high - low)
    return np.clip(crop, 0, 1, out=crop), labels, clumps, void


def draw_crop(plan, step, place):
    """Draw the crop that belongs to one place of the batch of one step, with its truth.

    Args:
        plan: `CropPlan`.
        step: number of the training step, from 0.
        place: index in the batch.

    Returns:
        (image, truth): (size, size, 3) in [0, 1] and (size, size, K) of `targets`, both float32.
    """
    rng = np.random.default_rng([plan.seed, step, place])
    rehearsal = plan.rehearsal
    if rehearsal is not None and rng.random() < rehearsal.share:
        index, num_turns = rng.integers(len(rehearsal.crops)), rng.integers(4)
        return turn(rehearsal.crops[index], num_turns), turn(rehearsal.truths[index], num_turns)
    if rng.random() < NEGATIVE_SHARE:
        crop = negative_image(rng, plan.size)
        no_nuclei = np.zeros((plan.size, plan.size), np.int32)
        return change_light(crop, rng), targets(no_nuclei, plan.heads)
    crop, labels, clumps, void = draw_pair(plan.samples, plan.shares, plan.size, rng)
    if rng.random() < STAIN_AUGMENTATION_SHARE:
        crop = augment_stain(crop, labels, rng)
    if rng.random() < HOLE_SHARE:
        crop = add_holes(crop, labels, rng)
    truth = known_targets(labels, plan.heads, clumps, void)
    return change_light(crop, rng), truth


def crop_key(step, place, echo):
    """Find the crop that a step shows at a place of its batch.

    One place in `echo` shows a new crop. The others show a crop that was new ECHO_STEPS, twice
    ECHO_STEPS ... before.

    Args:
        step: number of the training step, from 0.
        place: index in the batch.
        echo: how many times each crop is shown.

    Returns:
        (step, place) to call `draw_crop` with.
    """
    return step + (echo - 1 - place % echo) * ECHO_STEPS, place // echo


def turn_pair(pair, seed, step, place):
    """Turn and mirror a crop and its truth at random, for a place where the crop is not new.

    Args:
        pair: (image, truth), (size, size, 3) and (size, size, K) float32, as of `draw_crop`.
        seed, step, place: what the random turn follows from.

    Returns:
        The two arrays in a list, both turned in the same way.
    """
    choice = int(np.random.default_rng([seed, step, place]).integers(8))
    num_turns, mirrored = divmod(choice, 2)
    return [turn(array, num_turns, mirrored) for array in pair]


def crops_held(batch_size, echo=ECHO):
    """The number of crops that `batches` keeps at a time."""
    num_new = -(-batch_size // echo)  # of a batch
    return num_new * (ECHO_STEPS * (echo - 1) + NUM_AHEAD + 2)


def batches(plan, batch_size, first_step=0, places=None, echo=ECHO, drawer=None):
    """Yield training batches without end.

    Args:
        plan: `CropPlan`.
        batch_size: number of crops of a whole batch.
        first_step: the step to begin with.
        places: range of the batch to make alone, for one of several processes that share each
            batch; None for the whole batch. What is at a place does not depend on who makes it.
        echo: how many times each crop is shown; a turned crop is nearly as good as a new one.
        drawer: a `ThreadDrawer` or `ProcessDrawer`; None is one thread, enough beside a network on
            a CPU.

    Yields:
        (images, truths): (B, size, size, 3) and (B, size, size, K), float32. B is batch_size or the
        number of places.

    References:
        Choi et al. 2019, "Faster Neural Network Training with Data Echoing",
        https://arxiv.org/abs/1907.05550
    """
    cv2.setNumThreads(1)  # OpenCV's own threads would compete with these
    places = list(places or range(batch_size))
    with drawer or ThreadDrawer(partial(draw_crop, plan), 1) as drawer:
        for step in count(first_step):
            for later_step in range(step, step + NUM_AHEAD + 1):
                for place in places:
                    drawer.submit(crop_key(later_step, place, echo))
            pairs = []
            for place in places:
                pair = drawer.result(crop_key(step, place, echo))
                is_new = place % echo == 0
                pairs.append(pair if is_new else turn_pair(pair, plan.seed, step, place))
            batch = tuple(np.stack(arrays) for arrays in zip(*pairs, strict=True))
            drawer.release_before(step + 1)
            yield batch
