"""The order of the images, what is read, and what is missing."""

import json
import shutil

from report_tools import PICTURES, change, data_of, make, page_of

from nuclei.report.inputs import find_history
from nuclei.report.predictions import OUT_OF_DISTRIBUTION


def test_flagged_images_come_first_then_the_worst(folder):
    make(folder)
    data = data_of(page_of(folder))
    scores = {
        row["stem"]: row["mean_ap"]
        for row in json.loads((folder / "found" / "evaluation.json").read_text())["images"]
    }
    stems = [image["stem"] for image in data["images"]]
    assert stems[0] == "tissue_empty" and [
        image["out_of_distribution"] for image in data["images"]
    ] == [1, 0, 0, 0]
    assert stems[1:] == sorted(stems[1:], key=scores.get) and scores[stems[1]] < 0.9
    assert data["images"][1]["scores"]["mean_ap"] == scores[stems[1]]
    assert data["order"] == (
        "First images out of distribution, then images with the lowest mean AP."
    )
    assert "<b>1</b><span>out of distribution</span>" in page_of(folder)


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
    assert (
        "out_of_distribution" not in data["images"][0]
        and "scores" not in data["images"][0]
        and data["score_names"] == {}
    )
    assert f"python evaluate.py {folder / 'found'} TRUTH" in page
    assert "out of distribution</span>" not in page and "out of distribution" not in data["order"]


def test_flags_that_the_model_could_not_set_are_no_flags(folder):
    path = folder / "found" / "summary.csv"
    change(path, lambda table: table.assign(out_of_distribution=""))
    make(folder)
    assert (
        "out of distribution</span>" not in page_of(folder)
        and "out_of_distribution" not in data_of(page_of(folder))["images"][0]
    )
    change(path, lambda table: table.assign(out_of_distribution=["0", "", "1", ""]))
    make(folder)
    images = {
        image["stem"]: image.get("out_of_distribution")
        for image in data_of(page_of(folder))["images"]
    }
    assert images == {
        "tissue <b>&amp;": 1,
        "fluorescence_a": 0,
        "fluorescence_b": None,
        "tissue_empty": None,
    }


def test_confidence_goes_before_probability_and_a_pixel_size_into_the_page(folder):
    (folder / "found" / "evaluation.json").unlink()
    change(
        folder / "found" / "nuclei.csv",
        lambda table: table.assign(confidence=table["image"].eq("fluorescence_b").astype(float)),
    )
    change(
        folder / "found" / "summary.csv",
        lambda table: table.drop(columns=OUT_OF_DISTRIBUTION).assign(mpp="0.25", scale="0.8"),
    )
    make(folder)
    data = data_of(page_of(folder))
    assert data["certainty_name"] == "mean confidence" and "mean confidence" in data["order"]
    assert [image["stem"] for image in data["images"]][
        2
    ] == "fluorescence_b"  # the surest; the one without nuclei is last
    assert data["images"][0]["mpp"] == 0.25 and data["images"][0]["scale"] == 0.8


def test_without_probabilities_the_order_is_that_of_the_table(folder):
    (folder / "found" / "evaluation.json").unlink()
    change(folder / "found" / "summary.csv", lambda table: table.drop(columns=OUT_OF_DISTRIBUTION))
    change(folder / "found" / "nuclei.csv", lambda table: table.drop(columns="mean_probability"))
    make(folder)
    data = data_of(page_of(folder))
    assert [image["stem"] for image in data["images"]] == list(PICTURES)
    assert data["images"][0]["certainty"] is None


def test_the_history_is_the_one_beside_the_model(tmp_path):
    model = tmp_path / "pretrained.h5"
    assert find_history(model) is None
    (tmp_path / "history.csv").touch()
    assert find_history(model) is None  # it belongs to trained_model.h5
    assert find_history(tmp_path / "trained_model.h5") == tmp_path / "history.csv"
    (tmp_path / "pretrained_history.csv").touch()
    assert find_history(model) == tmp_path / "pretrained_history.csv"


def test_images_are_found_in_several_folders(folder):
    (folder / "more").mkdir()
    shutil.move(folder / "raw" / "fluorescence_a.png", folder / "more")
    assert make(folder, "--images", str(folder / "raw"), str(folder / "more")) == 0
    assert all(image["has_picture"] for image in data_of(page_of(folder))["images"])
