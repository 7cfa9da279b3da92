"""How the page is put together: places, order, size, policy, and the data of its script."""

import itertools
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from history_tools import write_history
from report_tools import HOSTILE, SETTINGS, Reader, block_of, unpack

from nuclei.report import page as room
from nuclei.report.inputs import Evaluation, PageInputs
from nuclei.report.packing import PackedImage
from nuclei.report.page import (
    PAGE_MB,
    block,
    build_page,
    css,
    fill_template,
    image_data,
    page_data,
    training_section,
)
from nuclei.report.predictions import FIELD, IMAGE, OUT_OF_DISTRIBUTION, Predictions
from nuclei.report.sections import MISTAKES, SCORE_COLUMNS
from nuclei.results.pictures import ID_COLOURS, OUTLINE_COLOUR
from nuclei.scores import NO_GROUP

PACKED = PackedImage("cGlj", "bGFi", 9, 8, "dGh1")


def row(stem, part=IMAGE, num_nuclei=1, **more):
    sizes = {"height_px": 18.0, "width_px": 16.0, "nuclei": num_nuclei, "shown": num_nuclei}
    values = {"median_diameter_px": 8.123456, "nucleus_share": 0.2, "certainty": math.nan}
    kind = {"modality": "tissue", "part": part, "made_by": "m.h5 1", "results": Path("found")}
    return {"image": stem, "file": f"{stem}.png"} | sizes | values | kind | more


def inputs_of(*rows, name="found", record=None, groups=None, history=None):
    table = {"image": [one["image"] for one in rows], "id": 1, "solidity": 0.5, "area_px": 40}
    return PageInputs(
        predictions=Predictions(Path(name), list(rows), pd.DataFrame(table).astype(str)),
        order="In an order.",
        evaluation=Evaluation(record),
        settings=SETTINGS,
        model_path=Path(f"{name}.h5"),
        history_path=history,
        image_folders=[Path(name)],
        pictures={},
        groups=groups or {},
        command=f"python report.py {name}",
    )


@pytest.fixture
def packing(monkeypatch):
    """Pictures that fill the space given to them. Plotly is a short text."""
    calls = SimpleNamespace(space=[], size=4, pictures=None)

    def pack_images(predictions, pictures, space):
        calls.space.append(space)
        calls.pictures = pictures
        return [PACKED._replace(picture="A" * calls.size) for _ in predictions.rows]

    monkeypatch.setattr(room, "pack_images", pack_images)
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "plotly – é")
    return calls


def test_blocks_follow_in_the_order_in_which_a_browser_needs_them(packing):
    page = build_page(inputs_of(row("a"), row("b"), row("c")))
    read = Reader(re.sub("<script>.*?</script>", "", page, flags=re.DOTALL))
    names = [dict(rest)["id"] for tag, *rest in read.tags if ("type", "text/plain") in rest]
    assert names == [
        *("data", "picture-0", "labels-0", "measure-area_px", "plotly"),
        *("picture-1", "labels-1", "picture-2", "labels-2", "measure-solidity"),
    ]
    assert block_of(page, "picture-1") == "AAAA" and block_of(page, "labels-2") == PACKED.labels
    assert json.loads(unpack(block_of(page, "measure-solidity"))) == [0.5] * 3
    assert unpack(block_of(page, "plotly")).decode("utf-8") == "plotly – é"
    assert room.packed_script("plotly – é") is room.packed_script("plotly – é")  # packed once
    data = json.loads(unpack(block_of(page, "data")))
    assert data["measures"] == ["solidity", "area_px"] and data["training"] is None
    assert [image["stem"] for image in data["images"]] == ["a", "b", "c"]
    assert page.index(block("labels-0", PACKED.labels)) < page.index("<script>")
    assert page.index("<script>") < page.index('id="picture-1"')


def test_the_page_has_a_title_and_all_sections(packing):
    page = build_page(inputs_of(row("a"), row("b"), name="my found"))
    read = Reader(re.sub("<(script|style)[ >].*?</\\1>", "", page, flags=re.DOTALL))
    assert read.text.startswith(
        "Nuclei in 2 images Skip to the pictures Nuclei in 2 images my found, found by my found.h5 "
        "2 images 2 nuclei"
    )
    assert '<meta name="generator" content="report.py">' in page
    for text in (
        "Scores These predictions have not been compared with a truth.",
        "python evaluate.py 'my found' TRUTH",
        "Training There is no history.csv beside the model; name it with --history.",
        "45 images: 40 fluorescence, 5 tissue",
        "How it was made predictions my found, made by m.h5 1.",
    ):
        assert text in read.text
    assert room.GROUPS_SCRIPT.read_text(encoding="utf-8") in page


