"""Groups in a real browser: boxes and points are those of the table, and can be saved."""

import io

import numpy as np
import pandas as pd
from browser_tools import wait


def values_of(page, plot, kind, group):
    """The y values of the points or boxes of a group (its number) in a plot."""
    return page.evaluate(
        "([plot, kind, group]) => $(plot).data.filter((trace) => trace.type === kind)"
        ".filter((trace) => Math.round(trace.x0 ?? trace.x[0]) === group)[0]",
        [plot, kind, group],
    )


def test_groups_are_compared_by_nucleus_and_by_image(page, original):
    table = pd.read_csv(original / "found" / "nuclei.csv")
    summary = pd.read_csv(original / "found" / "summary.csv").set_index("image")
    table["group"] = summary.loc[table["image"], "modality"].to_numpy()
    page.evaluate("$('groups').scrollIntoView()")
    page.select_option("#compared", "area_px")
    wait(page, "$('by-image').data && $('by-nucleus').layout.yaxis.title.text.startsWith('area')")
    for number, group in enumerate(["fluorescence", "tissue"]):
        own = table[table["group"] == group]
        box = values_of(page, "by-nucleus", "box", number)
        expected = np.percentile(own["area_px"], [25, 50, 75])
        np.testing.assert_allclose([box["q1"][0], box["median"][0], box["q3"][0]], expected)
        reach = 1.5 * (expected[2] - expected[0])
        inside = own["area_px"][own["area_px"].between(expected[0] - reach, expected[2] + reach)]
        assert (box["lowerfence"][0], box["upperfence"][0]) == (inside.min(), inside.max())
        points = values_of(page, "by-nucleus", "scatter", number)["y"]
        assert sorted(points) == sorted(own["area_px"])
        medians = own.groupby("image")["area_px"].median()
        shown = page.evaluate(
            "group => groupValues('area_px').find((one) => one.group === group)"
            ".perImage.map(({ image, value }) => [image.stem, value])",
            group,
        )
        assert dict(shown) == medians.to_dict()
        labels = page.evaluate("$('by-nucleus').layout.xaxis.ticktext")
        assert labels[number] == f"{group}<br>n = {len(own)}"
        row = page.locator("#group-rows tr").nth(number).inner_text().split("\t")
        assert row[:3] == [group, str(len(medians)), str(len(own))]
    assert page.evaluate("$('by-image').layout.xaxis.ticktext")[1] == "tissue<br>n = 1"
    assert page.evaluate("drawnNuclei.length") == 0 or page.input_value("#colour") == "group"

    with page.expect_download() as download:
        page.click("#save-groups")
    saved = pd.read_csv(download.value.path())
    assert list(saved) == ["image", "group", "modality", "nuclei", "median_area_px"]
    assert saved.set_index("image")["median_area_px"].to_dict() == (
        table.groupby("image")["area_px"].median().to_dict()
    )


def test_numbers_of_images_and_listed_images_only(page, original):
    summary = pd.read_csv(original / "found" / "summary.csv").set_index("image")
    page.evaluate("$('groups').scrollIntoView()")
    page.select_option("#compared", "nuclei_in_image")
    wait(page, "$('by-nucleus-part').hidden")
    values = page.evaluate(
        "groupValues('nuclei_in_image').flatMap(({ perImage }) => "
        "perImage.map(({ image, value }) => [image.stem, value]))"
    )
    assert dict(values) == summary["nuclei"].to_dict()  # an image without nuclei counts as 0
    page.fill("#find", "fluorescence_a")
    wait(page, "$('group-rows').children.length === 1")
    page.fill("#find", "no such image")
    wait(page, "!$('no-groups').hidden && $('group-plots').hidden")
    page.fill("#find", "")
    page.select_option("#group", "tissue")
    assert page.locator("#rows tr").count() == 2
    page.evaluate("$('groups').scrollIntoView()")
    page.select_option("#compared", "area_px")
    wait(page, "!$('by-nucleus-part').hidden")


def test_a_selection_is_saved_with_its_numbers(page, original):
    table = pd.read_csv(original / "found" / "nuclei.csv")
    page.evaluate("select((at) => at % 3 === 0)")
    with page.expect_download() as download:
        page.click("#save")
    text = download.value.path().read_bytes()
    saved = pd.read_csv(io.BytesIO(text))
    assert download.value.suggested_filename == "selected_nuclei.csv"
    assert text.startswith(b"\xef\xbb\xbfimage,group,id,") and "tissue <b>&amp;" in text.decode()
    assert len(saved) == page.evaluate("selectionCount") > 0
    expected = table.set_index(["image", "id"]).loc[
        pd.MultiIndex.from_frame(saved[["image", "id"]])
    ]
    for name in saved.columns.drop(["image", "group", "id"]):
        np.testing.assert_allclose(saved[name], expected[name].astype(float), rtol=1e-4)
    page.click("#clear")
    assert page.locator("#save").is_hidden()


def test_a_saved_table_holds_no_formula(page):
    """As those that the programs write: a name may come from a stranger."""
    cells = ["=1+1", "-2", "a", "+x", -3, "'@y", None]
    with page.expect_download() as download:
        page.evaluate("(rows) => saveCsv(rows, 'a.csv')", [cells])
    text = download.value.path().read_text(encoding="utf-8-sig")
    assert text == "'=1+1,-2,a,'+x,-3,''@y,\n"
