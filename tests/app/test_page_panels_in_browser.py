"""The panels of learning and exporting, widths of screens, and what the page shares with others."""

import json
import re

import numpy as np
import pytest
from app_page_tools import isolated, middle

from nuclei.app.routes import PAGE_DIR
from nuclei.formats.registry import FORMATS
from nuclei.images.writing import encode
from nuclei.report.page import TEMPLATE as REPORT
from nuclei.results.pictures import CONFIDENCE_COLOURS, ID_COLOURS, OUTLINE_COLOUR

CURVE = [{"epoch": 1, "loss": 0.9, "val_loss": 0.8}, {"epoch": 2, "loss": 0.5, "val_loss": 0.6}]
RUNNING = {
    "kind": "learn",
    "state": "running",
    "epoch": 2,
    "epochs": 10,
    "seconds_left": 95,
    "curve": CURVE,
    "message": "",
}


def answer(student, path, content):
    """Let the page get an answer that the server does not give."""
    body = json.dumps(content)
    student.page.route(
        path, lambda route: route.fulfill(body=body, content_type="application/json")
    )


def test_learning_is_shown_from_the_button_to_the_new_model(visit, guard):
    student = visit(guard, may_fail=True)
    page = student.page
    page.route("**/preview.jpg*", lambda route: route.fulfill(body="", content_type="image/jpeg"))
    page.locator("#learning-toggle").click()
    assert page.locator("#learn").get_attribute("aria-disabled") == "true"
    student.press("a")
    student.hears("is accepted")
    assert page.locator("#learn").text_content() == "Learn from 1 image"
    answer(student, "**/api/learn", RUNNING)
    page.locator("#learn").click()
    page.get_by_text("Epoch 2 of 10, about 2 minutes left.").wait_for()
    assert not page.locator("#preview").is_visible()  # there is no picture yet
    assert page.locator("#curve polyline").count() == 2
    assert "0.500" in page.locator("#curve").get_attribute("aria-label")
    assert page.locator("#stop").is_visible()

    scores = {"ap50": 0.7, "map": 0.4, "dice": 0.8}
    images = [{"id": "unknown", "old_ap50": 0.7, "new_ap50": 0.65}]
    comparison = {
        "old": {"name": "old.keras", **scores},
        "new": {"name": "new.keras", **scores, "ap50": 0.75},
        "images": images,
        "held_out": True,
        "in_use": "old",
    }
    answer(student, "**/api/comparison", comparison)
    answer(student, "**/api/learn/stop", {**RUNNING, "state": "done", "seconds_left": None})
    picture = encode(np.zeros((8, 8, 3), np.uint8), ".jpg")
    page.route("**/preview.jpg*", lambda it: it.fulfill(body=picture, content_type="image/jpeg"))
    page.locator("#stop").click()
    page.get_by_text("The new model is ready.").wait_for()
    page.locator("#preview").wait_for()
    page.get_by_text("+0.050").wait_for()
    assert "−0.050" in page.locator("#comparison").text_content()
    used = []
    page.route("**/api/model", lambda route: (used.append(route.request.post_data), route.abort()))
    page.locator("#use-new").click()
    student.hears("does not answer")
    assert json.loads(used[0]) == {"use": "new"}


def test_exports_are_written_from_the_page(student, folder):
    page = student.page
    page.locator("#exporting-toggle").click()
    page.get_by_role("button", name="Write").click()
    page.get_by_text("Choose at least one format.").wait_for()
    page.locator("[name=format][value=geojson]").check()
    page.get_by_role("button", name="Write").click()
    page.locator("#written code").wait_for()
    written = page.locator("#written").text_content()
    assert written == f"3 files of 3 images. Folder: {folder / 'exports'}"
    assert list((folder / "exports").rglob("*.geojson"))


@pytest.mark.parametrize("width, height", [(768, 1024), (375, 720)])
def test_a_small_screen_has_all_of_it(visit, guard, predicted, width, height):
    student = visit(guard, viewport={"width": width, "height": height}, has_touch=True)
    page = student.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#viewer").bounding_box()
    assert box["height"] > 0.4 * height and box["width"] > 0.9 * width
    page.locator("#images-toggle").click()
    page.get_by_role("button", name="image1.png").click()
    student.settle()
    assert not page.locator("#images").is_visible()
    index = isolated(predicted["image1"])[0]
    high = page.locator("#viewer").bounding_box()["height"]
    page.touchscreen.tap(*student.spot(*middle(predicted["image1"], index)))
    assert student.selected() == [index]
    student.press("m")
    student.hears("Select at least two nuclei")
    assert page.locator("#nucleus").is_visible() and not page.locator("#hint").is_visible()
    assert page.locator("#viewer").bounding_box()["height"] == high  # words move no picture
    page.get_by_role("button", name="Delete").click()
    student.settle()
    assert index not in student.ids()
    for name in ("Accept", "Undo", "Propose"):
        page.get_by_role("button", name=name).scroll_into_view_if_needed()
        assert page.get_by_role("button", name=name).is_visible()


def test_colours_are_those_of_the_report_and_of_the_pictures():
    blocks = r":root \{[^}]*\}"
    style = (PAGE_DIR / "app.css").read_text(encoding="utf-8")
    assert re.findall(blocks, style) == re.findall(blocks, REPORT.read_text(encoding="utf-8"))[:2]
    drawing = (PAGE_DIR / "drawing.js").read_text(encoding="utf-8")
    for colour in (OUTLINE_COLOUR, *ID_COLOURS, *(colour for _, colour in CONFIDENCE_COLOURS)):
        assert f"rgb({', '.join(map(str, colour))})" in drawing


def test_the_page_has_words_for_each_format():
    text = (PAGE_DIR / "exports.js").read_text(encoding="utf-8")
    uses = re.search(r"const USES = \{(.*?)\};", text, re.DOTALL)[1]
    assert re.findall(r"^  \"?([\w.]+)\"?:", uses, re.MULTILINE) == list(FORMATS)


def test_the_page_has_no_script_and_no_style_in_it():
    text = (PAGE_DIR / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?! type=\"module\" src=)|<style| style=| on\w+=|https?://", text)
    for path in PAGE_DIR.glob("*.js"):
        script = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|\beval\(|https?://(?!www\.w3\.org/2000/svg)", script)
