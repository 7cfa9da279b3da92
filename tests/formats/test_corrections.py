"""The way back: corrections made in QuPath, ImageJ and COCO tools arrive as ground truth."""

import json
import shutil

import numpy as np
import pytest
import roifile
from formats_tools import circle, correct, disc, feature, run, worst_overlap

import evaluate
import import_data
from nuclei.datasets.pairs import find_pairs, read_pair
from nuclei.formats.registry import FORMATS
from nuclei.training.samples import load_samples
from nuclei.truth.masks import read_truth


@pytest.mark.parametrize(
    "name", ["geojson", "geojson.gz", "geojson.zip", "imagej", "coco", "ometiff"]
)
def test_what_was_exported_comes_back_as_truth(examples, predictions, tmp_path, name):
    """As a training reads it: the export is put into gt beside the images."""
    form = FORMATS[name]
    assert run(predictions, "--formats", name, "--out", tmp_path) == 0
    raw = predictions.parent / "raw"
    pairs = find_pairs(raw, tmp_path / form.folder)
    assert set(pairs) == set(examples)
    for stem, (_, labels) in examples.items():
        image, truth = read_pair(*pairs[stem])
        assert (
            truth.form == "instances"
            and truth.labels.dtype == np.int32
            and image.shape[:2] == truth.labels.shape
        )
        np.testing.assert_array_equal(truth.labels, labels)
        assert worst_overlap(labels, truth.labels) == 1


def test_corrections_made_in_qupath_arrive(examples, predictions, tmp_path):
    labels = examples["cells"][1]
    assert run(predictions, "--formats", "geojson", "--out", tmp_path) == 0
    path = tmp_path / "geojson" / "cells.geojson"
    row, column = 14, 14
    assert not labels[row - 9 : row + 10, column - 9 : column + 10].any()

    def change(features):
        del features[0]  # a false nucleus is deleted
        features.append(
            feature(circle(row, column, 7.3))
        )  # a missed one is drawn, as an annotation
        height, width = labels.shape
        features.append(
            feature([[0, 0], [width, 0], [width, height], [0, height]], name="Tumour")
        )  # the region of interest
        features.append(feature(circle(40, 40, 9), name="Ignore*"))
        features.append(feature(circle(40, 40, 9), kind="tile"))
        features.append(
            {**feature(circle(0, 0, 1)), "geometry": {"type": "Point", "coordinates": [5, 5]}}
        )
        return features

    correct(path, change)
    truth = read_truth(path, labels.shape)
    expected = np.where(labels > 1, labels - 1, 0)
    expected[disc(labels.shape, row, column, 7.3)] = labels.max()
    assert truth.labels.max() == labels.max() == expected.max()
    assert worst_overlap(expected, truth.labels) >= 0.98


def test_qupath_cells_count_by_their_nucleus_and_other_geometries_by_their_areas(tmp_path):
    cell = feature(circle(20, 20, 15), kind="cell")
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [circle(20, 20, 6)]}
    collection = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "Polygon", "coordinates": [circle(20, 50, 8), circle(20, 50, 4)]},
            {"type": "LineString", "coordinates": [[1, 1], [5, 5]]},
        ],
    }
    multi = {"type": "MultiPolygon", "coordinates": [[circle(50, 20, 5)], [circle(50, 35, 5)]]}
    objects = [cell, {"type": "Feature", "geometry": collection, "properties": None}, multi]
    (tmp_path / "x.json").write_text(json.dumps(objects))
    labels = read_truth(tmp_path / "x.json", (70, 70)).labels
    shape = labels.shape
    expected = disc(shape, 20, 20, 6) * 1
    expected += 2 * (disc(shape, 20, 50, 8) & ~disc(shape, 20, 50, 4))
    expected += 3 * (disc(shape, 50, 20, 5) | disc(shape, 50, 35, 5))
    assert (
        labels.max() == 3 and worst_overlap(expected, labels) >= 0.95
    )  # small discs of 40 corners
    # A single Feature and a bare geometry are read, too.
    for single in (cell, multi):
        (tmp_path / "one.geojson").write_text(json.dumps(single))
        assert read_truth(tmp_path / "one.geojson", shape).labels.max() == 1


def test_corrections_made_in_imagej_arrive(examples, predictions, tmp_path):
    """Freehand with fractions, an oval, a box, and the composite of a hole; points are ignored."""
    labels = examples["tissue"][1]
    kinds = roifile.ROI_TYPE
    free = roifile.ImagejRoi.frompoints(np.array(circle(30, 40, 8.4), np.float32), name="drawn")
    oval, box, point = (
        roifile.ImagejRoi(),
        roifile.ImagejRoi(),
        roifile.ImagejRoi.frompoints(np.array([[3, 3]]), name="dot"),
    )
    oval.roitype, oval.name, oval.left, oval.top, oval.right, oval.bottom = (
        kinds.OVAL,
        "oval",
        80,
        20,
        100,
        40,
    )
    box.roitype, box.name, box.left, box.top, box.right, box.bottom = (
        kinds.RECT,
        "box",
        10,
        70,
        30,
        80,
    )
    point.roitype = kinds.POINT
    roifile.roiwrite(tmp_path / "x.zip", [free, oval, box, point])
    labels_read = read_truth(tmp_path / "x.zip", labels.shape).labels
    expected = disc(labels.shape, 30, 40, 8.4) * 1 + disc(labels.shape, 30, 90, 10) * 2
    expected[70:80, 10:30] = 3
    assert labels_read.max() == 3 and worst_overlap(expected, labels_read) >= 0.97
    free.tofile(tmp_path / "one.roi")
    assert read_truth(tmp_path / "one.roi", labels.shape).labels.max() == 1
    roifile.roiwrite(tmp_path / "points.zip", [point])
    with pytest.raises(ValueError, match="points or lines 1 and no area"):
        read_truth(tmp_path / "points.zip", labels.shape)


