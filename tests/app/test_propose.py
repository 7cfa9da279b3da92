"""A region predicted anew replaces the nuclei in it and no others; splits follow the network."""

import json

import numpy as np
import pytest
from app_tools import make_workspace, write_images

from nuclei.app import corrections
from nuclei.app.edits import Refused
from nuclei.app.requests import read_edit


@pytest.fixture
def workspace(tmp_path):
    drawn = write_images(tmp_path / "images", ("a",), size=160)
    drawn["a"] = np.where(drawn["a"] % 2, drawn["a"], 0)  # every other nucleus was missed
    return make_workspace(tmp_path / "images", drawn)


def edit(workspace, kind, base=0, **more):
    key = next(iter(workspace.entries))
    request = read_edit(json.dumps({"kind": kind, "base": base, **more}).encode())
    return corrections.edit(workspace, key, request), workspace.corrected.get(key).canvas.labels


def test_what_was_missed_is_found_and_nothing_outside_changes(workspace):
    before = workspace.corrected.get(next(iter(workspace.entries))).canvas.labels.copy()
    picture = workspace.pictures.get(next(iter(workspace.entries)))
    is_bright = picture.image[..., 0] > 100
    box = [40, 40, 120, 120]
    delta, after = edit(workspace, "propose", box=box, scale=1.0)
    middle = (slice(50, 110), slice(50, 110))
    assert (after[middle] > 0).sum() > 0.9 * is_bright[middle].sum()
    assert (before[middle] > 0).sum() < 0.8 * is_bright[middle].sum()
    far = np.ones(after.shape, bool)
    far[20:140, 20:140] = False  # a nucleus across the border of the region is whole
    assert np.array_equal(after[far], before[far])
    assert set(delta["made"]) <= {nucleus["id"] for nucleus in delta["changed"]}
    _, undone = edit(workspace, "undo", base=1)
    assert np.array_equal(undone, before)


def test_nuclei_that_stay_lose_no_pixel(workspace):
    before = workspace.corrected.get(next(iter(workspace.entries))).canvas
    boxes = dict(before.boxes)
    labels = before.labels.copy()
    _, after = edit(workspace, "propose", box=[60, 60, 100, 100], scale=1.0)
    for index, box in boxes.items():
        row, column = (box.top + box.bottom) / 2, (box.left + box.right) / 2
        if not (60 <= row < 100 and 60 <= column < 100):
            assert (after[labels == index] == index).all()


def test_a_higher_threshold_finds_less_and_an_estimated_scale_works(workspace):
    _, low = edit(workspace, "propose", box=[0, 0, 160, 160], threshold=0.2, scale=1.0)
    num_low = (low > 0).sum()
    _, high = edit(workspace, "propose", base=1, box=[0, 0, 160, 160], threshold=0.9999, scale=1.0)
    assert (high > 0).sum() <= num_low
    edit(workspace, "propose", base=2, box=[0, 0, 160, 160], scale=2.0)


def test_the_scale_counts_from_the_one_of_the_image(workspace, monkeypatch):
    scales = []
    monkeypatch.setattr("nuclei.app.actions.propose", lambda *args: scales.append(args[-1]))
    entry = next(iter(workspace.entries.values()))
    facts = {**entry.prediction.__dict__, "scale": 1.5}
    entry.prediction = type(entry.prediction)(**facts)
    for more in ({}, {"scale": 2.0}):
        with pytest.raises(Refused, match="changes nothing"):
            edit(workspace, "propose", box=[0, 0, 90, 90], **more)
    assert scales == [1.5, 3.0]


def test_a_region_outside_or_without_anything_is_refused(workspace):
    with pytest.raises(Refused, match="outside"):
        edit(workspace, "propose", box=[500, 500, 600, 600])
    workspace.pictures.get(next(iter(workspace.entries))).image[:60, :60] = 20  # all dark
    edit(workspace, "propose", box=[0, 0, 40, 40], scale=1.0)
    with pytest.raises(Refused, match="finds nothing here"):
        edit(workspace, "propose", base=1, box=[0, 0, 40, 40], scale=1.0)


def test_two_clicks_ask_the_network(workspace):
    canvas = workspace.corrected.get(next(iter(workspace.entries))).canvas
    index = max(canvas.boxes, key=lambda it: canvas.boxes[it].area_px)
    rows, columns = np.nonzero(canvas.labels == index)
    far = np.argmin(columns), np.argmax(columns)
    clicks = [float(value) for at in far for value in (columns[at] + 0.5, rows[at] + 0.5)]
    delta, after = edit(workspace, "split", id=index, points=clicks)
    assert len(delta["changed"]) == 2 and len(delta["made"]) == 1
    assert ((after == index) | (after == delta["made"][0])).sum() == len(rows)
