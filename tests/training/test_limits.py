"""The limits of the signs: few images of each set lie beyond, and foreign ones do."""

import numpy as np
import pytest

from nuclei.instances.signs import image_signs
from nuclei.model_settings import FIXED_LIMITS, SIGNS
from nuclei.training.limits import MAX_FALSE_ALARMS, MIN_IMAGES, find_limits, rare_modalities

VARYING = [name for name in SIGNS if name not in FIXED_LIMITS]


def draw_signs(num, seed, shift=0.0):
    """Signs of images as a training may have them: a list of dicts."""
    values = np.random.default_rng(seed).normal(shift, 1, (num, len(VARYING)))
    return [dict(zip(VARYING, np.exp(0.3 * row), strict=True)) for row in values]


def is_flagged(signs, found):
    return any(signs.get(name, 0) > limit for name, limit in found["limits"].items())


@pytest.mark.parametrize("sizes", [(60,), (200, 40), (150, 60, 8)])
def test_no_large_set_has_more_false_alarms_than_promised(sizes):
    signs, names = [], []
    for index, num in enumerate(sizes):
        signs += draw_signs(num, index, shift=0.4 * index)  # a set may be more unusual than others
        names += [f"set {index}"] * num
    found = find_limits(signs, names, ["tissue"] * len(signs), [])
    assert set(found["limits"]) == set(VARYING) and found["images"] == len(signs)
    flags = np.array([is_flagged(image, found) for image in signs])
    for name, num in zip(dict.fromkeys(names), sizes, strict=True):
        if num >= MIN_IMAGES:
            assert flags[np.array(names) == name].mean() <= MAX_FALSE_ALARMS
    assert found["false_alarm_rate"] == pytest.approx(flags.mean(), abs=1e-3)
    assert flags.any()  # the limits are not farther out than need be


def test_an_image_that_is_far_in_one_sign_alone_is_flagged():
    signs = draw_signs(100, 0)
    found = find_limits(signs, [""] * 100, ["tissue"] * 100, [])
    usual = {name: float(np.median([image[name] for image in signs])) for name in VARYING}
    assert not is_flagged(usual, found)
    for name in VARYING:
        assert is_flagged(usual | {name: 4.0}, found)


def test_white_holes_move_no_limit():
    signs = draw_signs(100, 0)
    before = find_limits(signs, [""] * 100, ["tissue"] * 100, [])
    for share, image in zip(np.linspace(0, 0.2, 100), signs, strict=True):
        image["hole_share"] = share
    assert find_limits(signs, [""] * 100, ["tissue"] * 100, []) == before


def test_few_images_set_no_limits_and_unknown_signs_none():
    signs = draw_signs(MIN_IMAGES, 0)
    assert find_limits(signs[1:], [""] * (MIN_IMAGES - 1), ["tissue"] * (MIN_IMAGES - 1), []) == {}
    for image in signs[3:]:
        del image["low_confidence"]  # images without nuclei have none
    found = find_limits(signs, [""] * MIN_IMAGES, ["tissue"] * MIN_IMAGES, [])
    assert set(found["limits"]) == set(VARYING) - {"low_confidence"}


def test_all_images_alike_are_not_flagged():
    signs = draw_signs(1, 0) * MIN_IMAGES
    found = find_limits(signs, [""] * MIN_IMAGES, ["tissue"] * MIN_IMAGES, [])
    assert not is_flagged(signs[0], found) and found["false_alarm_rate"] == 0


def test_images_of_a_rare_modality_count_as_false_alarms():
    signs, kinds = draw_signs(100, 1), ["tissue"] * 90 + ["brightfield"] * 10
    rare = rare_modalities({"tissue": 98, "brightfield": 2})
    assert rare == ["brightfield", "fluorescence"]
    plain = find_limits(signs, [""] * 100, kinds, [])["false_alarm_rate"]
    found = find_limits(signs, [""] * 100, kinds, rare)
    assert 0.1 <= found["false_alarm_rate"] <= 0.1 + plain
    assert found["rare_modalities"] == rare


def test_fine_tuning_does_not_forget_what_the_first_model_knew():
    own = {"tissue": 12}
    assert rare_modalities(own) == ["brightfield", "fluorescence"]
    assert rare_modalities(own, {"rare_modalities": ["brightfield", "tissue"]}) == ["brightfield"]
    assert rare_modalities(own, {"uncertainty_above": 0.3}) == []


def test_signs_are_larger_where_less_is_usual():
    signs = image_signs(0.2, 1.5, [0.9, 0.7], [0.9, 0.95, 0.5], 0.3)
    expected = {"uncertainty": 0.2, "scale_spread": 1.5, "hole_share": 0.3}
    assert signs == pytest.approx(expected | {"low_confidence": 0.2, "low_solidity": 0.1})
    assert image_signs(0.2) == {"uncertainty": 0.2}
