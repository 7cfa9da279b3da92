"""At its end a training stands beside the shipped weights: same images, same code."""

from types import SimpleNamespace

import numpy as np
import pytest
from training_samples import sample

from nuclei.images.origin import BOWL
from nuclei.instances.separate import THRESHOLDS
from nuclei.training import reference
from nuclei.training.data import Data
from nuclei.training.reference import choose_samples, compare_with_shipped
from nuclei.training.targets import targets

SETTINGS = {
    "architecture": {"heads": ["nucleus", "distance"], "depth": 1, "stem_stride": 1},
    "thresholds": dict(THRESHOLDS),
    "data": {"sets": [BOWL]},
    "scores": {"validation": {"all": {"ap50": 0.25, "map": 0.125}}},
}


def network(share):
    """A network whose `share` says how much of the truth it finds; see `predict_image`."""
    return SimpleNamespace(predict_on_batch=share)


@pytest.fixture
def data():
    return Data([sample()], [sample("tissue") for _ in range(5)], {}, "")


def compare(monkeypatch, data, own=0.0, shipped=1.0):
    """The lines of `compare_with_shipped`, for networks that see a share of the truth."""
    truths = {id(each.image): each.labels for each in data.validating}

    def predict_image(model, image, intensity):
        labels = truths[id(image)]
        seen = np.where(labels <= model.network * labels.max(), labels, 0)
        maps = targets(seen, SETTINGS["architecture"]["heads"])
        return SimpleNamespace(maps=maps, scale=1.0, spread=1.0)

    monkeypatch.setattr(reference, "load_network", lambda path: (network(shipped), SETTINGS))
    lines = []
    trained = SimpleNamespace(network=network(own), settings=SETTINGS)
    compare_with_shipped(trained, data, predict_image, lines.append)
    return lines


def test_both_scores_stand_in_one_line_and_the_better_weights_are_recommended(monkeypatch, data):
    line, advice = compare(monkeypatch, data)
    num_nuclei = sum(each.labels.max() for each in data.validating)
    assert f"On 5 validation images with {num_nuclei} nuclei" in line
    assert "this training AP@0.5 0.25, mAP 0.12, the shipped weights AP@0.5 1.00" in line
    assert "--model shipped" in advice and "--init shipped" in advice
    assert len(compare(monkeypatch, data, shipped=0.1)) == 1  # nothing to recommend


def test_that_the_shipped_weights_know_the_set_is_said(monkeypatch, data):
    data.origins = {"data": BOWL}
    assert "same set" in compare(monkeypatch, data)[1]


def test_of_large_sets_some_images_are_scored_for_both(monkeypatch, data):
    monkeypatch.setattr(reference, "MAX_PIXELS", 3 * data.validating[0].labels.size)
    monkeypatch.setattr(reference, "MIN_NUCLEI", 10)
    line = compare(monkeypatch, data, own=0.5)[0]
    assert "On 3 validation images" in line and "this training AP@0.5 0.25" not in line
    assert choose_samples(data.validating[:1]) == data.validating[:1]


def test_nothing_is_said_where_the_comparison_would_mean_nothing(monkeypatch, data, tmp_path):
    assert not compare(monkeypatch, Data(data.training, data.training, {}, ""))
    assert not compare(monkeypatch, Data(data.training, data.validating[:1], {}, ""))
    monkeypatch.setattr("nuclei.model_file.PROJECT", tmp_path)  # without the shipped weights
    assert not compare(monkeypatch, data)
