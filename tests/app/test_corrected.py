"""Corrections: the log on disk alone gives the labels, and undo is the identity."""

import numpy as np
import pytest
from app_tools import corrected_image, drawn_labels, random_edit, reopened

from nuclei.app import edits
from nuclei.app.canvas import Canvas
from nuclei.app.corrected import Stale
from nuclei.app.edit_log import summarise
from nuclei.app.edits import Refused
from nuclei.app.requests import Head, read_edit


def delete(image, index, base=None, key=None):
    base = image.revision if base is None else base
    request = Head("delete", base, key=key)
    return image.edit(request, lambda draft: edits.delete(draft, [index]), [index])


def step(image, kind, base=None, key=None):
    return image.step(Head(kind, image.revision if base is None else base, key=key))


@pytest.mark.parametrize("seed", range(8))
def test_the_log_alone_gives_the_same_labels_after_any_edits(tmp_path, seed):
    image, random = corrected_image(tmp_path, drawn_labels(seed)), np.random.default_rng(seed)
    while image.revision < 25:
        random_edit(image, random)
    other = reopened(image)
    assert np.array_equal(other.canvas.labels, image.canvas.labels)
    assert other.canvas.boxes == image.canvas.boxes == Canvas(image.canvas.labels).boxes
    assert other.summary == image.summary == summarise(image.log.read())
    assert other.changed_at == image.changed_at
    assert other.canvas.next_id > max(image.changed_at)  # no id comes to mean another nucleus


@pytest.mark.parametrize("seed", range(4))
def test_undo_to_the_beginning_and_redo_to_the_end_also_after_a_restart(tmp_path, seed):
    labels = drawn_labels(seed)
    image, random = corrected_image(tmp_path, labels), np.random.default_rng(seed)
    while image.revision < 12:
        random_edit(image, random)
    after, num = image.canvas.labels.copy(), len(image.undoable)
    while image.redoable:
        step(image, "redo")
    after, num = image.canvas.labels.copy(), len(image.undoable)
    image = reopened(image)
    for _ in range(num):
        step(image, "undo")
    assert np.array_equal(image.canvas.labels, labels)
    image = reopened(image)
    for _ in range(num):
        step(image, "redo")
    assert np.array_equal(image.canvas.labels, after)


def test_nothing_to_undo_or_redo_is_said(tmp_path):
    image = corrected_image(tmp_path, drawn_labels())
    for kind in ("undo", "redo"):
        with pytest.raises(Refused, match=f"There is nothing to {kind}"):
            step(image, kind)
    delete(image, 3)
    step(image, "undo")
    delete(image, 4)
    with pytest.raises(Refused, match="nothing to redo"):
        step(image, "redo")


def test_an_edit_based_on_an_old_view_is_stale_only_where_its_nuclei_changed(tmp_path):
    image = corrected_image(tmp_path, drawn_labels())
    delete(image, 3)
    delete(
        image, 4, base=0
    )  # the other browser has not seen the first edit, and it does not matter
    with pytest.raises(Stale):
        delete(image, 3, base=0)
    with pytest.raises(Stale):
        step(image, "undo", base=1)  # it would take back an edit that this browser has not seen
    assert image.revision == 2


def test_changes_since_a_revision(tmp_path):
    image = corrected_image(tmp_path, drawn_labels())
    assert delete(image, 3)[1:] == ([], [3], ())
    image.edit(Head("grow", 1), lambda draft: edits.grow(draft, [5]), [5])
    assert image.changes(0)[:3] == (2, [5], [3]) and image.changes(1)[:3] == (2, [5], [])
    step(image, "undo")
    step(image, "undo")
    assert image.changes(0)[:3] == (4, [3, 5], []) and image.changes(4)[:3] == (4, [], [])


def test_an_edit_that_is_sent_again_is_done_once_also_after_a_restart(tmp_path):
    image = corrected_image(tmp_path, drawn_labels())
    first = delete(image, 3, key="a" * 32)
    for again in (image, reopened(image)):
        assert delete(again, 3, base=0, key="a" * 32)[:3] == first[:3]
        assert again.revision == 1
    step(image, "undo", key="b" * 32)
    assert step(image, "undo", base=1, key="b" * 32).revision == 2
    with pytest.raises(Stale):
        delete(image, 3, base=0, key="c" * 32)


def test_a_failed_edit_or_a_full_disk_changes_nothing(tmp_path, monkeypatch):
    labels = drawn_labels()
    image = corrected_image(tmp_path, labels)
    with pytest.raises(Refused):
        image.edit(Head("merge", 0), lambda draft: edits.merge(draft, [3, 99]))
    delete(image, 3)
    before = image.canvas.labels.copy()

    def full(line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image.log, "add", full)
    for action in (lambda: delete(image, 4), lambda: step(image, "undo")):
        with pytest.raises(OSError, match="No space"):
            action()
        assert np.array_equal(image.canvas.labels, before) and image.revision == 1
    assert np.array_equal(reopened(image).canvas.labels, before)


def test_accepting_is_remembered_and_an_edit_ends_it(tmp_path):
    image = corrected_image(tmp_path, drawn_labels())
    image.accept(True)
    assert image.summary.is_accepted and reopened(image).summary.is_accepted
    delete(image, 3)
    assert not image.summary.is_accepted and not reopened(image).summary.is_accepted
    image.accept(True)
    image.accept(False)
    assert reopened(image).accepted_at is None


def test_a_prediction_gives_way_only_where_the_user_has_done_nothing(tmp_path):
    image = corrected_image(tmp_path, drawn_labels())
    assert image.retire()
    with pytest.raises(Stale):
        delete(image, 3)
    image = corrected_image(tmp_path, drawn_labels(), "b")
    delete(image, 3)
    assert not image.retire()


@pytest.mark.parametrize("base", [1, 7, 10**15])
def test_an_edit_based_on_a_revision_that_is_not_there_changes_nothing(tmp_path, base):
    image = corrected_image(tmp_path, drawn_labels())
    before = image.canvas.labels.copy()
    with pytest.raises(Stale):
        delete(image, 1, base)
    assert np.array_equal(image.canvas.labels, before) and not image.has_log
    delete(image, 1)
    if base > 1:
        assert image.changes(base).removed == [1]  # such a page is told all changes
    with pytest.raises(ValueError, match="base"):
        read_edit(b'{"kind": "undo", "base": 1000000000000000000000000000000}')
