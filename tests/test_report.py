"""report.py: what stands in the page, what it weighs, what it refuses; and in a real browser, what it does."""

import base64
import json
import math
import re
import shutil
import time
import zlib

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from skimage.measure import points_in_poly
from synthetic import draw
from test_graph import BROWSERS, history

import evaluate
import report
from nuclei.images.intensity import intensity_range
from nuclei.model_file import SETTINGS as THE_SETTINGS
from nuclei.report.inputs import OUT_OF_DISTRIBUTION, find_history, read_predictions
from nuclei.report.packing import LABEL_KIND, label_runs, pack_image, read_picture
from nuclei.report.sections import FOREST, forest_cell, limits, text
from nuclei.results.image import write_results
from nuclei.results.pictures import OVERLAY_COLOURS, write_png

SETTINGS = {
    "schema": 1,
    "architecture": {"heads": ["nucleus", "distance"], "width": 8},
    "thresholds": {"nucleus_threshold": 0.45, "min_area_px": 10},
    "nucleus_diameter_px": {"median": 16.0, "percentile_5": 9.0, "percentile_95": 30.0},
    "data": {"train": {"fluorescence": 40, "tissue": 5}, "validation": 6, "truth": {"instances": 51}},
    "scores": {"validation": {
        "all": {"images": 6, "dice": 0.9, "ap50": 0.7, "map": 0.5},
        "fluorescence": {"images": 5, "dice": 0.9, "ap50": 0.75, "map": 0.5},
        "tissue": {"images": 1, "dice": 0.8, "ap50": 0.45, "map": None},
    }},
    "versions": {"keras": "3.15.1"},
}  # fmt: skip
PICTURES = {  # stem: kind, height, width, number of nuclei, mean probability, unlike the training data
    "fluorescence_a": ("fluorescence", 96, 128, 14, 0.95, 0),
    "fluorescence_b": ("fluorescence", 120, 90, 9, 0.85, 0),
    "tissue <b>&amp;": ("tissue", 128, 128, 16, 0.90, 0),
    "tissue_empty": ("tissue", 64, 64, 0, math.nan, 1),
}


