"""The JSON of LabelMe and of VIA 1 to 3."""

import base64
import io

import numpy as np
import pytest
from formats_tools import disc, worst_overlap
from outline_tools import CENTRES, NUM, SHAPE, rings, truth_labels, write_json
from PIL import Image

from nuclei.truth.masks import read_truth


def labelme(*shapes, **keys):
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    embedded = base64.b64encode(bytes(500)).decode()
    return {"version": "5.4.1", "shapes": shapes, "imageData": embedded} | size | keys


def drawn(kind, points, **keys):
    return {"label": "nucleus", "shape_type": kind, "points": points, "group_id": None} | keys


def polygons():
    return [drawn("polygon", ring) for ring in rings()]


def read(tmp_path, data, stem="a"):
    return read_truth(write_json(tmp_path / f"{stem}.json", data), SHAPE)


def test_all_shapes_of_labelme_that_have_an_area(tmp_path):
    corner = Image.fromarray(disc((20, 30), 10, 12, 8))
    packed = io.BytesIO()
    corner.save(packed, "PNG")
    mask = base64.b64encode(packed.getvalue()).decode()
    shapes = polygons()[2:]
    shapes += [drawn("circle", [[20, 15], [28, 15]])]
    shapes += [drawn("mask", [[48, 5], [77, 24]], mask=mask)]
    truth = read(tmp_path, labelme(*shapes))
    assert truth.labels.max() == NUM and truth.left_out == ""
    assert worst_overlap(truth_labels(), truth.labels) > 0.95
    truth = read(tmp_path, labelme(drawn("rectangle", [[30, 50], [10, 40]])))
    assert truth.labels.sum() == 200 and truth.labels[40:50, 10:30].all()
    ring = rings()[0]
    parts = [
        drawn("linestrip", ring),
        *(drawn("polygon", ring, group_id=4) for ring in rings()[1:]),
    ]
    assert read(tmp_path, labelme(*parts)).labels.max() == 2  # one of them in many parts


def test_points_and_lines_of_labelme_are_counted_and_alone_they_are_refused(tmp_path):
    others = [
        drawn("point", [[5, 5]]),
        drawn("line", [[5, 5], [9, 9]]),
        drawn("linestrip", [[5, 5], [9, 9], [30, 9]]),
        drawn("polygon", rings()[0], label="__ignore__"),
        drawn("polygon", [[1, 1], [2, 2]]),
        drawn("star", [[1, 1]]),
    ]
    truth = read(tmp_path, labelme(*polygons(), *others))
    assert truth.labels.max() == NUM
    assert truth.left_out == "damaged objects 2, objects of ignored classes 1, points or lines 3"
    with pytest.raises(ValueError, match="points or lines 2 and no area among them"):
        read(tmp_path, labelme(*others[:2]))
    with pytest.raises(ValueError, match="drawn on an image of 91 x 120 px"):
        read(tmp_path, labelme(*polygons(), imageHeight=91))
    assert read(tmp_path, labelme()).form == "empty"


def via_regions():
    regions = [
        {"name": kind, "all_points_x": [x for x, _ in ring], "all_points_y": [y for _, y in ring]}
        for ring, kind in zip(rings()[2:], ["polygon", "polyline"] * 4, strict=False)
    ]
    (row, column, radius), (row2, column2, _) = CENTRES[:2]
    regions.append({"name": "circle", "cx": column, "cy": row, "r": radius})
    regions.append({"name": "ellipse", "cx": column2, "cy": row2, "rx": 8, "ry": 8, "theta": 1})
    return regions


def via(regions, name="a.png"):
    shapes = [{"shape_attributes": region, "region_attributes": {}} for region in regions]
    return {f"{name}123": {"filename": name, "size": 123, "regions": shapes}}


def test_all_shapes_of_via_in_its_versions(tmp_path):
    second = via(via_regions())
    first = {
        key: file
        | {"regions": {str(index): region for index, region in enumerate(file["regions"])}}
        for key, file in second.items()
    }
    project = {"_via_settings": {}, "_via_img_metadata": second, "_via_attributes": {}}
    for data in (second, first, project):
        truth = read(tmp_path, data)
        assert truth.labels.max() == NUM and truth.left_out == ""
        assert worst_overlap(truth_labels(), truth.labels) > 0.95
    coordinates = [[7, *np.ravel(ring)] for ring in rings()[2:]]
    coordinates += [[3, 20, 15, 8], [4, 60, 15, 8, 8], [1, 5, 5]]
    third = {
        "project": {},
        "file": {"1": {"fid": "1", "fname": "a.png"}, "2": {"fid": "2", "fname": "b.png"}},
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
        "metadata": {str(n): {"vid": "1", "xy": xy} for n, xy in enumerate(coordinates)},
    }
    truth = read(tmp_path, third)
    assert truth.left_out == "points or lines 1"
    assert worst_overlap(truth_labels(), truth.labels) > 0.95
    assert read(tmp_path, third, "b").form == "empty"


def test_what_via_draws_without_an_area_is_counted(tmp_path):
    others = [{"name": "point", "cx": 5, "cy": 5}, {"name": "circle", "cx": 5, "cy": 5, "r": 0}, {}]
    truth = read(tmp_path, via([*via_regions(), *others]))
    assert truth.labels.max() == NUM
    assert truth.left_out == "damaged objects 2, points or lines 1"
    flat = {"name": "ellipse", "cx": 60, "cy": 45, "rx": 30, "ry": 5, "theta": np.pi / 2}
    box = {"name": "rect", "x": 5, "y": 6, "width": 20, "height": 10}
    labels = read(tmp_path, via([flat, box])).labels
    assert labels[20, 60] == labels[70, 60] == 1 and labels[45, 70] == 0
    assert (labels == 2).sum() == 200 and (labels[6:16, 5:25] == 2).all()
    set_of_two = via(via_regions()) | via(via_regions()[:3], "b.png")
    assert read(tmp_path, set_of_two, "b").labels.max() == 3
    with pytest.raises(ValueError, match="describes 2 images .*called c"):
        read(tmp_path, set_of_two, "c")
