"""Separation and measurement: perfect maps give the nuclei back, whatever their number; tables agree with the labels."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops
from skimage.segmentation import watershed
from synthetic import draw

from nuclei.instances.confidence import calibrate, confidence, confidence_features, expected_calibration_error, image_uncertainty
from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.instances.measure import WindowOf, count_touching, measure
from nuclei.instances.separate import MIN_MARKER_PX, THRESHOLDS, median_diameter, separate
from nuclei.instances.shape import hull_measures
from nuclei.polygons import outlines
from nuclei.training.targets import targets
from nuclei.training.thresholds import SEARCH, choose_thresholds


def perfect_maps(labels):
    return targets(labels, ("nucleus", "distance"))


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
@pytest.mark.parametrize("seed", range(4))
def test_perfect_maps_give_the_nuclei_back(kind, seed):
    _, labels = draw(kind, 200, 240, num_nuclei=25, diameter=24, seed=seed, touching=0.6)
    found = separate(perfect_maps(labels))
    counts = count_matches(match(labels, found))
    assert average_precision(counts)[0] > 0.95
    assert found.dtype == np.int32 and set(np.unique(found)) == set(range(found.max() + 1))


def test_a_window_of_a_larger_image_is_measured_as_in_it():
    image, labels = draw("tissue", 120, 160, num_nuclei=20, diameter=18, seed=1, touching=0.3)
    image = image.astype(np.uint16) * 200  # where glass is what the brightest pixel says
    whole = measure(labels, image, perfect_maps(labels), stained=True)
    place = np.s_[0:120, 40:140]
    inside = [k for k in range(1, labels.max() + 1) if (labels[place] == k).sum() == (labels == k).sum()]
    part = np.where(np.isin(labels, inside), labels, 0)[place]
    window = WindowOf(0, 40, 120, 160, int(image.max()))
    outlined = list(outlines(part))
    table = measure(part, image[place], perfect_maps(labels)[place], stained=True, window=window, outlined=outlined)
    rows = np.isin(whole["id"], inside)
    assert 5 < rows.sum() < len(rows)
    for name, values in table.items():
        if name not in ("touching_nuclei", "nuclei_nearby", "nearest_id", "nearest_distance_px"):
            np.testing.assert_array_equal(values, whole[name][rows], name)
    np.testing.assert_array_equal(count_touching(labels, whole["id"]), whole["touching_nuclei"])


def test_touching_nuclei_come_apart_and_without_depth_do_not():
    labels = np.zeros((40, 60), np.int32)
    y, x = np.mgrid[:40, :60]
    labels[(y - 20) ** 2 + (x - 20) ** 2 < 120] = 1
    labels[((y - 20) ** 2 + (x - 40) ** 2 < 120) & (labels == 0)] = 2
    maps = perfect_maps(labels)
    assert separate(maps).max() == 2
    assert separate(maps[..., :1]).max() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (64, 64)])
def test_empty_maps_give_no_nuclei(shape):
    labels = separate(np.zeros((*shape, 2), np.float32))
    assert labels.shape == shape and labels.max() == 0 and labels.dtype == np.int32


def test_one_nucleus_over_the_whole_image():
    assert (separate(np.ones((32, 32, 2), np.float32)) == 1).all()


def test_small_and_doubtful_objects_go_faint_ones_without_heart_stay():
    maps = np.zeros((60, 60, 2), np.float32)
    maps[5:8, 5:8] = 1  # 9 px: too small
    maps[20:30, 20:30, 0] = 0.55  # doubtful
    maps[40:50, 40:50, 0] = 0.9  # sure, but the depth map is silent
    assert separate(maps, min_area_px=20, min_probability=0.6).max() == 1
    assert separate(maps, min_area_px=20, min_probability=0.5).max() == 2
    assert separate(maps, min_area_px=5, min_probability=0.5).max() == 3


def test_pinholes_are_filled_and_gaps_between_nuclei_are_not():
    maps = np.zeros((60, 60, 2), np.float32)
    maps[10:50, 10:50] = 0.9
    maps[20:22, 20:22] = 0
    maps[30:40, 30:40] = 0
    labels = separate(maps, smoothing_px=0)
    assert (labels[20:22, 20:22] > 0).all() and (labels[30:40, 30:40] == 0).all()


def separate_everywhere(maps, marker_threshold, contact_weight, min_marker_px):
    """The definition of `separate`, without its shortcuts: one watershed over all of the foreground, SciPy's components."""
    mask = maps[..., 0] > 0.5
    labels, num_components = ndimage.label(mask)
    depth = maps[..., 1] - np.float32(contact_weight) * maps[..., 2]
    hearts, num_hearts = ndimage.label(mask & (depth > marker_threshold))
    ripple = np.bincount(hearts.ravel(), minlength=num_hearts + 1) < min_marker_px
    hearts[ripple[hearts]] = 0
    has_heart = np.zeros(num_components + 1, bool)
    has_heart[labels[hearts > 0]] = True
    hearts = np.where(has_heart[labels], hearts, np.where(mask, labels + num_hearts, 0))
    grown = watershed(-depth, hearts, mask=mask)
    return np.unique(grown, return_inverse=True)[1].reshape(grown.shape)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_shortcuts_of_the_separation_change_nothing(seed, sigma):
    """Smooth noise has components with no, one and many hearts, ripples among them, and hearts at the image's edge."""
    random = np.random.default_rng(seed)
    maps = ndimage.gaussian_filter(random.standard_normal((150, 170, 3)), (sigma, sigma, 0)).astype(np.float32)
    maps = np.clip(0.5 + maps / (4 * maps.std()), 0, 1)
    expected = separate_everywhere(maps, 0.55, 0.3, MIN_MARKER_PX)
    options = {"nucleus_threshold": 0.5, "min_area_px": 0, "min_probability": 0, "smoothing_px": 0}
    found = separate(maps, marker_threshold=0.55, contact_weight=0.3, **options)
    assert found.max() > 20
    np.testing.assert_array_equal(found, expected)