def write_model(path, settings=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs[THE_SETTINGS] = json.dumps(SETTINGS if settings is None else settings)
    return path


def write_predictions(folder, pictures=PICTURES, flags=True):
    """A folder as predict.py leaves it, with raw/ and truth/ beside it: half of the nuclei of `tissue` are merged."""
    for number, (stem, (kind, height, width, count, probability, _)) in enumerate(pictures.items()):
        image, labels = draw(kind, height, width, num_nuclei=count, diameter=14, seed=number, touching=0.4)
        write_png(folder / "raw" / f"{stem}.png", image)
        write_png(folder / "truth" / f"{stem}.png", labels.astype(np.uint16))
        if kind == "tissue":
            labels = (labels + 1) // 2
        maps = np.full((*labels.shape, 1), 0 if math.isnan(probability) else probability, np.float32)
        path = folder / "raw" / f"{stem}.png"
        found, made_by = folder / "found", "trained_model.h5 0123"
        write_results(found, stem, path, image, intensity_range(image), labels, maps, 1.0, {}, 0.1, made_by)
    if flags:
        change(
            folder / "found" / "summary.csv", lambda table: table.assign(out_of_distribution=[row[-1] for row in pictures.values()])
        )
    write_model(folder / "model" / "trained_model.h5")
    history(folder / "model")
    return folder


def change(path, edit):
    """Rewrite a table."""
    edit(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = write_predictions(tmp_path_factory.mktemp("report"))
    groups = folder / "groups.csv"
    groups.write_text("stem,modality\n" + "".join(f"{stem},{row[0]}\n" for stem, row in PICTURES.items()))
    words = [str(folder / "found"), str(folder / "truth"), "--groups", str(groups)]
    assert evaluate.main(words) == 0
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


def make(folder, *words, out=None):
    """Run report.py as a user would; returns the exit status."""
    named = ["--images", str(folder / "raw"), "--model", str(folder / "model" / "trained_model.h5")]
    return report.main([str(folder / "found"), *named, *(["--out", str(out)] if out else []), *words])


def page_of(folder):
    return (folder / "found" / "report.html").read_text(encoding="utf-8")


def block_of(page, name):
    return re.search(f'<script type="text/plain" id="{name}">([^<]*)</script>', page)[1]


def unpack(text):
    return zlib.decompress(base64.b64decode(text))


def data_of(page):
    return json.loads(unpack(block_of(page, "data")))


# --- What is in it ----------------------------------------------------------------------------------------------------


def test_the_page_holds_every_image_and_nucleus_exactly(folder, capsys):
    assert make(folder) == 0
    output = capsys.readouterr()
    assert output.err == "" and output.out.startswith(f"Wrote {folder / 'found' / 'report.html'}: 4 images, ")
    page = page_of(folder)
    data = data_of(page)
    table = pd.read_csv(folder / "found" / "nuclei.csv")
    values = {name: json.loads(unpack(block_of(page, f"measure-{name}"))) for name in data["measures"]}
    assert {"area_px", "circularity", "mean_red"} <= values.keys() and "id" not in values
    at = 0
    for number, image in enumerate(data["images"]):
        labels = cv2.imread(str(folder / "found" / "labels" / f"{image['stem']}.png"), cv2.IMREAD_UNCHANGED)
        runs = np.frombuffer(unpack(block_of(page, f"labels-{number}")), LABEL_KIND).reshape(2, -1)
        np.testing.assert_array_equal(np.repeat(runs[0], runs[1]).reshape(labels.shape), labels)
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(block_of(page, f"picture-{number}")), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (*labels.shape, 3) and picture.shape[:2] == (image["height"], image["width"])
        raw = read_picture(folder / "raw" / image["file"], next(
            row for row in read_predictions(folder / "found")[0] if row["image"] == image["stem"]
        ))  # fmt: skip
        assert np.abs(picture[..., ::-1].astype(float) - raw).mean() < 12  # lossy, but that picture
        mine = table[table["image"] == image["stem"]]
        assert len(mine) == image["nuclei"] == labels.max()
        for name, column in values.items():
            here = np.array(column[at : at + len(mine)], float)  # None, where there is no such thing, is NaN
            np.testing.assert_allclose(here, mine[name], rtol=1e-4)
        at += len(mine)
    assert at == len(table) == len(values["area_px"])


def test_the_page_asks_the_network_for_nothing_and_shows_names_as_text(folder):
    make(folder)
    page = page_of(folder)
    assert "default-src 'none'" in page and not re.search(r"<(script|img|link|iframe)[^>]*(src|href)=", page)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|importScripts)\s*\(", page)
    assert "tissue <b>" not in page  # only packed or escaped
    assert not re.search("%%[A-Z]+%%", page) and report.GENERATOR in page


def test_flagged_images_come_first_then_the_worst(folder):
    make(folder)
    data = data_of(page_of(folder))
    scores = {row["stem"]: row["mean_ap"] for row in json.loads((folder / "found" / "evaluation.json").read_text())["images"]}
    stems = [image["stem"] for image in data["images"]]
    assert stems[0] == "tissue_empty" and [image["out_of_distribution"] for image in data["images"]] == [1, 0, 0, 0]
    assert stems[1:] == sorted(stems[1:], key=scores.get) and scores[stems[1]] < 0.9
    assert data["images"][1]["scores"]["mean_ap"] == scores[stems[1]]
    assert data["order"] == "First come those unlike the training data, then those of the lowest mean AP."
    assert "<b>1</b><span>unlike the training data</span>" in page_of(folder)


def test_without_truth_the_least_certain_come_first_and_nothing_is_said_of_scores(folder):
    (folder / "found" / "evaluation.json").unlink()
    change(folder / "found" / "summary.csv", lambda table: table.drop(columns=OUT_OF_DISTRIBUTION))
    make(folder)
    page = page_of(folder)
    data = data_of(page)
    assert [image["stem"] for image in data["images"]] == [
        "fluorescence_b",
        "tissue <b>&amp;",
        "fluorescence_a",
        "tissue_empty",
    ]
    assert "out_of_distribution" not in data["images"][0] and "scores" not in data["images"][0] and data["score_names"] == {}
    assert "python evaluate.py PREDICTIONS TRUTH" in page
    assert "unlike the training data</span>" not in page and "out_of_distribution" not in data["order"]


def test_flags_that_the_model_could_not_set_are_no_flags(folder):
    path = folder / "found" / "summary.csv"
    change(path, lambda table: table.assign(out_of_distribution=""))
    make(folder)
    assert "unlike the training data</span>" not in page_of(folder) and "out_of_distribution" not in data_of(page_of(folder))["images"][0]
    change(path, lambda table: table.assign(out_of_distribution=["0", "", "1", ""]))
    make(folder)
    images = {image["stem"]: image.get("out_of_distribution") for image in data_of(page_of(folder))["images"]}
    assert images == {"tissue <b>&amp;": 1, "fluorescence_a": 0, "fluorescence_b": None, "tissue_empty": None}


def test_confidence_goes_before_probability_and_a_pixel_size_into_the_page(folder):
    (folder / "found" / "evaluation.json").unlink()
    change(
        folder / "found" / "nuclei.csv",
        lambda table: table.assign(confidence=table["image"].eq("fluorescence_b").astype(float)),
    )
    change(folder / "found" / "summary.csv", lambda table: table.drop(columns=OUT_OF_DISTRIBUTION).assign(mpp="0.25", zoom="0.8"))
    make(folder)
    data = data_of(page_of(folder))
    assert data["certainty_name"] == "mean confidence" and "(mean confidence)" in data["order"]
    assert [image["stem"] for image in data["images"]][2] == "fluorescence_b"  # the surest; the one without nuclei is last
    assert data["images"][0]["mpp"] == 0.25 and data["images"][0]["zoom"] == 0.8


def test_columns_without_room_are_named(folder, monkeypatch):
    monkeypatch.setattr("nuclei.report.packing.MEASURES_MB", 0)
    make(folder)
    page = page_of(folder)
    assert set(data_of(page)["measures"]) == set(data_of(page)["first_measures"]) >= {"diameter_px", "circularity"}
    assert "for want of room, columns of nuclei.csv: centroid_row_px" in page


def test_without_probabilities_the_order_is_that_of_the_table(folder):
    (folder / "found" / "evaluation.json").unlink()
    change(folder / "found" / "summary.csv", lambda table: table.drop(columns=OUT_OF_DISTRIBUTION))
    change(folder / "found" / "nuclei.csv", lambda table: table.drop(columns="mean_probability"))
    make(folder)
    data = data_of(page_of(folder))
    assert [image["stem"] for image in data["images"]] == list(PICTURES)
    assert data["images"][0]["certainty"] is None


def test_scores_stand_with_their_intervals_for_each_group(folder):
    make(folder)
    page = page_of(folder)
    record = json.loads((folder / "found" / "evaluation.json").read_text())
    for summary in (record["all"], *record["groups"].values()):
        for name, kind, _, _ in FOREST[:5]:
            score = summary[kind][name]
            assert (
                f'<b>{score["value"]:.3f}</b> <span class="interval">{score["low"]:.3f} to {score["high"]:.3f}</span>' in page
            )
    assert '<th scope="row">tissue</th>' in page and text(record["definitions"]["pq"]) in page


def test_undefined_scores_are_dashes():
    nothing = {"value": None, "low": None, "high": None}
    assert forest_cell(nothing, (0, 1), False) == "–"
    alone = forest_cell({"value": -0.1, "low": None, "high": None}, (-0.5, 0.5), True)
    assert "<b>-10.0 %</b>" in alone and "interval" not in alone and "left:40.0%" in alone


def test_the_model_its_scores_and_limits_come_from_its_file(folder):
    make(folder)
    page = page_of(folder)
    assert "45 images: 40 fluorescence, 5 tissue" in page and "6 images to choose the epoch" in page
    assert "Fewest training images: tissue (5 of 45)." in page
    assert "Weakest on tissue: AP at 0.5 of 0.45, against 0.75 at best." in page
    assert "It was trained on nuclei of 9 to 30 px" in page and "zoomed by 1 to 1;" in page and "nucleus_threshold" in page
    assert data_of(page)["training"]["data"] and "6 epochs, best 4" in page


def test_limits_name_images_of_sizes_and_kinds_that_were_not_learnt():
    rows = [
        {"image": "a", "modality": "brightfield", "median_diameter_px": 50.0, "nuclei": 3},
        {"image": "b", "modality": "tissue", "median_diameter_px": math.nan, "nuclei": 0},
    ]
    lines = " ".join(limits(SETTINGS, rows))
    assert "1 image here of a kind that the training did not have: a." in lines
    assert "the median lies outside in 1 image: a." in lines and "b" not in re.findall(r": (\w+)\.", lines)
    zoomed = " ".join(limits(SETTINGS, [{**rows[0], "zoom": 0.5}, {**rows[1], "zoom": 3.0}]))
    assert "zoomed by 0.5 to 3;" in zoomed and "limit of zoom was reached in 1 image: b." in zoomed and "outside" not in zoomed
    assert limits({}, rows) == ["A research tool: not validated for diagnosis."]


def test_a_model_that_says_little_and_has_no_history_is_shown_all_the_same(folder):
    write_model(folder / "model" / "other.h5", {"architecture": {}})
    words = ["--images", str(folder / "raw"), "--model", str(folder / "model" / "other.h5")]
    assert report.main([str(folder / "found"), *words]) == 0
    page = page_of(folder)
    assert "No history.csv lies beside the model" in page and data_of(page)["training"] is None
    assert "The model described above is other.h5." in page  # which is not the one that made the predictions


def test_the_history_is_the_one_beside_the_model(tmp_path):
    model = tmp_path / "pretrained.h5"
    assert find_history(model) is None
    (tmp_path / "history.csv").touch()
    assert find_history(model) is None  # it belongs to trained_model.h5
    assert find_history(tmp_path / "trained_model.h5") == tmp_path / "history.csv"
    (tmp_path / "pretrained_history.csv").touch()
    assert find_history(model) == tmp_path / "pretrained_history.csv"


def test_history_and_evaluation_can_be_named(folder, tmp_path, capsys):
    moved = tmp_path / "scores"
    moved.mkdir()
    shutil.move(folder / "found" / "evaluation.json", moved)
    path = history(tmp_path / "long", num_epochs=9)
    out = tmp_path / "page.html"
    assert make(folder, "--evaluation", str(moved), "--history", str(path), out=out) == 0
    assert "9 epochs" in out.read_text(encoding="utf-8") and data_of(out.read_text(encoding="utf-8"))["score_names"]
    assert make(folder, "--history", str(tmp_path / "none.csv")) == 1
    assert "no such file" in capsys.readouterr().err


def test_scores_of_other_predictions_are_left_out(folder, capsys):
    path = folder / "found" / "evaluation.json"
    record = json.loads(path.read_text())
    record["images"][0]["num_predicted"] += 1
    path.write_text(json.dumps(record))
    assert make(folder) == 0
    assert "was made of other predictions" in capsys.readouterr().err and "was made of other predictions" in page_of(folder)
    assert data_of(page_of(folder))["score_names"] == {}
    for image in record["images"]:
        image["stem"] += "_other"
    path.write_text(json.dumps(record))
    assert make(folder) == 0
    assert "scores other images" in capsys.readouterr().err


def test_an_image_that_is_not_there_is_said_and_shown_without_picture(folder, capsys):
    (folder / "raw" / "fluorescence_a.png").unlink()
    assert make(folder) == 0
    assert "1 image shown without a picture, not found: fluorescence_a" in capsys.readouterr().err
    images = {image["stem"]: image for image in data_of(page_of(folder))["images"]}
    assert not images["fluorescence_a"]["has_picture"] and images["fluorescence_b"]["has_picture"]
    assert "shown without a picture: fluorescence_a" in page_of(folder)


def test_images_are_found_in_several_folders(folder):
    (folder / "more").mkdir()
    shutil.move(folder / "raw" / "fluorescence_a.png", folder / "more")
    assert make(folder, "--images", str(folder / "raw"), str(folder / "more")) == 0
    assert all(image["has_picture"] for image in data_of(page_of(folder))["images"])


# --- What it weighs ---------------------------------------------------------------------------------------------------


def test_runs_are_the_labels():
    random = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (7, 1), (40, 30)):
        labels = (random.integers(0, 3, shape) * random.integers(0, 2, shape)).astype(np.uint32)
        ids, lengths = np.frombuffer(label_runs(labels), LABEL_KIND).reshape(2, -1)
        np.testing.assert_array_equal(np.repeat(ids, lengths).reshape(shape), labels)
        assert (ids[1:] != ids[:-1]).all()


def test_an_image_is_reduced_as_far_as_its_space_asks():
    picture, labels = draw("tissue", 256, 200, seed=3)
    labels = labels.astype(np.uint32)
    sizes = []
    for space in (10**6, 12_000, 6_000, 10):
        code = pack_image(picture, labels, space)
        sizes.append(len(code["picture"]) + len(code["labels"]))
        assert sizes[-1] <= space or space == 10
        ids, lengths = np.frombuffer(unpack(code["labels"]), LABEL_KIND).reshape(2, -1)
        assert lengths.sum() == code["label_height"] * code["label_width"] and set(ids) <= set(np.unique(labels))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    assert pack_image(picture, labels, 10**6)["label_height"] == 256
    assert code["label_height"] == 32  # the last step, which is taken even where it does not fit


def test_a_large_image_is_shown_reduced(monkeypatch):
    monkeypatch.setattr("nuclei.report.packing.MAX_SIDE_PX", 64)
    picture, labels = draw("fluorescence", 256, 128, seed=3)
    code = pack_image(picture, labels.astype(np.uint32), 10**6)
    assert (code["label_height"], code["label_width"]) == (64, 32)


def test_many_images_stay_within_the_weight_of_a_page(folder, monkeypatch):
    make(folder)
    free = (folder / "found" / "report.html").stat().st_size
    monkeypatch.setattr("report.PAGE_MB", free / 1e6)  # too little, since RESERVE_BYTES are kept back
    make(folder)
    page = (folder / "found" / "report.html").stat().st_size
    assert page <= report.PAGE_MB * 1e6 and page < free


# --- What it refuses --------------------------------------------------------------------------------------------------


def spoil_missing_column(found):
    change(found / "summary.csv", lambda table: table.drop(columns="intensity_low"))


def spoil_formats(found):
    change(found / "summary.csv", lambda table: table.assign(formats="masks overlays"))


def spoil_number(found):
    change(found / "summary.csv", lambda table: table.assign(height_px="tall"))


def spoil_count(found):
    change(found / "nuclei.csv", lambda table: table.iloc[1:])


def spoil_order(found):
    change(found / "nuclei.csv", lambda table: table.iloc[::-1])


def spoil_labels(found):
    write_png(found / "labels" / "fluorescence_a.png", np.zeros((96, 128), np.uint16))


def spoil_picture(found):
    write_png(found.parent / "raw" / "fluorescence_a.png", np.zeros((5, 5, 3), np.uint8))


def spoil_all_pictures(found):
    shutil.rmtree(found.parent / "raw")
    (found.parent / "raw").mkdir()


@pytest.mark.parametrize(
    "spoil, words",
    [
        (spoil_missing_column, ["summary.csv", "intensity_low", "--overwrite"]),
        (spoil_formats, ["no labels or no csv", "--formats labels,csv"]),
        (spoil_number, ["summary.csv", "no number"]),
        (spoil_count, ["count differently", "fluorescence_a"]),
        (spoil_order, ["not numbered"]),
        (spoil_labels, ["fluorescence_a.png", "ids up to 0", "--overwrite"]),
        (spoil_picture, ["5×5 px", "128×96", "--images"]),
        (spoil_all_pictures, ["none of the predicted images is there", "--images"]),
        (lambda found: shutil.rmtree(found.parent / "raw"), ["no such folder", "--images"]),
        (lambda found: (found / "summary.csv").unlink(), ["summary.csv", "python predict.py"]),
        (lambda found: (found / "summary.csv").write_text(""), ["holds no image"]),
        (lambda found: (found / "evaluation.json").write_text("{}"), ["evaluation.json", "evaluate.py"]),
        (lambda found: (found / "evaluation.json").write_bytes(b"\xff"), ["evaluation.json", "evaluate.py"]),
        (lambda found: (found / "report.html").write_text("mine"), ["was not written by report.py", "--out"]),
        (lambda found: (found / "report.html").mkdir(), ["is a folder", "--out"]),
        (lambda found: (found.parent / "model" / "trained_model.h5").unlink(), ["no such model file"]),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_leaves_no_page(folder, capsys, spoil, words):
    spoil(folder / "found")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make(folder) == 1
    output = capsys.readouterr()
    assert output.err.startswith("report.py: ") and output.err.count("\n") == 1, output.err
    assert all(word in output.err for word in words), output.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_earlier_page_of_ours_is_replaced(folder):
    assert make(folder) == 0 and make(folder) == 0
    assert not list((folder / "found").glob(".*"))


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chrome or Chromium on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=path)
        yield started
        started.close()


@pytest.fixture(scope="module")
def shown(original, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert make(original, out=out) == 0
    return out


@pytest.fixture(scope="module")
def visit(browser):
    """Opens a page; at the end, none of all pages has said anything to the console or asked anybody for anything."""
    trouble, expected = [], []

    def asked(url, path):
        if not url.startswith(("data:", "blob:", path.as_uri())):
            trouble.append(url)

    def open_page(path, errors=0, plots=True, script=None, **settings):
        context = browser.new_context(**{"viewport": {"width": 1366, "height": 900}, **settings})
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: asked(request.url, path))
        if script:
            page.add_init_script(script)
        page.goto(path.as_uri())
        if plots:
            page.wait_for_selector("html[data-plots]", state="attached", timeout=120_000)
        expected.append(errors)
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert len(trouble) == sum(expected), trouble


@pytest.fixture(scope="module")
def opened(visit, shown):
    """One page for many tests: to open it takes longer than most of them."""
    return visit(shown)


@pytest.fixture
def page(opened):
    """That page as it was when it was opened."""
    opened.evaluate(
        """() => {
          select(() => false);
          for (const id of ["find", "kind", "from", "to"]) $(id).value = "";
          $("out_of_distribution").checked = false;
          $("scope").querySelector("[value=one]").checked = true;
          $("across").value = "diameter_px";
          $("up").value = "circularity";
          Object.assign(view.opacity, { masks: 1, overlay: 1 });
          $("reset").click();
          setMode("overlay");
          show(0);
          scrollTo(0, 0);
        }"""
    )
    wait(opened, "document.documentElement.dataset.shown === images[0].stem")
    return opened


def wait(page, expression, *argument, seconds=60):
    """Until an expression is true. Playwright's own way evaluates text in the page, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, *argument):
        assert time.monotonic() < end, f"after {seconds} s it is still not true that {expression}"
        time.sleep(0.02)


def pixels(page):
    """The picture in the viewer as (H, W, 3) uint8."""
    code = page.evaluate(
        "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r($('viewer').toDataURL()))))"
    )
    return cv2.imdecode(np.frombuffer(base64.b64decode(code.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def open_image(page, stem):
    page.evaluate("stem => show(images.find((image) => image.stem === stem).number)", stem)
    wait(page, "stem => document.documentElement.dataset.shown === stem", stem)


def chosen(page):
    """Selected nuclei: (stem, id) in order."""
    return page.evaluate(
        "[...selected].flatMap((on, at) => on ? [[images[owner[at]].stem, at - images[owner[at]].first + 1]] : [])"
    )


def is_marked(picture):
    """Where a picture has the yellow of selected nuclei."""
    red, green, blue = np.moveaxis(picture, -1, 0)
    return (red > 235) & (green > 200) & (blue < 60)


def test_the_switch_shows_image_masks_and_overlay_and_the_slider_fades(page, original):
    open_image(page, "fluorescence_a")
    views = {}
    for mode in ("image", "masks", "overlay"):
        page.check(f"[name=mode][value={mode}]", force=True)
        views[mode] = pixels(page)
    assert page.locator("#opacity").is_enabled()
    assert np.abs(views["image"] - views["overlay"]).max() > 100
    labels = cv2.imread(str(original / "found" / "labels" / "fluorescence_a.png"), cv2.IMREAD_UNCHANGED)
    height, width = views["masks"].shape[:2]
    scale = page.evaluate("view.scale")
    for row, column in [(r, c) for r in range(4, 96, 7) for c in range(4, 128, 7)]:
        if (labels[row - 1 : row + 2, column - 1 : column + 2] != labels[row, column]).any():
            continue
        pixel = views["masks"][int(height / 2 + (row + 0.5 - 48) * scale), int(width / 2 + (column + 0.5 - 64) * scale)]
        colour = OVERLAY_COLOURS[labels[row, column] % 6] if labels[row, column] else (0, 0, 0)
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
        labels = cv2.imread(str(original / "found" / "labels" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(page.evaluate(f"labelsOf({number}).then((labels) => [...labels])"), labels.ravel())
    # the rim of each nucleus closes around the middles of its own pixels and of no others
    wrong = page.evaluate(
        """async () => {
          const now = await loaded(images.findIndex((image) => image.stem === "fluorescence_a"));
          const pen = document.createElement("canvas").getContext("2d");
          const crossings = (path, x, y) => { // sides that a thin ray to the right crosses, by walking along it
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
    assert listed() == ascending[::-1] and page.locator("#heads th[aria-sort=descending]").count() == 1
    head.press("Enter")  # the third time, by keyboard: back to the first order
    assert listed() == first and page.locator("#heads th[aria-sort]").count() == 0
    page.locator("#heads button", has_text="median diameter").click()
    assert listed()[-1] == "tissue_empty"  # what has no value stands last
    page.click("#reset")
    assert listed() == first and page.locator("#reset").is_hidden()

    page.fill("#find", "FLUO")
    assert sorted(listed()) == ["fluorescence_a", "fluorescence_b"] and page.inner_text("#listed") == "2 of 4 images"
    assert page.locator("#gallery button").count() == 2
    page.fill("#find", "")
    page.select_option("#kind", "tissue")
    assert sorted(listed()) == sorted(summary.index[summary["modality"] == "tissue"])
    page.select_option("#kind", "")
    page.check("#unlike")
    assert listed() == ["tissue_empty"]
    page.uncheck("#unlike")
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


def test_points_selected_in_a_plot_light_up_in_the_picture(page, original):
    open_image(page, "fluorescence_a")
    wait(page, "$('scatter').data?.[0]?.name === 'fluorescence'")
    table = pd.read_csv(original / "found" / "nuclei.csv")
    mine = table[table["image"] == "fluorescence_a"]
    assert page.evaluate("$('scatter').data[0].x.length") == len(mine)
    dark = pixels(page)
    middle = float(mine["diameter_px"].median()) + 0.01
    area = page.locator("#scatter .nsewdrag").bounding_box()
    at = area["x"] + page.evaluate(f"$('scatter')._fullLayout.xaxis.d2p({middle})")
    page.mouse.move(at, area["y"] + 1)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] - 1, area["y"] + area["height"] - 1, steps=5)
    page.mouse.up()
    wait(page, "selectionCount > 0")
    wanted = mine[mine["diameter_px"] > middle]["id"].tolist()
    assert chosen(page) == [["fluorescence_a", id] for id in wanted] and 0 < len(wanted) < len(mine)
    assert page.inner_text("#chosen") == f"{len(wanted)} nuclei selected in 1 image."
    lit = pixels(page)
    labels = cv2.imread(str(original / "found" / "labels" / "fluorescence_a.png"), cv2.IMREAD_UNCHANGED)
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
    assert page.evaluate("$('scatter').data.flatMap((trace) => trace.y).every((value) => value > 0 && value <= 1)")
    page.select_option("#up", "circularity")
    page.fill("#from", str(low))
    page.fill("#to", str(high))
    page.locator("#to").press("Enter")
    within = table[table["area_px"].between(low, high)]
    assert sorted(map(tuple, chosen(page))) == sorted(zip(within["image"], within["id"], strict=True))
    chips = page.locator("#chips button")
    assert chips.count() == within["image"].nunique()
    badges = dict(page.evaluate("images.map(({ stem, badge }) => [stem, badge.hidden ? 0 : Number(badge.textContent)])"))
    assert badges == {stem: int((within["image"] == stem).sum()) for stem in PICTURES}
    chips.first.click()
    assert page.inner_text("#name") == within["image"].value_counts().index[0]
    page.click("#clear")
    assert not chosen(page)

    area = page.locator("#sizes .nsewdrag").bounding_box()
    sizes = np.sort(table["area_px"].to_numpy())
    gap = np.argmax(np.diff(sizes[4:-4])) + 4  # where a pixel of the mouse more or less does not matter
    border = (sizes[gap] + sizes[gap + 1]) / 2
    edge = page.evaluate(f"$('sizes')._fullLayout.xaxis.d2p({border})")
    page.mouse.move(area["x"] + edge, area["y"] + 10)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] - 1, area["y"] + 40, steps=5)
    page.mouse.up()
    wait(page, "selectionCount > 0")
    assert {tuple(one) for one in chosen(page)} == {(row.image, row.id) for row in table.itertuples() if row.area_px > border}

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
        "(([x, y]) => corners => corners.map(([a, b]) => [x.p2d(a * x._length), y.p2d(b * y._length)]))"
        f"([$('scatter')._fullLayout.xaxis, $('scatter')._fullLayout.yaxis])({json.dumps(corners)})"
    )
    inside = points_in_poly(table[["area_px", "circularity"]].to_numpy(), np.array(scale))
    differ = {tuple(one) for one in chosen(page)} ^ set(zip(table["image"][inside], table["id"][inside], strict=True))
    assert 0 < inside.sum() < len(table) and len(differ) <= 1  # a point on the drawn line may fall to either side


