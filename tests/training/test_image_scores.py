"""What follows from the scores of validation images: the confidence of a nucleus."""

import numpy as np
import pytest

from nuclei.instances.confidence import confidence
from nuclei.training.image_scores import ImageScore, calibration_of


def scored(set_name, share, num_nuclei=100):
    """An image of nuclei that look alike, of which a share is true."""
    is_hit = np.arange(num_nuclei) < share * num_nuclei
    features = np.repeat([[0.0, 0.0, 0.0, 0.0, 1.0]], num_nuclei, axis=0)
    return ImageScore(np.zeros((10, 3), int), 0.9, features, is_hit, {}, ("tissue", set_name))


def test_large_sets_do_not_outvote_small_ones_in_the_calibration():
    results = [scored("large", 0.5)] * 16 + [scored("small", 1.0)]
    calibration = calibration_of(results)["calibration"]
    probability = confidence(results[0].features, calibration["weights"])[0]
    assert probability == pytest.approx((4 * 0.5 + 1 * 1.0) / 5, abs=0.001)
    assert calibration["nuclei"] == 1700
    shares = np.array([16 / 17, 1 / 17])
    error = shares @ np.abs(probability - np.array([0.5, 1.0]))
    assert calibration["expected_calibration_error"] <= round(error, 4)
    alone = calibration_of([scored("large", 0.5)] * 3)["calibration"]
    assert confidence(results[0].features, alone["weights"])[0] == pytest.approx(0.5, abs=0.001)


def test_without_a_nucleus_nothing_is_calibrated():
    assert calibration_of([scored("large", 1, num_nuclei=0)]) == {}
