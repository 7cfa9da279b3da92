"""A slide slices like an array, at any scale, from the nearest finer level."""

import cv2
import numpy as np
import pytest

from nuclei.slides.formats import is_slide, open_slide
from nuclei.slides.slide import Slide


@pytest.mark.parametrize("kind", ["ome", "plain", "zarr", "zarr 0.5", "svs"])
def test_every_format_reads_like_the_array(readable, tissue, kind):
    assert is_slide(readable[kind])
    slide = open_slide(readable[kind])
    assert slide.shape == tissue.shape and slide.dtype == np.uint8
    assert all("red, green and blue" in note for note in slide.notes)  # of zarr
    assert bool(slide.notes) == kind.startswith("zarr")
    assert slide.mpp == pytest.approx(0.25 if kind == "svs" else 0.5)
    downsamples = [1, 4] if kind == "svs" else [1, 2, 4]
    assert slide.downsamples == pytest.approx(downsamples, rel=0.01)
    for place in (
        np.s_[0:64, 0:64],
        np.s_[37:300, 311:600],
        np.s_[390:400, 0:5],
        np.s_[40:90, 50:60],
    ):
        read = slide[place]
        assert read.shape == tissue[place].shape and read.dtype == np.uint8
        if kind == "svs":  # JPEG
            assert np.abs(read.astype(int) - tissue[place]).mean() < 4
        else:
            np.testing.assert_array_equal(read, tissue[place])


@pytest.mark.parametrize("kind", ["ome", "zarr", "svs"])
def test_a_slide_seen_smaller_comes_from_the_nearest_finer_level(readable, tissue, kind):
    slide = open_slide(readable[kind])
    heights_read = []
    read = slide.read

    def spy(level, box):
        heights_read.append(slide.levels[level].shape[0])
        return read(level, box)

    slide.read = spy
    rows_at_45_percent = 400 if kind == "svs" else 200
    for scale, rows in (
        (1.0, 400),
        (0.7, 400),
        (0.45, rows_at_45_percent),
        (0.2, 100),
        (2.0, 400),
    ):
        seen = slide.at(scale)
        assert seen.shape == (round(400 * scale), round(600 * scale), 3)
        part = np.asarray(seen[10:50, 20:90])
        assert part.shape == (40, 70, 3) and heights_read[-1] == rows
    assert slide.at(1.0) is slide.levels[0]


@pytest.mark.parametrize("kind", ["ome", "zarr", "svs"])
def test_a_thumbnail_is_the_slide_averaged(readable, tissue, kind):
    thumbnail = open_slide(readable[kind]).thumbnail(200)
    assert max(thumbnail.shape) <= 200
    assert thumbnail.shape[0] / thumbnail.shape[1] == pytest.approx(400 / 600, rel=0.02)
    expected = cv2.resize(tissue, thumbnail.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(thumbnail.astype(int) - expected).mean() < 12


def test_a_side_that_no_slide_has_is_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"a\.tif declares a side of 4,294,967,295 px"):
        Slide("a.tif", [(336, 2**32 - 1)], np.uint8, None)
