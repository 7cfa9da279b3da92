"""GeoJSON of QuPath's versions: classes in any form, objects in objects, odd ones among them."""

import json

import numpy as np
import pytest
from formats_tools import circle, feature, worst_overlap
from outline_tools import NUM, SHAPE, rings, truth_labels, write_json

from nuclei.truth.masks import read_truth


def detections(**properties):
    objects = [feature(ring, "detection") for ring in rings()]
    for item in objects:
        item["properties"].update(properties)
    return objects


def frame(**properties):
    height, width = SHAPE
    region = feature([[0, 0], [width, 0], [width, height], [0, height]])
    region["properties"].update(properties)
    return region


def read(tmp_path, data):
    return read_truth(write_json(tmp_path / "a.geojson", data), SHAPE)


def assert_all_nuclei(truth, left_out=""):
    assert truth.labels.max() == NUM and truth.left_out == left_out
    assert worst_overlap(truth_labels(), truth.labels) > 0.95


@pytest.mark.parametrize(
    "classification", ["Tumor", None, {"names": ["Tumor", "Positive"]}, {"name": None}, {}, 5]
)
def test_a_class_in_any_form_costs_nothing(tmp_path, classification):
    objects = detections()
    objects[0]["properties"]["classification"] = classification
    assert_all_nuclei(read(tmp_path, {"type": "FeatureCollection", "features": objects}))


@pytest.mark.parametrize("classification", ["Ignore*", {"name": "Ignore*"}, {"names": ["Ignore*"]}])
def test_ignored_classes_in_any_form_are_counted(tmp_path, classification):
    objects = [*detections(), feature(circle(45, 60, 30))]
    objects[-1]["properties"]["classification"] = classification
    assert_all_nuclei(read(tmp_path, objects), "objects of ignored classes 1")


def test_an_object_around_others_is_their_region(tmp_path):
    objects = detections()
    assert_all_nuclei(
        read(tmp_path, [frame(childObjects=objects)]), "regions around other objects 1"
    )
    inner = frame(childObjects=objects[:2])  # a region in a region, and one nucleus drawn by hand
    drawn = objects[2:]
    drawn[0]["properties"]["objectType"] = "annotation"
    truth = read(
        tmp_path,
        {"features": [frame(childObjects=[inner, *drawn])]} | {"type": "FeatureCollection"},
    )
    assert_all_nuclei(truth, "regions around other objects 2")
    core = frame(objectType="tmaCore", childObjects=objects)
    assert_all_nuclei(read(tmp_path, core), "regions around other objects 1")


def test_spots_inside_of_a_cell_are_no_nuclei(tmp_path):
    objects = detections()
    spots = [feature(circle(15, 20, 2), "detection"), feature(circle(18, 20, 1), "detection")]
    objects[0]["properties"]["childObjects"] = spots
    assert_all_nuclei(read(tmp_path, objects), "objects inside of cells 2")
    point = feature(circle(0, 0, 1))
    point["geometry"] = {"type": "Point", "coordinates": [5, 5]}
    objects[0]["properties"] = {"childObjects": [point]}  # no region: it holds no area
    assert_all_nuclei(read(tmp_path, objects), "points or lines 1")


def test_the_objects_of_version_0_2(tmp_path):
    objects = []
    for number, ring in enumerate(rings()):
        outer = [[x + (x > 0), y] for x, y in ring]
        item = feature(outer if number % 2 else ring)
        item["properties"] = {"isLocked": False, "measurements": []}
        item["id"] = "PathCellObject" if number % 2 else "PathDetectionObject"
        if number % 2:
            item["nucleusGeometry"] = {"type": "Polygon", "coordinates": [ring]}
        objects.append(item)
    root = frame() | {"id": "PathRootObject"}
    del root["properties"]["objectType"]
    assert_all_nuclei(read(tmp_path, [root, *objects]), "regions around other objects 1")
    objects[1]["nucleusGeometry"] = None  # a cell whose nucleus was not found counts whole
    assert read(tmp_path, objects).labels.max() == NUM


