"""Confidence says how many nuclei are right; uncertainty grows where pixels are undecided."""

import numpy as np
import pytest
from synthetic import draw

from nuclei.instances.confidence import (
    calibrate,
    confidence,
    confidence_features,
    expected_calibration_error,
    image_uncertainty,
)
from nuclei.training.targets import targets


@pytest.fixture(scope="module")
def labels():
    return draw("fluorescence", 120, 120, num_nuclei=8, diameter=20, seed=2, touching=0)[1]


@pytest.fixture(scope="module")
def maps(labels):
    return targets(labels, ("nucleus", "distance"))


def test_calibrated_confidence_is_the_share_of_right_nuclei():
    rng = np.random.default_rng(0)
    features = np.column_stack(
        [rng.normal(1, 1.5, 4000), rng.normal(0, 1, 4000), rng.normal(3, 0.3, 4000), np.ones(4000)]
    )
    hits = rng.random(4000) < 1 / (1 + np.exp(-(features @ [1.2, -0.8, 0.5, -1.0])))
    weights = calibrate(features[:2000], hits[:2000])
    predicted = confidence(features[2000:], weights)
    error, rows = expected_calibration_error(predicted, hits[2000:])
    assert error < 0.04 and sum(number for number, _, _ in rows) == 2000
    worse, _ = expected_calibration_error(np.full(2000, 0.99), hits[2000:])
    assert worse == pytest.approx(0.99 - hits[2000:].mean(), abs=1e-9)


def test_nuclei_count_by_their_shares():
    features = np.ones((300, 1))
    hits = np.arange(300) < 100  # all of the first 100, none of the others
    shares = np.where(hits, 4.0, 1.0)
    assert confidence(features, calibrate(features, hits))[0] == pytest.approx(1 / 3, abs=0.01)
    weights = calibrate(features, hits, shares)
    assert confidence(features, weights)[0] == pytest.approx(2 / 3, abs=0.01)


def test_weights_stay_finite_where_every_nucleus_is_right():
    features = np.column_stack([np.random.default_rng(0).normal(1, 1.5, 50), np.ones(50)])
    assert np.isfinite(calibrate(features, np.ones(50, bool))).all()


def test_features_follow_the_maps(labels, maps):
    sure = confidence_features(labels, maps)
    unsure = confidence_features(labels, maps * np.float32(0.6))
    assert sure.shape == (labels.max(), 5) and np.isfinite(sure).all()
    assert (sure[:, :2] > unsure[:, :2]).all()
    enlarged = confidence_features(labels, maps, scale=2.0)
    np.testing.assert_allclose(enlarged[:, 2] - sure[:, 2], np.log(2))
    assert confidence_features(np.zeros((4, 4), np.int32), maps[:4, :4]).shape == (0, 5)
    assert confidence_features(labels, maps[..., :1]).shape == (labels.max(), 5)


def test_an_image_is_uncertain_where_its_pixels_are_undecided(maps):
    assert image_uncertainty(maps) == 0
    assert image_uncertainty(np.zeros((50, 50, 2), np.float32)) == 0
    assert image_uncertainty(np.full((50, 50, 2), 0.5, np.float32)) == 1
    slightly, strongly = np.clip(maps, 0.05, 0.95), np.clip(maps, 0.3, 0.7)
    assert image_uncertainty(slightly) < image_uncertainty(strongly)
