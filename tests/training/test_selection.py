"""The end of a training: the weights that find more are kept, and each image is scored."""

from types import SimpleNamespace

import numpy as np
import pytest
from training_tools import write_data

from nuclei.instances.separate import THRESHOLDS
from nuclei.training.samples import load_samples
from nuclei.training.selection import choose_epoch, predict_for_search, score_validation
from nuclei.training.targets import targets


class Network:
    """Takes weights and remembers them."""

    def set_weights(self, weights):
        self.weights = weights


@pytest.mark.parametrize(("enough", "chosen"), [(True, 7), (False, 3)])
def test_of_best_and_last_epoch_the_one_is_kept_that_finds_more(enough, chosen):
    network, quality, lines = Network(), {"best": 0.6, "last": 0.7}, []

    def score():
        scores = {"all": {"ap50": quality[network.weights], "map": 0.5, "images": 9}}
        return {"thresholds": network.weights}, scores

    weights_of = {"epoch 3": "best", "epoch 7": "last"}
    sets = {""} if enough else ()
    name, weights, settings, scores = choose_epoch(network, weights_of, score, sets, lines.append)
    assert name == f"epoch {chosen}"
    assert weights == network.weights == settings["thresholds"] == weights_of[name]
    assert scores["all"]["ap50"] == quality[weights]
    assert lines[2:] == ["  kept: epoch 7"] * enough


@pytest.mark.parametrize(("size", "chosen"), [(25, "end"), (1, "first")])
def test_a_small_set_has_a_say_but_chance_in_one_image_does_not_decide(size, chosen):
    network, lines, sizes = Network(), [], {"all": 100 + size, "large": 100, "small": size}
    ap50 = {"first": {"large": 0.8, "small": 0.5}, "end": {"large": 0.78, "small": 0.6}}
    pooled = {"first": 0.79, "end": 0.78}  # over all nuclei, most of which are in the large set

    def score():
        values = {"all": pooled[network.weights], **ap50[network.weights]}
        scores = {
            group: {"ap50": value, "map": 0.5, "images": sizes[group]}
            for group, value in values.items()
        }
        return {}, scores

    weights_of = {"epoch 3": "first", "epoch 7": "end"}
    assert choose_epoch(network, weights_of, score, {"large", "small"}, lines.append)[1] == chosen
    assert choose_epoch(network, weights_of, score, {"large"}, lines.append)[1] == "first"


@pytest.mark.parametrize("enough", [True, False])
def test_perfect_maps_have_perfect_scores(tmp_path, monkeypatch, enough):
    data = write_data(tmp_path, num_pairs=2)
    monkeypatch.setattr("nuclei.training.selection.MIN_SEARCH_NUCLEI", 1 if enough else 999)
    samples = list(load_samples(data / "raw", data / "gt")[0].values())
    for sample in samples:
        sample.has_instances = True
    models = []

    def perfect(model, image, intensity):
        models.append(model)
        sample = next(sample for sample in samples if sample.image is image)
        maps = targets(sample.labels, ("nucleus", "distance"))
        return SimpleNamespace(maps=maps, scale=24 / sample.diameter_px, spread=1.0)

    base = {"thresholds": {**THRESHOLDS, "min_area_px": 7}, "calibration": {"weights": [1.0] * 5}}
    architecture = {"heads": ["nucleus", "distance"], "depth": 1}
    network = type("Predicts", (), {"predict_on_batch": staticmethod(lambda batch: batch)})
    settings, scores = score_validation(network, architecture, samples, perfect, base)
    assert len(models) == len(samples)  # each image is predicted once
    assert models[0].num_maps == 2 and models[0].diameter_px == 24
    assert set(scores) == {"all", *(sample.group for sample in samples)}
    assert scores["all"]["images"] == 4 and scores["all"]["dice"] > 0.9
    assert (settings["calibration"] == base["calibration"]) == (not enough)
    assert (settings["thresholds"] == base["thresholds"]) == (not enough)
    assert "out_of_distribution" not in settings  # four images do not tell what is usual


def test_one_image_too_large_for_the_search_costs_no_other(monkeypatch):
    sizes = [50, 500, 50, 50, 60, 50]
    samples = [SimpleNamespace(labels=np.zeros(size, np.int32)) for size in sizes]
    monkeypatch.setattr("nuclei.training.selection.MAX_SEARCH_PIXELS", 300)
    for order in ([2, 1, 0, 3, 4, 5], [0, 2, 1, 3, 4, 5], [5, 4, 3, 2, 1, 0]):
        generator = SimpleNamespace(permutation=lambda num, order=order: np.array(order))
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "default_rng", lambda seed, made=generator: made)
            assert set(predict_for_search(samples, lambda sample: sample)) == {0, 2, 3, 4, 5}
    alone = predict_for_search(samples[1:2] * 3, lambda sample: sample)
    assert len(alone) == 1  # it is better than none
