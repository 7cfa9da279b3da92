"""JSON that is of no known tool is named for what it is, with the way out."""

import pytest
from outline_tools import SHAPE, write_json

from nuclei.truth.json_outlines import described_stems
from nuclei.truth.masks import read_truth


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"mag": 40, "nuc": {}}, "HoVer-Net's JSON; take the .mat"),
        ({"description": "", "size": {}, "objects": []}, "Supervisely's JSON; export it as COCO"),
        ([{"image_id": 1, "score": 0.5, "segmentation": {}}], "a list of COCO results"),
        ([{"id": 1, "data": {}, "annotations": []}], "Label Studio's JSON; export it as COCO"),
        ({"asset": {}, "regions": []}, "VoTT's JSON; export it as COCO"),
        ({"a": 1, "b": 2}, "no file of outlines .*keys a, b.*JSON of COCO, LabelMe or VIA"),
        ({}, "keys none"),
        ("text", "keys none"),
        (5, "keys none"),
        (None, "keys none"),
        ({"type": "Topology", "objects": {}}, "'Topology' is no geometry of GeoJSON"),
        ({"type": ["Feature"]}, "no geometry of GeoJSON"),
        ({"images": 5, "annotations": []}, "damaged or no file of outlines"),
        ({"images": [], "annotations": []}, "describes 0 images"),
        ({"shapes": [5], "imageHeight": None}, "1 of 1 objects"),
        ({"a": {"filename": "a.png", "regions": 5}}, "damaged or no file of outlines"),
    ],
)
def test_other_json_is_named(tmp_path, data, words):
    path = write_json(tmp_path / "a.json", data)
    with pytest.raises(ValueError, match=words) as raised:
        read_truth(path, SHAPE)
    assert str(path) in str(raised.value)


def test_only_files_that_describe_images_have_stems(tmp_path):
    path = tmp_path / "a.json"
    for content in ("{", "[]", '{"shapes": []}', '{"images": 5, "annotations": []}'):
        path.write_text(content)
        assert described_stems(path) == []
    via = {"x": {"filename": "b/a.png", "regions": []}}
    assert described_stems(write_json(path, via)) == ["a"]
    assert described_stems(write_json(path, {"images": [{}], "annotations": []})) == [""]
