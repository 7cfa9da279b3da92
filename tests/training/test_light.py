"""Changes of light keep shape and range, each can be switched off, and grey stays grey."""

import io

import numpy as np
import pytest
from PIL import Image
from training_samples import example

from nuclei.training import light
from nuclei.training.light import change_light, compress, is_grey

SHARES = [name for name in vars(light) if name.endswith("_SHARE")]
OF_COLOUR = ("STAIN_SHARE", "SHUFFLE_SHARE", "GREY_SHARE")


def test_grey_images_stay_grey_unless_tinted(monkeypatch):
    monkeypatch.setattr("nuclei.training.light.TINT_SHARE", 0)
    monkeypatch.setattr("nuclei.training.light.JPEG_SHARE", 0)  # JPEG rounds colours
    image, _ = example()
    grey = np.repeat(image[..., :1], 3, -1).astype(np.float32) / 255
    assert is_grey(grey) and not is_grey(example("tissue")[0].astype(np.float32) / 255)
    for seed in range(20):
        changed = change_light(grey, np.random.default_rng(seed))
        assert np.abs(changed - changed.mean(-1, keepdims=True)).max() < 1e-5


def test_all_shares_are_tested():
    assert len(SHARES) == 10


@pytest.mark.parametrize("name", SHARES)
def test_every_change_can_be_always_on_and_always_off(name, monkeypatch):
    image, _ = example("tissue" if name in OF_COLOUR else "fluorescence")
    image = image.astype(np.float32) / 255
    results = []
    for value in (0.0, 1.0):
        monkeypatch.setattr(f"nuclei.training.light.{name}", value)
        results.append(change_light(image, np.random.default_rng(5)))
        assert results[-1].shape == image.shape and results[-1].dtype == np.float32
        assert results[-1].min() >= 0 and results[-1].max() <= 1
    assert np.abs(results[0] - results[1]).max() > 1e-4


def test_jpeg_harms_dim_images_more_and_bright_ones_little():
    image = example("fluorescence")[0].astype(np.float32) / 255
    losses = [np.abs(compress(image, 40, contrast) - image).mean() for contrast in (1, 0.3, 0.1)]
    assert 0 < losses[0] < losses[1] < losses[2] < 0.1


def test_jpeg_takes_red_for_red():
    """Chroma is stored coarsely: with red and blue exchanged, other colours suffer."""
    image = example("tissue")[0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=30)
    by_pillow = np.asarray(Image.open(buffer)).astype(float)
    ours = compress(image.astype(np.float32) / 255, 30) * 255
    exchanged = compress(image[..., ::-1].astype(np.float32) / 255, 30)[..., ::-1] * 255
    assert np.abs(ours - by_pillow).mean() < 0.2 * np.abs(exchanged - by_pillow).mean()
