"""Image and labels move together, nuclei are shown at one size, and borders are mirrored."""

import numpy as np
import pytest
from training_samples import example, random_crop

from nuclei.training.geometry import (
    DIAMETER_PX,
    RESAMPLE_LIMITS,
    SCALE,
    random_coordinates,
    reflect,
    scale_to_diameter,
    turn,
)


@pytest.mark.parametrize("seed", range(12))
def test_a_mask_given_as_image_lands_where_its_labels_land(seed):
    _, labels = example()
    mask = np.repeat((labels > 0).astype(np.float32)[..., None], 3, -1)
    crop, crop_labels = random_crop(mask, labels, np.random.default_rng(seed), 128)
    a, b = crop[..., 0] > 0.5, crop_labels > 0
    assert a.any()
    assert (a & b).sum() / (a | b).sum() > 0.98


def test_no_new_ids_appear_and_types_hold():
    image, labels = example("tissue")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        crop, crop_labels = random_crop(image, labels, rng, 96)
        assert crop.shape == (96, 96, 3) and crop.dtype == np.float32
        assert crop.min() >= 0 and crop.max() <= 255 and np.isfinite(crop).all()
        assert crop_labels.shape == (96, 96) and crop_labels.dtype == np.int32
        assert set(np.unique(crop_labels)) <= set(np.unique(labels))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 5), (300, 20)])
def test_images_smaller_than_the_crop_are_mirrored(shape):
    labels = np.ones(shape, np.int32)
    image = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    for seed in range(5):
        crop, crop_labels = random_crop(image, labels, np.random.default_rng(seed), 64, None)
        assert crop.shape == (64, 64, 3)
        assert (crop_labels == 1).all()


def test_reflection_folds_like_numpy():
    for length in (1, 2, 5):
        expected = np.pad(np.arange(length), 7, mode="reflect")
        positions = np.arange(-7, length + 7, dtype=float)
        np.testing.assert_array_equal(reflect(positions, length), expected)


@pytest.mark.parametrize("diameter", [6.5, 20.0, 90.0])
def test_nuclei_of_any_size_are_shown_at_one_size(diameter):
    labels = np.zeros((400, 400), np.int32)
    steps = [
        random_coordinates(labels, np.random.default_rng(seed), 64, diameter)[2]
        for seed in range(50)
    ]
    shown = diameter / np.array(steps) / DIAMETER_PX
    assert SCALE[0] - 1e-6 <= shown.min() < 0.85 and 1.2 < shown.max() <= SCALE[1] + 1e-6


def test_resampling_has_its_limits():
    assert scale_to_diameter(None) == 1
    assert scale_to_diameter(DIAMETER_PX) == 1
    assert scale_to_diameter(1) == RESAMPLE_LIMITS[1]
    assert scale_to_diameter(10_000) == RESAMPLE_LIMITS[0]


@pytest.mark.parametrize("name", ["ROTATE_SHARE", "ELASTIC_SHARE", "CENTRE_SHARE"])
def test_every_change_of_place_can_be_always_on_and_always_off(name, monkeypatch):
    _, labels = example()
    results = []
    for value in (0.0, 1.0):
        monkeypatch.setattr(f"nuclei.training.geometry.{name}", value)
        results.append(random_coordinates(labels, np.random.default_rng(5), 96, 22.0)[0])
        assert results[-1].min() >= 0 and results[-1].max() <= labels.shape[0] - 1
    assert np.abs(results[0] - results[1]).max() > 1e-4


@pytest.mark.parametrize("num_channels", [1, 3])
def test_turns_are_right_angles_and_mirror_images(num_channels):
    array = np.random.default_rng(0).random((5, 5, num_channels)).astype(np.float32)
    results = [turn(array, k, mirrored) for k in range(4) for mirrored in (False, True)]
    expected = [np.rot90(side, -k) for k in range(4) for side in (array, array[::-1])]
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other)