def test_coco_of_other_tools_is_read_by_the_name_of_the_image(tmp_path):
    from pycocotools import mask as coco_mask

    shape, other = (40, 60), disc((40, 60), 20, 45, 9)
    packed = coco_mask.encode(np.asfortranarray(other.astype(np.uint8)))["counts"].decode()
    data = {
        "images": [
            {"id": 7, "file_name": "folder/a.png", "height": 40, "width": 60},
            {"id": 8, "file_name": "b.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "segmentation": [np.ravel(circle(20, 20, 8)).tolist()]},
            {
                "id": 2,
                "image_id": 7,
                "segmentation": {"size": [40, 60], "counts": packed},
                "iscrowd": 0,
            },
            {
                "id": 3,
                "image_id": 7,
                "segmentation": {"size": [40, 60], "counts": [0, 2400]},
                "iscrowd": 1,
            },
            {"id": 4, "image_id": 7, "segmentation": []},  # a box alone
            {"id": 5, "image_id": 8, "segmentation": [np.ravel(circle(20, 20, 3)).tolist()]},
        ],
    }
    for name, image in (("a.json", 1), ("b.json", 1), ("c.json", 0)):
        (tmp_path / name).write_text(json.dumps(data))
        if not image:
            with pytest.raises(
                ValueError, match="describes 2 images .a, b., 0 of which are called c"
            ):
                read_truth(tmp_path / name, shape)
    truth = read_truth(tmp_path / "a.json", shape)
    labels = truth.labels
    assert truth.left_out == "crowd regions 1, objects without a geometry 1"
    expected = disc(shape, 20, 20, 8) * 1 + other * 2
    assert labels.max() == 2 and worst_overlap(expected, labels) >= 0.97
    assert read_truth(tmp_path / "b.json", shape).labels.max() == 1
    with pytest.raises(ValueError, match="drawn on an image of 40 x 60 px"):
        read_truth(tmp_path / "a.json", (40, 61))
    data["annotations"][1]["segmentation"]["counts"] = [5, 5]
    (tmp_path / "a.json").write_text(json.dumps(data))
    truth = read_truth(tmp_path / "a.json", shape)  # one damaged object costs no other one
    assert truth.labels.max() == 1 and "damaged objects 1" in truth.left_out
    del data["annotations"][0]
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="damaged.*runs of 10 px"):
        read_truth(tmp_path / "a.json", shape)


def test_overlapping_outlines_leave_the_smaller_on_top_and_what_lies_outside_is_cut(tmp_path):
    objects = [feature(circle(10, 10, 9), "detection"), feature(circle(10, 10, 3), "detection")]
    objects += [feature(circle(0, 30, 6), "detection"), feature(circle(500, 500, 6), "detection")]
    (tmp_path / "x.geojson").write_text(json.dumps(objects))
    labels = read_truth(tmp_path / "x.geojson", (40, 40)).labels
    assert labels.max() == 3 and labels[10, 10] == 2 and labels[10, 3] == 1 and labels[0, 30] == 3


def test_the_check_and_a_training_take_outlines(examples, predictions, tmp_path, capsys):
    """predict, correct, train: a gt folder with the files of three tools is checked and loaded."""
    raw, gt = predictions.parent / "raw", tmp_path / "gt"
    gt.mkdir()
    assert run(predictions, "--formats", "geojson,imagej,coco", "--out", tmp_path) == 0
    shutil.copy(tmp_path / "geojson" / "tissue.geojson", gt)
    shutil.copy(tmp_path / "imagej" / "cells.zip", gt)
    shutil.copy(tmp_path / "coco" / "odd.json", gt)
    shutil.copytree(raw, tmp_path / "raw")
    assert import_data.main([str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "3 sound pairs" in output and "instances 1" in output and "passed over" not in output
    samples, forms = load_samples(tmp_path / "raw", gt)
    assert set(forms.values()) == {"instances"}
    for stem, sample in samples.items():
        np.testing.assert_array_equal(sample.labels, examples[stem][1])
        assert sample.has_instances
    assert capsys.readouterr().out == ""
    assert evaluate.main([str(predictions), str(gt), "--out", str(tmp_path / "scores")]) == 0
    assert "1.000" in capsys.readouterr().out
