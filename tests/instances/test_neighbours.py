"""Neighbours are those that one finds by looking at each nucleus alone."""

import numpy as np
from formats_tools import draw_examples

from nuclei.instances.measure import measure


def test_neighbours_agree_with_counting_them_one_by_one():
    labels = draw_examples()["tissue"][1]
    table = measure(labels)
    grown = [np.pad(labels == index, 1) for index in table["id"]]
    for row, nucleus in enumerate(grown):
        around = np.zeros_like(nucleus)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                around |= np.roll(nucleus, (down, right), (0, 1))
        assert table["touching_nuclei"][row] == sum((around & other).any() for other in grown) - 1


def test_a_ring_and_its_kernel_are_each_others_nearest():
    labels = np.zeros((30, 30), np.int32)
    labels[5:16, 5:16], labels[7:14, 7:14], labels[9:12, 9:12] = 1, 0, 2
    labels[25:28, 25:28] = 3
    table = measure(labels)
    assert table["nearest_id"].tolist()[:2] == [2, 1]
    assert table["nearest_distance_px"].tolist()[:2] == [0, 0]
