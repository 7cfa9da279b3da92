"""A part of an image or of a slide becomes an image: by mouse, touch and keyboard."""

import re

import numpy as np
import pytest
from app_page_tools import drawn, free_place, served, write_images
from browser_tools import is_marked, wait
from slides_tools import draw_fluorescence, write_pyramid

from nuclei.app.entry import key_of
from nuclei.images.reading import read_image


@pytest.fixture
def guard(folder):
    """A server that also predicts, on an image and a slide."""
    write_images(folder, 1)
    write_pyramid(folder / "raw" / "slide.tif", np.tile(draw_fluorescence(), (3, 3, 1)))
    with served(folder, predicts=True) as guard:
        yield guard


def added(folder):
    """Names of the fields in the folder: {name: (x, y)}."""
    names = [path.name for path in (folder / "raw").iterdir()]
    found = {name: re.search(r"_x(\d+)_y(\d+)", name) for name in names}
    return {name: tuple(map(int, it.groups())) for name, it in found.items() if it}


def open_slide(student):
    wait(
        student.page,
        "[...document.querySelectorAll('#list .state')].some((it) => it.textContent === 'slide')",
    )
    student.page.get_by_role("button", name="slide.tif slide").click()
    wait(student.page, "document.getElementById('name').textContent === 'slide.tif'")


def arrives(student, name):
    """Wait until a field is open and predicted."""
    wait(student.page, "name => document.getElementById('name').textContent === name", name)
    wait(student.page, "name => document.documentElement.dataset.shown === name", name)
    student.settle()


def test_a_box_becomes_an_image_that_is_predicted_corrected_and_accepted(student, folder):
    student.press("f")
    student.page.mouse.move(*student.spot(20, 30))
    student.page.mouse.down()
    student.page.mouse.move(*student.spot(140.5, 180.5), steps=4)
    assert is_marked(viewed(student)).any()
    student.page.mouse.up()
    wait(student.page, "document.getElementById('name').textContent.startsWith('image0_x')")
    (name,) = added(folder)
    arrives(student, name)
    x, y = added(folder)[name]
    pixels = read_image(folder / "raw" / name)
    assert abs(x - 30) <= 1 and abs(y - 20) <= 1
    whole = read_image(folder / "raw" / "image0.png")
    assert np.array_equal(pixels, whole[y : y + pixels.shape[0], x : x + pixels.shape[1]])
    assert student.page.locator("#viewer").get_attribute("data-tool") == "select"
    student.press(".")  # the least certain nucleus
    (chosen,) = student.selected()
    student.press("Delete")
    assert chosen not in student.ids()
    student.press("a")
    student.hears("is accepted")
    assert (folder / "gt" / name).is_file()
    assert not (folder / "gt" / "image0.png").exists()


def viewed(student):
    """The picture as (H, W, 3)."""
    import cv2

    code = student.page.locator("#viewer").screenshot()
    return cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def test_by_keyboard_enter_draws_the_box_or_takes_the_usual_size(student, folder):
    student.page.locator("#viewer").focus()
    student.press("f")
    for key in ("Enter", "ArrowRight", "ArrowDown"):
        student.page.keyboard.press(key)
    for _ in range(24):
        student.page.keyboard.press("ArrowRight")
        student.page.keyboard.press("ArrowDown")
    student.page.keyboard.press("Enter")
    wait(student.page, "document.getElementById('name').textContent.startsWith('image0_x')")
    (name,) = added(folder)
    arrives(student, name)
    student.open("image0.png")
    student.page.locator("#viewer").focus()
    student.page.keyboard.press("f")
    student.page.keyboard.press("Enter")
    student.page.keyboard.press("Enter")
    arrives(student, "image0_x0_y0.png")  # 512 px are more than the image has
    assert read_image(folder / "raw" / "image0_x0_y0.png").shape[:2] == drawn(0)[1].shape


def test_a_field_is_cut_from_the_overview_of_a_slide(student, folder):
    open_slide(student)
    page = student.page
    assert page.locator("#nothing").text_content().startswith("A slide: choose Field")
    page.keyboard.press("d")
    student.hears("A slide is not corrected itself")
    page.keyboard.press("a")
    disabled = page.locator("#tools button[aria-disabled=true]").all_text_contents()
    assert len(disabled) == 7 and not {"Selectv", "Fieldf"} & set(disabled)
    page.keyboard.press("f")
    assert not page.locator("#nothing").is_visible()
    page.mouse.move(*student.spot(300, 400))
    page.mouse.down()
    page.mouse.move(*student.spot(310, 410), steps=3)
    page.mouse.up()
    student.hears("a field needs 32 px or more")
    page.mouse.click(*student.spot(600, 900))
    name = "slide_x644_y344.tif"
    arrives(student, name)
    slide = np.tile(draw_fluorescence(), (3, 3, 1))
    assert np.array_equal(read_image(folder / "raw" / name), slide[344:856, 644:1156])
    assert student.ids()
    open_slide(student)
    assert "1 field" in page.get_by_role("button", name="slide.tif slide").text_content()
    boxes = student.ask("session.fields")
    assert boxes == [[644, 344, 1156, 856]]
    assert student.ask("session.state.images.length") == 3
    assert student.ask("session.current") == key_of("slide")


def test_a_tap_cuts_a_field_on_a_tablet(visit, guard, folder):
    student = visit(guard, viewport={"width": 768, "height": 1024}, has_touch=True)
    student.page.locator("#tools button", has_text="Field").tap()
    student.page.touchscreen.tap(*student.spot(*free_place(drawn(0)[1])))
    arrives(student, "image0_x0_y0.png")
    assert student.page.evaluate("document.documentElement.scrollWidth") <= 768


def test_an_image_that_another_program_adds_is_listed(student, folder):
    path = folder / "raw" / "image0.png"
    (folder / "raw" / "late.png").write_bytes(path.read_bytes())
    student.page.get_by_role("button", name="late.png to check").wait_for()


def test_a_file_that_cannot_be_read_is_listed_without_a_picture(student, folder):
    whole = (folder / "raw" / "image0.png").read_bytes()
    (folder / "raw" / "broken.png").write_bytes(whole[: len(whole) // 2])
    card = student.page.get_by_role("button", name="broken.png failed")
    card.wait_for()
    wait(student.page, "!document.querySelector('[data-state=failed] img').hasAttribute('src')")
    card.click()
    student.page.get_by_text("This image could not be read or predicted. broken.png").wait_for()
