"""Crowds hold many nuclei that touch, and every label lies on a nucleus."""

import cv2
import numpy as np
import pytest
from training_samples import example, random_crop

from nuclei.training.crowds import MAX_HIDDEN, clipped, draw_crowd
from nuclei.training.targets import contact_map


def crop_of(kind, seed):
    image, labels = example(kind)
    crop, labels = random_crop(image, labels, np.random.default_rng(seed), 128)
    return crop, labels


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
def test_a_crowd_has_more_nuclei_and_more_contacts_than_its_crop(kind):
    more, contacts = [], []
    for seed in range(6):
        crop, labels = crop_of(kind, seed)
        before = crop.copy()
        crowded, ids = draw_crowd(crop, labels, labels == 0, np.random.default_rng(seed))
        np.testing.assert_array_equal(crop, before)
        if crowded is crop:
            continue
        assert crowded.shape == crop.shape and crowded.dtype == np.float32
        assert ids.dtype == np.int32 and crowded.min() >= 0
        assert set(np.unique(ids)) == set(range(ids.max() + 1))
        more.append(ids.max() - labels.max())
        contacts.append(contact_map(ids).mean() - contact_map(labels).mean())
        inside, outside = crowded[ids > 0].mean(), crowded[ids == 0].mean()
        assert (inside > outside) == (kind == "fluorescence")
    assert len(more) >= 3 and np.median(more) > 5 and np.mean(contacts) > 0


def test_no_nucleus_of_a_crowd_is_mostly_hidden():
    crop, labels = crop_of("fluorescence", 0)
    _, ids = draw_crowd(crop, labels, labels == 0, np.random.default_rng(1))
    whole = ids[20:-20, 20:-20]
    areas = np.bincount(ids.ravel())[np.setdiff1d(np.unique(whole), [0])]
    assert areas.min() > (1 - MAX_HIDDEN) ** 3 * np.median(areas) / 4


def test_a_crop_with_few_whole_nuclei_stays_as_it_is():
    crop, labels = crop_of("fluorescence", 0)
    few = np.where(labels == labels[64, 64], labels, 0)
    for these in (few, np.zeros_like(labels), np.ones_like(labels)):
        same, ids = draw_crowd(crop, these, these == 0, np.random.default_rng(0))
        assert same is crop and ids is these


@pytest.mark.parametrize("place", [(0, 0), (-30, 5), (9, 9), (4, 25)])
def test_a_window_and_its_part_have_one_size(place):
    window, part = clipped(place, (6, 8), 10)
    assert np.zeros((10, 10))[window].shape == np.zeros((6, 8))[part].shape


def test_a_crowd_stands_out_from_the_background_also_among_unknown_nuclei():
    """Clumps and void are no background: its colour would be that of nuclei."""
    contrasts = []
    for seed in range(6):
        crop, labels = crop_of("fluorescence", seed)
        background = labels == 0
        nucleus, dark = np.median(crop[~background]), np.median(crop[background])
        rows = np.zeros_like(background)
        rows[: len(rows) * 3 // 4] = True
        unknown = background & rows & (cv2.dilate(np.uint8(labels > 0), np.ones((9, 9))) == 0)
        crop[unknown] = nucleus
        crowded, ids = draw_crowd(crop, labels, background & ~unknown, np.random.default_rng(seed))
        if crowded is not crop:
            gap = np.median(crowded[ids > 0]) - np.median(crowded[ids == 0])
            contrasts.append(gap / (nucleus - dark))
    assert len(contrasts) >= 3 and min(contrasts) > 0.5
