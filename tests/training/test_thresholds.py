"""The search for thresholds: it finds the only good one, and knows all arguments of `separate`."""

import numpy as np
import pytest
from scipy import ndimage
from synthetic import draw

from nuclei.instances.separate import THRESHOLDS, separate
from nuclei.training import thresholds as search_room
from nuclei.training.targets import targets
from nuclei.training.thresholds import SEARCH, choose_thresholds


@pytest.fixture
def searching(monkeypatch):
    """Have only some values tried, from these thresholds on."""

    def prepare(search, **start):
        monkeypatch.setattr(search_room, "SEARCH", search)
        monkeypatch.setattr(search_room, "THRESHOLDS", THRESHOLDS | start)

    return prepare


def test_the_search_finds_the_only_good_threshold(searching):
    _, labels = draw("fluorescence", 160, 160, num_nuclei=14, diameter=24, seed=3, touching=0.5)
    maps = targets(labels, ("nucleus", "distance"))
    maps[..., 0] = np.where(labels > 0, 0.45, 0.42)  # one threshold alone separates nuclei
    search = {"nucleus_threshold": (0.4, 0.44, 0.5), "min_probability": (0.2, 0.4, 0.5)}
    searching(search, min_probability=0.2)
    thresholds, score = choose_thresholds([maps], [labels])
    assert thresholds["nucleus_threshold"] == 0.44 and score > 0.9
    assert set(thresholds) == set(THRESHOLDS)


def test_each_set_has_the_same_say(searching):
    _, truth = draw("fluorescence", 160, 160, num_nuclei=14, diameter=24, seed=3, touching=0)
    faint, strong = (np.dstack([np.where(truth > 0, p, 0), truth > 0]) for p in (0.45, 0.9))
    noisy = strong.copy()
    noisy[:8, :8] = 0.42, 1  # a speck in each image of the large set, which has more nuclei
    maps = [np.float32(image) for image in (faint, noisy, noisy, noisy)]
    search = {"nucleus_threshold": (0.35, 0.5)}
    searching(search, nucleus_threshold=0.5, min_probability=0.2, smoothing_px=0.5)
    sets = ["small", "large", "large", "large"]
    thresholds, score = choose_thresholds(maps, [truth] * 4, set_names=sets)
    assert thresholds["nucleus_threshold"] == 0.35  # the small set would be lost without it
    num = truth.max()
    expected = np.average([1, num / (num + 1)], weights=[1, 3**0.5])
    assert score == pytest.approx(expected, abs=0.02)


def test_binary_truth_has_no_say_in_how_touching_nuclei_are_cut(searching):
    _, truth = draw("fluorescence", 160, 160, num_nuclei=14, diameter=24, seed=3, touching=0.9)
    regions = ndimage.label(truth)[0].astype(np.int32)
    maps = targets(truth, ("nucleus", "distance"))
    searching({"marker_threshold": (0.02, 0.5)}, min_probability=0.2)
    everything = [maps] * 6, [truth, *[regions] * 5]
    plain, _ = choose_thresholds(*everything)
    assert plain["marker_threshold"] == 0.02  # five masks of whole regions outvote the nuclei
    told, score = choose_thresholds(*everything, is_binary=[False, *[True] * 5])
    alone, best = choose_thresholds([maps], [truth])
    assert told == alone and told["marker_threshold"] == 0.5
    assert score < best  # it counts all images


def test_thresholds_search_and_arguments_name_the_same_things():
    assert set(SEARCH) == set(THRESHOLDS)
    separate(np.zeros((4, 4, 2), np.float32), **THRESHOLDS)
