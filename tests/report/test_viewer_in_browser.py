"""The viewer in a real browser: the switch, zoom, keys, phones."""

import cv2
import numpy as np
import pytest
from browser_tools import chosen, open_image, pixels, wait

from nuclei.results.pictures import ID_COLOURS


def test_the_switch_shows_image_masks_and_overlay_and_the_slider_fades(page, original):
    open_image(page, "fluorescence_a")
    views = {}
    for mode in ("image", "masks", "overlay"):
        page.check(f"[name=mode][value={mode}]", force=True)
        views[mode] = pixels(page)
    assert page.locator("#opacity").is_enabled()
    assert np.abs(views["image"] - views["overlay"]).max() > 100
    labels = cv2.imread(
        str(original / "found" / "labels" / "fluorescence_a.png"), cv2.IMREAD_UNCHANGED
    )
    height, width = views["masks"].shape[:2]
    scale = page.evaluate("view.scale")
    for row, column in [(r, c) for r in range(4, 96, 7) for c in range(4, 128, 7)]:
        if (labels[row - 1 : row + 2, column - 1 : column + 2] != labels[row, column]).any():
            continue
        pixel = views["masks"][
            int(height / 2 + (row + 0.5 - 48) * scale), int(width / 2 + (column + 0.5 - 64) * scale)
        ]
        colour = ID_COLOURS[labels[row, column] % 6] if labels[row, column] else (0, 0, 0)
        scale_bar = row > 80 and column < 50
        assert np.abs(pixel - colour).max() <= 2 or scale_bar, (row, column)
    page.locator("#opacity").fill("0")
    np.testing.assert_array_equal(pixels(page), views["image"])
    page.locator("#opacity").fill("50")
    between = np.abs(pixels(page) - views["image"]).sum()
    assert 0 < between < np.abs(views["overlay"] - views["image"]).sum()
    page.check("[name=mode][value=masks]", force=True)
    assert page.locator("#opacity").input_value() == "100"  # each has its own
    page.check("[name=mode][value=image]", force=True)
    assert page.locator("#opacity").is_disabled()


def test_the_browser_reads_the_labels_as_they_are(page, original):
    for number, stem in enumerate(page.evaluate("images.map((image) => image.stem)")):
        labels = cv2.imread(
            str(original / "found" / "labels" / f"{stem}.png"), cv2.IMREAD_UNCHANGED
        )
        np.testing.assert_array_equal(
            page.evaluate(f"labelsOf({number}).then((labels) => [...labels])"), labels.ravel()
        )
    # the outline of each nucleus encloses the middles of its own pixels and of no others
    wrong = page.evaluate(
        """async () => {
          const now = await loaded(images.findIndex((image) => image.stem === "fluorescence_a"));
          const pen = document.createElement("canvas").getContext("2d");
          const crossings = (path, x, y) => {
            // sides that a thin ray to the right crosses
            let count = 0, before = false;
            pen.lineWidth = 0.1;
            for (let at = x; at < now.width + 1; at += 0.05) {
              const on = pen.isPointInStroke(path, at, y + 0.013);
              if (on && !before) count += 1;
              before = on;
            }
            return count;
          };
          let wrong = 0;
          for (const id of [1, Math.floor(now.paths.length / 2), now.paths.length - 1]) {
            const [x0, y0, x1, y1] = now.boxes[id];
            for (let y = y0; y < y1; y += 2) for (let x = x0; x < x1; x += 2) {
              const inside = crossings(now.paths[id], x + 0.5, y + 0.5) % 2 === 1;
              if (inside !== (now.labels[y * now.width + x] === id)) wrong += 1;
            }
          }
          return wrong;
        }"""
    )
    assert wrong == 0


