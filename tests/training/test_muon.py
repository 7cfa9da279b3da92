"""The optimiser: orthogonal steps for kernels, in coarse arithmetic too, and AdamW for the rest."""

import keras
import numpy as np
import pytest

from nuclei.training.muon import NESTEROV, STEP_SIZE, STEPS, LossScaled, Muon, orthogonal


@pytest.mark.parametrize("shape", [(144, 16), (27, 40), (32, 32), (5, 1)])
def test_steps_are_orthogonal_for_all_gradients(shape):
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal(shape).astype(np.float32)
    values = np.linalg.svd(np.asarray(orthogonal(matrix)), compute_uv=False)
    assert values.min() > 0.6 and values.max() < 1.25
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    # The direction is that of the exact orthogonal factor.
    assert np.sum(np.asarray(orthogonal(matrix)) * (left @ right)) / min(shape) > 0.6
    # Some outputs have hardly any gradient.
    weak = matrix * np.linspace(0.05, 1, shape[1], dtype=np.float32)
    assert np.linalg.svd(np.asarray(orthogonal(weak)), compute_uv=False).min() > 0.3
    # A dead filter stays as it is, without NaN.
    assert not np.asarray(orthogonal(np.zeros(shape, np.float32))).any()


def test_the_orthogonal_factor_is_that_of_keras():
    """Keras iterates on the matrix itself: the same polynomial in more multiplications."""
    matrix = np.random.default_rng(2).standard_normal((96, 24)).astype(np.float32)
    expected = keras.optimizers.Muon().zeropower_via_newtonschulz5(matrix, sum(STEPS))
    np.testing.assert_allclose(orthogonal(matrix), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_the_direction_does_not_depend_on_the_size_of_the_gradient(factor):
    matrix = np.random.default_rng(3).standard_normal((20, 6)).astype(np.float32)
    expected = orthogonal(matrix)
    np.testing.assert_allclose(orthogonal(np.float32(factor) * matrix), expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (2, 2, 1, 7), (1, 3, 2, 3), (3, 1, 2, 3)])
def test_the_momentum_and_the_size_of_steps_are_by_definition(shape):
    """Nesterov's momentum over three steps, and weight decay as AdamW has it."""
    rng, rate, decay = np.random.default_rng(4), 0.01, 0.1
    weights = rng.standard_normal(shape).astype(np.float32)
    variable, momentum = keras.Variable(weights), 0
    optimizer = Muon(rate, weight_decay=decay)
    optimizer.build([variable])
    for _ in range(3):
        gradient = rng.standard_normal(shape).astype(np.float16)  # a coarser dtype is cast
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        momentum = NESTEROV * momentum + gradient.astype(np.float32)
        ahead = (gradient + NESTEROV * momentum).reshape(-1, shape[-1]).astype(np.float32)
        step = STEP_SIZE * max(ahead.shape) ** 0.5 * np.asarray(orthogonal(ahead))
        weights = weights * (1 - rate * decay) - rate * step.reshape(shape)
        np.testing.assert_allclose(variable, weights, atol=1e-5)


def test_its_configuration_makes_it_again():
    again = Muon.from_config(Muon(0.01, weight_decay=0.2, global_clipnorm=3.0).get_config())
    assert (again.decay, again.global_clipnorm) == (0.2, 3.0)


def test_the_schedule_is_computed_once_a_step():
    """Keras computes it for each variable that decays, which makes the first step slow."""
    calls = []

    class Counted(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            calls.append(step)
            return keras.ops.convert_to_tensor(0.1)

    variables = [keras.Variable(np.ones(3, np.float32)) for _ in range(4)]
    optimizer = Muon(Counted(), weight_decay=0.5)
    optimizer.build(variables)
    calls.clear()
    optimizer.apply([keras.ops.zeros(3)] * 4, variables)
    assert len(calls) == 1
    np.testing.assert_allclose(variables[3], 0.95, rtol=1e-6)


def test_only_the_given_variables_are_changed():
    first, second = (keras.Variable(np.ones(3, np.float32)) for _ in range(2))
    optimizer = Muon(0.01, weight_decay=0.0)
    optimizer.build([first, second])
    optimizer.apply([keras.ops.ones(3)], [second])
    assert (np.asarray(first) == 1).all() and (np.asarray(second) < 1).all()


def test_coarse_arithmetic_does_not_make_steps_grow(monkeypatch):
    """GPUs multiply with the 10 bits of TF32."""

    def coarse(array):
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)

    class Coarse:
        matmul = staticmethod(lambda a, b: coarse(a) @ coarse(b))
        transpose, eye = staticmethod(np.transpose), staticmethod(np.eye)
        norm = staticmethod(np.linalg.norm)

    monkeypatch.setattr("nuclei.training.muon.ops", Coarse)
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


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow combines them")
@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_can_be_combined_before_they_are_applied(scaled):
    """As on several devices; around loss scaling too, which must see the combined gradients."""
    moved = []
    for factor in (1.0, -1.0):
        variable = keras.Variable(np.ones(3, np.float32))
        optimizer = Muon(0.01, weight_decay=0.0)
        optimizer = LossScaled(optimizer, initial_scale=1.0) if scaled else optimizer
        optimizer.combine_gradients = lambda gradients, factor=factor: [factor * gradients[0]]
        optimizer.build([variable])
        optimizer.apply([keras.ops.ones(3)], [variable])
        moved.append(np.asarray(variable) - 1)
    assert moved[0].max() < 0
    np.testing.assert_allclose(moved[0], -moved[1], rtol=1e-5)
