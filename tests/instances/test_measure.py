"""Measurements of known shapes are right and agree with scikit-image and with the labels."""

import numpy as np
import pytest
from formats_tools import draw_examples
from skimage.measure import regionprops
from stains_tools import immunostained
from synthetic import draw

from nuclei.images.box import Box
from nuclei.images.stains import white_of
from nuclei.instances.measure import POSITIVE_DAB_OD, ImagePart, measure
from nuclei.instances.neighbours import count_touching
from nuclei.training.targets import targets


def perfect_maps(labels):
    return targets(labels, ("nucleus", "distance"))


def test_the_table_agrees_with_the_labels():
    image, labels = draw("tissue", 120, 150, num_nuclei=10, diameter=22, seed=1, touching=0.3)
    table = measure(labels, image, perfect_maps(labels))
    assert list(table["id"]) == list(range(1, labels.max() + 1))
    for row, region in enumerate(regionprops(labels, image)):
        inside = labels == region.label
        rows, columns = np.nonzero(inside)
        assert table["area_px"][row] == inside.sum()
        assert table["centroid_row_px"][row] == pytest.approx(rows.mean(), abs=0.01)
        assert table["centroid_column_px"][row] == pytest.approx(columns.mean(), abs=0.01)
        assert table["mean_green"][row] == pytest.approx(image[inside][:, 1].mean(), abs=0.01)
        assert table["mean_probability"][row] == 1
        assert 0 < table["circularity"][row] <= 1
        edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
        assert table["touches_border"][row] == any(edge.any() for edge in edges)


def test_the_table_without_nuclei_has_all_columns():
    image, maps = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 2), np.float32)
    empty = measure(np.zeros((9, 9), np.int32), image, maps, mpp=1.0)
    full = measure(np.ones((9, 9), np.int32), image, maps, mpp=1.0)
    assert "mean_probability" in empty and all(len(values) == 0 for values in empty.values())
    assert list(empty) == list(full)


def test_a_part_of_a_larger_image_is_measured_as_in_it():
    image, labels = draw("tissue", 120, 160, num_nuclei=20, diameter=18, seed=1, touching=0.3)
    image = image.astype(np.uint16) * 200  # in 16 bits the image says what is white
    whole = measure(labels, image, perfect_maps(labels), stained=True)
    box = Box(0, 120, 40, 140)
    is_complete = np.bincount(labels[box.place].ravel(), minlength=labels.max() + 1) == np.bincount(
        labels.ravel()
    )
    is_complete[0] = False
    part_labels = np.where(is_complete[labels], labels, 0)[box.place]
    part = ImagePart(box, labels.shape, white_of(image))
    maps = perfect_maps(labels)[box.place]
    table = measure(part_labels, image[box.place], maps, stained=True, part=part)
    rows = np.isin(whole["id"], np.flatnonzero(is_complete))
    assert 5 < rows.sum() < len(rows)
    for name, values in table.items():
        if name not in (
            "touching_nuclei",
            "nuclei_nearby",
            "nearest_id",
            "nearest_distance_px",
        ):
            np.testing.assert_array_equal(values, whole[name][rows], name)
    np.testing.assert_array_equal(count_touching(labels, whole["id"]), whole["touching_nuclei"])


def test_there_are_some_forty_measurements_and_those_of_a_known_shape_are_right():
    labels = np.zeros((60, 80), np.int32)
    labels[10:20, 20:60] = 1  # 10 x 40, along the rows
    labels[20:30, 20:30] = 2  # touches it
    labels[50:55, 5:10] = 3  # far from both
    image = np.full((60, 80, 3), 255, np.uint8)
    image[labels == 1] = (100, 60, 120)
    table = measure(labels, image, stained=True, mpp=0.5)
    in_px = [name for name in table if not name.endswith(("_um", "_um2"))]
    assert 38 <= len(in_px) <= 46
    assert len({len(np.atleast_1d(values)) for values in table.values()}) == 1
    first = {name: values[0] for name, values in table.items()}
    assert first["area_px"] == 400 and first["area_um2"] == 100
    assert first["convex_area_px"] == 400 and first["solidity"] == 1 and first["extent"] == 1
    assert first["narrowest_px"] == 10 and first["longest_px"] == pytest.approx(
        np.hypot(10, 40), abs=0.01
    )
    assert first["orientation_degrees"] in (0, 180) and first["aspect_ratio"] == pytest.approx(
        4, abs=0.1
    )
    assert (
        first["box_top_px"],
        first["box_left_px"],
        first["box_height_px"],
        first["box_width_px"],
    ) == (10, 20, 10, 40)
    assert (
        first["std_intensity"] == 0
        and first["min_intensity"] == first["max_intensity"] == first["mean_intensity"]
    )
    assert table["touching_nuclei"].tolist() == [1, 1, 0]
    assert table["nuclei_nearby"].tolist() == [2, 2, 2]
    assert table["nearest_id"].tolist() == [2, 1, 2]
    assert table["nearest_distance_um"] == pytest.approx(np.array(table["nearest_distance_px"]) / 2)
    assert table["touches_border"].tolist() == [0, 0, 0]


