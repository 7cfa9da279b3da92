"""Batches follow from seed, step and place alone, and hold the shares that the constants say."""

from functools import partial
from itertools import islice

import numpy as np
import pytest
from training_samples import sample

from nuclei.training.batches import ECHO_STEPS, CropPlan, batches, draw_crop
from nuclei.training.drawers import ThreadDrawer
from nuclei.training.fine_tuning import Rehearsal, rehearsal_crops
from nuclei.training.scenes import copy_paste
from nuclei.training.stains import augment_stain

HEADS = ("nucleus", "distance")


def plan(*samples, heads=HEADS, seed=1, rehearsal=None):
    return CropPlan(list(samples) or [sample()], heads, 64, seed, rehearsal)


def both_kinds(**options):
    return plan(sample("fluorescence"), sample("tissue"), **options)


def test_batches_follow_from_seed_and_step_alone():
    draw = partial(draw_crop, both_kinds())
    first = list(islice(batches(both_kinds(), 3, drawer=ThreadDrawer(draw, 3)), 5))
    again = list(islice(batches(both_kinds(), 3, first_step=3), 2))
    for a, b in zip(first[3:], again, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    other = next(batches(both_kinds(seed=2), 3))
    assert np.abs(other[0] - first[0][0]).max() > 0.01
    assert first[0][0].shape == (3, 64, 64, 3) and first[0][1].shape == (3, 64, 64, 2)
    assert first[0][0].dtype == first[0][1].dtype == np.float32
    assert first[0][0].min() >= 0 and first[0][0].max() <= 1


@pytest.mark.parametrize("echo", [1, 2, 3])
def test_each_crop_comes_again_turned_after_some_steps(echo):
    made = list(islice(batches(plan(seed=3), 6, echo=echo), 20))

    def all_turns(crop):
        return [np.rot90(side, turns) for side in (crop, crop[::-1]) for turns in range(4)]

    for new in range(0, 6, echo):
        for again in range(echo):
            later = [part[new + again] for part in made[2 + again * ECHO_STEPS]]
            first = [part[new] for part in made[2]]
            is_same = [
                all(map(np.array_equal, turned, later))
                for turned in zip(*map(all_turns, first), strict=True)
            ]
            assert any(is_same) and (again or is_same[0])
    # In fewer steps no crop comes twice.
    several = np.concatenate([images for images, _ in made[:ECHO_STEPS]])
    assert len({tuple(sorted(crop[..., 0].ravel())) for crop in several}) == len(several)


def test_processes_that_share_a_batch_make_the_same_one():
    whole = list(islice(batches(both_kinds(), 4), 3))
    parts = [
        list(islice(batches(both_kinds(), 4, places=places), 3))
        for places in (range(1), range(1, 4))
    ]
    for batch, first, rest in zip(whole, *parts, strict=True):
        assert len(first[0]) == 1 and len(rest[0]) == 3
        for array, one, others in zip(batch, first, rest, strict=True):
            np.testing.assert_array_equal(array, np.concatenate([one, others]))


def test_sixteen_bit_images_are_scaled_by_their_range():
    shallow = sample()
    deep = sample(image=shallow.image.astype(np.uint16) * 16, intensity_range=(0.0, 255.0 * 16))
    a = next(batches(plan(deep, heads=("nucleus",), seed=4), 2))
    b = next(batches(plan(shallow, heads=("nucleus",), seed=4), 2))
    np.testing.assert_allclose(a[0], b[0], atol=0.02)


def test_empty_crops_occur_but_do_not_dominate():
    labels = np.zeros((400, 400), np.int32)
    labels[10:30, 10:30] = 1
    lonely = sample(image=np.zeros((400, 400, 3), np.uint8), labels=labels, diameter_px=20.0)
    made = islice(batches(plan(lonely, heads=("nucleus",), seed=0), 8), 10)
    truths = np.concatenate([truth for _, truth in made])
    assert 0.05 < (truths.max((1, 2, 3)) == 0).mean() < 0.5


def test_negative_images_teach_that_there_is_nothing(monkeypatch):
    monkeypatch.setattr("nuclei.training.batches.NEGATIVE_SHARE", 1.0)
    _, truth = draw_crop(plan(seed=0), step=0, place=0)
    assert not truth.any()


def test_clumps_are_not_laid_on_other_nuclei(monkeypatch):
    monkeypatch.setattr("nuclei.training.batches.NEGATIVE_SHARE", 0)
    monkeypatch.setattr("nuclei.training.batches.CROWD_SHARE", 0)
    monkeypatch.setattr("nuclei.training.batches.COPY_PASTE_SHARE", 1)
    laid_on = []

    def watched(crop, labels, other, other_labels, rng):
        laid_on.append(set(np.unique(other_labels)) - {0})
        return copy_paste(crop, labels, other, other_labels, rng)

    monkeypatch.setattr("nuclei.training.batches.copy_paste", watched)
    is_clump = np.arange(sample().labels.max() + 1) > 7
    for masked in (True, False):
        one = sample(is_clump=is_clump if masked else None)
        for step in range(10):
            draw_crop(plan(one, seed=0), step=step, place=0)
    assert set.union(*laid_on[:10]) <= set(range(1, 8)) < set.union(*laid_on[10:])


def test_crowds_of_binary_masks_are_drawn_from_single_regions(monkeypatch):
    monkeypatch.setattr("nuclei.training.batches.NEGATIVE_SHARE", 0)
    monkeypatch.setattr("nuclei.training.batches.CROWD_SHARE", 1)
    seen = []
    monkeypatch.setattr(
        "nuclei.training.batches.draw_crowd",
        lambda crop, labels, sure, rng: (seen.append((labels, sure)), (crop + 0, labels))[1],
    )
    is_clump = np.arange(sample().labels.max() + 1) > 7
    draws = [sample(), sample(is_clump=is_clump)]
    truths = [draw_crop(plan(one, seed=0), step=0, place=0)[1] for one in draws]
    (whole, surely_background), (single, background) = seen
    assert whole.max() > 7 >= single.max() and (truths[1] >= 0).all()  # all of a crowd is known
    np.testing.assert_array_equal(background, surely_background)  # clumps are none


@pytest.mark.parametrize(("share", "number"), [(0, 0), (1, 5)])
def test_stain_augmentation_takes_its_share_of_the_crops(share, number, monkeypatch):
    monkeypatch.setattr("nuclei.training.batches.NEGATIVE_SHARE", 0)
    monkeypatch.setattr("nuclei.training.batches.STAIN_AUGMENTATION_SHARE", share)
    calls = []

    def watched(*arguments):
        calls.append(1)
        return augment_stain(*arguments)

    monkeypatch.setattr("nuclei.training.batches.augment_stain", watched)
    for step in range(5):
        draw_crop(plan(heads=("nucleus",), seed=0), step=step, place=0)
    assert len(calls) == number


def test_rehearsal_takes_its_share_of_the_crops_and_turns_them_with_their_truth():
    crops = rehearsal_crops([sample("tissue")], 64, 3, seed=1)
    assert crops.shape == (3, 64, 64, 3) and crops.dtype == np.float32
    assert not np.array_equal(crops[0], crops[1])
    np.testing.assert_array_equal(crops[:2], rehearsal_crops([sample("tissue")], 64, 2, seed=1))
    rehearsal = Rehearsal(crops, crops[..., :2], share=0.3)
    made = batches(plan(sample("tissue"), seed=0, rehearsal=rehearsal), 8)
    images, truths = (np.concatenate(parts) for parts in zip(*islice(made, 25), strict=True))
    is_rehearsed = [
        np.array_equal(image[..., :2], truth) for image, truth in zip(images, truths, strict=True)
    ]
    assert 0.2 < np.mean(is_rehearsed) < 0.4
    rehearsed = [
        image.tobytes() for image, known in zip(images, is_rehearsed, strict=True) if known
    ]
    assert len(set(rehearsed)) > 3  # some are turned
