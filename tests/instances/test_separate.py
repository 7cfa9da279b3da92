"""Perfect maps give the nuclei back, and the shortcuts of the separation change nothing."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import watershed
from synthetic import draw

from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.instances.separate import (
    MIN_MARKER_PX,
    PINHOLE_PX,
    SMALLEST_PX,
    THRESHOLDS,
    connected,
    grow_markers,
    marker_heights,
    median_diameter,
    separate,
)
from nuclei.training.targets import targets


def perfect_maps(labels):
    return targets(labels, ("nucleus", "distance"))


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
@pytest.mark.parametrize("seed", range(4))
def test_perfect_maps_give_the_nuclei_back(kind, seed):
    _, labels = draw(kind, 150, 160, num_nuclei=21, diameter=20, seed=seed, touching=0.6)
    separated = separate(perfect_maps(labels))
    counts = count_matches(match(labels, separated))
    assert average_precision(counts)[0] > 0.95
    assert separated.dtype == np.int32
    assert set(np.unique(separated)) == set(range(separated.max() + 1))


def test_touching_nuclei_are_separated_and_without_a_distance_map_they_are_not():
    labels = np.zeros((40, 60), np.int32)
    y, x = np.mgrid[:40, :60]
    labels[(y - 20) ** 2 + (x - 20) ** 2 < 120] = 1
    labels[((y - 20) ** 2 + (x - 40) ** 2 < 120) & (labels == 0)] = 2
    maps = perfect_maps(labels)
    assert separate(maps).max() == 2
    assert separate(maps[..., :1]).max() == 1


def test_a_contact_separates_what_the_distance_map_joins():
    maps = np.zeros((40, 70, 3), np.float32)
    maps[10:30, 10:60, :2] = 0.9  # one long body without a narrow place
    maps[10:30, 33:37, 2] = 0.9
    assert separate(maps, smoothing_px=1, contact_weight=0).max() == 1
    labels = separate(maps, smoothing_px=1, contact_weight=0.75)
    left, right = np.unique(labels[20, 10:33]), np.unique(labels[20, 37:60])
    assert labels.max() == 2 and len(left) == len(right) == 1
    assert separate(maps[..., :2], contact_weight=1).max() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (64, 64)])
def test_empty_maps_give_no_nuclei_and_full_ones_one(shape):
    full = separate(np.ones((*shape, 2), np.float32), min_area_px=1)
    labels = separate(np.zeros((*shape, 2), np.float32))
    assert labels.shape == shape and labels.max() == 0 and labels.dtype == np.int32 and full.all()


def test_pinholes_are_filled_and_gaps_between_nuclei_are_not():
    maps = np.zeros((60, 60, 2), np.float32)
    maps[10:50, 10:50] = 0.9
    maps[20:22, 20:22] = 0
    maps[30:40, 30:40] = 0
    labels = separate(maps, smoothing_px=0)
    assert (labels[20:22, 20:22] > 0).all() and (labels[30:40, 30:40] == 0).all()


def test_a_least_area_drops_small_nuclei_and_changes_no_other():
    maps = np.zeros((60, 60, 2), np.float32)
    maps[2:8, 2:8] = 0.9  # a small nucleus, and four large ones around a gap
    maps[10:30, 10:50], maps[32:50, 10:50] = 0.9, 0.9
    maps[10:50, 10:20], maps[10:50, 40:50] = 0.9, 0.9
    maps[30:32, 28:34] = 0.9
    small, large = (separate(maps, smoothing_px=0, min_area_px=area) for area in (5, 200))
    assert small[5, 5] and not large[5, 5]
    small[2:8, 2:8] = 0
    np.testing.assert_array_equal(small > 0, large > 0)


def separate_by_definition(maps, marker_threshold, contact_weight, min_marker_px):
    """`separate` without its shortcuts: SciPy's components, one watershed over everything."""
    mask = maps[..., 0] > 0.5
    holes, _ = ndimage.label(~mask)
    is_small = np.bincount(holes.ravel()) < PINHOLE_PX
    is_small[1 + np.bincount(holes.ravel())[1:].argmax()] = False
    mask |= is_small[holes]
    labels, num_components = ndimage.label(mask)
    heights = maps[..., 1] - np.float32(contact_weight) * maps[..., 2]
    markers, num_markers = ndimage.label(mask & (heights > marker_threshold))
    is_ripple = np.bincount(markers.ravel(), minlength=num_markers + 1) < min_marker_px
    markers[is_ripple[markers]] = 0
    has_marker = np.zeros(num_components + 1, bool)
    has_marker[labels[markers > 0]] = True
    markers = np.where(has_marker[labels], markers, np.where(mask, labels + num_markers, 0))
    grown = watershed(-heights, markers, mask=mask)
    return np.unique(grown, return_inverse=True)[1].reshape(grown.shape)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_shortcuts_of_the_separation_change_nothing(seed, sigma):
    """Smooth noise has components of no, one and many markers, ripples and markers at the edge."""
    noise = np.random.default_rng(seed).standard_normal((150, 170, 3))
    maps = ndimage.gaussian_filter(noise, (sigma, sigma, 0)).astype(np.float32)
    maps = np.clip(0.5 + maps / (4 * maps.std()), 0, 1)
    expected = separate_by_definition(maps, 0.55, 0.3, MIN_MARKER_PX)
    separated = separate(
        maps,
        nucleus_threshold=0.5,
        marker_threshold=0.55,
        contact_weight=0.3,
        smoothing_px=0,
        min_area_px=0,
        min_probability=0,
    )
    assert separated.max() > 20
    np.testing.assert_array_equal(separated, expected)


