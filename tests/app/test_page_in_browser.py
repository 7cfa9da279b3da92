"""A student corrects images on the page by mouse; the files hold what the page was told."""

import numpy as np
from app_page_tools import SIZE, Deltas, circle, free_place, isolated, middle, span, touching, truth

from nuclei.app.entry import key_of


def correct(student, labels):
    """Delete, merge, split, draw and undo on the open image; the ids expected then."""
    ids = set(student.ids())
    deleted, divided, *_ = isolated(labels)
    student.click(*middle(labels, deleted))
    assert student.selected() == [deleted]
    student.press("Delete")
    ids.remove(deleted)
    assert set(student.ids()) == ids

    first, second = touching(labels)
    student.press("v")
    student.click(*middle(labels, first))
    student.click(*middle(labels, second), key="Shift")
    student.page.get_by_role("button", name="Merge").click()
    student.settle()
    ids.remove(second)
    assert set(student.ids()) == ids and student.selected() == [first]

    student.press("s")
    student.drag(span(labels, divided))
    parts = set(student.ids()) - ids
    assert len(parts) == 1  # the larger part keeps its id
    ids |= parts

    student.press("d")
    student.drag(circle(*free_place(labels), 9))
    drawn = set(student.ids()) - ids
    assert len(drawn) == 1
    student.press("Control+z")
    assert set(student.ids()) == ids
    student.press("Control+Shift+z")
    assert set(student.ids()) == ids | drawn
    return ids | drawn


def test_three_images_are_corrected_and_the_files_are_what_the_page_was_told(
    student, folder, predicted
):
    deltas = Deltas(student.page)
    student.page.reload()
    student.settle()
    for stem, labels in predicted.items():
        student.open(f"{stem}.png")
        ids = correct(student, labels)
        assert not (folder / "gt" / f"{stem}.png").exists()
        student.press("a")
        student.hears("is accepted")
        told = deltas.labels(key_of(stem), SIZE)
        assert told.max() == len(ids)
        np.testing.assert_array_equal(truth(folder, stem), told)
    assert student.page.locator("#progress").text_content() == "3 of 3 images accepted"
