"""nuclei.training.batches"""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import cv2
import numpy as np

from nuclei.training.geometry import random_coordinates, sample_at, turn
from nuclei.training.light import change_light
from nuclei.training.samples import sampling_shares
from nuclei.training.scenes import COPY_PASTE_SHARE, NEGATIVE_SHARE, copy_paste, negative_image
from nuclei.training.stains import STAIN_AUGMENTATION_SHARE, augment_stain
from nuclei.training.targets import targets

ECHO = 2  # times that a crop is shown, each time turned otherwise
ECHO_STEPS = 8  # of training between two of these


def augment(image, labels, rng, size, diameter_px=None):
    """One random crop of an image and its labels, transformed alike.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        labels: (H, W) int32, 0 is background.
        rng: a `numpy.random.Generator`; all that is random comes from it.
        size: height and width of the crop.
        diameter_px: median nucleus diameter of the image, which becomes DIAMETER_PX; None leaves the native scale.

    Returns:
        (size, size, 3) float32 in [0, 1] and (size, size) int32 with the ids of `labels`.
    """
    rows, columns, step = random_coordinates(labels, rng, size, diameter_px)
    crop, crop_labels = sample_at(image, labels, rows, columns, step)
    return change_light(crop, rng), crop_labels


def draw_pair(samples, shares, size, rng):
    """A crop of a sample as it is but for its place: image (size, size, 3) float32 in [0, 1], labels (size, size), sample."""
    sample = samples[rng.choice(len(samples), p=shares)]
    rows, columns, source_step = random_coordinates(sample.labels, rng, size, sample.diameter_px)
    crop, labels = sample_at(sample.image, sample.labels, rows, columns, source_step)
    if sample.has_instances and rng.random() < COPY_PASTE_SHARE:
        more = random_coordinates(sample.labels, rng, size, sample.diameter_px)
        crop, labels = copy_paste(crop, labels, *sample_at(sample.image, sample.labels, *more), rng)
    low, high = sample.intensity_range
    crop -= np.float32(low)
    crop /= np.float32(high - low)
    return np.clip(crop, 0, 1, out=crop), labels, sample


def draw_crop(samples, shares, heads, size, seed, step, place, rehearsal=None):
    """The crop at `place` of the batch at `step`: image (size, size, 3) and truth (size, size, K), float32."""
    rng = np.random.default_rng([seed, step, place])
    if rehearsal is not None and rng.random() < rehearsal.share:
        k, turns = rng.integers(len(rehearsal.crops)), rng.integers(4)
        return turn(rehearsal.crops[k], turns), turn(rehearsal.truths[k], turns)
    if rng.random() < NEGATIVE_SHARE:
        crop, labels = negative_image(rng, size), np.zeros((size, size), np.int32)
        return change_light(crop, rng), targets(labels, heads)
    crop, labels, sample = draw_pair(samples, shares, size, rng)
    if rng.random() < STAIN_AUGMENTATION_SHARE:
        crop = augment_stain(crop, labels, rng)
    return change_light(crop, rng), targets(labels, heads, sample.has_instances)


def batches(samples, heads, size, batch_size, seed, first_step=0, places=None, rehearsal=None, echo=ECHO, workers=2, ahead=4):
    """Yield training batches without end, made on threads while the network works on the one before.

    One place in `echo` of a batch holds a new crop; the others show, turned or mirrored, one that was new ECHO_STEPS, twice
    ECHO_STEPS ... before: drawing takes its time, and a turned crop is nearly as good as a new one.

    Args:
        samples: list of `Sample`.
        places: a range of the batch to make alone, for one of several processes that share it; default the whole batch.
            What is at a place does not depend on who makes it.
        first_step: the step to begin with: a resumed run sees the batches that it would have seen.
        rehearsal: a `Rehearsal` of which some of the crops are taken, or None.
        echo: how many times each crop is shown.
        workers: threads; OpenCV and NumPy release Python's lock for most of the work. Beside a network on a CPU one is enough.
        ahead: batches prepared in advance.

    Yields:
        (B, size, size, 3) and (B, size, size, len(heads)), float32, where B is batch_size or the number of places.

    References:
        Choi et al. 2019, "Faster Neural Network Training with Data Echoing", https://arxiv.org/abs/1907.05550
    """
    cv2.setNumThreads(1)  # the threads are ours
    shares = sampling_shares(samples, size)

    places = list(places or range(batch_size))
    # By which step and place of its own `draw_crop` knows the crop that is shown at each place.
    keys_of = lambda step: [(step + (echo - 1 - place % echo) * ECHO_STEPS, place // echo) for place in places]

    def look(pair, step, place):
        if place % echo == 0:
            return pair
        turns, mirrored = divmod(int(np.random.default_rng([seed, step, place]).integers(8)), 2)
        return [turn(array, turns, mirrored) for array in pair]

    with ThreadPoolExecutor(workers) as pool:
        drawn = {}  # on their way or there: all that this batch and the next ones show
        for step in count(first_step):
            for later in range(step, step + ahead + 1):
                for key in keys_of(later):
                    if key not in drawn:
                        drawn[key] = pool.submit(draw_crop, samples, shares, heads, size, seed, *key, rehearsal)
            shown = [look(drawn[key].result(), step, place) for key, place in zip(keys_of(step), places, strict=True)]
            drawn = {key: value for key, value in drawn.items() if key[0] > step}
            yield tuple(np.stack(arrays) for arrays in zip(*shown, strict=True))
