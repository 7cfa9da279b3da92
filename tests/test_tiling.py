"""Windows: their cores partition any image, and stitched maps equal those of the whole."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from nuclei.images.resize import Resized, resize_maps, taps
from nuclei.inference.scale import (
    PROBE_PX,
    TOLERANCE,
    UNSURE,
    busiest_window,
    estimate_scale,
    predict_at_trained_scale,
    predict_scaled,
)
from nuclei.inference.tiling import MARGIN_PX, MULTIPLE_PX, cut, dihedral, predict_tiled, read_window
from unet import build_unet, receptive_radius, size_multiple


@pytest.mark.parametrize("height", [1, 15, 16, 17, 97, 130, 257])
@pytest.mark.parametrize("width", [1, 33, 128, 301])
@pytest.mark.parametrize(("tile", "margin", "multiple"), [(96, 17, 16), (64, 8, 8), (128, 0, 16)])
def test_cores_partition_the_image(height, width, tile, margin, multiple):
    seen = np.zeros((height, width), int)
    windows = cut(height, width, tile, margin, multiple)
    for w in windows:
        seen[w.core_top : w.core_bottom, w.core_left : w.core_right] += 1
        for start, stop, core_start, core_stop, length in (
            (w.top, w.bottom, w.core_top, w.core_bottom, height),
            (w.left, w.right, w.core_left, w.core_right, width),
        ):
            assert start % multiple == 0 and stop % multiple == 0 and stop - start <= tile
            assert start <= core_start < core_stop <= stop
            assert core_start == 0 or core_start - start >= margin  # far from every cut that is not the image's edge
            assert core_stop == length or stop - core_stop >= margin
    assert (seen == 1).all()


def test_a_tile_without_core_is_refused():
    with pytest.raises(ValueError, match="--tile"):
        cut(500, 500, tile=64, margin=32, multiple=16)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (131, 77), (160, 301), (97, 240)])
def test_tiled_equals_whole(shape):
    model = build_unet(width=8, depth=2, stem_stride=2)
    geometry = {"margin": receptive_radius(2, 2), "multiple": size_multiple(2, 2)}
    image = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    maps = model.output_shape[-1]
    whole = predict_tiled(model.predict_on_batch, image, maps, tile=1024, **geometry)
    tiled = predict_tiled(model.predict_on_batch, image, maps, tile=136, batch_size=3, **geometry)
    assert whole.shape == (*shape, maps)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_the_default_margin_fits_the_default_network():
    assert receptive_radius() <= MARGIN_PX
    assert size_multiple() == MULTIPLE_PX


def test_windows_are_prepared():
    image = np.full((50, 70, 3), 255, np.uint8)
    prepare = lambda part: part / np.float32(255)
    maps = predict_tiled(lambda batch: batch[..., :1], image, 1, prepare=prepare, tile=32, margin=4, multiple=8)
    assert (maps == 1).all()


def test_filling_up_is_by_reflection():
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    window = cut(3, 4, tile=8, margin=0, multiple=8)[0]
    np.testing.assert_array_equal(read_window(image, window)[..., 0], np.pad(image[..., 0], ((0, 5), (0, 4)), "reflect"))


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.9, 1.3, 2.5])
def test_a_part_of_a_resized_image_is_that_part_of_the_whole(scale):
    image = np.random.default_rng(1).integers(0, 65535, (113, 190, 3)).astype(np.uint16)
    resized = Resized(image, scale)
    height, width = resized.shape[:2]
    assert (height, width) == (round(113 * scale), round(190 * scale))
    whole = resized[0:height, 0:width]
    part = resized[height // 3 : height // 3 + 11, width // 2 : width + 5]
    np.testing.assert_array_equal(part, whole[height // 3 : height // 3 + 11, width // 2 :])
    sized = Resized(image, size=(height, width))
    np.testing.assert_array_equal(sized[0:height, 0:width], whole)


@pytest.mark.parametrize("shape", [(60, 81), (113, 190), (130, 500), (340, 191)])
def test_a_part_of_resized_maps_is_that_part_of_the_whole(shape):
    maps = np.random.default_rng(1).random((113, 190, 3)).astype(np.float32)
    whole = resize_maps(maps, shape)
    assert whole.shape == (*shape, 3) and whole.dtype == np.float32
    way = cv2.INTER_AREA if shape[0] < 113 else cv2.INTER_LINEAR
    if (shape[0] < 113) == (shape[1] < 190):  # OpenCV goes one way for both axes
        np.testing.assert_allclose(whole, cv2.resize(maps, shape[::-1], interpolation=way), atol=1e-5)
    place = (shape[0] // 3, shape[0] // 2, 7, shape[1])
    needed = [taps(*place[2 * axis : 2 * axis + 2], maps.shape[axis], shape[axis])[0] for axis in (0, 1)]
    top, left = (indices.min() for indices in needed)
    part = maps[top : needed[0].max() + 1, left : needed[1].max() + 1]
    part = resize_maps(part, shape, maps.shape[:2], (top, left), place)
    np.testing.assert_array_equal(part, whole[place[0] : place[1], place[2] : place[3]])


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
def test_resizing_keeps_places_and_brightness(scale):
    """A smooth hill stays where it is and as high as it is: no shift by half a pixel, no gain."""
    rows, columns = np.mgrid[:120, :160]
    hill = np.exp(-((rows - 47.0) ** 2 + (columns - 90.0) ** 2) / (2 * 14.0**2)).astype(np.float32)[..., None].repeat(3, -1)
    maps = predict_scaled(lambda batch: batch[..., :2], hill, 2, scale=scale, tile=96, margin=8, multiple=8)
    assert maps.shape == (120, 160, 2)
    assert np.abs(maps - hill[..., :2]).max() < 0.02
    centre = (maps[..., 0] * rows).sum() / maps[..., 0].sum(), (maps[..., 0] * columns).sum() / maps[..., 0].sum()
    np.testing.assert_allclose(centre, [(hill[..., 0] * rows).sum() / hill[..., 0].sum(), 90.0], atol=0.15)


def test_one_pixel_survives_any_zoom():
    for scale in (0.1, 3.0):
        assert predict_scaled(lambda b: b[..., :2], np.ones((1, 1, 3), np.float32), 2, scale=scale).shape == (1, 1, 2)


def test_the_dihedral_mean_does_not_see_orientation():
    model = build_unet(width=4, depth=1, stem_stride=2)
    averaged = dihedral(model.predict_on_batch)
    batch = np.random.default_rng(2).random((2, 16, 24, 3)).astype(np.float32)
    straight = averaged(batch)
    for turns in range(4):
        turned = averaged(np.ascontiguousarray(np.rot90(batch, turns, (1, 2))[:, ::-1]))
        np.testing.assert_allclose(np.rot90(turned[:, ::-1], -turns, (1, 2)), straight, atol=1e-5)
    single = np.asarray(model.predict_on_batch(batch))
    assert np.abs(straight - single).max() > 1e-4  # and it is a mean of different looks


def discs(height, width, diameter, top=0, left=0, number=12):
    """Bright discs on black in a row-by-row pattern from (top, left): (H, W, 3) float32."""
    image = np.zeros((height, width, 3), np.float32)
    rows, columns = np.mgrid[:height, :width]
    for k in range(number):
        row, column = top + (k // 4 * 2 + 1) * diameter, left + (k % 4 * 2 + 1) * diameter
        image[(rows - row) ** 2 + (columns - column) ** 2 < diameter**2 / 4] = 1
    return image


def measured(maps):
    """Median diameter of the components: what a network that works at any size would be measured at."""
    labels, number = ndimage.label(maps[..., 0] > 0.5)
    return float(np.median(2 * np.sqrt(np.bincount(labels.ravel())[1:] / np.pi))) if number else None


LOOK = {"margin": 16, "multiple": 16}


@pytest.mark.parametrize("diameter", [7, 9, 17, 24, 31, 60, 130])
def test_the_zoom_brings_nuclei_to_the_known_size(diameter):
    image = discs(10 * diameter, 12 * diameter, diameter)
    scale, maps = estimate_scale(lambda b: b[..., :2], image, 2, 24, measured, **LOOK)
    assert 1 / TOLERANCE < scale * diameter / 24 < TOLERANCE
    if 24 / TOLERANCE**0.5 < diameter < 24 * TOLERANCE**0.5:
        assert scale == 1  # nothing is resampled where it would not pay
    if maps is not None:
        assert maps.shape == (*image.shape[:2], 2)


def test_a_network_that_errs_at_the_wrong_size_still_leads_to_the_right_one():
    """Measured too large where nuclei are small and too small where they are large, by half of the way."""
    for diameter in (6, 120):
        image = discs(10 * diameter, 12 * diameter, diameter)
        scale, _ = estimate_scale(lambda b: b[..., :2], image, 2, 24, lambda m: (measured(m) * 24) ** 0.5, **LOOK)
        assert 0.5 < scale * diameter / 24 < 2


def test_nuclei_in_a_corner_of_a_large_image_are_found():
    image = discs(1500, 1700, 40, top=1000, left=1200)
    scale, maps = estimate_scale(lambda b: b[..., :2], image, 2, 24, measured, **LOOK)
    assert scale == pytest.approx(24 / 40, rel=0.1)
    top, left = busiest_window(image, 400, 400)
    assert image[top : top + 400, left : left + 400].sum() > 0.9 * image.sum()


def test_without_nuclei_the_image_stays_as_it_is():
    blank = np.zeros((70, 90, 3), np.float32)
    assert estimate_scale(lambda b: b[..., :2], blank, 2, 24, measured, **LOOK) == (1.0, None)
    maps, scale = predict_at_trained_scale(lambda b: b[..., :2], blank, 2, 24, measured, **LOOK)
    assert scale == 1 and maps.shape == (70, 90, 2)


def test_nuclei_too_small_to_be_seen_are_sought_larger():
    image = discs(80, 80, 8)
    blind = lambda maps: (found := measured(maps)) and (found if found > 12 else None)
    scale, _ = estimate_scale(lambda b: b[..., :2], image, 2, 24, blind, **LOOK)
    assert scale * 8 == pytest.approx(24, rel=0.2)


def test_a_given_zoom_is_taken():
    image = discs(80, 90, 9)
    maps, scale = predict_at_trained_scale(lambda b: b[..., :2], image, 2, 24, None, scale=2.0, **LOOK)
    assert scale == 2 and maps.shape == (80, 90, 2)
    assert ((maps[..., 0] > 0.5) != (image[..., 0] > 0.5)).mean() < 0.01


def blurred_doubt(maps):
    """Little where discs are near the known size: what a network that was trained at 24 px has."""
    found = measured(maps)
    return 1.0 if found is None else abs(float(np.log(found / 24))) / 10


def pieces(maps):
    """Takes what is much too large to pieces of the known size: the measure is then no help."""
    found = measured(maps)
    return found if found is None or found < 40 else 24.0


@pytest.mark.parametrize("diameter", [60, 100])
def test_nuclei_that_are_taken_to_pieces_are_shown_smaller_until_no_doubt_goes(diameter):
    image = discs(10 * diameter, 10 * diameter, diameter)
    blind, _ = estimate_scale(lambda b: b[..., :2], image, 2, 24, pieces, **LOOK)
    scale, maps = estimate_scale(lambda b: b[..., :2], image, 2, 24, pieces, blurred_doubt, **LOOK)
    assert blind == 1 and 0.6 < scale * diameter / 24 < 1.7
    assert maps is None or maps.shape == (*image.shape[:2], 2)


@pytest.mark.parametrize("diameter", [11, 13])
def test_clumps_that_are_doubtful_are_shown_larger(diameter):
    image = discs(120, 120, diameter)
    clumps = lambda maps: 29.0 if measured(maps) < 18 else measured(maps)  # of small ones, which pass for nuclei
    scale, _ = estimate_scale(lambda b: b[..., :2], image, 2, 24, clumps, lambda m: 3 * blurred_doubt(m), **LOOK)
    assert scale == 2


def test_nuclei_that_fit_stay_where_a_larger_view_only_looks_surer():
    image = discs(200, 200, 24)
    pieces_of_large = lambda maps: 33.0 if measured(maps) > 40 else measured(maps)
    surer_when_large = lambda maps: 4 / measured(maps)
    scale, _ = estimate_scale(lambda b: b[..., :2], image, 2, 24, pieces_of_large, surer_when_large, **LOOK)
    assert scale == 1 and surer_when_large(image) > UNSURE


def test_in_a_large_image_both_sizes_are_judged_by_the_same_part():
    image = discs(1500, 1700, 80, top=700, left=900)
    seen = []
    estimate_scale(lambda b: b[..., :2], image, 2, 24, pieces, lambda m: seen.append(m.shape) or blurred_doubt(m), **LOOK)
    assert len(seen) >= 2 and all(height <= PROBE_PX and width <= PROBE_PX for height, width, _ in seen)
    assert seen[0][0] == 2 * seen[1][0] or seen[1][0] == 2 * seen[0][0]
