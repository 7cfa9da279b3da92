"""Stain augmentation keeps range and truth, and gives the look of the other modality."""

import numpy as np
import pytest
from training_samples import example

from nuclei.training.light import is_grey
from nuclei.training.stains import as_other_modality, augment_stain, fibres, jitter_stain


def crop_of(kind):
    image, labels = example(kind, 128, 128)
    return image.astype(np.float32) / 255, labels


def test_stain_jitter_changes_colour_and_keeps_white():
    image, _ = example("tissue")
    image = image.astype(np.float32) / 255
    image[:4, :4] = 1
    jittered = jitter_stain(image, np.random.default_rng(3))
    assert np.abs(jittered - image).mean() > 0.01
    assert jittered[:4, :4].min() > 0.85
    assert jittered.min() >= 0 and jittered.max() <= 1


@pytest.mark.parametrize("kind", ["fluorescence", "tissue", "brightfield"])
def test_stained_nuclei_are_dark_on_a_bright_background(kind):
    crop, labels = crop_of(kind)
    before, images = crop.copy(), []
    for seed in range(20):
        stained = augment_stain(crop, labels, np.random.default_rng(seed))
        assert stained.shape == crop.shape and stained.dtype == np.float32
        assert stained.min() > 0 and stained.max() <= 1
        images.append(stained)
        again = augment_stain(crop, labels, np.random.default_rng(seed))
        np.testing.assert_array_equal(stained, again)
    np.testing.assert_array_equal(crop, before)
    is_darker = [image[labels == 0].mean() > image[labels > 0].mean() for image in images]
    assert np.mean(is_darker) > 0.8  # a brown or red background may be darker than pale nuclei
    # Of the pixels in nuclei, those with far less blue than red.
    brown = [np.mean(image[labels > 0] @ [1, 0, -1] > 0.1) for image in images]
    assert max(brown) > 0.2 and min(brown) < 0.05


@pytest.mark.parametrize("kind", ["fluorescence", "tissue", "brightfield"])
def test_the_other_modality_of_fluorescence_is_dark_on_bright_and_of_all_else_bright_on_dark(kind):
    crop, labels = crop_of(kind)
    before, is_brighter = crop.copy(), []
    for seed in range(20):
        other = as_other_modality(crop, labels, np.random.default_rng(seed))
        assert other.shape == crop.shape and other.dtype == np.float32
        assert other.min() >= 0 and other.max() <= 1
        is_brighter.append(other[labels > 0].mean() > other[labels == 0].mean() + 0.02)
        assert kind == "fluorescence" or is_grey(other)
        again = as_other_modality(crop, labels, np.random.default_rng(seed))
        np.testing.assert_array_equal(other, again)
    np.testing.assert_array_equal(crop, before)
    assert np.mean(is_brighter) < 0.2 if kind == "fluorescence" else all(is_brighter)


@pytest.mark.parametrize("change", [augment_stain, as_other_modality])
@pytest.mark.parametrize("kind", ["fluorescence", "tissue", "brightfield"])
def test_crops_without_nuclei_or_without_background_stay_as_they_are(change, kind):
    crop, labels = crop_of(kind)
    for uniform in (np.zeros_like(labels), np.ones_like(labels)):
        assert change(crop, uniform, np.random.default_rng(0)) is crop


def test_fibres_run_in_one_direction():
    for seed in range(8):
        density = fibres(np.random.default_rng(seed), 128)
        assert density.shape == (128, 128) and density.dtype == np.float32 and density.min() >= 0
        down, right = np.gradient(density)
        tensor = np.array(
            [
                [np.mean(down * down), np.mean(down * right)],
                [np.mean(down * right), np.mean(right * right)],
            ]
        )
        least, most = np.linalg.eigvalsh(tensor)
        assert most > 1.3 * least
