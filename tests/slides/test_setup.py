"""What is decided about a slide: its scale, grey levels and tiles."""

import numpy as np
import pytest
from slides_tools import DIAMETER_PX, MODEL, find

from nuclei.inference.find import Options
from nuclei.slides.formats import open_slide
from nuclei.slides.setup import MAX_DIAMETERS, decide


def test_large_slides_are_decided_by_samples_of_their_tissue(readable, tmp_path, monkeypatch):
    slide = open_slide(readable["ome"])
    slide.mpp = None  # the scale is then estimated
    whole = find(slide, tmp_path / "whole", scale=None)
    monkeypatch.setattr("nuclei.slides.setup.WHOLE_PX", 1000)
    monkeypatch.setattr("nuclei.slides.setup.LOOK_PX", 300)
    monkeypatch.setattr("nuclei.slides.setup.SAMPLE_PX", 40)
    sampled = find(slide, tmp_path / "sampled", scale=None)
    assert sampled.setup.scale == pytest.approx(whole.setup.scale, rel=0.2)
    np.testing.assert_allclose(sampled.setup.intensity, whole.setup.intensity, atol=12)
    assert len(sampled) == pytest.approx(len(whole), rel=0.1)


def test_a_tile_too_small_says_which_would_do(readable):
    slide = open_slide(readable["ome"])
    mask = np.ones((40, 60), bool)

    def decide_with(tile_px):
        options = Options(scale=1.0, tile_px=tile_px)
        return decide(slide, slide.thumbnail(600), mask, MODEL, options, "key")

    with pytest.raises(ValueError, match="--tile") as raised:
        decide_with(128)
    setup = decide_with(int(str(raised.value).split("--tile ")[1].split()[0]))
    assert setup.region_px >= 3 * setup.overlap_px >= 6 * MAX_DIAMETERS * DIAMETER_PX
