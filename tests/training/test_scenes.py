"""Copy-paste lays whole nuclei where they touch; negative images show nothing and differ."""

import cv2
import numpy as np
import pytest
from training_samples import example, random_crop

from nuclei.training.scenes import COPY_PASTE_OVERLAP, copy_paste, negative_image


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
def test_copy_paste_lays_whole_nuclei_that_touch_and_cover_little(kind):
    image, labels = example(kind, 200, 200)
    image = image.astype(np.float32)
    num_contacts = num_crops = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        crop, old = random_crop(image, labels, rng, 128)
        other, other_labels = random_crop(image, labels, rng, 128)
        new_crop, new = copy_paste(crop, old, other, other_labels, rng)
        assert new_crop.dtype == np.float32 and new.dtype == np.int32
        pasted = new > old.max()
        num_crops += pasted.any()
        np.testing.assert_array_equal(new[~pasted], old[~pasted])
        # Far from what was pasted, nothing changed.
        distance = cv2.distanceTransform((~pasted).astype(np.uint8), cv2.DIST_L2, 5)
        np.testing.assert_allclose(new_crop[distance > 6], crop[distance > 6], atol=0.1)
        for index in np.unique(new[pasted]):
            source = other_labels == index - old.max() - 1
            assert np.count_nonzero(new == index) == np.count_nonzero(source)
            assert not (source[[0, -1]].any() or source[:, [0, -1]].any())  # was not cut off
            pieces = [
                cv2.connectedComponents(mask.astype(np.uint8))[0] for mask in (source, new == index)
            ]
            assert pieces[0] == pieces[1]
            hidden = np.bincount(old[new == index], minlength=old.max() + 1)[1:]
            areas = np.bincount(old.ravel())[1:]
            assert (hidden <= COPY_PASTE_OVERLAP * areas + 1e-6).all()
            num_contacts += np.count_nonzero(hidden)
    assert num_crops > 6 and num_contacts > 4
    empty = np.zeros_like(old)
    assert copy_paste(crop, old, other, empty, rng)[1] is old  # nothing to paste
    assert copy_paste(crop, empty, other, other_labels, rng)[1].any()


def test_negative_images_differ_and_stay_in_range():
    images = [negative_image(np.random.default_rng(seed), 64) for seed in range(40)]
    for image in images:
        assert image.shape == (64, 64, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1 and np.isfinite(image).all()
    assert len({image.tobytes() for image in images}) == 40
    assert any(image.std() < 1e-3 for image in images)
    assert any(image.std() > 0.1 for image in images)


def test_fibres_are_drawn_in_the_colour_of_eosin(monkeypatch):
    monkeypatch.setattr(
        "nuclei.training.scenes.fibres", lambda rng, size: np.full((size, size), 0.5, np.float32)
    )
    images = [negative_image(np.random.default_rng(seed), 32) for seed in range(40)]
    flat = [image[0, 0] for image in images if np.ptp(image, (0, 1)).max() == 0]
    pink = [colour for colour in flat if colour[1] < min(colour[0], colour[2])]
    assert len(pink) >= 6  # two kinds of seven
