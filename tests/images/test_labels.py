"""Label images: merged masks, ids without gaps, and files that are none."""

import numpy as np
import pytest
from images_tools import same_partition, save

from nuclei.images import labels as room
from nuclei.images.labels import (
    components,
    count_pixels,
    equivalent_diameters,
    joined,
    merge_masks,
    read_labels,
    without_gaps,
)


def test_regions_hang_together_by_edges_and_corners_and_differ_by_value():
    values = np.array([[5, 0, 0, 1, 1], [0, 5, 0, 2, 2], [0, 0, 0, 0, 0], [5, 0, 0, 1, 0]])
    labels = joined(values)
    assert same_partition(labels, [[1, 0, 0, 2, 2], [0, 1, 0, 3, 3], [0] * 5, [4, 0, 0, 5, 0]])
    mask = components(values > 0)
    assert same_partition(mask, [[1, 0, 0, 2, 2], [0, 1, 0, 2, 2], [0] * 5, [3, 0, 0, 4, 0]])
    assert mask.dtype == np.int32


def test_a_circle_has_its_own_diameter():
    radii = np.array([0, 1, 2.5, 40])
    np.testing.assert_allclose(equivalent_diameters(np.pi * radii**2), 2 * radii)


def test_overlapping_masks_give_the_shared_pixels_to_the_smallest():
    masks = np.zeros((4, 30, 30), bool)
    masks[0, 10:14, 10:14] = masks[1, 5:25, 5:25] = masks[2, 20:28, 20:28] = (
        True  # inside, large, at a corner; none
    )
    labels, claimed = merge_masks(masks, (30, 30))
    assert claimed == 16 + 25
    assert (
        (labels[10:14, 10:14] == 1).all()
        and labels[6, 6] == 2
        and labels[22, 22] == 3
        and labels.max() == 3
    )
    shuffled, _ = merge_masks(masks[[2, 3, 1, 0]], (30, 30))
    assert same_partition(shuffled, labels)
    assert not merge_masks([], (3, 4))[0].any()


@pytest.mark.parametrize("factor", [1, 10, 1 << 25])  # small ids by a table, large ones by sorting
def test_ids_lose_their_gaps_and_keep_their_order(factor):
    ids = np.array([[0, 7, 7], [3, 0, 9]]) * factor
    np.testing.assert_array_equal(without_gaps(ids), [[0, 2, 2], [1, 0, 3]])
    np.testing.assert_array_equal(without_gaps(ids + factor), [[1, 3, 3], [2, 1, 4]])
    assert without_gaps(ids).dtype == np.int32


def test_a_label_image_keeps_its_ids_and_other_images_are_refused(tmp_path):
    labels = np.array([[0, 7], [300, 0]], np.uint16)
    came = read_labels(save(tmp_path / "a.png", labels))
    assert came.dtype == np.int32 and came.tolist() == labels.tolist()
    one = np.eye(4, dtype=np.uint8)  # a single nucleus has two values, too
    assert read_labels(save(tmp_path / "one.png", one)).tolist() == one.tolist()
    for name, pixels, message in (
        ("rgb.png", np.zeros((4, 5, 3), np.uint8), "is no label image .*one id per nucleus"),
        ("float.tif", np.zeros((4, 5), np.float32), "is no label image"),
        ("negative.tif", np.full((4, 5), -1, np.int32), "is no label image"),
        ("large.tif", np.full((4, 5), 2**31, np.uint32), "is no label image"),
        ("mask.png", one * 255, "is a mask of 0 and 255; .*, as predict.py writes to labels/$"),
    ):
        with pytest.raises(ValueError, match=f"{name} {message}"):
            read_labels(save(tmp_path / name, pixels))


def test_pixels_are_counted_in_bands(monkeypatch):
    monkeypatch.setattr(room, "BAND_ROWS", 8)
    ids = np.random.default_rng(0).integers(0, 40, (50, 30)).astype(np.uint16)
    ids[ids == 7] = 0
    np.testing.assert_array_equal(count_pixels(ids), np.bincount(ids.ravel()))
    assert count_pixels(np.zeros((3, 0), np.int32)).tolist() == [0]
