"""The page in a real browser: the table, plots, colours, keyboard, odd pages."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from browser_tools import open_image, wait
from report_tools import make, write_predictions


def contrast(one, two):
    """Contrast of two colours as WCAG 2 has it."""

    def light(colour):
        values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ (
            0.2126,
            0.7152,
            0.0722,
        )

    bright, dark = sorted((light(one), light(two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_the_table_sorts_filters_and_jumps(page, original):
    summary = pd.read_csv(original / "found" / "summary.csv").set_index("image")

    def listed():
        return page.locator("#rows tr th button").all_inner_texts()

    first = listed()
    assert first[0] == "tissue_empty" and page.inner_text("#name") == "tissue_empty"
    head = page.locator("#heads button", has_text=re.compile("^nuclei"))
    head.click()
    ascending = listed()
    assert list(summary.loc[ascending, "nuclei"]) == sorted(summary["nuclei"])
    assert page.locator("#heads th[aria-sort=ascending]").inner_text().startswith("nuclei")
    head.click()
    assert (
        listed() == ascending[::-1] and page.locator("#heads th[aria-sort=descending]").count() == 1
    )
    head.press("Enter")  # the third time, by keyboard: back to the first order
    assert listed() == first and page.locator("#heads th[aria-sort]").count() == 0
    page.locator("#heads button", has_text="median diameter").click()
    assert listed()[-1] == "tissue_empty"  # what has no value stands last
    page.click("#reset")
    assert listed() == first and page.locator("#reset").is_hidden()

    page.fill("#find", "FLUO")
    assert (
        sorted(listed()) == ["fluorescence_a", "fluorescence_b"]
        and page.inner_text("#listed") == "2 of 4 images"
    )
    assert page.locator("#gallery button").count() == 2
    page.fill("#find", "")
    page.select_option("#kind", "tissue")
    assert sorted(listed()) == sorted(summary.index[summary["modality"] == "tissue"])
    page.select_option("#kind", "")
    page.check("#flagged")
    assert listed() == ["tissue_empty"]
    page.uncheck("#flagged")
    page.locator("#rows button", has_text="tissue <b>&amp;").press("Enter")
    wait(page, "document.documentElement.dataset.shown.startsWith('tissue <b>')")
    assert (
        page.inner_text("#name") == "tissue <b>&amp;"
        and page.inner_text("#place") == f"{first.index('tissue <b>&amp;') + 1} of 4"
    )
    assert page.evaluate("Math.abs($('pictures').getBoundingClientRect().top) < 100")
    page.select_option("#kind", "fluorescence")
    assert page.inner_text("#place") == "not in the list below"
    for button, rank in (("#next", 0), ("#next", 1), ("#previous", 0), ("#previous", -1)):
        page.click(button)
        assert page.inner_text("#name") == listed()[rank]


def test_later_plots_are_drawn_when_they_are_scrolled_to(visit, shown):
    page = visit(shown)
    assert page.evaluate("$('training-plot').data === undefined")
    page.evaluate("$('training-plot').scrollIntoView()")
    wait(page, "$('training-plot').data?.length > 5")
    page.evaluate("$('counts').scrollIntoView({ block: 'center' })")
    wait(page, "$('counts').data?.length === 1")
    bars = page.locator("#counts .point")
    bars.nth(1).hover(force=True)
    area = page.locator("#counts .nsewdrag").bounding_box()
    stem = page.evaluate("images[order[1]].stem")
    page.mouse.click(
        area["x"] + page.evaluate("$('counts')._fullLayout.xaxis.d2p(2)"),
        area["y"] + area["height"] - 3,
    )
    wait(page, "stem => document.documentElement.dataset.shown === stem", stem)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read_in_either_scheme(page, scheme):
    open_image(page, "fluorescence_a")
    page.emulate_media(color_scheme=scheme)
    names = (
        "ground",
        "sheet",
        "ink",
        "quiet",
        "accent",
        "on-accent",
        "warn",
        "warn-ground",
        "mild",
    )
    rule = "getComputedStyle(document.documentElement).getPropertyValue"
    style = {name: page.evaluate(f"{rule}('--{name}').trim()") for name in names}
    whole = {
        name: "#" + "".join(2 * c for c in colour[1:]) if len(colour) == 4 else colour
        for name, colour in style.items()
    }
    pairs = [
        (text, ground) for text in ("ink", "quiet", "accent") for ground in ("sheet", "ground")
    ]
    for text, ground in [
        *pairs,
        ("on-accent", "accent"),
        ("warn", "warn-ground"),
        ("ink", "mild"),
        ("accent", "mild"),
    ]:
        assert contrast(whole[text], whole[ground]) >= 4.5, (text, ground)
    assert (contrast(whole["ground"], "#000000") < 3) == (scheme == "dark")
    wait(page, f"$('scatter').layout.font.color === '{style['ink']}'")  # the plots follow
    page.emulate_media(color_scheme="light")


def test_everything_can_be_reached_by_keyboard(page):
    open_image(page, "fluorescence_a")
    seen = []
    page.locator(".skip").first.focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "(({ id, name, className }) => id || name || className)(document.activeElement)"
            )
        )
    wanted = {
        "previous",
        "next",
        "mode",
        "opacity",
        "viewer",
        "closer",
        "scope",
        "across",
        "up",
        "from",
        "to",
        "find",
        "kind",
    }
    assert wanted <= set(seen), wanted - set(seen)
    page.locator("#mode [value=overlay]").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("view.mode") == "masks"
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select")].filter(
          (one) => !(one.textContent.trim() || one.ariaLabel
            || one.labels?.[0]?.textContent.trim())).length"""
    )
    assert unnamed == 0


def test_pages_without_nuclei_without_pictures_and_without_scores_open(visit, tmp_path):
    folder = write_predictions(
        tmp_path / "empty", {"dark": ("fluorescence", 40, 40, 0, math.nan, 0)}, flags=False
    )
    assert make(folder) == 0
    page = visit(folder / "found" / "report.html")
    assert page.inner_text("#name") == "dark" and page.locator("#trouble").is_hidden()

    folder = write_predictions(
        tmp_path / "two",
        {f"image{n}": ("fluorescence", 60, 60, 4, 0.9, 0) for n in (1, 2)},
        flags=False,
    )
    (folder / "raw" / "image1.png").unlink()
    assert make(folder) == 0
    page = visit(folder / "found" / "report.html")
    open_image(page, "image1")
    assert "picture not found" in page.inner_text(
        "#facts"
    ) and "out_of_distribution" not in page.inner_text("body")


def test_an_old_browser_is_told(visit, shown):
    page = visit(shown, errors=1, plots=False, script="delete window.DecompressionStream")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "too old" in page.inner_text("#trouble")
