"""The loss and the pixel scores: known values, unknown pixels, and the order that training relies on."""

import keras
import numpy as np
import pytest

from nuclei.training.losses import SegmentationLoss, pixel_metrics
from nuclei.training.muon import STEP_SIZE, STEPS, Muon, orthogonal
from nuclei.training.targets import UNKNOWN


def batch(seed=0, channels=2):
    rng = np.random.default_rng(seed)
    truth = (rng.random((2, 16, 16, channels)) > 0.6).astype(np.float32)
    truth[..., 1:] *= rng.random((2, 16, 16, channels - 1), np.float32)
    return truth, rng.random((2, 16, 16, channels), np.float32)


def loss_of(truth, maps):
    return float(SegmentationLoss(("nucleus", "distance"))(truth, maps))


def test_a_perfect_painting_costs_nothing_and_any_other_costs_more():
    truth, maps = batch()
    assert loss_of(truth, truth) == pytest.approx(0, abs=1e-3)
    assert loss_of(truth, maps) > loss_of(truth, 0.5 * maps + 0.5 * truth) > loss_of(truth, truth)


def test_unknown_pixels_teach_nothing():
    truth, maps = batch()
    truth[0, :8, :, 1] = UNKNOWN
    other = maps.copy()
    other[0, :8, :, 1] = 1 - other[0, :8, :, 1]
    assert loss_of(truth, maps) == pytest.approx(loss_of(truth, other), abs=1e-6)
    truth[..., 1] = UNKNOWN
    assert np.isfinite(loss_of(truth, maps))


def test_the_mark_for_unknown_is_the_same_on_both_sides():
    assert UNKNOWN == UNKNOWN


def test_an_empty_truth_is_a_valid_negative():
    truth = np.zeros((2, 16, 16, 2), np.float32)
    assert loss_of(truth, truth) == pytest.approx(0, abs=1e-3)
    assert loss_of(truth, np.full_like(truth, 0.9)) > 1


def test_extreme_outputs_stay_finite():
    truth, _ = batch()
    for value in (0.0, 1.0):
        assert np.isfinite(loss_of(truth, np.full_like(truth, value)))


def test_pixel_scores_are_the_definitions_pooled_over_batches():
    scores = pixel_metrics()
    tp = fp = fn = tn = 0
    for seed in range(3):
        truth, maps = batch(seed)
        nucleus, painted = truth[..., 0] > 0.5, maps[..., 0] > 0.5
        tp, fp = tp + (nucleus & painted).sum(), fp + (~nucleus & painted).sum()
        fn, tn = fn + (nucleus & ~painted).sum(), tn + (~nucleus & ~painted).sum()
        for score in scores:
            score.update_state(truth, maps)
    values = {score.name: float(score.result()) for score in scores}
    assert values["accuracy"] == pytest.approx((tp + tn) / (tp + fp + fn + tn), abs=1e-5)
    assert values["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn), abs=1e-5)
    assert values["iou"] == pytest.approx(tp / (tp + fp + fn), abs=1e-5)


def test_the_loss_survives_its_config():
    loss = SegmentationLoss(("nucleus", "distance"))
    again = SegmentationLoss.from_config(loss.get_config())
    truth, maps = batch()
    assert float(again(truth, maps)) == float(loss(truth, maps))
    assert isinstance(loss, keras.losses.Loss)


@pytest.mark.parametrize("shape", [(144, 16), (27, 40), (32, 32), (5, 1)])
def test_steps_are_orthogonal_whatever_the_gradients(shape):
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal(shape).astype(np.float32)
    values = np.linalg.svd(np.asarray(orthogonal(matrix)), compute_uv=False)
    assert values.min() > 0.6 and values.max() < 1.25
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    agreement = np.sum(np.asarray(orthogonal(matrix)) * (left @ right)) / min(shape)  # of direction
    assert agreement > 0.6
    weak = matrix * np.linspace(0.05, 1, shape[1], dtype=np.float32)  # some outputs have hardly any gradient
    assert np.linalg.svd(np.asarray(orthogonal(weak)), compute_uv=False).min() > 0.3
    assert not np.asarray(orthogonal(np.zeros(shape, np.float32))).any()  # a dead filter stays, without NaN


def test_the_orthogonal_factor_is_that_of_keras():
    """Which iterates on the matrix itself: the same polynomial in more multiplications."""
    matrix = np.random.default_rng(2).standard_normal((96, 24)).astype(np.float32)
    expected = keras.optimizers.Muon().zeropower_via_newtonschulz5(matrix, sum(STEPS))
    np.testing.assert_allclose(orthogonal(matrix), expected, atol=1e-5)


def test_coarse_arithmetic_does_not_make_steps_grow(monkeypatch):
    """GPUs multiply with the 10 bits of TF32."""

    def coarse(array):
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)

    class Coarse:
        matmul = staticmethod(lambda a, b: coarse(a) @ coarse(b))
        transpose, norm, eye = staticmethod(np.transpose), staticmethod(np.linalg.norm), staticmethod(np.eye)

    monkeypatch.setattr(losses, "ops", Coarse)
    for seed, shape in enumerate([(144, 16), (288, 64), (27, 16)] * 3):
        matrix = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        matrix *= np.geomspace(1, 1e-4, shape[1], dtype=np.float32)  # as gradients are
        assert np.linalg.svd(orthogonal(matrix), compute_uv=False).max() < 1.3


def test_muon_steps_in_kernels_and_is_adamw_elsewhere():
    def step(optimizer, shape):
        variable = keras.Variable(np.ones(shape, np.float32))
        optimizer.build([variable])
        gradient = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        return np.asarray(variable) - 1

    for shape in ((16,), (1, 1, 8, 3)):
        expected = step(keras.optimizers.AdamW(0.01, weight_decay=1e-4), shape)
        np.testing.assert_array_equal(step(Muon(0.01, weight_decay=1e-4), shape), expected)
    taken = step(Muon(0.01, weight_decay=0.0), (3, 3, 8, 16)).reshape(-1, 16)
    values = np.linalg.svd(taken, compute_uv=False) / (0.01 * STEP_SIZE * 72**0.5)
    assert values.min() > 0.6 and values.max() < 1.25