@pytest.mark.parametrize(
    ("odd", "left_out"),
    [
        ({"type": "Feature", "geometry": None, "properties": {}}, "objects without a geometry 1"),
        (
            {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": []}},
            "points or lines 1",
        ),
        (
            {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}},
            "points or lines 1",
        ),
        ({"type": "MultiPolygon", "coordinates": [[[], []]]}, "points or lines 1"),
        ({"type": "Feature", "geometry": {"type": "Curve"}}, "damaged objects 1"),
        ({"type": "Feature", "geometry": {"coordinates": [[[0, 0]]]}}, "damaged objects 1"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "damaged objects 1"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, "a"], [2, 2]]]}, "damaged objects 1"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1e999, 1], [2, 2]]]}, "damaged objects 1"),
        ({"type": "LineString", "coordinates": [[0, 0], [1, 1]]}, "points or lines 1"),
        (
            {"type": "Polygon", "coordinates": [[[900, 0], [901, 0], [900, 1]]]},
            "outlines without a pixel of the image 1",
        ),
        (None, "damaged objects 1"),
        ("text", "damaged objects 1"),
        (7, "damaged objects 1"),
        ({"type": "Feature", "geometry": {}, "properties": "text"}, "damaged objects 1"),
    ],
)
def test_one_odd_object_costs_no_other(tmp_path, odd, left_out):
    assert_all_nuclei(read(tmp_path, [*detections()[:4], odd, *detections()[4:]]), left_out)


def test_collections_in_lists_and_old_encodings(tmp_path):
    parts = [{"type": "FeatureCollection", "features": detections()[index::2]} for index in (0, 1)]
    assert_all_nuclei(read(tmp_path, parts))
    text = json.dumps(detections(name="Größe"), ensure_ascii=False)
    for content in (text.encode("latin-1"), b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")):
        (tmp_path / "a.geojson").write_bytes(content)
        assert_all_nuclei(read_truth(tmp_path / "a.geojson", SHAPE))


def test_empty_means_empty(tmp_path):
    assert read(tmp_path, {"type": "FeatureCollection", "features": []}).form == "empty"
    only_ignored = read(tmp_path, [feature(circle(20, 20, 9), name="Ignore*")])
    assert only_ignored.form == "empty" and only_ignored.left_out
    for objects, words in (
        ([{"type": "Feature", "geometry": None}], "without a geometry 1 and no area"),
        ([7, 8, *detections()[:1]], "2 of 3 objects; the first: '7' is no object of GeoJSON"),
    ):
        with pytest.raises(ValueError, match=words):
            read(tmp_path, objects)


def test_endless_depth_is_damage_in_one_line(tmp_path):
    (tmp_path / "a.geojson").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="damaged or no file of outlines"):
        read_truth(tmp_path / "a.geojson", SHAPE)
    deep = {"type": "Polygon", "coordinates": [rings()[0]]}
    for _ in range(400):
        deep = {"type": "GeometryCollection", "geometries": [deep]}
    child = feature(rings()[1], "detection")
    for _ in range(300):
        child = frame(childObjects=[child])
    truth = read(tmp_path, [deep, child])
    assert truth.labels.max() == 2 and truth.left_out == "regions around other objects 300"


@pytest.mark.parametrize("kind", ["annotation", "detection"])
def test_merged_annotations_are_divided_and_a_detection_is_not(tmp_path, kind):
    merged = feature(rings()[0], kind)
    polygons = [[[*ring, ring[0]]] for ring in rings()]
    merged["geometry"] = {"type": "MultiPolygon", "coordinates": polygons}
    truth = read(tmp_path, [merged])
    if kind == "annotation":
        assert_all_nuclei(truth)
        assert truth.meaning == "1 objects of many pieces, each piece a nucleus"
    else:
        assert truth.labels.max() == 1 and truth.meaning == ""


def test_cells_without_a_nucleus_are_said(tmp_path):
    cells = [feature(ring, "cell") for ring in rings()]
    for cell, ring in zip(cells[:5], rings(), strict=False):
        cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    truth = read(tmp_path, cells)
    assert_all_nuclei(truth)
    assert truth.meaning == f"{NUM - 5} cells without a nucleus, each taken as a whole"


def test_merged_annotations_may_touch(tmp_path):
    squares = [
        [[x, y], [x + 10, y], [x + 10, y + 10], [x, y + 10], [x, y]]
        for x, y in ((10, 10), (20, 10), (60, 10), (60, 50))
    ]
    merged = feature(squares[0][:4])
    coordinates = [[square] for square in squares]
    merged["geometry"] = {"type": "MultiPolygon", "coordinates": coordinates}
    assert np.bincount(read(tmp_path, [merged]).labels.ravel())[1:].tolist() == [100] * 4
