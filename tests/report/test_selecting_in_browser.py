"""Selecting nuclei in a real browser: by plots, forms and clicks."""

import json
import time

import cv2
import numpy as np
import pandas as pd
from browser_tools import chosen, is_marked, open_image, pixels, wait
from report_tools import PICTURES
from skimage.measure import points_in_poly


def test_points_selected_in_a_plot_light_up_in_the_picture(page, original):
    open_image(page, "fluorescence_a")
    wait(page, "$('scatter').data?.[0]?.name === 'fluorescence'")
    table = pd.read_csv(original / "found" / "nuclei.csv")
    expected = table[table["image"] == "fluorescence_a"]
    assert page.evaluate("$('scatter').data[0].x.length") == len(expected)
    dark = pixels(page)
    middle = float(expected["diameter_px"].median()) + 0.01
    area = page.locator("#scatter .nsewdrag").bounding_box()
    at = area["x"] + page.evaluate(f"$('scatter')._fullLayout.xaxis.d2p({middle})")
    page.mouse.move(at, area["y"] + 1)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] - 1, area["y"] + area["height"] - 1, steps=5)
    page.mouse.up()
    wait(page, "selectionCount > 0")
    wanted = expected[expected["diameter_px"] > middle]["id"].tolist()
    assert chosen(page) == [["fluorescence_a", id] for id in wanted] and 0 < len(wanted) < len(
        expected
    )
    assert page.inner_text("#chosen") == f"{len(wanted)} nuclei selected in 1 image."
    lit = pixels(page)
    labels = cv2.imread(
        str(original / "found" / "labels" / "fluorescence_a.png"), cv2.IMREAD_UNCHANGED
    )
    scale, (height, width) = page.evaluate("view.scale"), lit.shape[:2]
    rows, columns = np.nonzero(is_marked(lit) & ~is_marked(dark))
    rows = np.clip((rows - height / 2) / scale + 48, 0, 95.9).astype(int)
    columns = np.clip((columns - width / 2) / scale + 64, 0, 127.9).astype(int)
    near = cv2.dilate(np.isin(labels, wanted).astype(np.uint8), np.ones((3, 3), np.uint8))
    assert len(rows) > 100 and near[rows, columns].mean() > 0.98
    for nucleus in wanted:
        assert (labels[rows, columns] == nucleus).any()
    page.keyboard.press("Escape")
    assert not chosen(page) and page.locator("#clear").is_hidden()
    np.testing.assert_array_equal(pixels(page), dark)


def test_selecting_over_all_images_by_form_by_bars_and_by_lasso(page, original):
    table = pd.read_csv(original / "found" / "nuclei.csv")
    page.check("[name=scope][value=all]", force=True)
    page.select_option("#across", "area_px")
    wait(page, "$('scatter').layout.xaxis.title.text === 'area, px²'")
    low, high = table["area_px"].quantile([0.3, 0.8])
    page.select_option("#up", "solidity")  # a column that is not unpacked before it is asked for
    wait(page, "$('scatter').layout.yaxis.title.text === 'solidity'")
    assert page.evaluate(
        "$('scatter').data.flatMap((trace) => trace.y).every((value) => value > 0 && value <= 1)"
    )
    page.select_option("#up", "circularity")
    page.fill("#from", str(low))
    page.fill("#to", str(high))
    page.locator("#to").press("Enter")
    within = table[table["area_px"].between(low, high)]
    assert sorted(map(tuple, chosen(page))) == sorted(
        zip(within["image"], within["id"], strict=True)
    )
    chips = page.locator("#chips button")
    assert chips.count() == within["image"].nunique()
    badges = dict(
        page.evaluate(
            "images.map(({ stem, badge }) => [stem, badge.hidden ? 0 : Number(badge.textContent)])"
        )
    )
    assert badges == {stem: int((within["image"] == stem).sum()) for stem in PICTURES}
    chips.first.click()
    assert page.inner_text("#name") == within["image"].value_counts().index[0]
    page.click("#clear")
    assert not chosen(page)

    area = page.locator("#sizes .nsewdrag").bounding_box()
    sizes = np.sort(table["area_px"].to_numpy())
    gap = (
        np.argmax(np.diff(sizes[4:-4])) + 4
    )  # where a pixel of the mouse more or less does not matter
    border = (sizes[gap] + sizes[gap + 1]) / 2
    edge = page.evaluate(f"$('sizes')._fullLayout.xaxis.d2p({border})")
    page.mouse.move(area["x"] + edge, area["y"] + 10)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] - 1, area["y"] + 40, steps=5)
    page.mouse.up()
    wait(page, "selectionCount > 0")
    assert {tuple(one) for one in chosen(page)} == {
        (row.image, row.id) for row in table.itertuples() if row.area_px > border
    }

    page.click("#clear")
    page.hover("#scatter .nsewdrag")
    page.click("#scatter [data-title='Lasso Select']")
    area = page.locator("#scatter .nsewdrag").bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.02, 0.98)]
    page.mouse.move(area["x"] + 0.02 * area["width"], area["y"] + 0.02 * area["height"])
    page.mouse.down()
    for x, y in [*corners[1:], corners[0]]:
        page.mouse.move(area["x"] + x * area["width"], area["y"] + y * area["height"], steps=4)
    page.mouse.up()
    wait(page, "selectionCount > 0")
    scale = page.evaluate(
        "(([x, y]) => corners => "
        "corners.map(([a, b]) => [x.p2d(a * x._length), y.p2d(b * y._length)]))"
        f"([$('scatter')._fullLayout.xaxis, $('scatter')._fullLayout.yaxis])({json.dumps(corners)})"
    )
    inside = points_in_poly(table[["area_px", "circularity"]].to_numpy(), np.array(scale))
    differ = {tuple(one) for one in chosen(page)} ^ set(
        zip(table["image"][inside], table["id"][inside], strict=True)
    )
    assert (
        0 < inside.sum() < len(table) and len(differ) <= 1
    )  # a point on the drawn line may fall to either side