def test_names_become_no_markup_and_fill_no_place(packing, tmp_path):
    history = write_history(tmp_path / "<i>&amp;")
    tags = []
    for name, stem in (("name", "stem"), (HOSTILE, HOSTILE)):
        record = {"images": [{"stem": stem}], "definitions": {}, "groups": {}, "truth": name}
        record["all"] = {"num_images": 1, "num_truth": 1} | dict.fromkeys(MISTAKES, 1)
        for kind in ("pooled", "mean_of_images"):
            scores = dict.fromkeys(
                [name for name, *_ in SCORE_COLUMNS], {"value": 0.5, "low": 0.4, "high": 0.6}
            )
            record[kind] = record["all"][kind] = scores
        page = build_page(inputs_of(row(stem), name=name, record=record, history=history))
        assert page.count("<i>&amp;") == 0 and "&lt;i&gt;&amp;amp;" in page
        read = Reader(re.sub("<(script|style)>.*?</\\1>", "", page, flags=re.DOTALL))
        tags.append(read.tags)
        assert page.count(name) == 0 or name == "name"
    assert tags[0] == tags[1]


def test_the_browser_may_load_nothing_from_anywhere(packing):
    """The policy names no source outside the page, and stands before all that could load."""
    page = build_page(inputs_of(row("a")))
    read = Reader(re.sub("<(script|style)>.*?</\\1>", "", page, flags=re.DOTALL))
    policies = [dict(rest) for tag, *rest in read.tags if tag == "meta" and len(rest) == 2]
    policies = [meta["content"] for meta in policies if "http-equiv" in meta]
    assert len(policies) == 1
    words = [directive.split() for directive in policies[0].split(";")]
    directives = {name: set(sources) for name, *sources in words}
    assert directives.pop("default-src") == {"'none'"}
    for name in ("base-uri", "form-action"):  # default-src does not stand for these
        assert directives.pop(name) == {"'none'"}
    assert directives.keys() <= {"script-src", "style-src", "img-src"}
    for sources in directives.values():
        assert sources <= {"'unsafe-inline'", "data:", "blob:"}
    assert "data:" not in directives["script-src"]
    first = min(page.index(tag) for tag in ("<script", "<style", "<title", "<body"))
    assert page.index("http-equiv") < first
    loading = {"src", "href", "srcset", "action", "data", "poster", "background", "ping"}
    for _, *rest in read.tags:
        for name in loading & set(dict(rest)):
            assert name == "href" and dict(rest)[name].startswith("#")  # a place of the page


@pytest.mark.parametrize("num_rows", [1, 40])
def test_the_page_is_as_large_as_allowed_and_not_larger(packing, num_rows, monkeypatch):
    inputs = inputs_of(*(row(str(number)) for number in range(num_rows)))
    monkeypatch.setattr(room, "PAGE_MB", 1)
    build_page(inputs)
    packing.size = packing.space[0] // num_rows
    page = build_page(inputs)
    size = len(page.encode("utf-8"))
    assert 0.85 * 10**6 < size <= 10**6 < PAGE_MB * 10**6
    monkeypatch.setattr(room, "ROW_BYTES", room.ROW_BYTES + 7)
    monkeypatch.setattr(room, "RESERVE_BYTES", room.RESERVE_BYTES + 11)
    build_page(inputs)
    assert packing.space[0] - packing.space[-1] == 7 * num_rows + 11
    assert packing.pictures is inputs.pictures
    monkeypatch.setattr(room, "pack_measurements", lambda columns: ({"area_px": "A" * 5_000}, []))
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "plotly")
    monkeypatch.setattr(room, "packed_script", lambda script: "A" * 20_000)
    build_page(inputs)
    template = len(room.TEMPLATE.read_text(encoding="utf-8"))
    room_for_text = room.RESERVE_BYTES + room.ROW_BYTES * num_rows
    assert packing.space[-1] == 10**6 - 25_000 - template - room_for_text


def test_a_place_inside_a_part_stays():
    parts = {"A": "%%B%% %", "B": "b"}
    assert fill_template("x %%A%% y %%B%%%%B%% z", parts) == "x %%B%% % y bb z"


def test_a_block_is_found_by_its_name():
    page = "".join(itertools.starmap(block, [("a", "x"), ("a-b", "y"), ("c", "")]))
    assert [block_of(page, name) for name in ("a", "a-b", "c")] == ["x", "y", ""]