def test_hulls_are_those_of_the_outlines():
    _, labels = draw("tissue", 160, 180, num_nuclei=16, diameter=20, seed=4, touching=0.5)
    labels[3, 4:9], labels[0, 0], labels[60:90, 90] = labels.max() + 1, labels.max() + 2, labels.max() + 3  # lines, a point
    labels = separate(perfect_maps(labels), min_area_px=0, smoothing_px=0)
    inside = np.flatnonzero(labels)
    found = hull_measures(inside, labels.ravel()[inside] - 1, labels.shape[1], labels.max())
    for (_, polygons), (area, longest, narrowest) in zip(outlines(labels), found, strict=True):
        corners = np.concatenate([rings[0] for rings in polygons])
        distances = np.hypot(*(corners[:, None] - corners[None]).transpose(2, 0, 1))
        assert area == cv2.contourArea(cv2.convexHull(corners)) and longest == pytest.approx(distances.max())
        angles = np.linspace(0, np.pi, 2000)
        breadths = np.ptp(corners @ np.array([np.cos(angles), np.sin(angles)]), axis=0)
        assert narrowest == pytest.approx(breadths.min(), rel=2e-3, abs=2e-3)


def test_the_search_finds_what_was_hidden():
    _, labels = draw("fluorescence", 160, 160, num_nuclei=14, diameter=24, seed=3, touching=0.5)
    maps = perfect_maps(labels)
    maps[..., 0] = np.where(labels > 0, 0.45, 0.42)  # only one threshold parts nuclei from ground
    search = {"nucleus_threshold": (0.4, 0.44, 0.5), "min_probability": (0.2, 0.4, 0.5)}
    start = {**THRESHOLDS, "min_probability": 0.2}
    thresholds, score = choose_thresholds([maps], [labels], start=start, search=search)
    assert thresholds["nucleus_threshold"] == 0.44 and score > 0.9
    assert set(thresholds) == set(THRESHOLDS)


def test_thresholds_search_and_arguments_name_the_same_things():
    assert set(SEARCH) == set(THRESHOLDS)
    separate(np.zeros((4, 4, 2), np.float32), **THRESHOLDS)


def test_the_table_agrees_with_the_labels():
    image, labels = draw("tissue", 120, 150, num_nuclei=10, diameter=22, seed=1, touching=0.3)
    table = measure(labels, image, perfect_maps(labels))
    assert list(table["id"]) == list(range(1, labels.max() + 1))
    for row, region in enumerate(regionprops(labels, image)):
        inside = labels == region.label
        assert table["area_px"][row] == inside.sum()
        assert table["centroid_row_px"][row] == pytest.approx(np.nonzero(inside)[0].mean(), abs=0.01)
        assert table["centroid_column_px"][row] == pytest.approx(np.nonzero(inside)[1].mean(), abs=0.01)
        assert table["mean_green"][row] == pytest.approx(image[inside][:, 1].mean(), abs=0.01)
        assert table["mean_probability"][row] == 1
        assert 0 < table["circularity"][row] <= 1
        edge = inside[0].any() or inside[-1].any() or inside[:, 0].any() or inside[:, -1].any()
        assert table["touches_border"][row] == edge


