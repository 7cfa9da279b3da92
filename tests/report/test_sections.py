"""The sections of text: what they say, and that nothing from a file becomes markup."""

import math
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from report_tools import HOSTILE, Reader

from nuclei.inference.scale import SCALE_LIMITS
from nuclei.report.inputs import Evaluation
from nuclei.report.model_card import limits, model_section
from nuclei.report.predictions import FIELD, IMAGE, SLIDE, Predictions
from nuclei.report.sections import (
    MISTAKES,
    SCORE_COLUMNS,
    definitions,
    headline,
    made_section,
    number_of,
    score_cell,
    scores_section,
    table_of,
)

PLAIN = "some name"


def row(stem="a", part=IMAGE, diameter=10.0, nuclei=3, **more):
    made_by = more.pop("made_by", "model.h5 0123")
    cells = {"image": stem, "part": part, "median_diameter_px": diameter, "nuclei": nuclei}
    return {**cells, "made_by": made_by, "modality": "tissue", **more}


def predictions_of(*rows, folder="found"):
    return Predictions(Path(folder), list(rows), pd.DataFrame())


def summary(value=0.75, low=0.5, high=1.0, num_images=1234):
    """A summary as in evaluation.json; of no score two are equal."""
    record = {"num_images": num_images, "num_truth": 5678, "pooled": {}, "mean_of_images": {}}
    for number, (score, kind, _, _) in enumerate(SCORE_COLUMNS):
        step = number / 1000
        record[kind][score] = {"value": value + step, "low": low + step, "high": high - step}
    return record | {name: 1000 + number for number, name in enumerate(MISTAKES)}


def record_of(name="cells"):
    known = {"dice": "of pixels", "merges": "of nuclei", "ap_75": "at 0.75", "pooled": "of all"}
    known |= {"mean_of_images": "mean", "low, high": "ends"}
    texts = {key: f"{value} {name}" for key, value in known.items()} | {"unused": "not shown"}
    record = {"all": summary(), "groups": {name: summary(0.25, 0.0, 0.5)}, "truth": f"of {name}"}
    return record | {"notes": [f"one {name}", f"two {name}"], "definitions": texts}


def inputs_of(name="name", rows=None, missing=()):
    rows = [row(name, made_by=f"{name} 0123", scale=8.0)] if rows is None else rows
    settings = {
        "data": {"train": {name: 3, "other": 4}, "truth": {name: 1}, "validation": 2},
        "scores": {"validation": {name: {"images": 2, "dice": 0.5, "ap50": 0.4, "map": 0.3}}},
        "architecture": {"heads": [name]},
        "thresholds": {name: 0.5},
        "versions": {name: name},
        "nucleus_diameter_px": {"median": 9, "percentile_5": 5, "percentile_95": 14},
    }
    return SimpleNamespace(
        predictions=predictions_of(*rows, folder=name),
        model_path=Path(f"{name}.h5"),
        image_folders=[Path(name), Path(f"{name} 2")],
        missing=list(missing),
        command=f"python report.py {name}",
        settings=settings,
    )


def limits_of(name):
    """What is said of kinds and images that the model is weak on: with and without scales."""
    settings = inputs_of(name).settings
    settings["scores"]["validation"]["other"] = {"images": 2, "dice": 0.9, "ap50": 0.9, "map": 0.9}
    rows = [row(name, diameter=100.0), row(name, scale=SCALE_LIMITS[1])]
    return [line for each in rows for line in limits(settings, [each])]


def sections_of(name):
    """Each section, where every text that a file may hold is or contains `name`."""
    evaluation, refused = Evaluation(record_of(name)), Evaluation(note=f"no scores of {name}")
    return {
        "headline": headline(predictions_of(row(name)), evaluation),
        "scores": scores_section(evaluation, Path(name)),
        "no scores": scores_section(refused, Path(name)),
        "made": made_section(inputs_of(name, missing=[name]), [name, name]),
        "model": model_section(inputs_of(name)),
        "limits": "".join(f"<p>{line}</p>" for line in limits_of(name)),
    }