def test_a_click_on_a_nucleus_selects_and_describes_it(page, original):
    open_image(page, "fluorescence_b")
    table = pd.read_csv(original / "found" / "nuclei.csv")
    mine = table[(table["image"] == "fluorescence_b") & (table["touches_border"] == 0)]
    box, scale = page.locator("#viewer").bounding_box(), page.evaluate("view.scale")

    def click(nucleus, **how):
        x = box["x"] + box["width"] / 2 + (nucleus.centroid_column_px + 0.5 - 45) * scale
        y = box["y"] + box["height"] / 2 + (nucleus.centroid_row_px + 0.5 - 60) * scale
        page.mouse.move(x, y)
        if how:
            page.keyboard.down("Shift")
        page.mouse.click(x, y)
        page.keyboard.up("Shift")

    one, two = list(mine.itertuples())[:2]
    click(one)
    assert chosen(page) == [["fluorescence_b", one.id]]
    told = page.inner_text("#nucleus")
    assert told.startswith(f"Nucleus {one.id}: diameter, px {one.diameter_px:g};") and f"; area, px² {one.area_px};" in told
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
    place = (
        f"$('scatter')._fullLayout.xaxis.d2p({largest.diameter_px}), $('scatter')._fullLayout.yaxis.d2p({largest.circularity})"
    )
    x, y = page.evaluate(f"[{place}]")
    page.mouse.move(area["x"] + x, area["y"] + y)
    page.mouse.click(area["x"] + x, area["y"] + y)
    wait(page, "selectionCount === 1")
    assert chosen(page) == [[largest.image, largest.id]]
    wait(page, "stem => document.documentElement.dataset.shown === stem", largest.image)
    time.sleep(0.5)  # a click of Plotly's own that undoes selections would come late
    assert chosen(page) == [[largest.image, largest.id]]


