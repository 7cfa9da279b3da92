"""The search for thresholds: it finds the only good one, and knows all arguments of `separate`."""

import numpy as np
from synthetic import draw

from nuclei.instances.separate import THRESHOLDS, separate
from nuclei.training.targets import targets
from nuclei.training.thresholds import SEARCH, choose_thresholds


def test_the_search_finds_the_only_good_threshold():
    _, labels = draw("fluorescence", 160, 160, num_nuclei=14, diameter=24, seed=3, touching=0.5)
    maps = targets(labels, ("nucleus", "distance"))
    maps[..., 0] = np.where(labels > 0, 0.45, 0.42)  # one threshold alone separates nuclei
    search = {"nucleus_threshold": (0.4, 0.44, 0.5), "min_probability": (0.2, 0.4, 0.5)}
    start = {**THRESHOLDS, "min_probability": 0.2}
    thresholds, score = choose_thresholds([maps], [labels], start=start, search=search)
    assert thresholds["nucleus_threshold"] == 0.44 and score > 0.9
    assert set(thresholds) == set(THRESHOLDS)


def test_thresholds_search_and_arguments_name_the_same_things():
    assert set(SEARCH) == set(THRESHOLDS)
    separate(np.zeros((4, 4, 2), np.float32), **THRESHOLDS)