@pytest.mark.parametrize("section", sections_of(PLAIN))
def test_nothing_from_a_file_becomes_markup(section):
    """The tags are the same with any names, and a reader sees the names as they are."""
    plain, hostile = (Reader(sections_of(name)[section]) for name in (PLAIN, HOSTILE))
    assert hostile.tags == plain.tags
    assert (PLAIN in plain.text) == (section != "headline")
    unquoted = hostile.text.replace("'\"'\"'", "'").replace('\\"', '"')  # of a shell, of JSON
    assert unquoted == plain.text.replace(PLAIN, HOSTILE)


def test_the_headline_counts_and_takes_medians_of_what_is_known():
    fields = [row("s_field_1", FIELD, 90.0, 7), row("s_field_2", FIELD, 95.0, 8)]
    rows = [row("a"), row("b", diameter=20.0, nuclei=1000), row("c", diameter=math.nan, nuclei=0)]
    read = Reader(headline(predictions_of(*rows, row("s", SLIDE, 60.0, 10), *fields), Evaluation()))
    assert read.text == (
        "4 images 2 fields of slides 1,013 nuclei 20.0 px median diameter, of images"
    )
    single = predictions_of(row(nuclei=1, diameter=math.nan))
    assert Reader(headline(single, Evaluation())).text == "1 image 1 nucleus"
    flagged = [row(out_of_distribution=value, diameter=math.nan) for value in (1, 0, math.nan, 1)]
    read = Reader(headline(predictions_of(*flagged, row(diameter=math.nan)), Evaluation()))
    assert read.text == "5 images 15 nuclei 2 out of distribution"
    scored = Reader(headline(single, Evaluation(record_of())))
    assert scored.text == "1 image 1 nucleus 0.750 Dice 0.751 AP at IoU 0.5"


def test_the_table_of_scores_has_a_row_for_all_images_and_one_for_each_group():
    read = Reader(scores_section(Evaluation(record_of()), Path("found")))
    counts = "1,234 / 5,678"
    cells = {
        "all images": "0.750 0.500 to 1.000 0.751 0.501 to 0.999 0.752 0.502 to 0.998 "
        "0.753 0.503 to 0.997 0.754 0.504 to 0.996 +75.5 % +50.5 to +99.5 %",
        "cells": "0.250 0.000 to 0.500 0.251 0.001 to 0.499 0.252 0.002 to 0.498 "
        "0.253 0.003 to 0.497 0.254 0.004 to 0.496 +25.5 % +0.5 to +49.5 %",
    }
    rows = " ".join(
        f"{name} {counts} {text} 1,000 1,001 1,002 1,003" for name, text in cells.items()
    )
    assert read.text == (
        "Scores; ranges are 95 % intervals over images images / true nuclei Dice "
        "AP at IoU 0.5, pooled mean AP 0.5:0.95 AJI PQ count error merges splits misses extras "
        f"{rows} one cells two cells Truth: of cells. AP at 0.5 and count error are pooled over "
        "all nuclei, the other scores are means over images. With few images an interval says "
        "little. What the scores mean dice of pixels cells merges of nuclei cells ap_75 at 0.75 "
        "cells pooled of all cells mean_of_images mean cells low, high ends cells"
    )
    assert read.tags.count(("th", ("scope", "col"))) == 2 + len(SCORE_COLUMNS) + len(MISTAKES)
    assert read.tags.count(("th", ("scope", "row"))) == 2 and ("p", ("class", "quiet")) in read.tags
    few = {"all": summary(), "groups": {}, "definitions": {}}  # of an earlier version
    assert "Truth: . AP" in Reader(scores_section(Evaluation(few), Path("found"))).text
    assert "<ul>" not in scores_section(Evaluation(few), Path("found"))
    assert "1,003 Truth: . AP" in Reader(scores_section(Evaluation(few), Path("found"))).text


