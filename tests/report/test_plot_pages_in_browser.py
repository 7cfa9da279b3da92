"""The pages of graph.py and of the benchmark in a real browser: narrow, dark, without gaps."""

import math

import pytest
from browser_tools import wait
from history_tools import write_history

import graph
from experiments.benchmark.card import Card, save

PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def graph_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    paths = [str(write_history(folder / f"run_{number}", num_epochs=9)) for number in range(7)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "write_png", lambda *_: "not now")
        assert graph.main([*paths, "--out", str(folder)]) == 0
    return folder / "Training_Graph.html"


@pytest.fixture(scope="module")
def benchmark_page(tmp_path_factory):
    card = Card(say=lambda line: lines.append(line))
    lines = []
    card.add("network", "model", "keras", ("speed", 2.0, "MP/s"), ("share", math.nan, ""))
    card.add("network", "model", "litert", ("speed", math.nan, "MP/s"))
    card.add("pipeline", "model", "predict.py", ("network", 3.0, "s"), ("reading", 1.0, "s"))
    assert "nan" not in "".join(lines)
    out = tmp_path_factory.mktemp("benchmark")
    save(card, {"cpu": "a <long> name " * 9}, out)
    assert "nan" not in (out / "benchmark.csv").read_text().lower()
    return out / "benchmark.html"


def opened(visit, path, scheme):
    page = visit(path, plots=False, viewport=PHONE, color_scheme=scheme)
    wait(page, f"document.documentElement.dataset.dressed === '{scheme}'")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    return page


def ink(page):
    return page.evaluate("getComputedStyle(document.body).color")


def test_the_graph_fits_a_phone_and_follows_the_scheme(visit, graph_page):
    page = opened(visit, graph_page, "dark")
    fill = "getComputedStyle(document.querySelector('.xtick text')).fill"
    black = "plots[0].data.find((trace, number) => plots[0].black[number]).line.color"
    assert page.evaluate(fill) == ink(page) == "rgb(229, 233, 237)"
    assert page.evaluate(black) == "#e5e9ed"  # the seventh training is not black on black
    page.emulate_media(color_scheme="light")
    wait(page, "document.documentElement.dataset.dressed === 'light'")
    assert page.evaluate(fill) == ink(page) == "rgb(34, 34, 34)"
    assert page.evaluate(black) == "#222"
    assert "nan" not in page.inner_text("body").lower()


def test_the_benchmark_has_no_empty_panel_and_no_nan(visit, benchmark_page):
    page = opened(visit, benchmark_page, "dark")
    assert page.locator("h2").all_inner_texts() == ["Network alone", "Where the time goes"]
    assert page.evaluate("plots.map((plot) => plot.data.length)") == [1, 2]
    assert page.evaluate("plots[0].data[0].x") == ["model: keras"]
    text = page.inner_text("body")
    assert "nan" not in text.lower() and "a <long> name" in text
    widths = "plots.map((plot) => [plot.querySelector('.main-svg').clientWidth, plot.clientWidth])"
    assert all(drawn <= wide + 1 for drawn, wide in page.evaluate(widths))
    page = visit(benchmark_page, plots=False, viewport={"width": 1400, "height": 900})
    wait(page, "document.documentElement.dataset.dressed")
    assert all(drawn <= wide + 1 < 701 for drawn, wide in page.evaluate(widths))


def test_a_benchmark_without_figures_has_words(visit, tmp_path):
    save(Card(), {"cpu": "none"}, tmp_path)
    page = visit(tmp_path / "benchmark.html", plots=False)
    assert "None of the parts that are drawn was measured." in page.inner_text("body")