def squares(*sides, probability=0.9):
    """Maps (H, W, 2) of separate squares, each with a marker."""
    maps = np.zeros((max(sides) + 4, sum(sides) + 4 * len(sides), 2), np.float32)
    left = 2
    for side in sides:
        maps[2 : 2 + side, left : left + side] = probability
        left += side + 4
    return maps


@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_limits_of_area_belong_to_what_stays(scale):
    maps, counts = squares(4, 5, 6), []
    for least_px in (15.9, 16, 16.1, 25, 25.1, 36, 37):
        options = {"smoothing_px": 0, "min_area_px": least_px * scale**2, "scale": scale}
        counts.append(int(separate(maps, **options).max()))
    assert counts == [3, 3, 2, 2, 1, 1, 0]


def two_in_one(*areas, height=0.75):
    """Maps of one component (13, 40) with a flat marker of each area, in px."""
    maps = np.zeros((16, 40, 2), np.float32)
    maps[1:14, :, 0] = 0.9
    for number, area in enumerate(areas):
        part = maps[3:12, 20 * number + 5 : 20 * number + 15, 1]  # a view
        part[np.unravel_index(np.arange(area), part.shape)] = height
    return maps


@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_a_marker_is_as_large_as_the_scale_says_and_above_the_threshold(scale):
    least_px = int(np.ceil(MIN_MARKER_PX / scale**2))
    options = {"smoothing_px": 0, "min_area_px": 1, "scale": scale}
    for area, expected in ((least_px, 2), (least_px - 1, 1)):
        for areas in ((30, area), (area, 30)):
            assert separate(two_in_one(*areas), **options).max() == expected, (area, areas)
    maps = two_in_one(30, 30)
    assert separate(maps, marker_threshold=0.74, **options).max() == 2
    assert separate(maps, marker_threshold=0.75, **options).max() == 1


def test_smoothing_joins_ripples_and_is_in_pixels_that_the_network_saw():
    maps = two_in_one(80)
    maps[:, 9, 1] = 0.3  # a gap of one pixel
    options = {"min_area_px": 20, "marker_threshold": 0.4}
    assert separate(maps, smoothing_px=0, **options).max() == 2
    assert separate(maps, smoothing_px=1.5, **options).max() == 1
    assert separate(maps, smoothing_px=1.5, scale=4, **options).max() == 2


def test_components_without_a_marker_stay_apart_from_all_others():
    maps = squares(5, 6, 7, 1)
    maps[:, :8, 1] = 0  # the first one has no marker
    assert separate(maps, smoothing_px=0, min_area_px=1).max() == 4
    components, areas = connected(maps[..., 0] > 0)
    assert areas.tolist() == [maps[..., 0].size - 111, 25, 36, 49, 1]
    markers, marker_areas = connected(maps[..., 1] > 0)
    grown = grow_markers(components, maps[..., 1], markers, marker_areas > 1)
    assert grown.dtype == components.dtype == np.int32 and len(np.unique(grown)) == 5


def test_no_scale_makes_a_nucleus_of_what_is_smaller_than_the_smallest():
    maps = squares(3, 4)  # 9 and 16 px
    assert 9 < SMALLEST_PX < 16
    assert separate(maps, smoothing_px=0, min_area_px=20, scale=8).max() == 1
    assert separate(maps, smoothing_px=0, min_area_px=4, scale=8).max() == 2
    assert separate(maps, smoothing_px=0, min_area_px=20, smallest_px=0, scale=8).max() == 2