def test_the_table_of_nothing_has_all_columns():
    table = measure(np.zeros((9, 9), np.int32), np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 2), np.float32))
    assert "mean_probability" in table and all(len(values) == 0 for values in table.values())


def test_zoomed_maps_are_separated_alike():
    """The same nuclei, seen twice as large: thresholds in seen pixels mean the same."""
    _, labels = draw("fluorescence", 160, 160, num_nuclei=14, diameter=22, seed=5, touching=0.4)
    large = np.kron(labels, np.ones((2, 2), np.int32))
    small_found = separate(perfect_maps(labels), smoothing_px=2.0, min_area_px=200, scale=2.0)
    large_found = separate(perfect_maps(large), smoothing_px=2.0, min_area_px=200)
    assert small_found.max() == large_found.max()
    assert separate(perfect_maps(labels), min_area_px=200).max() < small_found.max()


def test_what_is_smaller_than_any_nucleus_is_none_at_any_zoom():
    maps = np.zeros((40, 40, 2), np.float32)
    maps[5:7, 5:7] = 1  # 4 px
    maps[20:25, 20:25] = 1  # 25 px
    assert separate(maps, smoothing_px=0.5, min_area_px=20, scale=4.0).max() == 1


def test_the_median_diameter_is_that_of_the_discs():
    labels = np.zeros((100, 100), np.int32)
    y, x = np.mgrid[:100, :100]
    for k, (row, radius) in enumerate(((20, 8), (50, 10), (80, 14)), start=1):
        labels[(y - row) ** 2 + (x - 50) ** 2 <= radius**2] = k
    assert median_diameter(labels) == pytest.approx(20, rel=0.03)
    assert median_diameter(np.zeros((5, 5), np.int32)) is None


def test_calibrated_confidence_says_how_many_are_right():
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.normal(1, 1.5, 4000), rng.normal(0, 1, 4000), rng.normal(3, 0.3, 4000), np.ones(4000)])
    hits = rng.random(4000) < 1 / (1 + np.exp(-(features @ [1.2, -0.8, 0.5, -1.0])))
    weights = calibrate(features[:2000], hits[:2000])
    said = confidence(features[2000:], weights)
    error, rows = expected_calibration_error(said, hits[2000:])
    assert error < 0.04 and sum(number for number, _, _ in rows) == 2000
    worse, _ = expected_calibration_error(np.full(2000, 0.99), hits[2000:])
    assert worse == pytest.approx(0.99 - hits[2000:].mean(), abs=1e-9)
    always = calibrate(features[:50], np.ones(50, bool))  # nothing wrong seen: finite all the same
    assert np.isfinite(always).all()


def test_doubt_features_follow_the_maps():
    _, labels = draw("fluorescence", 120, 120, num_nuclei=8, diameter=20, seed=2, touching=0)
    maps = perfect_maps(labels)
    sure, unsure = confidence_features(labels, maps), confidence_features(labels, maps * np.float32(0.6))
    assert sure.shape == (labels.max(), 5) and np.isfinite(sure).all()
    assert (sure[:, :2] > unsure[:, :2]).all()
    np.testing.assert_allclose(confidence_features(labels, maps, scale=2.0)[:, 2] - sure[:, 2], np.log(2))
    assert confidence_features(np.zeros((4, 4), np.int32), maps[:4, :4]).shape == (0, 5)
    assert confidence_features(labels, maps[..., :1]).shape == (labels.max(), 5)


def test_an_image_is_doubted_where_its_pixels_are_undecided():
    _, labels = draw("fluorescence", 120, 120, num_nuclei=8, diameter=20, seed=2, touching=0)
    maps = perfect_maps(labels)
    assert image_uncertainty(maps) == 0
    assert image_uncertainty(np.zeros((50, 50, 2), np.float32)) == 0
    assert image_uncertainty(np.full((50, 50, 2), 0.5, np.float32)) == 1
    assert image_uncertainty(np.clip(maps, 0.05, 0.95)) < image_uncertainty(np.clip(maps, 0.3, 0.7))


def test_a_contact_parts_what_the_depth_runs_together():
    maps = np.zeros((40, 70, 3), np.float32)
    maps[10:30, 10:60, :2] = 0.9  # one long body, as deep everywhere
    maps[10:30, 33:37, 2] = 0.9
    assert separate(maps, smoothing_px=1, contact_weight=0).max() == 1
    labels = separate(maps, smoothing_px=1, contact_weight=0.75)
    assert labels.max() == 2 and len(np.unique(labels[20, 10:33])) == len(np.unique(labels[20, 37:60])) == 1
    assert separate(maps[..., :2], contact_weight=1).max() == 1
