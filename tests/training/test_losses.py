"""The loss and the pixel scores: known values, unknown pixels, and the order training relies on."""

import keras
import numpy as np
import pytest

from nuclei.training.losses import (
    CONTACT_WEIGHT,
    DICE_WEIGHT,
    MAP_WEIGHT,
    SMOOTH,
    PixelScore,
    SegmentationLoss,
    pixel_metrics,
)
from nuclei.training.targets import UNKNOWN


def random_batch(seed=0, channels=2):
    """A truth with soft maps, and maps that have nothing to do with it."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((2, 16, 16, channels)) > 0.6).astype(np.float32)
    truth[..., 1:] *= rng.random((2, 16, 16, channels - 1), np.float32)
    return truth, rng.random((2, 16, 16, channels), np.float32)


def loss_of(truth, maps):
    return float(SegmentationLoss(("nucleus", "distance"))(truth, maps))


def loss_by_definition(truth, maps, contact=None):
    """The loss in float64, pixel by pixel; `contact` is the channel of the contact map."""
    sums, numbers = np.zeros(truth.shape[-1]), np.zeros(truth.shape[-1])
    for *place, channel in np.argwhere(truth >= 0):
        goal, guess = np.clip([truth[(*place, channel)], maps[(*place, channel)]], 1e-6, 1 - 1e-6)
        meeting = 0 if contact is None else max(0, truth[(*place, contact)])
        weight = 1 + (CONTACT_WEIGHT - 1) * meeting
        divergence = goal * np.log(goal / guess) + (1 - goal) * np.log((1 - goal) / (1 - guess))
        sums[channel] += weight * divergence
        numbers[channel] += 1
    each = sums / np.maximum(numbers, 1)
    dice = []
    for one, other in zip(truth[..., 0], maps[..., 0].astype(float), strict=True):
        one, other = one[one >= 0], np.clip(other[one >= 0], 1e-6, 1 - 1e-6)
        dice.append((2 * (one * other).sum() + SMOOTH) / (one.sum() + other.sum() + SMOOTH))
    return each[0] + DICE_WEIGHT * (1 - np.mean(dice)) + MAP_WEIGHT * each[1:].sum()


@pytest.mark.parametrize("heads", [("nucleus",), ("nucleus", "distance", "contact")])
@pytest.mark.parametrize("share_unknown", [0, 0.4])
def test_the_loss_is_its_definition(heads, share_unknown):
    rng = np.random.default_rng(len(heads))
    truth, maps = (rng.random((3, 7, 5, len(heads))).astype(np.float32) for _ in range(2))
    truth[..., 0] = truth[..., 0].round()
    truth[rng.random(truth.shape) < share_unknown] = UNKNOWN
    truth[0, 0], maps[0, 0] = [[0], [0], [1], [1], [0.5]], [[0], [1], [0], [1], [1]]  # the ends
    contact = heads.index("contact") if "contact" in heads else None
    single = np.full_like(truth, UNKNOWN)
    single[1, 2, 3] = 0  # the only pixel that is known
    for known in (truth, single):
        loss = SegmentationLoss(heads).call(known, maps)
        assert loss.shape == (1,)  # Keras takes the mean over devices of arrays only
        assert float(loss[0]) == pytest.approx(loss_by_definition(known, maps, contact), rel=2e-4)


def test_perfect_maps_cost_nothing_and_all_others_cost_more():
    truth, maps = random_batch()
    assert loss_of(truth, truth) == pytest.approx(0, abs=1e-3)
    assert loss_of(truth, maps) > loss_of(truth, 0.5 * maps + 0.5 * truth) > loss_of(truth, truth)


def test_unknown_pixels_teach_nothing():
    truth, maps = random_batch()
    truth[0, :8, :, 1] = UNKNOWN
    other = maps.copy()
    other[0, :8, :, 1] = 1 - other[0, :8, :, 1]
    assert loss_of(truth, maps) == pytest.approx(loss_of(truth, other), abs=1e-6)
    truth[..., 1] = UNKNOWN
    assert np.isfinite(loss_of(truth, maps))


def test_an_error_where_nuclei_meet_costs_more_than_one_elsewhere():
    truth = np.zeros((1, 16, 16, 3), np.float32)
    truth[..., 0] = 1
    truth[0, 7:9, :, 2] = 1  # two nuclei meet in these rows
    there, elsewhere = truth.copy(), truth.copy()
    there[0, 8, 3, 1] = elsewhere[0, 2, 3, 1] = 0.5
    loss = SegmentationLoss(("nucleus", "distance", "contact"))
    free, at_contact = float(loss(truth, elsewhere)), float(loss(truth, there))
    assert at_contact == pytest.approx(CONTACT_WEIGHT * free, rel=0.03)
    truth[0, 7:9, :, 2] = UNKNOWN  # nobody knows whether they meet: no weight
    assert float(loss(truth, there)) == pytest.approx(float(loss(truth, elsewhere)), rel=1e-4)


def test_an_empty_truth_is_a_valid_negative():
    truth = np.zeros((2, 16, 16, 2), np.float32)
    assert loss_of(truth, truth) == pytest.approx(0, abs=1e-3)
    assert loss_of(truth, np.full_like(truth, 0.9)) > 1


def test_extreme_outputs_stay_finite():
    truth, _ = random_batch()
    for value in (0.0, 1.0):
        assert np.isfinite(loss_of(truth, np.full_like(truth, value)))


def test_pixel_scores_are_the_definitions_pooled_over_batches():
    scores = pixel_metrics()
    tp = fp = fn = tn = 0
    for seed in range(3):
        truth, maps = random_batch(seed)
        nucleus, predicted = truth[..., 0] > 0.5, maps[..., 0] > 0.5
        tp, fp = tp + (nucleus & predicted).sum(), fp + (~nucleus & predicted).sum()
        fn, tn = fn + (nucleus & ~predicted).sum(), tn + (~nucleus & ~predicted).sum()
        for score in scores:
            score.update_state(truth, maps)
    values = {score.name: float(score.result()) for score in scores}
    assert values["accuracy"] == pytest.approx((tp + tn) / (tp + fp + fn + tn), abs=1e-5)
    assert values["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-5)
    assert values["iou"] == pytest.approx(tp / (tp + fp + fn), abs=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # Keras on NumPy: 0 / 0 is 0
def test_pixel_scores_leave_out_what_is_unknown_and_begin_anew():
    truth, maps = np.full((1, 2, 4, 2), 0.5, np.float32), np.full((1, 2, 4, 2), 0.5, np.float32)
    truth[0, :, :, 0] = [[1, 1, 1, 0], [0, 0, 0.5, UNKNOWN]]  # 0.5 is background on both sides
    maps[0, :, :, 0] = [[0.6, 0.9, 0.2, 0.7], [0.1, 0.5, 0.5, 0.9]]
    expected = {"accuracy": 5 / 7, "dice": 4 / 6, "iou": 2 / 4}
    for score in pixel_metrics():
        assert float(score.result()) == 0  # before any batch
        assert {one.name for one in score.variables} == {"hit", "false", "true_negative"}
        for _ in range(2):
            score.update_state(truth, maps)
            assert float(score.result()) == pytest.approx(expected[score.name], abs=1e-6)
            assert sum(map(float, score.variables)) == pytest.approx(7 / 8)  # shares of all pixels
            score.reset_state()
        score.update_state(np.full_like(truth, UNKNOWN), maps)
        assert float(score.result()) == 0
    assert PixelScore("dice", "other").name == "other"


def test_the_loss_survives_its_config():
    loss = SegmentationLoss(("nucleus", "distance"))
    again = SegmentationLoss.from_config(loss.get_config())
    truth, maps = random_batch()
    assert float(again(truth, maps)) == float(loss(truth, maps))
    assert isinstance(loss, keras.losses.Loss) and loss.name == "segmentation_loss"
    named = SegmentationLoss(["nucleus"], name="other")
    assert named.get_config() == {"heads": ["nucleus"], "name": "other"}
