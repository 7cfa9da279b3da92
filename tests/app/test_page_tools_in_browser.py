"""Each tool of the page, and adding images."""

import numpy as np
import pytest
from app_page_tools import free_place, isolated, middle, span, touching
from browser_tools import wait
from PIL import Image
from synthetic import draw


@pytest.fixture
def labels(predicted):
    return predicted["image0"]


def box_of(student, index):
    return student.ask("session.nuclei.all.get(argument).box", index)


def area_of(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def test_a_click_selects_and_a_box_selects_what_lies_in_it(student, labels):
    first, second, *_ = isolated(labels)
    student.click(*middle(labels, first))
    assert student.selected() == [first]
    student.click(*middle(labels, second), key="Shift")
    assert student.selected() == sorted([first, second])
    student.click(*free_place(labels))
    assert student.selected() == []
    rows, columns = np.nonzero(labels == first)
    corners = [
        (rows.min() - 2, columns.min() - 2),
        (rows.max() + 3, columns.max() + 3),
    ]
    student.drag(corners, key="Shift")
    assert student.selected() == [first]
    student.press("x")
    student.drag([(0, 0), (labels.shape[0] - 1, labels.shape[1] - 1)])
    assert len(student.selected()) == labels.max()
    student.press("Escape")
    assert student.selected() == []


def test_grow_and_shrink_move_the_edge(student, labels):
    index = isolated(labels)[0]
    student.click(*middle(labels, index))
    before = box_of(student, index)
    student.press("g")
    assert area_of(box_of(student, index)) > area_of(before)
    student.press("Shift+G")
    student.press("Shift+G")
    assert area_of(box_of(student, index)) < area_of(before)
    assert student.selected() == [index]


def test_the_brush_adds_makes_and_takes_away(student, labels):
    index, before = isolated(labels)[0], set(student.ids())
    (row, left), (_, right) = span(labels, index)
    student.press("b")
    student.press("[")
    wide = box_of(student, index)
    student.drag([middle(labels, index), (row, right)])
    assert set(student.ids()) == before and box_of(student, index)[2] > wide[2]
    student.press("Escape")
    student.drag([free_place(labels)] * 2)
    assert len(set(student.ids()) - before) == 1
    student.press("Escape")
    student.press("e")
    narrow = box_of(student, index)
    student.drag([middle(labels, index), (row, left - 3)])
    assert box_of(student, index)[0] > narrow[0]


def test_two_clicks_split_and_a_region_is_predicted_anew(student, labels):
    first, second = touching(labels)
    student.click(*middle(labels, first))
    student.click(*middle(labels, second), key="Shift")
    student.press("m")
    ids = set(student.ids())
    student.press("t")
    student.click(*middle(labels, first))
    student.click(*middle(labels, second))
    student.settle()
    assert len(set(student.ids()) - ids) == 1 and len(student.selected()) == 2
    student.press("r")
    assert student.page.locator("#threshold").is_visible()
    edges = [(1, 1), (labels.shape[0] - 2, labels.shape[1] - 2)]
    student.drag(edges)
    student.hears("proposed in this region")
    first_proposal = set(student.ids())
    for threshold in ("0.7", "0.9"):  # each takes the place of the one before
        student.page.locator("#threshold").fill(threshold)
    wait(student.page, "document.getElementById('saved').textContent.includes('on disk')")
    student.settle()
    assert set(student.ids()) != first_proposal
    assert student.ask("session.image.undo") == 3  # merge, split, the last proposal


def test_a_proposal_is_made_on_the_image_that_it_was_asked_for(student, labels):
    """The network works, the user moves the slider twice more and goes on to the next image."""
    student.press("r")
    student.drag([(1, 1), (labels.shape[0] - 2, labels.shape[1] - 2)])
    student.hears("proposed in this region")
    held, is_slow = [], [True]
    student.page.route(
        "**/edits", lambda route: held.append(route) if is_slow else route.continue_()
    )
    for threshold in ("0.7", "0.9"):
        student.page.locator("#threshold").fill(threshold)
    student.page.wait_for_timeout(100)
    first = student.ask("session.current")
    student.page.locator("#next").click()
    is_slow.clear()
    for route in held:
        route.continue_()
    student.settle()
    student.page.wait_for_timeout(300)
    student.settle()
    assert student.ask("session.current") != first and student.ask("session.image.revision") == 0
    student.page.locator("#previous").click()
    student.settle()
    student.press("r")
    student.drag([(1, 1), (labels.shape[0] - 2, labels.shape[1] - 2)])
    student.hears("proposed in this region")  # the tool works on


def test_what_makes_no_sense_is_said(student, labels):
    student.press("m")
    student.hears("Select at least two nuclei")
    student.press("s")
    row, column = free_place(labels)
    student.drag([(row, column - 3), (row, column + 3)])
    student.hears("crosses no nucleus")
    index = isolated(labels)[0]
    row, column = middle(labels, index)
    student.drag([(row, column - 1), (row, column + 1)])
    student.hears("begin and end it outside")  # the sentence of the program
    assert student.page.locator("#said.flag").is_visible()


def test_a_first_point_is_of_its_image(student, labels):
    student.press("t")
    student.click(*middle(labels, isolated(labels)[0]))
    shapes = "viewer.shapes().map((shape) => shape.kind)"
    assert student.ask(shapes) == ["dots"]
    student.press("n")
    assert student.ask(shapes) == []


def test_what_was_accepted_and_changed_is_to_be_accepted_again(student, labels):
    student.press("a")
    student.hears("is accepted")
    student.click(*middle(labels, isolated(labels)[0]))
    student.press("Delete")
    student.page.get_by_role("button", name="image0.png to accept again").wait_for()
    student.press("Shift+A")
    student.hears("image0.png is accepted")
    assert student.page.locator("#name").text_content() != "image0.png"
    student.press("n")
    assert student.page.locator("#said").text_content() == ""  # it was said of another image


def test_the_delete_key_takes_the_nucleus_below_the_mouse(student, labels):
    index = isolated(labels)[0]
    student.page.mouse.move(*student.spot(*middle(labels, index)))
    assert f"Nucleus {index}" in student.page.locator("#nucleus").text_content()
    student.press("Delete")
    assert index not in student.ids()


def test_dropped_files_are_added(student, folder, tmp_path):
    image, _ = draw("fluorescence", 64, 80, num_nuclei=3, diameter=14, seed=9)
    Image.fromarray(image).save(tmp_path / "new.png")
    content = (tmp_path / "new.png").read_bytes()
    files = student.page.evaluate_handle(
        "files => { const all = new DataTransfer(); for (const [name, bytes] of files)"
        " all.items.add(new File([new Uint8Array(bytes)], name)); return all; }",
        [["new.png", list(content)], ["image0.png", list(content)], ["notes.txt", [104, 105]]],
    )
    before = (folder / "raw" / "image0.png").read_bytes()
    page, veil = student.page, student.page.locator("#drop")
    page.dispatch_event("main", "dragenter", {"dataTransfer": files})
    assert veil.is_visible()
    page.dispatch_event("main", "dragleave", {"dataTransfer": files})
    assert not veil.is_visible()
    page.dispatch_event("main", "dragenter", {"dataTransfer": files})
    page.dispatch_event("#viewer", "dragover", {"dataTransfer": files})
    page.dispatch_event("#viewer", "drop", {"dataTransfer": files})
    page.get_by_role("button", name="new.png").wait_for()
    student.hears("1 image added.")
    said = page.locator("#said").text_content()
    assert "image0.png: there is an image of this name already" in said and "notes.txt" in said
    assert not veil.is_visible()
    assert (folder / "raw" / "new.png").read_bytes() == content
    assert (folder / "raw" / "image0.png").read_bytes() == before
    assert not (folder / "raw" / "notes.txt").exists()
    wait(page, "document.getElementById('name').textContent === 'new.png'")  # it is opened


def test_text_that_is_dragged_over_the_page_is_none_of_its_business(student):
    words = student.page.evaluate_handle(
        "() => { const one = new DataTransfer(); one.setData('text/plain', 'x'); return one; }"
    )
    student.page.dispatch_event("main", "dragenter", {"dataTransfer": words})
    assert not student.page.locator("#drop").is_visible()


def test_images_are_added_and_never_replace_one(student, folder, tmp_path):
    image, _ = draw("fluorescence", 64, 80, num_nuclei=3, diameter=14, seed=9)
    for name in ("new.png", "image0.png"):
        Image.fromarray(image).save(tmp_path / name)
    before = (folder / "raw" / "image0.png").read_bytes()
    student.page.locator("#files").set_input_files([tmp_path / "new.png"])
    student.page.get_by_role("button", name="new.png").wait_for()
    assert (folder / "raw" / "new.png").read_bytes() == (tmp_path / "new.png").read_bytes()
    assert (folder / "raw" / "image0.png").read_bytes() == before
