"""The kind of microscopy is told by colours, whatever the depth."""

import numpy as np
import pytest
from images_tools import GREY, discs, fluorescence, tissue

from nuclei.images.modality import modality


@pytest.mark.parametrize("gain", [1, 16, 200])
def test_modality_by_colour_whatever_the_depth(gain):
    labels = discs()
    blue = np.dstack([np.zeros_like(GREY)] * 2 + [GREY])
    bright = 255 - np.dstack([fluorescence(labels, dark=30, light=120)] * 3)
    for image, expected in (
        (np.dstack([GREY] * 3), "fluorescence"),
        (blue, "fluorescence"),
        (tissue(labels), "tissue"),
        (bright, "brightfield"),
    ):
        assert modality(image if gain == 1 else image.astype(np.uint16) * gain) == expected
    assert modality(np.full((9, 9, 3), 240, np.uint8)) == "brightfield"
    assert modality(np.full((1, 1, 3), 3, np.uint8)) == "fluorescence"
    assert modality(np.full((9, 9, 3), 100, np.uint16)) == "fluorescence"  # a blank camera frame
