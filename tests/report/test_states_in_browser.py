"""What the page says in a real browser: keys, captions, empty states, slides, and paper."""

import math
import re

import numpy as np
import pytest
from browser_tools import open_image, wait
from report_tools import change, make, write_predictions

from nuclei.images.writing import write_png

NO_VALUE = re.compile(r"\b(nan|undefined|null|none|infinity)\b", re.IGNORECASE)


def test_keys_work_everywhere_but_in_fields(page):
    open_image(page, "fluorescence_a")
    page.keyboard.press("2")
    assert page.evaluate("view.mode") == "masks"
    page.keyboard.press("+")
    before = page.evaluate("[view.x, view.scale > fitting()]")
    page.keyboard.press("ArrowLeft")
    assert before[1] and page.evaluate("view.x") < before[0]
    page.locator("#find").press("n")
    assert page.inner_text("#name") == "fluorescence_a" and page.input_value("#find") == "n"
    page.fill("#find", "")
    page.locator("#opacity").press("ArrowLeft")
    assert page.input_value("#opacity") == "99"
    page.uncheck("#hotkeys")
    page.locator("#next").press("1")
    assert page.evaluate("view.mode") == "masks"
    page.locator("#viewer").press("1")  # the picture itself always takes them
    assert page.evaluate("view.mode") == "image"


def test_the_caption_goes_with_the_selection(page):
    open_image(page, "fluorescence_a")
    first = page.evaluate("images[view.image].first")
    page.evaluate("first => select((at) => at === first + 2)", first)
    wait(page, "$('nucleus').textContent.startsWith('Nucleus 3: diameter, px ')")
    page.evaluate("first => select((at) => at >= first && at < first + 4)", first)
    wait(page, "$('nucleus').textContent.startsWith('4 nuclei selected in this image, medians: ')")
    open_image(page, "fluorescence_b")
    wait(page, "$('nucleus').textContent === ''")
    open_image(page, "fluorescence_a")
    wait(page, "$('nucleus').textContent.startsWith('4 nuclei')")
    page.keyboard.press("Escape")
    assert page.inner_text("#nucleus") == ""


def test_nothing_found_is_said(page):
    open_image(page, "tissue_empty")
    assert "No nuclei were found in this image" in page.inner_text("#nothing")
    wait(page, "$('no-points').textContent.startsWith('This image has no nuclei to plot')")
    assert page.locator("#scatter").is_hidden() and page.locator("#sizes").is_hidden()
    assert page.locator("#gallery button", has_text="no nuclei found").count() == 1
    open_image(page, "fluorescence_a")
    assert page.locator("#nothing").is_hidden()
    wait(page, "!$('scatter').hidden && $('no-points').hidden")
    page.fill("#from", "1e6")
    page.locator("#from").press("Enter")
    wait(page, "$('chosen').textContent === 'No nucleus is there: nothing is selected.'")
    page.select_option("#up", "haematoxylin_od")  # of stained tissue only
    wait(page, "$('no-points').textContent.includes('has a value of haematoxylin OD')")
    assert page.locator("#scatter").is_hidden() and page.locator("#sizes").is_visible()
    page.fill("#find", "no such image")
    assert page.locator("#no-images").is_visible() and page.locator("#table").is_hidden()
    assert page.locator("#counts").is_hidden()


