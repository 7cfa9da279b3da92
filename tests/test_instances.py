"""Separation and measurement: perfect maps give the nuclei back, whatever their number; tables agree with the labels."""

import numpy as np
import pytest
from skimage.measure import regionprops
from synthetic import draw

import augment
import instances


def perfect_maps(labels):
    return augment.targets(labels, ("nucleus", "distance"))


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
@pytest.mark.parametrize("seed", range(4))
def test_perfect_maps_give_the_nuclei_back(kind, seed):
    _, labels = draw(kind, 200, 240, num_nuclei=25, diameter=24, seed=seed, touching=0.6)
    found = instances.separate(perfect_maps(labels))
    counts = instances.count_matches(instances.match(labels, found))
    assert instances.average_precision(counts)[0] > 0.95
    assert found.dtype == np.int32 and set(np.unique(found)) == set(range(found.max() + 1))


def test_touching_nuclei_come_apart_and_without_depth_do_not():
    labels = np.zeros((40, 60), np.int32)
    y, x = np.mgrid[:40, :60]
    labels[(y - 20) ** 2 + (x - 20) ** 2 < 120] = 1
    labels[((y - 20) ** 2 + (x - 40) ** 2 < 120) & (labels == 0)] = 2
    maps = perfect_maps(labels)
    assert instances.separate(maps).max() == 2
    assert instances.separate(maps[..., :1]).max() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (64, 64)])
def test_empty_maps_give_no_nuclei(shape):
    labels = instances.separate(np.zeros((*shape, 2), np.float32))
    assert labels.shape == shape and labels.max() == 0 and labels.dtype == np.int32


def test_one_nucleus_over_the_whole_image():
    assert (instances.separate(np.ones((32, 32, 2), np.float32)) == 1).all()


def test_small_and_doubtful_objects_go_faint_ones_without_heart_stay():
    maps = np.zeros((60, 60, 2), np.float32)
    maps[5:8, 5:8] = 1  # 9 px: too small
    maps[20:30, 20:30, 0] = 0.55  # doubtful
    maps[40:50, 40:50, 0] = 0.9  # sure, but the depth map is silent
    assert instances.separate(maps, min_area_px=20, min_probability=0.6).max() == 1
    assert instances.separate(maps, min_area_px=20, min_probability=0.5).max() == 2
    assert instances.separate(maps, min_area_px=5, min_probability=0.5).max() == 3


def test_pinholes_are_filled_and_gaps_between_nuclei_are_not():
    maps = np.zeros((60, 60, 2), np.float32)
    maps[10:50, 10:50] = 0.9
    maps[20:22, 20:22] = 0
    maps[30:40, 30:40] = 0
    labels = instances.separate(maps, smoothing_px=0)
    assert (labels[20:22, 20:22] > 0).all() and (labels[30:40, 30:40] == 0).all()


def test_the_search_finds_what_was_hidden():
    _, labels = draw("fluorescence", 160, 160, num_nuclei=14, diameter=24, seed=3, touching=0.5)
    maps = perfect_maps(labels)
    maps[..., 0] = np.where(labels > 0, 0.45, 0.42)  # only one threshold parts nuclei from ground
    search = {"nucleus_threshold": (0.4, 0.44, 0.5), "min_probability": (0.2, 0.4, 0.5)}
    start = {**instances.THRESHOLDS, "min_probability": 0.2}
    thresholds, score = instances.choose_thresholds([maps], [labels], start=start, search=search)
    assert thresholds["nucleus_threshold"] == 0.44 and score > 0.9
    assert set(thresholds) == set(instances.THRESHOLDS)


def test_thresholds_search_and_arguments_name_the_same_things():
    assert set(instances.SEARCH) == set(instances.THRESHOLDS)
    instances.separate(np.zeros((4, 4, 2), np.float32), **instances.THRESHOLDS)


def test_the_table_agrees_with_the_labels():
    image, labels = draw("tissue", 120, 150, num_nuclei=10, diameter=22, seed=1, touching=0.3)
    table = instances.measure(labels, image, perfect_maps(labels))
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
    table = instances.measure(np.zeros((9, 9), np.int32), np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 2), np.float32))
    assert "mean_probability" in table and all(len(values) == 0 for values in table.values())