def test_shapes_agree_with_scikit_image():
    for _, labels in draw_examples().values():
        table = measure(labels)
        regions = regionprops(labels)
        for name, skimage_name in (
            ("perimeter_px", "perimeter"),
            ("major_axis_px", "axis_major_length"),
            ("minor_axis_px", "axis_minor_length"),
            ("eccentricity", "eccentricity"),
            ("extent", "extent"),
            ("area_px", "area"),
        ):
            np.testing.assert_allclose(
                table[name], [region[skimage_name] for region in regions], atol=0.006, err_msg=name
            )
        np.testing.assert_allclose(
            np.stack([table["centroid_row_px"], table["centroid_column_px"]], axis=1),
            [r.centroid for r in regions],
            atol=0.006,
        )
        boxes = np.stack(
            [table[f"box_{side}_px"] for side in ("top", "left", "height", "width")], axis=1
        )
        assert boxes.tolist() == [
            [*r.bbox[:2], r.bbox[2] - r.bbox[0], r.bbox[3] - r.bbox[1]] for r in regions
        ]


def test_a_diagonal_has_the_orientation_of_its_docstring():
    rising = np.fliplr(np.eye(30, dtype=np.int32))  # from the lower left to the upper right
    assert measure(rising)["orientation_degrees"][0] == pytest.approx(45, abs=1)
    assert measure(np.eye(30, dtype=np.int32))["orientation_degrees"][0] == pytest.approx(
        135, abs=1
    )


def test_stains_are_distinguished_by_their_colour():
    labels = np.zeros((9, 30), np.int32)
    for index in (1, 2, 3):
        labels[2:7, 10 * index - 8 : 10 * index - 3] = index
    vectors = np.array(
        [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]
    )  # Ruifrok & Johnston 2001
    image = np.full((9, 30, 3), 255, np.uint8)
    for index, vector in enumerate(vectors, 1):
        image[labels == index] = np.round(256 * 10 ** (-0.6 * vector) - 1)
    table = measure(labels, image, stained=True)
    densities = np.stack([table["haematoxylin_od"], table["eosin_od"], table["dab_od"]], axis=1)
    np.testing.assert_allclose(densities, 0.6 * np.eye(3), atol=0.02)
    deep = measure(labels, image.astype(np.uint16) * 257, stained=True)  # the same light in 16 bits
    np.testing.assert_allclose(deep["haematoxylin_od"], table["haematoxylin_od"], atol=0.02)
    assert np.isnan(measure(labels, image)["haematoxylin_od"]).all()
    assert "mean_intensity" not in measure(labels)


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_nucleus_are_measured(count):
    labels = np.zeros((12, 12), np.int32)
    labels[3:6, 3:6] = count
    table = measure(
        labels, np.zeros((12, 12, 3), np.uint8), np.ones((12, 12, 2), np.float32), True, 0.25
    )
    assert all(len(values) == count for values in table.values())
    if count:
        assert table["nearest_id"][0] == 0 and np.isnan(table["nearest_distance_px"][0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_brown_nuclei_are_positive_and_blue_ones_negative(share, dtype):
    image, labels, is_brown = immunostained(share, dtype=dtype)
    positive = measure(labels, image, stained=True, dab=True)["positive"]
    np.testing.assert_array_equal(positive, is_brown)
    for settings in ({"stained": True}, {"dab": True}):
        assert np.isnan(measure(labels, image, **settings)["positive"]).all()


@pytest.mark.parametrize("seed", range(4))
def test_no_nucleus_of_haematoxylin_and_eosin_is_positive(seed):
    image, labels = draw("tissue", 200, 200, diameter=20, seed=seed)
    assert not measure(labels, image, stained=True, dab=True)["positive"].any()
    dim = (image * 0.6).astype(np.uint8)  # the deconvolution takes all for DAB there
    table = measure(labels, dim, stained=True, dab=True)
    assert np.median(table["dab_od"]) > POSITIVE_DAB_OD / 2 and not table["positive"].any()
