"""To QuPath and back: predict.py --editable, corrections with the brush, and the ground truth."""

import json
import shutil

import numpy as np
import pytest
from blob_model import write_blob_model
from formats_tools import circle, disc, draw_examples, feature, nuclei_of, worst_overlap
from inference_tools import run_predict, write_blobs

import exports
import import_data
import predict
from nuclei.formats.geojson import write_geojson
from nuclei.images.labels import read_labels
from nuclei.training.samples import load_samples
from nuclei.truth.masks import read_truth

STEM, SHAPE = "image0", (60, 80)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A folder of images and one of predictions with editable outlines."""
    folder = tmp_path_factory.mktemp("qupath")
    model = write_blob_model(folder / "model.h5")
    write_blobs(folder / "raw", 2)
    assert run_predict(model, folder / "out", folder / "raw", "--editable") == 0
    return folder


def read_features(path):
    return json.loads(path.read_text(encoding="utf-8"))["features"]


def as_qupath_exports(features):
    """The same objects in the form of "Export objects as GeoJSON": an indented FeatureCollection
    with decimal coordinates, where a locked object says so.
    """
    for one in features:
        points = np.array(one["geometry"]["coordinates"][0], float)
        one["geometry"]["coordinates"][0] = points.tolist()
        one["properties"]["isLocked"] = True
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=2)


def test_editable_outlines_are_written_beside_the_default_formats(found):
    features = read_features(found / "out" / "geojson" / f"{STEM}.geojson")
    assert {one["properties"]["objectType"] for one in features} == {"annotation"}
    labels = read_labels(found / "out" / "labels" / f"{STEM}.png")
    assert len(features) == labels.max() > 2


def test_exports_make_finished_predictions_editable(found, tmp_path):
    arguments = [str(found / "out"), "--editable", "--out", str(tmp_path)]
    assert exports.main(arguments) == 0
    for path in sorted((found / "out" / "geojson").iterdir()):
        assert (tmp_path / "geojson" / path.name).read_bytes() == path.read_bytes()


def test_what_is_corrected_in_qupath_is_what_a_training_sees(found, tmp_path, capsys):
    data = tmp_path / "corrected"
    shutil.copytree(found / "raw", data / "raw")
    shutil.copytree(found / "out" / "geojson", data / "gt")
    features = read_features(found / "out" / "geojson" / f"{STEM}.geojson")
    labels = read_labels(found / "out" / "labels" / f"{STEM}.png")
    expected = np.where(labels == 1, 0, labels)
    row, column = next(
        (row, column)
        for row, column in zip(*np.nonzero(expected == 0), strict=True)
        if 6 < row < SHAPE[0] - 6
        and 6 < column < SHAPE[1] - 6
        and not expected[row - 6 : row + 7, column - 6 : column + 7].any()
    )
    features[0] = feature(circle(row, column, 4.2), name="Nucleus")  # one wrong, one missed
    (data / "gt" / f"{STEM}.geojson").write_text(as_qupath_exports(features), encoding="utf-8")
    expected[disc(SHAPE, row, column, 4.2)] = 1

    assert import_data.main([str(data)]) == 0
    assert "2 sound pairs" in capsys.readouterr().out
    truth = read_truth(data / "gt" / f"{STEM}.geojson", SHAPE)
    assert truth.form == "instances" and truth.labels.max() == labels.max()
    assert worst_overlap(expected, truth.labels) >= 0.95
    samples, forms = load_samples(data / "raw", data / "gt")
    assert len(samples) == 2 and set(forms.values()) == {"instances"}


@pytest.mark.parametrize("stem", ["tissue", "cells", "odd"])
def test_annotations_that_nobody_corrected_come_back_as_the_same_pixels(tmp_path, stem):
    """Also nuclei with holes, in pieces, and around others."""
    image, labels = draw_examples()[stem]
    nuclei = nuclei_of(stem, image, labels)._replace(editable=True)
    write_geojson(tmp_path / f"{stem}.geojson", nuclei)
    truth = read_truth(tmp_path / f"{stem}.geojson", labels.shape)
    np.testing.assert_array_equal(truth.labels, labels)


@pytest.mark.parametrize("main", [predict.main, exports.main])
def test_editable_without_geojson_is_a_usage_error(main, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--formats", "csv", "--editable"])
    assert stopped.value.code == 2
    assert "add geojson to --formats" in capsys.readouterr().err
