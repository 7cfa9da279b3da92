"""What the page says about the model and its limits."""

import math
import re

from report_tools import SETTINGS, data_of, make, page_of, write_model

import report
from nuclei.report.model_card import limits


def test_the_model_its_scores_and_limits_come_from_its_file(folder):
    make(folder)
    page = page_of(folder)
    assert "45 images: 40 fluorescence, 5 tissue" in page and "6 images to choose the epoch" in page
    assert "Fewest training images: tissue (5 of 45)." in page
    assert "Weakest on tissue: AP at 0.5 of 0.45, against 0.75 at best." in page
    assert (
        "The model was trained on nuclei of 9 to 30 px" in page
        and "scaled by 1 to 1." in page
        and "nucleus_threshold" in page
    )
    assert data_of(page)["training"]["data"] and "6 epochs, best 4" in page


def test_limits_name_images_of_sizes_and_kinds_that_were_not_learnt():
    rows = [
        {"image": "a", "modality": "brightfield", "median_diameter_px": 50.0, "nuclei": 3},
        {"image": "b", "modality": "tissue", "median_diameter_px": math.nan, "nuclei": 0},
    ]
    lines = " ".join(limits(SETTINGS, rows))
    assert "1 image here of a kind without training images: a." in lines
    assert (
        "The median diameter is outside this range in 1 image: a." in lines
        and "b" not in re.findall(r": (\w+)\.", lines)
    )
    scaled = " ".join(limits(SETTINGS, [{**rows[0], "scale": 0.5}, {**rows[1], "scale": 3.0}]))
    assert (
        "scaled by 0.5 to 3." in scaled
        and "limit of scale was reached in 1 image: b." in scaled
        and "outside" not in scaled
    )
    assert limits({}, rows) == ["A research tool: not validated for diagnosis."]


def test_a_model_that_says_little_and_has_no_history_is_shown_all_the_same(folder):
    write_model(folder / "model" / "other.h5", {"architecture": {"heads": ["nucleus"]}})
    words = ["--images", str(folder / "raw"), "--model", str(folder / "model" / "other.h5")]
    assert report.main([str(folder / "found"), *words]) == 0
    page = page_of(folder)
    assert "There is no history.csv beside the model" in page and data_of(page)["training"] is None
    assert (
        "The model described above is other.h5." in page
    )  # which is not the one that made the predictions
