"""Validation crops: they cover the images, show the trained size, and fill whole batches."""

import numpy as np

from nuclei.training import geometry
from nuclei.training.samples import load_samples
from nuclei.training.validation import validation_crops, whole_batches


def test_validation_crops_cover_and_are_capped(data, monkeypatch):
    samples = list(load_samples(data / "raw", data / "gt")[0].values())
    # Larger than the images: continued as in a mirror.
    images, truths = validation_crops(samples, ("nucleus", "distance"), 256)
    assert images.shape == (8, 256, 256, 3) and truths.shape == (8, 256, 256, 2)
    images, truths = validation_crops(samples, ("nucleus",), 32)
    assert len(images) > 8 and images.min() >= 0 and images.max() <= 1
    assert set(np.unique(truths)) == {0, 1}
    # At twice the size an image has four times the pixels, and so many more crops.
    monkeypatch.setattr(geometry, "DIAMETER_PX", 2 * geometry.DIAMETER_PX)
    assert len(validation_crops(samples, ("nucleus",), 32)[0]) > 2 * len(images)
    monkeypatch.setattr("nuclei.training.validation.MAX_CROPS", 5)
    assert len(validation_crops(samples, ("nucleus",), 32)[0]) == 5


def test_validation_comes_in_whole_batches_that_processes_share():
    images = np.arange(5.0).reshape(5, 1, 1, 1)
    filled = whole_batches((images, -images), 4, range(4))
    assert len(filled[0]) == 8 and set(filled[0].ravel()) == {0, 1, 2, 3, 4}  # none is left out
    np.testing.assert_array_equal(filled[0], -filled[1])
    parts = [whole_batches((images, -images), 4, part)[0] for part in (range(2), range(2, 4))]
    together = np.concatenate([part.reshape(-1, 2) for part in parts], axis=1)
    np.testing.assert_array_equal(together, filled[0].reshape(-1, 4))
    whole = (images[:4], -images[:4])
    assert whole_batches(whole, 4, range(4)) is whole  # nothing is copied if nothing is missing
