"""StarDist is trained on crops whose labels follow the image."""

import numpy as np

from experiments.stardist import augment


def test_labels_follow_the_image():
    labels = np.arange(30, dtype=np.uint16).reshape(5, 6)
    for _ in range(20):
        image, turned = augment(labels[..., None].repeat(3, -1).astype(np.float32), labels)
        gain, offset = np.polyfit(turned.ravel().astype(float), image[..., 0].ravel(), 1)
        np.testing.assert_allclose(image[..., 1], gain * turned + offset, atol=1e-3)
        assert 0.59 < gain < 2.01 and -0.21 < offset < 0.21