def test_zoom_pan_and_keys(page):
    open_image(page, "fluorescence_a")
    whole = page.evaluate("view.scale")
    page.click("#closer")
    assert page.evaluate("view.scale") == pytest.approx(1.5 * whole)
    page.locator("#viewer").focus()
    page.keyboard.press("+")
    assert page.evaluate("view.scale") == pytest.approx(2.1 * whole)
    before = page.evaluate("[view.x, view.y]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    after = page.evaluate("[view.x, view.y]")
    assert after[0] > before[0] and after[1] < before[1]
    box = page.locator("#viewer").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y, steps=3)
    page.mouse.up()
    assert page.evaluate("view.x") == pytest.approx(after[0] - 30 / page.evaluate("view.scale"))
    assert not chosen(page)  # a drag is no click
    page.keyboard.press("0")
    assert page.evaluate("view.scale") == pytest.approx(whole)
    page.mouse.dblclick(x, y)
    assert page.evaluate("view.scale") == pytest.approx(2 * whole)
    scrolled = page.evaluate("scrollY")
    page.keyboard.down("Control")
    page.mouse.wheel(0, 200)
    page.keyboard.up("Control")
    wait(page, f"view.scale < {2 * whole}")
    assert page.evaluate("scrollY") == scrolled
    for key, mode in (("1", "image"), ("2", "masks"), ("3", "overlay")):
        page.keyboard.press(key)
        assert page.evaluate("view.mode") == mode and page.is_checked(f"[name=mode][value={mode}]")
    page.keyboard.press("n")
    first = page.inner_text("#name")
    page.keyboard.press("p")
    assert page.inner_text("#name") == "fluorescence_a" != first
    page.click("#farther")
    page.click("#whole")
    assert page.evaluate("view.scale") == pytest.approx(whole)


def test_cards_of_the_gallery_follow_the_switch(page):
    page.evaluate("$('all').scrollIntoView()")
    page.wait_for_selector("#gallery canvas")
    page.evaluate("setMode('masks')")
    wait(page, "document.querySelectorAll('#gallery canvas').length === 4")
    wait(
        page,
        "[...document.querySelectorAll('#gallery canvas')].every(c => c.style.background)",
    )
    page.evaluate("setMode('image')")
    wait(page, "[...document.querySelectorAll('#gallery canvas')].every(c => c.hidden)")
    page.evaluate("setMode('masks')")
    wait(page, "[...document.querySelectorAll('#gallery canvas')].every(c => !c.hidden)")


def test_a_phone_sees_it_all_without_scrolling_sideways(visit, shown):
    phone = {
        "viewport": {"width": 390, "height": 844},
        "is_mobile": True,
        "has_touch": True,
        "device_scale_factor": 2,
    }
    page = visit(shown, **phone)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#touch").is_visible() and page.locator("#keys").is_hidden()
    assert (
        page.evaluate("$('viewer').style.touchAction") == "pan-y"
    )  # a finger on a whole picture scrolls the page
    open_image(page, "fluorescence_a")
    page.tap("#closer")
    assert page.evaluate("$('viewer').style.touchAction") == "none"
    whole = page.evaluate("fitting()")
    page.tap("#whole")
    page.evaluate(
        """() => {
          const box = $("viewer").getBoundingClientRect();
          const x = box.x + box.width / 2, y = box.y + box.height / 2;
          const send = (name, pointerId, dx) => $("viewer").dispatchEvent(
            new PointerEvent(name,
              { pointerId, clientX: x + dx, clientY: y, pointerType: "touch", bubbles: true }));
          $("viewer").setPointerCapture = () => {}; // refuses fingers that are not there
          send("pointerdown", 5, -20); send("pointerdown", 6, 20);
          send("pointermove", 6, 60);
          send("pointerup", 5, -20); send("pointerup", 6, 60);
        }"""
    )
    assert page.evaluate("view.scale") == pytest.approx(2 * whole) and not chosen(page)
    small = page.evaluate(
        "[...document.querySelectorAll('button:not([hidden])')]"
        ".filter(b => b.offsetHeight && b.offsetHeight < 24).length"
    )
    assert small == 0
