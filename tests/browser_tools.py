"""What tests do to a page of report.py in a browser."""

import base64
import time

import cv2
import numpy as np


def wait(page, expression, *argument, seconds=60):
    """Wait until an expression is true.

    Playwright's own function evaluates text in the page, which the page forbids.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression, *argument):
        assert time.monotonic() < end, f"after {seconds} s it is still not true that {expression}"
        time.sleep(0.02)


def pixels(page):
    """The picture in the viewer as (H, W, 3) uint8."""
    code = page.evaluate(
        "new Promise(r => requestAnimationFrame(() => requestAnimationFrame("
        "() => r($('viewer').toDataURL()))))"
    )
    return cv2.imdecode(
        np.frombuffer(base64.b64decode(code.split(",")[1]), np.uint8), cv2.IMREAD_COLOR
    )[..., ::-1].astype(int)


def open_image(page, stem):
    page.evaluate("stem => show(images.find((image) => image.stem === stem).number)", stem)
    wait(page, "stem => document.documentElement.dataset.shown === stem", stem)


def chosen(page):
    """Selected nuclei: (stem, id) in order."""
    return page.evaluate(
        "[...selected].flatMap((on, at) => "
        "on ? [[images[owner[at]].stem, at - images[owner[at]].first + 1]] : [])"
    )


def is_marked(picture):
    """Where a picture has the yellow of selected nuclei."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return (red > 235) & (green > 200) & (blue < 60)
