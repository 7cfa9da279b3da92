"""Outlines follow the edges of pixels and are exact; packed ones come back as they were."""

import numpy as np
import pytest
import shapely
from formats_tools import draw_examples

from nuclei.polygons import fill, outlines, pack, pack_runs, unpack, unpack_runs


@pytest.mark.parametrize("stem", ["tissue", "cells", "odd"])
def test_outlines_enclose_exactly_the_pixels_of_each_nucleus(stem):
    labels = draw_examples()[stem][1]
    ids = []
    for index, polygons in outlines(labels):
        ids.append(index)
        shape = shapely.MultiPolygon([(rings[0], rings[1:]) for rings in polygons])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == (labels == index).sum()
        np.testing.assert_array_equal(fill(polygons, labels.shape), np.flatnonzero(labels == index))
    assert ids == list(range(1, labels.max() + 1))


def test_any_outline_is_exact_and_has_no_needless_corner():
    random = np.random.default_rng(0)
    for share in np.linspace(0.2, 0.9, 30):
        labels = ((random.random((11, 12)) < share) * random.integers(1, 3, (11, 12))).astype(
            np.int32
        )
        for index, polygons in outlines(labels):
            np.testing.assert_array_equal(
                fill(polygons, labels.shape), np.flatnonzero(labels == index)
            )
            assert shapely.MultiPolygon([(rings[0], rings[1:]) for rings in polygons]).is_valid
            for ring in (ring for rings in polygons for ring in rings):
                steps = np.roll(ring, -1, axis=0) - ring
                assert (np.count_nonzero(steps, axis=1) == 1).all()  # along the edges
                upright = steps[:, 0] != 0
                assert (upright != np.roll(upright, 1)).all()  # every corner turns


def test_an_id_without_pixels_has_no_outline():
    assert [index for index, _ in outlines(np.array([[0, 3], [0, 1]], np.int32))] == [1, 3]


@pytest.mark.parametrize("seed", range(5))
def test_packed_outlines_come_back_as_they_were(seed):
    random = np.random.default_rng(seed)
    labels = ((random.random((23, 31)) < 0.7) * random.integers(0, 9, (23, 31))).astype(np.int32)
    nuclei = [polygons for _, polygons in outlines(labels)]
    packed = pack(nuclei)
    assert packed["corners"].dtype == packed["lengths"].dtype == np.int32
    again = unpack(**packed)
    assert len(again) == len(nuclei)
    for came, expected in zip(again, nuclei, strict=True):
        assert [len(rings) for rings in came] == [len(rings) for rings in expected]
        for rings, expected_rings in zip(came, expected, strict=True):
            for ring, expected_ring in zip(rings, expected_rings, strict=True):
                np.testing.assert_array_equal(ring, expected_ring)
    assert unpack(**pack([])) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (17, 23)])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 1])
def test_run_lengths_come_back_as_the_same_pixels(shape, share):
    mask = np.random.default_rng(2).random(shape) < share
    runs = pack_runs(mask)
    assert sum(runs) == mask.size and all(isinstance(length, int) for length in runs)
    np.testing.assert_array_equal(unpack_runs(runs, shape), np.flatnonzero(mask))


@pytest.mark.parametrize("counts", [[5], [3, -1, 7], "5"])
def test_run_lengths_of_another_image_are_refused(counts):
    with pytest.raises(ValueError, match="px in an image of 9 px"):
        unpack_runs(counts, (3, 3))


def test_an_outline_beyond_the_image_is_cut_and_one_without_a_number_refused():
    square = np.array([[-2, -3], [-2, 2], [1, 2], [1, -3]], float)
    assert fill([[square]], (4, 5)).tolist() == [0, 1]
    assert fill([[square + 100]], (4, 5)).size == 0
    with pytest.raises(ValueError, match="no finite number"):
        fill([[square + [np.nan, 0]]], (4, 5))


def test_packed_outlines_that_do_not_fit_together_are_refused():
    packed = pack([polygons for _, polygons in outlines(np.array([[0, 3], [0, 1]], np.int32))])
    for corners, lengths in (
        (packed["corners"][:-1], packed["lengths"]),
        (packed["corners"], packed["lengths"][:-1]),
        (packed["corners"], packed["lengths"][:2]),
        (packed["corners"], packed["lengths"] + 1),
        (packed["corners"], packed["lengths"][:0]),
    ):
        with pytest.raises(ValueError, match="corners came"):
            unpack(corners, lengths)
