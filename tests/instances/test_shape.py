"""Convex hulls are those of the outlines."""

import cv2
import numpy as np
import pytest
from synthetic import draw

from nuclei.instances.pixels import NucleusPixels
from nuclei.instances.separate import separate
from nuclei.instances.shape import hull_measures, solidities
from nuclei.polygons import outlines
from nuclei.training.targets import targets


def test_hulls_are_those_of_the_outlines():
    _, labels = draw("tissue", 160, 180, num_nuclei=16, diameter=20, seed=4, touching=0.5)
    labels[3, 4:9] = labels.max() + 1  # two lines and a point
    labels[0, 0] = labels.max() + 1
    labels[60:90, 90] = labels.max() + 1
    maps = targets(labels, ("nucleus", "distance"))
    labels = separate(maps, min_area_px=0, smoothing_px=0)
    measures = hull_measures(NucleusPixels(labels), labels.shape[1])
    angles = np.linspace(0, np.pi, 2000)
    directions = np.array([np.cos(angles), np.sin(angles)])
    for (_, polygons), measured in zip(outlines(labels), measures, strict=True):
        area, longest, narrowest = measured
        corners = np.concatenate([rings[0] for rings in polygons])
        distances = np.hypot(*(corners[:, None] - corners[None]).transpose(2, 0, 1))
        assert area == cv2.contourArea(cv2.convexHull(corners))
        assert longest == pytest.approx(distances.max())
        breadths = np.ptp(corners @ directions, axis=0)
        assert narrowest == pytest.approx(breadths.min(), rel=2e-3, abs=2e-3)


def test_solidity_is_low_for_ragged_nuclei_and_empty_without_any():
    labels = np.zeros((30, 60), np.int32)
    labels[5:25, 5:25] = 1
    labels[5:25, 35:55:2] = 2  # a comb
    labels[24, 35:55] = 2
    square, comb = solidities(labels)
    assert square == 1 and 0.4 < comb < 0.7
    assert solidities(np.zeros((30, 60), np.int32)).shape == (0,)