def test_paper_shows_all_listed_images(page):
    open_image(page, "fluorescence_a")
    page.evaluate("() => { window.printed = 0; window.print = () => { printed += 1; }; }")
    page.fill("#find", "_a")
    page.evaluate("$('groups').scrollIntoView()")
    page.click("#print")
    wait(page, "printed === 1")
    cards = page.locator("#gallery button")
    assert cards.count() == page.locator("#gallery canvas").count() == 1
    page.fill("#find", "")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    wait(page, "$('by-image').layout.width === PRINTED_PX / 2 - 20")
    bottom = page.locator("#gallery").bounding_box()
    bottom = bottom["y"] + bottom["height"]
    for card in cards.all():  # none is cut off or scrolled away
        box = card.bounding_box()
        assert box["y"] + box["height"] <= bottom + 1
    assert page.evaluate("$('training-plot').layout.font.color") == "#1d2329"
    assert page.locator("nav").is_hidden()
    size = page.viewport_size
    page.set_viewport_size({"width": 703, "height": 1000})  # of A4 without its margins
    too_wide = "[...document.querySelectorAll('table')].filter(e => e.offsetWidth > innerWidth)"
    assert page.evaluate(f"{too_wide}.map(e => e.outerHTML.slice(0, 200))") == []
    names = "[...document.querySelectorAll('#rows th')]"
    beyond = "e.lastElementChild.getBoundingClientRect().right - e.getBoundingClientRect().right"
    far = page.evaluate(f"{names}.map(e => [{beyond}, e.innerText]).filter(([px]) => px > 0)")
    assert far == []  # no name runs into the next column
    page.set_viewport_size(size)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen", color_scheme="light")
    assert page.evaluate("$('scatter').layout.width ?? null") is None


@pytest.fixture
def slide_folder(tmp_path):
    """A slide without labels, and two of its fields."""
    rows = {f"s_field_{number}": ("tissue", 60, 60, 4, 0.9, 0) for number in (1, 2)}
    write_predictions(tmp_path / "made", rows, flags=False)
    folder, fields = tmp_path / "slide", tmp_path / "slide" / "found" / "fields"
    write_predictions(folder, {"s": ("tissue", 60, 60, 4, 0.9, 0)}, flags=False)
    (tmp_path / "made" / "found").rename(fields)
    (tmp_path / "made" / "raw").rename(fields / "raw")
    change(
        folder / "found" / "summary.csv",
        lambda table: table.assign(
            formats="overlays csv", height_px="600", width_px="600", nuclei="12345"
        ),
    )
    write_png(folder / "found" / "overlays" / "s.jpg", np.full((60, 60, 3), 200, np.uint8))
    return folder


def test_a_slide_is_an_overview_with_its_fields(visit, slide_folder):
    assert make(slide_folder) == 0
    page = visit(slide_folder / "found" / "report.html")
    assert page.locator("#rows th button").all_inner_texts() == ["s", "s_field_1", "s_field_2"]
    headline = page.inner_text(".headline").split("\n")
    assert headline[:6] == ["1", "image", "2", "fields of slides", "12,345", "nuclei"]
    assert page.inner_text("#name") == "s" and "nuclei 12,345" in page.inner_text("#facts")
    assert "overview" in page.inner_text("#facts")
    wait(page, "$('no-points').textContent.includes('Its fields are measured here')")
    assert page.evaluate("fitting() * 10 > images[0].width / images[0].label_width") is not None
    open_image(page, "s_field_1")
    assert "field of a slide" in page.inner_text("#facts")
    wait(page, "$('scatter').data[0].x.length === images[1].nuclei")
    assert not NO_VALUE.search(page.inner_text("body"))


def test_a_page_of_nothing_has_words_on_a_phone(visit, tmp_path):
    pictures = {"dark": ("fluorescence", 40, 40, 0, math.nan, 0)}
    folder = write_predictions(tmp_path, pictures, flags=False)
    assert make(folder, "--groups", str(folder / "found" / "summary.csv")) == 0
    phone = {"width": 360, "height": 740}
    page = visit(folder / "found" / "report.html", viewport=phone, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#trouble").is_hidden() and page.locator("#counts").is_hidden()
    assert "No nuclei were found in any image" in page.inner_text("#no-points")
    assert page.locator("#across").is_hidden() and page.locator("#range").is_hidden()
    page.evaluate("$('groups').scrollIntoView()")
    wait(page, "$('by-image').data?.length > 0")  # the number of nuclei can be compared: 0
    assert not NO_VALUE.search(page.inner_text("body"))
