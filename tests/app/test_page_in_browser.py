"""A student corrects images on the page by mouse; the files hold what the page was told."""

import numpy as np
from app_page_tools import SIZE, Deltas, middle, truth

from nuclei.app.entry import key_of


def isolated(labels):
    """Ids of nuclei that touch no other one and no border, the largest first."""
    import cv2

    ids = []
    for index in range(1, labels.max() + 1):
        wide = cv2.dilate((labels == index).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        rows, columns = np.nonzero(wide)
        is_inside = rows.min() > 4 and columns.min() > 4
        is_inside &= rows.max() < labels.shape[0] - 5 and columns.max() < labels.shape[1] - 5
        if is_inside and set(np.unique(labels[wide])) <= {0, index}:
            ids.append(index)
    return sorted(ids, key=lambda index: -np.count_nonzero(labels == index))


def touching(labels):
    """Two nuclei with a common edge."""
    for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        edge = (first != second) & (first > 0) & (second > 0)
        if edge.any():
            return int(first[edge][0]), int(second[edge][0])
    raise AssertionError("no nuclei touch")


def span(labels, index):
    """A line across the middle of a nucleus, from background to background."""
    rows, columns = np.nonzero(labels == index)
    row = middle(labels, index)[0]
    return [(row, columns.min() - 3), (row, columns.max() + 4)]


def circle(row, column, radius):
    angles = np.linspace(0, 2 * np.pi, 16)
    return [(row + radius * np.sin(angle), column + radius * np.cos(angle)) for angle in angles]


def free_place(labels, radius=12):
    """The middle of a square of background."""
    import cv2

    free = cv2.erode((labels == 0).astype(np.uint8), np.ones((2 * radius + 9,) * 2, np.uint8))
    free[: radius + 5], free[:, : radius + 5] = 0, 0
    free[-radius - 5 :], free[:, -radius - 5 :] = 0, 0
    row, column = np.argwhere(free)[0]
    return row + 0.5, column + 0.5


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