def test_without_scores_the_page_says_how_to_get_them():
    read = Reader(scores_section(Evaluation(), Path("my results")))
    assert read.text == (
        "These predictions have not been compared with a truth. If you have true masks of the "
        "same names: python evaluate.py 'my results' TRUTH, with the folder of the masks as "
        "TRUTH, then python report.py again. The scores of the model on its own validation "
        "images are below."
    )
    assert read.tags == [("p",), ("p",), ("code",), ("code",)]
    assert Reader(scores_section(Evaluation(note="Others."), Path("a"))).text.startswith("Others. ")


@pytest.mark.parametrize(
    ("ends", "percent"), [((0, 1), False), ((-0.5, 0.5), True), ((1, 3), False)]
)
@pytest.mark.parametrize("value", [-3.0, -0.5, -0.125, 0.25, 0.5, 1.0, 1.5, 3.0])
def test_the_marks_of_a_score_lie_at_its_place_on_the_axis(value, ends, percent):
    low, high = value - 0.2, value + 0.25
    markup = score_cell({"value": value, "low": low, "high": high}, ends, percent)
    Reader(markup)
    span = ends[1] - ends[0]
    places = [100 * min(max((one - ends[0]) / span, 0), 1) for one in (low, high, value)]
    left, width = map(
        float, re.search(r'<i style="left:([\d.]+)%;width:([\d.]+)%">', markup).groups()
    )
    assert (left, left + width) == pytest.approx(places[:2], abs=0.11)
    mark = re.search(r'<b style="left:([\d.]+)%"></b></span>$', markup)
    assert float(mark[1]) == pytest.approx(places[2], abs=0.051)
    assert ('<u style="left:50%"></u>' in markup) == percent == (" %" in markup)
    for half in ({"low": low, "high": None}, {"low": None, "high": high}):
        cell = score_cell({"value": value, **half}, ends, percent)
        assert "<i" not in cell and " to " not in cell and mark[0] in cell
        assert Reader(cell).text == Reader(markup).text.split(" ")[0] + " %" * percent
    unknown = {"value": None, "low": None, "high": None}
    assert score_cell(unknown, ends, percent) == "–"


def test_numbers_are_rounded_and_what_is_undefined_is_a_dash():
    assert [number_of(value) for value in (None, math.nan, math.inf)] == ["–"] * 3
    assert (number_of(0.12345), number_of(2), number_of(0)) == ("0.123", "2.000", "0.000")


def test_tables_and_lists_keep_their_cells_in_place():
    read = Reader(table_of(["", "x"], [["a", "<i>1</i>"], ["b", "2"]], "Two rows"))
    assert read.text == "Two rows x a 1 b 2"
    region = ("div", ("class", "scroll"), ("tabindex", "0"), ("role", "region"))
    assert read.tags[0] == (*region, ("aria-label", "Two rows"))
    names = " ".join(tag for tag, *_ in read.tags[1:])
    assert names == "table caption thead tr th th tbody tr th td i tr th td"
    assert definitions([("a<", "<b>1</b>"), ("b", ""), ("c", "2")]) == (
        "<dl><dt>a&lt;</dt><dd><b>1</b></dd><dt>c</dt><dd>2</dd></dl>"
    )


def test_how_the_page_was_made(monkeypatch):
    monkeypatch.setattr("nuclei.report.sections.time.strftime", lambda form: form)
    rows = [row("a", made_by="n.h5 1"), row("b", made_by="m.h5 2"), row("c", made_by="n.h5 1")]
    read = Reader(made_section(inputs_of("n", rows, ["b", "c"]), ["x", "y"]))
    versions = r"this program [\d.]+, Python 3\.[\d.]+, numpy \S+, pandas \S+, plotly \S+"
    assert re.fullmatch(
        re.escape(
            "predictions n, made by m.h5 2; n.h5 1. The model described above is n.h5. "
            "images n, n 2 not found 2 images, shown without a picture: b, c left out columns of "
            "nuclei.csv for which there was no space: x, y brightness as the network saw it: "
            "percentiles of the whole image stretched to black and white this page "
            "python report.py n, %Y-%m-%d %H:%M versions "
        )
        + versions,
        read.text,
    )
    whole = Reader(made_section(inputs_of("n", [rows[0]]), [])).text
    assert whole.startswith("predictions n, made by n.h5 1. images n, n 2 brightness as")
