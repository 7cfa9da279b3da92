"""ROIs of ImageJ in archives as systems and programs pack them."""

import zipfile

import numpy as np
import pytest
import roifile
from formats_tools import worst_overlap
from outline_tools import NUM, SHAPE, rings, truth_labels

from nuclei.truth.masks import read_truth


def members():
    points = [np.array(ring, np.float32) for ring in rings()]
    return {
        f"RoiSet/{number:04d}.roi": roifile.ImagejRoi.frompoints(ring).tobytes()
        for number, ring in enumerate(points)
    }


def read(tmp_path, files):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return read_truth(tmp_path / "a.zip", SHAPE)


def test_companions_of_macos_are_passed_over(tmp_path):
    companions = {"__MACOSX/RoiSet/._0000.roi": b"\0\5\x16\7", "RoiSet/._0001.roi": b"x"}
    companions |= {".DS_Store": b"x", "RoiSet/": b"", "readme.txt": b"x"}
    truth = read(tmp_path, members() | companions)
    assert truth.labels.max() == NUM and truth.left_out == ""
    assert worst_overlap(truth_labels(), truth.labels) > 0.95
    json = {"a.geojson": b"[]", "__MACOSX/._a.geojson": b"\0\5\x16\7"}
    assert read(tmp_path, json).form == "empty"


def test_one_damaged_roi_costs_no_other(tmp_path):
    for damaged in (b"", b"Iout", b"no ROI at all", bytes(200)):
        truth = read(tmp_path, members() | {"RoiSet/bad.roi": damaged})
        assert truth.labels.max() == NUM and truth.left_out == "damaged objects 1"


def test_points_and_lines_are_counted(tmp_path):
    kinds = roifile.ROI_TYPE
    others = {}
    for number, kind in enumerate((kinds.POINT, kinds.LINE, kinds.POLYLINE, kinds.FREELINE)):
        roi = roifile.ImagejRoi.frompoints(np.array([[1, 1], [9, 9]], np.float32))
        roi.roitype = kind
        others[f"line{number}.roi"] = roi.tobytes()
    truth = read(tmp_path, members() | others)
    assert truth.labels.max() == NUM and truth.left_out == "points or lines 4"


def test_many_large_members_are_no_truth(tmp_path, monkeypatch):
    monkeypatch.setattr("nuclei.truth.rois.MAX_MEMBER_BYTES", 3000)
    with pytest.raises(ValueError, match="unpacks to 8,000 bytes, more than 3,000"):
        read(tmp_path, {f"{number}.roi": bytes(1000) for number in range(8)})


def test_outlines_of_several_focal_planes_are_told(tmp_path):
    files = {}
    for number, ring in enumerate(rings()):
        roi = roifile.ImagejRoi.frompoints(np.array(ring, np.float32))
        roi.position = 1 + number % 2
        files[f"{number:04d}.roi"] = roi.tobytes()
    assert "2 focal planes, all drawn onto one image" in read(tmp_path, files).meaning
    assert "focal planes" not in read(tmp_path, members()).meaning