def test_a_click_on_a_nucleus_selects_and_describes_it(page, original):
    open_image(page, "fluorescence_b")
    table = pd.read_csv(original / "found" / "nuclei.csv")
    expected = table[(table["image"] == "fluorescence_b") & (table["touches_border"] == 0)]
    box, scale = page.locator("#viewer").bounding_box(), page.evaluate("view.scale")

    def click(nucleus, **how):
        x = box["x"] + box["width"] / 2 + (nucleus.centroid_column_px + 0.5 - 45) * scale
        y = box["y"] + box["height"] / 2 + (nucleus.centroid_row_px + 0.5 - 60) * scale
        page.mouse.move(x, y)
        if how:
            page.keyboard.down("Shift")
        page.mouse.click(x, y)
        page.keyboard.up("Shift")

    one, two = list(expected.itertuples())[:2]
    click(one)
    assert chosen(page) == [["fluorescence_b", one.id]]
    description = page.inner_text("#nucleus")
    assert (
        description.startswith(f"Nucleus {one.id}: diameter, px {one.diameter_px:g};")
        and f"; area, px² {one.area_px};" in description
    )
    click(two, add=True)
    assert chosen(page) == [["fluorescence_b", one.id], ["fluorescence_b", two.id]]
    click(two)
    click(two)
    assert not chosen(page)
    click(one)
    page.mouse.click(box["x"] + 3, box["y"] + 3)  # beside the picture
    assert not chosen(page)


def test_a_click_on_a_point_selects_its_nucleus_and_opens_its_image(page, original):
    table = pd.read_csv(original / "found" / "nuclei.csv")
    page.check("[name=scope][value=all]", force=True)
    wait(page, "$('scatter').data?.[0]?.x.length > 0")
    largest = table.loc[table["diameter_px"].idxmax()]
    area = page.locator("#scatter .nsewdrag").bounding_box()
    layout = "$('scatter')._fullLayout"
    x = page.evaluate(f"{layout}.xaxis.d2p({largest.diameter_px})")
    y = page.evaluate(f"{layout}.yaxis.d2p({largest.circularity})")
    page.mouse.move(area["x"] + x, area["y"] + y)
    page.mouse.click(area["x"] + x, area["y"] + y)
    wait(page, "selectionCount === 1")
    assert chosen(page) == [[largest.image, largest.id]]
    wait(page, "stem => document.documentElement.dataset.shown === stem", largest.image)
    time.sleep(0.5)  # a click of Plotly's own that undoes selections would come late
    assert chosen(page) == [[largest.image, largest.id]]
