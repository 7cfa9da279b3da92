"""The busiest part of an image holds its nuclei."""

import numpy as np
import pytest

from nuclei.images.busiest import busiest_window


@pytest.mark.parametrize("corner", [(0, 0), (1000, 1200), (700, 300)])
def test_it_holds_what_there_is(corner):
    image, (top, left) = np.zeros((1500, 1700, 3), np.float32), corner
    for row in range(top + 20, top + 260, 60):
        for column in range(left + 20, left + 260, 60):
            image[row : row + 40, column : column + 40] = 1
    top, left = busiest_window(image, 400, 400)
    assert image[top : top + 400, left : left + 400].sum() > 0.9 * image.sum()


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 900, 3), (600, 600, 1)])
def test_it_lies_in_the_image(shape):
    top, left = busiest_window(np.random.default_rng(1).random(shape), 400, 400)
    assert 0 <= top <= max(0, shape[0] - 400) and 0 <= left <= max(0, shape[1] - 400)
