"""Outlines in place of filled nuclei are filled; lines that enclose nothing are named."""

import numpy as np
import pytest
from images_tools import discs, fluorescence, same_partition, save
from synthetic import draw
from truth_tools import COLOURS, LABELS, inner_rim, touching_pairs

from nuclei.images.labels import components
from nuclei.images.modality import nuclear_light
from nuclei.instances.matching import match
from nuclei.truth.hollow import are_lines, filled_outlines
from nuclei.truth.masks import read_truth
from nuclei.truth.suspect import LINES, suspicion

PAIRS = touching_pairs()


def agreement(labels, other):
    """Share of the nuclei of both that overlap by more than half."""
    num_matched = int((match(labels, other).iou > 0.5).sum())
    return num_matched / max(labels.max(), other.max())


@pytest.mark.parametrize("width_px", [1, 2])
@pytest.mark.parametrize(
    "form",
    [
        lambda labels, rim: rim * np.uint8(255),
        lambda labels, rim: (labels * rim).astype(np.uint8),
        lambda labels, rim: COLOURS[labels * rim],
        lambda labels, rim: ((labels % 2 + 1) * rim).astype(np.uint8),
    ],
    ids=["binary", "ids", "colours", "two values"],
)
@pytest.mark.parametrize("labels", [LABELS, PAIRS], ids=["apart", "touching"])
def test_outlines_become_the_nuclei_inside(tmp_path, labels, form, width_px):
    truth = read_truth(save(tmp_path / "a.png", form(labels, inner_rim(labels, width_px))))
    assert agreement(truth.labels, labels) == 1 and "outlines" in truth.meaning
    assert truth.form in ("instances", "instance colours")


def test_outlines_after_jpeg_are_filled(tmp_path):
    path = save(tmp_path / "a.jpg", inner_rim(PAIRS, 2) * np.uint8(255), quality=85)
    assert agreement(read_truth(path).labels, PAIRS) == 1


@pytest.mark.parametrize(("kind", "diameter"), [("tissue", 22), ("tissue", 14)])
def test_gaps_between_crowded_outlines_are_no_nuclei(kind, diameter):
    labels = draw(kind, 300, 280, num_nuclei=60, diameter=diameter, seed=5, touching=0.8)[1]
    filled = filled_outlines(components(inner_rim(labels, 1)), has_ids=False)
    assert agreement(filled, labels) > 0.9


def test_a_gap_that_several_ids_enclose_stays_background():
    labels = discs(120, 120, count=9, radius=17)
    rings = np.where(inner_rim(labels, 1), labels, 0)
    filled = filled_outlines(rings, has_ids=True)
    assert same_partition(filled, labels)


@pytest.mark.parametrize("diameter", [4, 8, 16])
def test_filled_nuclei_stay_as_they_are(tmp_path, diameter):
    labels = draw("tissue", 200, 220, num_nuclei=90, diameter=diameter, seed=3, touching=0.9)[1]
    assert filled_outlines(components(labels > 0), has_ids=False) is None
    assert filled_outlines(labels, has_ids=True) is None
    assert not are_lines(labels)
    hollow = labels * ~(np.random.default_rng(0).random(labels.shape) < 0.02)  # pinholes
    assert filled_outlines(hollow, has_ids=True) is None


def test_open_lines_are_named():
    rim = inner_rim(LABELS, 1)
    rows = np.arange(LABELS.shape[0])[:, None]
    is_open = rim & ~((LABELS > 0) & (rows % 40 == 20))  # cuts each circle at its height
    labels = components(is_open)
    assert filled_outlines(labels, has_ids=False) is None
    image = np.dstack([fluorescence(LABELS)] * 3)
    assert suspicion(nuclear_light(image), labels) == LINES
    assert suspicion(nuclear_light(image), LABELS) == ""
