"""Damaged files of outlines end in a message that names the file and the way out."""

import gzip
import sys
import zipfile

import numpy as np
import pytest
import roifile

from nuclei.datasets.pairs import find_pairs, find_truths
from nuclei.truth.masks import read_truth


@pytest.mark.parametrize(
    "name, content, word",
    [
        ("a.geojson", b'{"type": "Feature', "damaged or no file of outlines"),
        ("a.geojson", b"", "damaged or no file of outlines"),
        ("a.geojson", b"[1, 2]", "damaged or no file of outlines"),
        ("a.geojson", b'{"type": "Topology"}', "no geometry of GeoJSON"),
        ("a.geojson", b'[{"type": "Point", "coordinates": [1, 1]}]', "no area among them"),
        (
            "a.geojson",
            b'[{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 9], [9, 9]]]}]',
            "no finite number",
        ),
        (
            "a.geojson",
            b'[{"type": "Polygon", "coordinates": [[[90, 90], [99, 90], [99, 99]]]}]',
            "none lies inside its image",
        ),
        ("a.geojson.gz", b"\x1f\x8b\x08\x00abc", "damaged or no file of outlines"),
        ("a.json", b'{"annotations": []}', "damaged or no file of outlines"),
        ("a.zip", b"PK\x03\x04 and no more", "damaged or no file of outlines"),
        ("a.roi", b"Iout and no more", "damaged or no file of outlines"),
    ],
)
def test_damaged_outlines_are_named_with_the_way_out(tmp_path, name, content, word):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=word) as raised:
        read_truth(path, (20, 30))
    assert str(path) in str(raised.value)


def test_archives_are_checked_before_they_are_read(tmp_path, monkeypatch):
    for name, members, word in (
        ("two.zip", {"a.geojson": "[]", "b.geojson": "[]"}, "holds 2 .geojson files"),
        ("out.zip", {"../a.geojson": "[]"}, "points outside the archive"),
        ("roi.zip", {"../a.roi": "Iout"}, "points outside the archive"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        with pytest.raises(ValueError, match=word):
            read_truth(tmp_path / name, (5, 5))
    for room in ("json_outlines", "rois"):
        monkeypatch.setattr(f"nuclei.truth.{room}.MAX_MEMBER_BYTES", 1000)
    (tmp_path / "bomb.geojson.gz").write_bytes(gzip.compress(b" " * 2000))
    with pytest.raises(ValueError, match="unpacks to more than 1,000 bytes"):
        read_truth(tmp_path / "bomb.geojson.gz", (5, 5))
    (tmp_path / "large.roi").write_bytes(b"Iout" + bytes(2000))
    with pytest.raises(ValueError, match="more than 1,000"):
        read_truth(tmp_path / "large.roi", (5, 5))


def test_outlines_need_their_image_and_roifile_is_asked_for_by_name(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_truth(tmp_path / "none.geojson", (5, 5))
    (tmp_path / "a.geojson").write_text("[]")
    with pytest.raises(ValueError, match="together with its image"):
        read_truth(tmp_path / "a.geojson")
    roifile.ImagejRoi.frompoints(np.array([[0, 0], [0, 4], [4, 4]]), name="a").tofile(
        tmp_path / "a.roi"
    )
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(ValueError, match="python -m pip install roifile"):
        read_truth(tmp_path / "a.roi", (5, 5))


def test_truths_are_found_by_stem_whatever_their_suffix(tmp_path):
    raw, gt = tmp_path / "raw", tmp_path / "gt"
    for folder, names in (
        (raw, ["a.png", "b.png", "c.ome.tif", "d.png", "e.png"]),
        (
            gt,
            ["a.geojson.gz", "b.ome.tif", "c.ome.tif", "d.ZIP", "e.json", "f.ome.tif", "notes.txt"],
        ),
    ):
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"x")
    pairs = find_pairs(raw, gt)
    assert {stem: truth.name for stem, (_, truth) in pairs.items()} == {
        "a": "a.geojson.gz",
        "b": "b.ome.tif",
        "c.ome": "c.ome.tif",
        "d": "d.ZIP",
        "e": "e.json",
    }
    (gt / "a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="more than once"):
        find_truths(gt)