def test_limits_of_probability_belong_to_what_stays():
    maps = squares(6, 7, probability=0.75)  # exact in float32
    assert separate(maps, min_probability=0.75).max() == 2
    assert separate(maps, min_probability=0.7501).max() == 0
    assert separate(maps, nucleus_threshold=0.75, min_probability=0).max() == 0
    mixed = squares(6, probability=1.0)
    mixed[2:5, 2:8] = 0.5  # the mean counts
    assert separate(mixed, nucleus_threshold=0.4, min_probability=0.75).max() == 1
    assert separate(mixed, nucleus_threshold=0.4, min_probability=0.76).max() == 0


@pytest.mark.parametrize(("side", "is_filled"), [(8, True), (9, False), (10, False)])
def test_a_large_hole_stays(side, is_filled):
    maps = squares(24)
    maps[6 : 6 + side, 6 : 6 + side] = 0
    labels = separate(maps, smoothing_px=0, min_probability=0)
    assert (labels[6 : 6 + side, 6 : 6 + side] > 0).all() == is_filled == (side**2 < PINHOLE_PX)
    diagonal = squares(24)  # holes hang together by edges only
    diagonal[6:12, 6:12] = diagonal[12:18, 12:18] = 0
    assert (separate(diagonal, smoothing_px=0, min_probability=0) > 0).sum() == 576


def test_the_background_of_a_small_image_is_no_hole():
    maps = squares(5)[:, :9]
    assert maps.shape[0] * maps.shape[1] - 25 < PINHOLE_PX
    assert (separate(maps, smoothing_px=0) > 0).sum() == 25


def test_ids_are_in_the_order_of_reading_and_corners_do_not_connect():
    maps = squares(5, 5, 5)
    maps = np.pad(maps, ((0, 8), (0, 0), (0, 0)))
    maps[7:12, 7:11] = 0.9  # touches the first and the second one by corners
    labels = separate(maps, smoothing_px=0)
    _, first = np.unique(labels, return_index=True)
    assert labels.max() == 4 and (np.diff(first[1:]) > 0).all()


@pytest.mark.parametrize("smoothing_px", [0, 0.4, 0.85, 2.6])
@pytest.mark.parametrize("weight", [0, 0.4])
def test_the_heights_of_markers_are_by_definition(smoothing_px, weight):
    maps = np.random.default_rng(0).random((40, 50, 3)).astype(np.float32)
    expected = maps[..., 1]
    if smoothing_px:
        expected = ndimage.gaussian_filter(expected, smoothing_px, truncate=4, mode="reflect")
    heights = marker_heights(maps[..., :2], weight, smoothing_px)
    np.testing.assert_allclose(heights, expected, atol=1e-6)
    heights = marker_heights(maps, weight, smoothing_px)
    np.testing.assert_allclose(heights, expected - weight * maps[..., 2], atol=1e-6)


def test_every_threshold_has_an_argument_of_its_name():
    separate(np.zeros((4, 4, 2), np.float32), **THRESHOLDS)
    with pytest.raises(TypeError, match="min_area"):
        separate(np.zeros((4, 4, 2), np.float32), min_area=3)


def test_enlarged_maps_are_separated_alike():
    """The same nuclei, seen twice as large: thresholds in seen pixels mean the same."""
    _, labels = draw("fluorescence", 160, 160, num_nuclei=14, diameter=22, seed=5, touching=0.4)
    large = np.kron(labels, np.ones((2, 2), np.int32))
    from_small = separate(perfect_maps(labels), smoothing_px=2.0, min_area_px=200, scale=2.0)
    from_large = separate(perfect_maps(large), smoothing_px=2.0, min_area_px=200)
    assert from_small.max() == from_large.max()
    assert separate(perfect_maps(labels), min_area_px=200).max() < from_small.max()


def test_the_median_diameter_is_that_of_the_discs():
    labels = np.zeros((100, 100), np.int32)
    y, x = np.mgrid[:100, :100]
    for k, (row, radius) in enumerate(((20, 8), (50, 10), (80, 14)), start=1):
        labels[(y - row) ** 2 + (x - 50) ** 2 <= radius**2] = k
    assert median_diameter(labels) == pytest.approx(20, rel=0.03)
    labels[labels == 2] = 0  # an id without pixels does not count
    assert median_diameter(labels) == pytest.approx(22, rel=0.03)
    labels[labels == 1] = 0
    labels[0, 0] = 4  # a single pixel is a circle, too
    assert median_diameter(labels) == pytest.approx((28 + 2 / np.pi**0.5) / 2, rel=0.03)
    assert median_diameter(np.zeros((5, 5), np.int32)) is None