def test_the_training_is_a_figure_for_the_script_and_a_line_of_text(tmp_path):
    path = write_history(tmp_path / "<b>")
    figure, markup = training_section(inputs_of(row("a"), history=path))
    read = Reader(markup)
    assert read.text == (
        f"{path}: 6 epochs, best 4: val_loss 0.3500, val_accuracy 0.8750, val_dice 0.8750, "
        "val_iou 0.8750 solid: validation, dotted: training, ring: best epoch"
    )
    plot = dict(read.tags[-1][1:])
    assert plot["id"] == "training-plot" and plot["class"] == "plot" and plot["role"] == "img"
    assert plot["aria-label"] == "Training curves by epoch"
    height = int(re.fullmatch(r"height:(\d+)px", plot["style"])[1])
    assert height == 110 + 190 * figure["layout"]["meta"]["height"]
    assert read.tags[:2] == [("p",), ("p", ("class", "quiet"))]
    assert json.loads(json.dumps(figure)) == figure and len(figure["data"]) > 4
    nothing, markup = training_section(inputs_of(row("a")))
    text = "There is no history.csv beside the model; name it with --history."
    assert nothing is None and Reader(markup).text == text and Reader(markup).tags == [("p",)]


def test_the_data_of_the_script():
    rows = [row("a"), row("s_field_1", FIELD), row("c")]
    scores = [{"stem": "a", "mean_ap": 0.5, "ap_50": 0.6, "dice": 0.7, "count_error": 1, "x": 2}]
    inputs = inputs_of(*rows, record={"images": scores}, groups={"a": "y", "s": "x"})
    data = page_data(inputs, [PACKED] * 3, ["solidity", "mean_intensity", "area_px"])
    assert [image["stem"] for image in data.pop("images")] == ["a", "s_field_1", "c"]
    assert data == {
        "measures": ["solidity", "mean_intensity", "area_px"],
        "first_measures": ["area_px", "mean_intensity"],
        "certainty_name": "",
        "score_names": {
            **{"mean_ap": "mean AP", "ap_50": "AP at 0.5", "dice": "Dice"},
            "count_error": "count error",
        },
        "order": "In an order.",
        "groups": ["x", "y"],
        "outline": "rgb({},{},{})".format(*OUTLINE_COLOUR),
        "colours": [css(colour) for colour in ID_COLOURS],
    }
    images = page_data(inputs, [PACKED] * 3, [])["images"]
    assert [image["group"] for image in images] == ["y", "x", NO_GROUP]
    assert images[0]["scores"] == {name: scores[0][name] for name in data["score_names"]}
    assert "scores" not in images[1]
    inputs.predictions.nuclei["confidence"] = "0.5"
    plain = page_data(inputs_of(*rows), [PACKED] * 3, [])
    assert (
        plain["score_names"] == {} and plain["groups"] == [] and "group" not in plain["images"][0]
    )
    assert page_data(inputs, [PACKED] * 3, [])["certainty_name"] == "mean confidence"
    with pytest.raises(ValueError, match="zip"):
        page_data(inputs, [PACKED] * 2, [])


def test_the_data_of_an_image():
    packed = PackedImage("p", "l", 9, 8, "t")
    expected = {
        **{"stem": "a", "file": "a.png", "height": 18, "width": 16, "modality": "tissue"},
        **{"part": "image", "found": 3, "nuclei": 2, "diameter": 8.1235, "share": 0.2},
        **{"certainty": None, "has_picture": True, "label_height": 9, "label_width": 8},
        "thumbnail": "t",
    }
    assert image_data(row("a", num_nuclei=3.0, shown=2.0), packed, None) == expected
    assert image_data(row("a", certainty=0.912345678), packed, None)["certainty"] == 0.91235
    assert not image_data(row("a"), packed._replace(picture=""), {})["has_picture"]
    for name in ("scale", "mpp", "positive_share"):
        assert image_data(row("a", **{name: 0.254321987}), packed, None)[name] == 0.25432
        assert name not in image_data(row("a", **{name: math.nan}), packed, None)
    flags = [
        image_data(row("a", **{OUT_OF_DISTRIBUTION: flag}), packed, None) for flag in (0, 1, 2)
    ]
    assert [flag[OUT_OF_DISTRIBUTION] for flag in flags] == [0, 1, 0]
    unknown = image_data(row("a", **{OUT_OF_DISTRIBUTION: math.nan}), packed, {"dice": 0.5})
    assert OUT_OF_DISTRIBUTION not in unknown
    assert unknown["scores"] == {"mean_ap": None, "ap_50": None, "dice": 0.5, "count_error": None}
