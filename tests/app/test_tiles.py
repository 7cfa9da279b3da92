"""Tiles have the colours of the overlays, also of 16 bits."""

import cv2
import numpy as np
import pytest

from nuclei.app.tiles import Pyramid, TileCache, display
from nuclei.images.intensity import normalise


@pytest.mark.parametrize("dtype, intensity", [(np.uint8, (3.0, 201.5)), (np.uint16, (90, 4000.25))])
def test_colours_are_those_of_the_overlays(dtype, intensity):
    random = np.random.default_rng(0)
    image = random.integers(0, np.iinfo(dtype).max, (1100, 40, 3), endpoint=True).astype(dtype)
    image[:500] //= 9
    expected = (normalise(image, intensity) * 255).astype(np.uint8)
    assert np.array_equal(display(image, intensity), expected)


def test_a_pyramid_ends_with_one_tile():
    image = np.full((520, 1030, 3), 90, np.uint8)
    pyramid = Pyramid(image, (0.0, 255.0))
    assert [level.shape[:2] for level in pyramid.levels] == [(520, 1030), (260, 515), (130, 258)]
    code = np.frombuffer(pyramid.tile(0, 2, 1), np.uint8)
    assert cv2.imdecode(code, cv2.IMREAD_COLOR).shape == (8, 6, 3)
    assert pyramid.tile(0, 3, 0) is None and pyramid.tile(3, 0, 0) is None


def test_a_tile_is_made_once_and_the_oldest_are_dropped(monkeypatch):
    monkeypatch.setattr("nuclei.app.tiles.MAX_CACHED_TILES", 2)
    cache, made = TileCache(), []

    def make(*key):
        made.append(key)
        return np.zeros((4, 4, 3), np.uint8)

    for key in [(0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 2, 0), (0, 0, 0), (0, 1, 0)]:
        assert cache.get(key, make)[:2] == b"\xff\xd8"
    assert made == [(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 1, 0)]