def test_cards_of_the_gallery_follow_the_switch(page):
    page.evaluate("$('all').scrollIntoView()")
    page.wait_for_selector("#gallery canvas")
    page.evaluate("setMode('masks')")
    wait(page, "document.querySelectorAll('#gallery canvas').length === 4")
    wait(page, "[...document.querySelectorAll('#gallery canvas')].every((canvas) => canvas.style.background)")
    page.evaluate("setMode('image')")
    wait(page, "[...document.querySelectorAll('#gallery canvas')].every(c => c.hidden)")
    page.evaluate("setMode('masks')")
    wait(page, "[...document.querySelectorAll('#gallery canvas')].every(c => !c.hidden)")


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
    page.mouse.click(area["x"] + page.evaluate("$('counts')._fullLayout.xaxis.d2p(2)"), area["y"] + area["height"] - 3)
    wait(page, "stem => document.documentElement.dataset.shown === stem", stem)


def contrast(one, two):
    """Contrast of two colours as WCAG 2 has it."""

    def light(colour):
        values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    bright, dark = sorted((light(one), light(two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read_in_either_scheme(page, scheme):
    page.emulate_media(color_scheme=scheme)
    names = ("ground", "sheet", "ink", "quiet", "accent", "on-accent", "warn", "warn-ground", "mild")
    rule = "getComputedStyle(document.documentElement).getPropertyValue"
    style = {name: page.evaluate(f"{rule}('--{name}').trim()") for name in names}
    whole = {name: "#" + "".join(2 * c for c in colour[1:]) if len(colour) == 4 else colour for name, colour in style.items()}
    pairs = [(text, ground) for text in ("ink", "quiet", "accent") for ground in ("sheet", "ground")]
    for text, ground in [*pairs, ("on-accent", "accent"), ("warn", "warn-ground"), ("ink", "mild"), ("accent", "mild")]:
        assert contrast(whole[text], whole[ground]) >= 4.5, (text, ground)
    assert (contrast(whole["ground"], "#000000") < 3) == (scheme == "dark")
    wait(page, f"$('scatter').layout.font.color === '{style['ink']}'")  # the plots follow
    page.emulate_media(color_scheme="light")


def test_a_phone_sees_it_all_without_scrolling_sideways(visit, shown):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
    page = visit(shown, **phone)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#touch").is_visible() and page.locator("#keys").is_hidden()
    assert page.evaluate("$('viewer').style.touchAction") == "pan-y"  # a finger on a whole picture scrolls the page
    open_image(page, "fluorescence_a")
    page.tap("#closer")
    assert page.evaluate("$('viewer').style.touchAction") == "none"
    whole = page.evaluate("fitting()")
    page.tap("#whole")
    page.evaluate(
        """() => {
          const box = $("viewer").getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
          const send = (name, pointerId, dx) => $("viewer").dispatchEvent(
            new PointerEvent(name, { pointerId, clientX: x + dx, clientY: y, pointerType: "touch", bubbles: true }));
          $("viewer").setPointerCapture = () => {}; // refuses fingers that are not there
          send("pointerdown", 5, -20); send("pointerdown", 6, 20);
          send("pointermove", 6, 60);
          send("pointerup", 5, -20); send("pointerup", 6, 60);
        }"""
    )
    assert page.evaluate("view.scale") == pytest.approx(2 * whole) and not chosen(page)
    small = page.evaluate(
        "[...document.querySelectorAll('button:not([hidden])')].filter(b => b.offsetHeight && b.offsetHeight < 24).length"
    )
    assert small == 0


def test_everything_can_be_reached_by_keyboard(page):
    seen = []
    page.locator(".skip").first.focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.id || document.activeElement.name || document.activeElement.className")
        )
    wanted = {"previous", "next", "mode", "opacity", "viewer", "closer", "scope", "across", "up", "from", "to", "find", "kind"}
    assert wanted <= set(seen), wanted - set(seen)
    page.locator("#mode [value=overlay]").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("view.mode") == "masks"
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select")].filter(
          (one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.[0]?.textContent.trim())).length"""
    )
    assert unnamed == 0


def test_pages_without_nuclei_without_pictures_and_without_scores_open(visit, tmp_path):
    folder = write_predictions(tmp_path / "empty", {"dark": ("fluorescence", 40, 40, 0, math.nan, 0)}, flags=False)
    assert make(folder) == 0
    page = visit(folder / "found" / "report.html")
    assert page.inner_text("#name") == "dark" and page.locator("#trouble").is_hidden()

    folder = write_predictions(
        tmp_path / "two", {f"image{n}": ("fluorescence", 60, 60, 4, 0.9, 0) for n in (1, 2)}, flags=False
    )
    (folder / "raw" / "image1.png").unlink()
    assert make(folder) == 0
    page = visit(folder / "found" / "report.html")
    open_image(page, "image1")
    assert "picture not found" in page.inner_text("#facts") and "out_of_distribution" not in page.inner_text("body")


def test_an_old_browser_is_told(visit, shown):
    page = visit(shown, errors=1, plots=False, script="delete window.DecompressionStream")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "too old" in page.inner_text("#trouble")
