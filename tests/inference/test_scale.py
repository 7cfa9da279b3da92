"""The scale: nuclei come to the size that the network knows, whatever it makes of other sizes."""

import numpy as np
import pytest
from inference_tools import model_of
from scipy import ndimage

from nuclei.images.intensity import intensity_range
from nuclei.inference.find import Options, find_nuclei, predict_image, predict_maps
from nuclei.inference.scale import (
    MAX_MISFIT,
    PROBE_PX,
    SCALE_LIMITS,
    STEPS_PER_OCTAVE,
    UNCERTAIN,
    estimate_scale,
    nearest_step,
    separate_look,
)
from nuclei.inference.zooms import with_zooms

MODEL = model_of(lambda batch: batch[..., :2])  # its maps are the image


def discs(height, width, diameter, top=0, left=0, number=12):
    """Bright discs on black in a row-by-row pattern from (top, left): (H, W, 3) float32."""
    image = np.zeros((height, width, 3), np.float32)
    rows, columns = np.mgrid[:height, :width]
    for k in range(number):
        row, column = top + (k // 4 * 2 + 1) * diameter, left + (k % 4 * 2 + 1) * diameter
        image[(rows - row) ** 2 + (columns - column) ** 2 < diameter**2 / 4] = 1
    return image


def diameter_of(maps):
    """Median diameter of the components, which stands for a network that works at any size."""
    labels, number = ndimage.label(maps[..., 0] > 0.5)
    return (
        float(np.median(2 * np.sqrt(np.bincount(labels.ravel())[1:] / np.pi))) if number else None
    )


def components_of(maps):
    return ndimage.label(maps[..., 0] > 0.5)[0]


def tiles(measure):
    """A separation into squares whose diameter is what `measure` says of the maps."""

    def separate(maps):
        diameter, (height, width) = measure(maps), maps.shape[:2]
        if diameter is None:
            return np.zeros((height, width), np.int32)
        rows, columns = np.mgrid[:height, :width] // max(1, round(diameter * np.pi**0.5 / 2))
        return rows * width + columns + 1

    return separate


def estimate(image, measure, uncertainty=None):
    separate = components_of if measure is diameter_of else tiles(measure)
    scale, maps, _ = estimate_scale(MODEL, image, None, separate, uncertainty)
    return scale, maps


@pytest.mark.parametrize("diameter", [7, 9, 17, 24, 31, 60, 130])
def test_the_scale_brings_nuclei_to_the_known_size(diameter):
    image = discs(10 * diameter, 12 * diameter, diameter)
    scale, maps = estimate(image, diameter_of)
    assert 1 / MAX_MISFIT < scale * diameter / 24 < MAX_MISFIT
    if 24 / MAX_MISFIT**0.5 < diameter < 24 * MAX_MISFIT**0.5:
        assert scale == 1  # nothing is resampled where it would not pay
    if maps is not None:
        assert maps.shape == (*image.shape[:2], 2)


def test_estimates_are_few_and_near_what_was_measured():
    measured = np.geomspace(*SCALE_LIMITS, 500)[1:-1]
    steps = [nearest_step(scale) for scale in measured]
    assert len(set(steps)) <= 1 + STEPS_PER_OCTAVE * np.log2(SCALE_LIMITS[1] / SCALE_LIMITS[0])
    change = np.abs(np.log2(np.divide(steps, measured)))
    assert change.max() <= 0.5 / STEPS_PER_OCTAVE + 1e-9
    # Half and twice a step are steps, to the last bit, so that a look can be used again.
    assert {step / 2 for step in steps[250:]} | {1.0} <= set(steps)
    assert [nearest_step(scale) for scale in (0.01, 50.0)] == list(SCALE_LIMITS)


def test_the_network_sees_no_part_twice():
    seen = []
    model = model_of(lambda batch: (seen.append(batch.shape), batch[..., :2])[1])
    image = discs(120, 144, 12)
    # Uncertain throughout: the last look, at half of twice the size, is the first one.
    estimate_scale(model, image, None, components_of, lambda maps: float(maps.shape[0]))
    assert len(seen) == len(set(seen)) > 1


def test_no_look_is_separated_twice():
    separated = []
    separate = lambda maps: (separated.append(maps), components_of(maps))[1]
    for image in (discs(120, 144, 12), discs(900, 960, 60), discs(300, 300, 24)):
        estimate_scale(MODEL, image, None, separate, uncertainty_of)
    assert len(separated) == len(set(map(id, separated))) > 3


def test_a_network_that_errs_at_the_wrong_size_still_leads_to_the_right_one():
    """Small nuclei are measured too large, large ones too small, by half of the way."""
    for diameter in (6, 120):
        image = discs(10 * diameter, 12 * diameter, diameter)
        scale, _ = estimate(image, lambda m: (diameter_of(m) * 24) ** 0.5)
        assert 0.5 < scale * diameter / 24 < 2


def test_nuclei_in_a_corner_of_a_large_image_are_found():
    image = discs(1500, 1700, 40, top=1000, left=1200)
    scale, maps = estimate(image, diameter_of)
    assert scale == pytest.approx(24 / 40, rel=0.1)


def test_without_nuclei_the_image_stays_as_it_is():
    blank = np.zeros((70, 90, 3), np.uint8)
    assert estimate(blank.astype(np.float32), diameter_of) == (1.0, None)
    scale, maps, _ = predict_maps(MODEL, blank, (0.0, 255.0))
    assert scale == 1 and maps.shape == (70, 90, 2)


def test_nuclei_too_small_to_be_shapes_are_sought_larger():
    image = discs(80, 80, 8)

    def blind(maps):
        diameter = diameter_of(maps)
        return diameter if diameter and diameter > 12 else None

    scale, _ = estimate(image, blind)
    assert scale * 8 == pytest.approx(24, rel=0.2)


def test_a_given_scale_is_taken():
    image = discs(80, 90, 9)
    pixels = (image * 255).astype(np.uint8)
    scale, maps, _ = predict_maps(MODEL, pixels, (0.0, 255.0), Options(scale=2.0))
    assert scale == 2 and maps.shape == (80, 90, 2)
    assert ((maps[..., 0] > 0.5) != (image[..., 0] > 0.5)).mean() < 0.01


def uncertainty_of(maps):
    """Little where discs are near the known size: what a network that was trained at 24 px has."""
    diameter = diameter_of(maps)
    return 1.0 if diameter is None else abs(float(np.log(diameter / 24))) / 10


def pieces(maps):
    """Takes what is much too large to pieces of the known size: the measure is then no help."""
    diameter = diameter_of(maps)
    return diameter if diameter is None or diameter < 40 else 24.0


@pytest.mark.parametrize("diameter", [60, 100])
def test_nuclei_that_are_taken_to_pieces_are_shown_smaller_until_no_uncertainty_goes(diameter):
    image = discs(10 * diameter, 10 * diameter, diameter)
    blind, _ = estimate(image, pieces)
    scale, maps = estimate(image, pieces, uncertainty_of)
    assert blind == 1 and 0.6 < scale * diameter / 24 < 1.7
    assert maps is None or maps.shape == (*image.shape[:2], 2)


@pytest.mark.parametrize("diameter", [11, 13])
def test_clumps_that_are_uncertain_are_shown_larger(diameter):
    image = discs(120, 120, diameter)
    clumps = lambda maps: (
        28.0 if (diameter_of(maps) or 99) < 18 else diameter_of(maps)
    )  # of small ones, which pass for nuclei
    scale, _ = estimate(image, clumps, lambda m: 3 * uncertainty_of(m))
    assert scale == 2


def test_nuclei_that_fit_stay_where_a_larger_view_only_looks_more_certain():
    image = discs(200, 200, 24)
    pieces_of_large = lambda maps: 33.0 if diameter_of(maps) > 40 else diameter_of(maps)
    less_uncertain_when_large = lambda maps: 4 / diameter_of(maps)
    scale, _ = estimate(image, pieces_of_large, less_uncertain_when_large)
    assert scale == 1 and less_uncertain_when_large(image) > UNCERTAIN


def test_pale_nuclei_that_vanish_at_half_the_size_keep_the_scale():
    """Half of the nuclei are pale, as in immunostains; from afar only the dark ones are seen."""
    image = discs(300, 300, 24)
    image[100:] *= 0.6

    def network(batch):  # shows pale discs only where they are large
        pale = np.asarray(batch)[..., :2]
        area_px = (pale[..., 0] > 0.3).sum()
        return np.where((pale < 0.9) & (area_px < 2000), 0.3 * pale, pale)

    dark_alone = lambda maps: 0.05 if (maps[..., 0] > 0.5).sum() < 1200 else 0.2
    large_from_afar = tiles(lambda maps: 24.0)
    scale, _, _ = estimate_scale(model_of(network), image, None, large_from_afar, dark_alone)
    assert scale == 1
    all_dark = np.where(image > 0, 1, image).astype(np.float32)
    assert estimate_scale(MODEL, all_dark, None, large_from_afar, dark_alone).scale < 1


def test_the_spread_is_small_where_all_evidence_agrees_and_large_where_it_does_not():
    equal = discs(192, 192, 24, number=8)
    spread = lambda image: estimate_scale(MODEL, image, None, components_of, uncertainty_of).spread
    assert 1 <= spread(equal) < 1.1
    mixed = np.concatenate([discs(120, 240, 14, number=8), discs(120, 240, 40, number=3)])
    assert spread(mixed) > 1.8
    blank = np.zeros((70, 90, 3), np.float32)
    assert estimate_scale(MODEL, blank, None, components_of, uncertainty_of).spread is None


def test_nuclei_that_do_not_fit_at_half_the_scale_are_shown_as_large_as_they_should_be():
    """Large nuclei pass for pieces of 24 px; at half the scale they are seen to have 36 px."""
    image = discs(720, 720, 72)
    calm_afar = lambda maps: 0.1 if diameter_of(maps) > 60 else 0.05
    sizes = lambda maps: 24.0 if diameter_of(maps) > 60 else diameter_of(maps)
    scale, _ = estimate(image, sizes, calm_afar)
    assert scale == pytest.approx(24 / 72, rel=0.1)


def test_in_a_large_image_both_sizes_are_judged_by_the_same_part():
    image = discs(1500, 1700, 80, top=700, left=900)
    shapes = []
    estimate(image, pieces, lambda m: shapes.append(m.shape) or uncertainty_of(m))
    assert len(shapes) >= 2 and all(
        height <= PROBE_PX and width <= PROBE_PX for height, width, _ in shapes
    )
    assert shapes[0][0] == 2 * shapes[1][0] or shapes[1][0] == 2 * shapes[0][0]


def test_a_separation_that_is_exchanged_is_used(monkeypatch):
    """An ablation exchanges the function of this room; no default may keep the old one."""
    monkeypatch.setattr("nuclei.inference.scale.separate", tiles(lambda maps: 12.0))
    image = discs(120, 144, 24)
    assert estimate_scale(MODEL, image, uncertainty=None).scale == SCALE_LIMITS[1]


def test_where_no_scale_fits_the_nearest_is_taken_and_its_spread_tells():
    image = discs(400, 400, 40)
    two_sizes = tiles(lambda maps: 40.0 if len(maps) == 400 else 6.0)  # it errs elsewhere
    scale, _, spread = estimate_scale(MODEL, image, None, two_sizes, None)
    assert scale == 1 and spread > 2
    too_small = tiles(lambda maps: 6.0)
    scale, maps, spread = estimate_scale(MODEL, image, None, too_small, None)
    assert scale == SCALE_LIMITS[1] and maps is None and spread > 2


def test_a_model_with_zooms_is_judged_by_the_maps_of_its_first_zoom():
    seen = set()

    def separate(maps):
        seen.add(maps.shape[-1])
        return separate_look(maps)

    image = discs(200, 200, 12)
    plain, zoomed = (estimate_scale(m, image, None, separate) for m in (MODEL, with_zooms(MODEL)))
    assert seen == {MODEL.num_maps} and zoomed.scale == plain.scale != 1


def test_a_flat_border_shows_no_nuclei_to_whoever_predicts_a_whole_image():
    """A training must choose its thresholds on what a prediction sees."""
    noise = np.random.default_rng(0).normal(100, 25, (160, 160, 1))
    framed = np.full((220, 220, 3), 255, np.uint8)  # white, as the network's brightest nucleus
    framed[30:190, 30:190] = noise.clip(20, 180)
    outside = np.ones(framed.shape[:2], bool)
    outside[30:190, 30:190] = False
    intensity = intensity_range(framed)
    assert predict_maps(MODEL, framed, intensity, Options(scale=1.0)).maps[outside].max() > 0.9
    maps = predict_image(MODEL, framed, intensity, Options(scale=1.0)).maps
    assert maps[outside].max() == 0 and maps[~outside].max() > 0.5
    found = find_nuclei(framed, MODEL, Options(scale=1.0))
    np.testing.assert_array_equal(found.maps, maps)
