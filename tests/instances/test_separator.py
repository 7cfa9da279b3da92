"""Of what several zooms propose, the more confident nuclei are taken, each pixel once."""

import numpy as np
import pytest
from synthetic import draw

from nuclei.instances.separate import THRESHOLDS, connected, separate
from nuclei.instances.separator import MIN_CONFIDENCE, Separator, largest_piece
from nuclei.training.targets import targets

ZOOMS = (1.0, 1.25)


def discs(*centres, radius=10, shape=(60, 90)):
    """Labels of discs."""
    labels = np.zeros(shape, np.int32)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for number, (row, column) in enumerate(centres, 1):
        inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        labels[inside & (labels == 0)] = number
    return labels


def view_of(labels, probability=0.99):
    """Maps (H, W, 2) of a network that sees these nuclei with a probability."""
    return targets(labels, ("nucleus", "distance")) * np.float32(probability)


def separated(*views, **settings):
    return Separator(THRESHOLDS, zooms=ZOOMS, **settings).separate(np.concatenate(views, -1))


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
def test_one_zoom_is_separated_as_ever(kind):
    maps = view_of(draw(kind, 120, 150, num_nuclei=12, diameter=20, seed=1, touching=0.6)[1])
    labels, same = Separator(THRESHOLDS).separate(maps, 1.5)
    np.testing.assert_array_equal(labels, separate(maps, scale=1.5, **THRESHOLDS))
    assert same is maps


@pytest.mark.parametrize("seed", range(3))
def test_zooms_that_agree_change_nothing(seed):
    view = view_of(draw("tissue", 120, 150, num_nuclei=12, diameter=20, seed=seed, touching=0)[1])
    labels, maps = separated(view, view)
    expected = separate(view, **THRESHOLDS)
    assert labels.max() == expected.max() and labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, expected > 0)
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == expected.max() + 1  # each nucleus is one of the others
    np.testing.assert_array_equal(maps, view)


@pytest.mark.parametrize("order", [1, -1])
def test_the_more_confident_zoom_is_taken_for_each_clump(order):
    both = discs((30, 25), (30, 43))
    one = np.repeat((both > 0)[..., None], 2, -1).astype(np.float32)  # one body, no narrow place
    sure, unsure = view_of(both, 0.99), 0.8 * one
    labels, maps = separated(*(sure, unsure)[::order])
    assert labels.max() == 2 and len(np.unique(labels[both == 1])) == 1
    np.testing.assert_array_equal(maps[labels > 0], sure[labels > 0])
    unsure, sure = view_of(both, 0.8), 0.99 * one
    assert separated(*(sure, unsure)[::order])[0].max() == 1


def test_what_one_zoom_alone_shows_is_a_nucleus_where_it_is_likely():
    seen, unseen = view_of(discs((30, 25))), view_of(discs((30, 25)) * 0)
    for views in ((seen, unseen), (unseen, seen)):
        labels, maps = separated(*views)
        assert labels.max() == 1 and (maps[labels > 0] == seen[labels > 0]).all()
    unlikely = [0.0] * 4 + [float(np.log(MIN_CONFIDENCE / (1 - MIN_CONFIDENCE)) - 0.1)]
    assert separated(seen, seen, calibration=unlikely)[0].max() == 0
    likely = [0.0] * 4 + [unlikely[4] + 0.2]
    assert separated(seen, seen, calibration=likely)[0].max() == 1


def test_half_of_a_nucleus_is_not_added_to_another():
    sure, unsure = view_of(discs((30, 30))), view_of(discs((30, 38)), 0.8)
    assert separated(sure, unsure)[0].max() == 1  # most of it, but not three quarters, is free


def test_the_smallest_area_is_one_of_the_image_at_every_zoom():
    small, large = discs((20, 20), radius=4), discs((20, 60), radius=9)
    view = view_of(small + 2 * (large > 0))
    limit = (small > 0).sum() + 1
    for settings, expected in ((THRESHOLDS, 2), (THRESHOLDS | {"min_area_px": limit}, 1)):
        maps = np.concatenate([view, view], -1)
        assert Separator(settings, zooms=ZOOMS).separate(maps)[0].max() == expected


def test_empty_maps_give_no_nuclei():
    empty = np.zeros((20, 30, 2), np.float32)
    labels, maps = separated(empty, empty)
    assert labels.shape == (20, 30) and not labels.any() and maps.shape == empty.shape


def test_what_is_left_of_a_nucleus_is_one_piece_and_not_too_small():
    bar = np.zeros((60, 90), np.int32)
    bar[28:33, 20:80] = 1
    crossing = np.zeros_like(bar)
    crossing[10:50, 35:40] = 1
    labels, _ = separated(view_of(crossing), view_of(bar, 0.8))
    for number in range(1, labels.max() + 1):
        assert connected(labels == number)[0].max() == 1
    small, cover = discs((30, 30), radius=7), discs((30, 42), radius=8)
    least = (small > 0).sum() - 5
    thresholds = THRESHOLDS | {"min_area_px": least}
    maps = np.concatenate([view_of(cover), view_of(small, 0.8)], -1)
    labels, _ = Separator(thresholds, zooms=ZOOMS).separate(maps)
    areas = np.bincount(labels.ravel())[1:]
    assert len(areas) and (areas >= least).all()


def test_the_largest_piece_is_connected_by_edges():
    mask = np.zeros((6, 9), bool)
    mask[1, 1:4] = mask[2, 4:6] = True  # they share a corner alone
    pixels = np.flatnonzero(mask)
    np.testing.assert_array_equal(largest_piece(pixels, 9), [10, 11, 12])
    assert not len(largest_piece(pixels[:0], 9))
