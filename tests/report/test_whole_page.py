"""The page that report.py writes: every image and nucleus is in it, and no names as markup."""

import base64
import json
import re

import cv2
import numpy as np
import pandas as pd
from report_tools import block_of, data_of, make, page_of, unpack

from nuclei.images.labels import read_labels
from nuclei.report.packing import LABEL_TYPE, read_picture
from nuclei.report.page import GENERATOR
from nuclei.report.predictions import read_predictions
from nuclei.report.sections import SCORE_COLUMNS, text


def test_the_page_holds_every_image_and_nucleus_exactly(folder, capsys):
    assert make(folder) == 0
    output = capsys.readouterr()
    assert output.err == "" and output.out.startswith(
        f"Wrote {folder / 'found' / 'report.html'}: 4 images, "
    )
    page = page_of(folder)
    data = data_of(page)
    table = pd.read_csv(folder / "found" / "nuclei.csv")
    rows = {row["image"]: row for row in read_predictions(folder / "found").rows}
    values = {
        name: json.loads(unpack(block_of(page, f"measure-{name}"))) for name in data["measures"]
    }
    assert {"area_px", "circularity", "mean_red"} <= values.keys() and "id" not in values
    first = 0
    for number, image in enumerate(data["images"]):
        labels = read_labels(folder / "found" / "labels" / f"{image['stem']}.png")
        runs = np.frombuffer(unpack(block_of(page, f"labels-{number}")), LABEL_TYPE)
        ids, lengths = runs.reshape(2, -1)
        np.testing.assert_array_equal(np.repeat(ids, lengths).reshape(labels.shape), labels)
        code = np.frombuffer(base64.b64decode(block_of(page, f"picture-{number}")), np.uint8)
        picture = cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1]
        assert picture.shape == (*labels.shape, 3)
        assert picture.shape[:2] == (image["height"], image["width"])
        raw = read_picture(folder / "raw" / image["file"], rows[image["stem"]])
        assert np.abs(picture.astype(float) - raw).mean() < 12  # lossy, but this picture
        expected = table[table["image"] == image["stem"]]
        assert len(expected) == image["nuclei"] == labels.max()
        for name, column in values.items():
            part = np.array(column[first : first + len(expected)], float)  # None becomes NaN
            np.testing.assert_allclose(part, expected[name], rtol=1e-4)
        first += len(expected)
    assert first == len(table) == len(values["area_px"])


def test_the_page_asks_the_network_for_nothing_and_shows_names_as_text(folder):
    make(folder)
    page = page_of(folder)
    assert "default-src 'none'" in page and not re.search(
        r"<(script|img|link|iframe)[^>]*(src|href)=", page
    )
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|importScripts)\s*\(", page)
    assert "tissue <b>" not in page  # only packed or escaped
    assert not re.search("%%[A-Z]+%%", page) and GENERATOR in page


def test_scores_stand_with_their_intervals_for_each_group(folder):
    make(folder)
    page = page_of(folder)
    record = json.loads((folder / "found" / "evaluation.json").read_text())
    for summary in (record["all"], *record["groups"].values()):
        for name, kind, _, _ in SCORE_COLUMNS[:5]:
            score = summary[kind][name]
            interval = f"{score['low']:.3f} to {score['high']:.3f}"
            assert f'<b>{score["value"]:.3f}</b> <span class="interval">{interval}</span>' in page
    assert '<th scope="row">tissue</th>' in page and text(record["definitions"]["pq"]) in page
