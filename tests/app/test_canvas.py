"""A canvas knows the box of each nucleus after every edit, and takes edits back."""

import numpy as np
import pytest
from app_tools import canvas_of, drawn_labels

from nuclei.app.canvas import Canvas
from nuclei.images.box import Box


def random_piece(canvas, random):
    top, left = random.integers(0, 100, 2).tolist()
    box = Box(top, top + 15, left, left + 18)
    pixels = random.choice([0, 3, canvas.next_id], (15, 18))
    return box, pixels


@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_those_of_the_labels_after_any_edits(seed):
    canvas, random = canvas_of(drawn_labels(seed)), np.random.default_rng(seed)
    for _ in range(20):
        draft = canvas.draft()
        draft.put(*random_piece(canvas, random))
        assert canvas.boxes == Canvas(canvas.labels).boxes
        assert canvas.next_id > canvas.labels.max()


@pytest.mark.parametrize("seed", range(5))
def test_revert_and_apply_are_the_identity(seed):
    labels = drawn_labels(seed)
    canvas, random = canvas_of(labels), np.random.default_rng(seed)
    draft = canvas.draft()
    for _ in range(6):  # pieces that overlap
        draft.put(*random_piece(canvas, random))
    after, edit = canvas.labels.copy(), draft.finish("x")
    canvas.revert(edit)
    assert np.array_equal(canvas.labels, labels) and canvas.boxes == Canvas(labels).boxes
    canvas.apply(edit)
    assert np.array_equal(canvas.labels, after) and canvas.boxes == Canvas(after).boxes


def test_a_draft_that_is_cancelled_leaves_nothing_but_used_ids():
    labels = drawn_labels()
    canvas = canvas_of(labels)
    draft = canvas.draft()
    index = draft.new_id()
    draft.put(Box(0, 9, 0, 9), np.full((9, 9), index))
    draft.cancel()
    assert np.array_equal(canvas.labels, labels) and canvas.boxes == Canvas(labels).boxes
    assert canvas.next_id == index + 1  # an id means one nucleus, whatever became of it


def test_an_edit_names_the_nuclei_that_it_changed():
    canvas = canvas_of(drawn_labels())
    draft = canvas.draft()
    box, mask = draft.mask(5)
    draft.put(box, np.where(mask, 99, canvas.labels[box.place]))
    assert draft.finish("x").ids == {5, 99}
    draft = canvas.draft()
    draft.put(box, canvas.labels[box.place])  # the same again is no change
    assert draft.finish("x").pieces == []
