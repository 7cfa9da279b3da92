"""The layout of DSB2018 becomes pairs; unsafe archives are refused whole."""

import os
import struct
import zipfile

import numpy as np
import pytest
from images_tools import GREY, dsb2018, save, zipped

import import_data
from nuclei.datasets.array_sets import array_sets
from nuclei.datasets.dsb2018 import Target, import_dsb2018
from nuclei.datasets.pairs import find_pairs
from nuclei.truth.masks import read_truth

SCRIPT = import_data.__file__


@pytest.mark.parametrize("prefix", [None, "", "stage1_train/"])
def test_a_dsb2018_folder_or_zip_becomes_pairs(tmp_path, capsys, prefix):
    source, out = tmp_path / "stage1", tmp_path / "data"
    truth = dsb2018(source)
    save(source / "unlabelled" / "images" / "unlabelled.png", GREY)
    save(source / "__MACOSX" / "id0" / "images" / "._id0.png", GREY)
    (source / "readme.md").write_text("x")
    given = source if prefix is None else zipped(source, tmp_path / "train.zip", prefix)
    assert import_data.main(["--from", str(given), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert (
        "3 imported, 0 already there, 1 without image or masks, 27 nuclei, 0 pixels claimed twice"
        in text
    )
    assert "instances 3" in text and "Training can run" in text
    for stem, (image, gt) in find_pairs(out / "raw", out / "gt").items():
        assert image.read_bytes() == (source / stem / "images" / f"{stem}.png").read_bytes()
        assert gt.read_bytes()[24] == 16  # bits
        np.testing.assert_array_equal(read_truth(gt).labels, truth[stem])
    assert sorted(path.name for path in out.rglob(".*")) == []


def test_one_image_folder_alone_can_be_imported(tmp_path):
    dsb2018(tmp_path, 1)
    result = import_dsb2018(tmp_path / "id0", tmp_path / "out")
    assert result.images == 1 and not result.problems
    assert (tmp_path / "out/raw/id0.png").exists()


def test_nothing_there_is_overwritten_unless_asked_and_a_half_import_is_completed(tmp_path, capsys):
    source, out = tmp_path / "stage1", tmp_path / "data"
    truth = dsb2018(source)
    save(out / "raw" / "id0.bmp", GREY)
    save(out / "gt" / "id0.bmp", (truth["id0"] > 0) * np.uint8(255))
    save(out / "gt" / "id1.png", truth["id1"].astype(np.uint16))
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert import_data.main(["--from", str(source), "--out", str(out)]) == 0
    assert "2 imported, 1 already there" in capsys.readouterr().out
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(find_pairs(out / "raw", out / "gt")) == 3
    assert import_data.main(["--from", str(source), "--out", str(out), "--overwrite"]) == 0
    assert sorted(path.name for path in (out / "raw").iterdir()) == [
        "id0.png",
        "id1.png",
        "id2.png",
    ]
    assert sorted(path.name for path in (out / "gt").iterdir()) == ["id0.png", "id1.png", "id2.png"]


def test_images_that_cannot_be_brought_in_are_named_and_the_others_are_done(tmp_path, capsys):
    source = tmp_path / "stage1"
    dsb2018(source, 6)
    save(source / "id0" / "masks" / "zz.png", np.zeros((5, 5), np.uint8))
    (source / "id1" / "images" / "id1.png").write_bytes(b"no image")
    save(source / "id2" / "images" / "second.png", GREY)
    save(source / "more" / "id3" / "images" / "id3.png", GREY)
    save(source / "more" / "id3" / "masks" / "1.png", GREY)
    assert import_data.main(["--from", str(source), "--out", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert "3 imported" in text and "Not imported: 4 images" in text
    for part in (
        "id0: a mask of (5, 5) px",
        "id1.png is no image",
        "id2: 2 images",
        "more/id3: it is there twice",
    ):
        assert part in text


@pytest.mark.parametrize(
    "name",
    ["../evil.png", "a/../../evil/images/x.png", "/etc/evil.png", "C:/evil.png", "..\\evil.png"],
)
def test_an_archive_that_would_escape_is_refused_whole(tmp_path, capsys, name):
    dsb2018(tmp_path / "stage1", 1)
    path = zipped(tmp_path / "stage1", tmp_path / "train.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    before = sorted(tmp_path.rglob("*"))
    assert import_data.main(["--from", str(path), "--out", str(tmp_path / "data")]) == 1
    assert "points outside the archive; nothing was unpacked" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before and not (tmp_path.parent / "evil.png").exists()


def test_links_giants_and_secrets_in_an_archive_are_refused(tmp_path, monkeypatch):
    dsb2018(tmp_path / "stage1", 1)
    path = zipped(tmp_path / "stage1", tmp_path / "train.zip")
    link = zipfile.ZipInfo("id0/images/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="is a symbolic link"):
        import_dsb2018(path, tmp_path / "data")
    zipped(tmp_path / "stage1", path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted member
    (tmp_path / "locked.zip").write_bytes(raw)
    with pytest.raises(ValueError, match="is encrypted"):
        import_dsb2018(tmp_path / "locked.zip", tmp_path / "data")
    monkeypatch.setattr("nuclei.archives.MAX_MEMBER_BYTES", 100)
    with pytest.raises(ValueError, match="unpacks to .* bytes, more than 100"):
        import_dsb2018(path, tmp_path / "data")


def test_a_damaged_member_is_named_and_a_wrong_source_refused(tmp_path):
    dsb2018(tmp_path / "stage1", 2)
    path = zipped(tmp_path / "stage1", tmp_path / "train.zip")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\x89PNG") + 60] ^= 255
    path.write_bytes(raw)
    result = import_dsb2018(path, tmp_path / "data")
    assert result.images == 1 and len(result.problems) == 1 and "CRC" in result.problems[0]
    (tmp_path / "stage1" / "id1" / "masks" / "id1_03.png").write_bytes(b"no image")
    result = import_dsb2018(zipped(tmp_path / "stage1", path), tmp_path / "data2")
    assert result.images == 1
    assert result.problems[0].startswith("train/id1: id1_03.png is no image")
    nothing, no_layout = tmp_path / "nothing", tmp_path / "data"
    for source, error in (
        (nothing, FileNotFoundError),
        (no_layout, ValueError),
        (SCRIPT, ValueError),
    ):
        with pytest.raises(error, match="expected .*(DSB2018|ID/images)"):
            import_dsb2018(source, tmp_path / "out")


@pytest.mark.parametrize("kind", ["corrupt", "cut short", "long name", "of an unknown version"])
def test_other_faults_of_an_archive_end_in_a_message_too(tmp_path, kind):
    dsb2018(tmp_path / "stage1", 2)
    method = zipfile.ZIP_LZMA if kind == "corrupt" else zipfile.ZIP_STORED
    path = zipped(tmp_path / "stage1", tmp_path / "train.zip", method=method)
    raw = bytearray(path.read_bytes())
    first = raw.index(b"id0/images/id0.png") + len("id0/images/id0.png")
    entry = raw.index(b"PK\x01\x02")
    if kind == "corrupt":
        raw[first + 12 : first + 60] = bytes(48)
    elif kind == "cut short":  # the last member of the directory claims more than the file has
        entry = raw.rindex(b"PK\x01\x02")
        raw[entry + 20 : entry + 28] = struct.pack("<II", 1 << 20, 1 << 20)
    elif kind == "long name":  # the name of the first member seems to reach into its pixels
        local = raw.index(b"id0/images/id0.png") - 30
        raw[local + 26 : local + 28] = struct.pack("<H", 2000)
    else:
        raw[entry + 6] = 200
    path.write_bytes(raw)
    if kind == "of an unknown version":
        with pytest.raises(ValueError, match="is no whole zip .*version"):
            import_dsb2018(path, tmp_path / "data")
        return
    result = import_dsb2018(path, tmp_path / "data")
    assert result.images == 1 and len(result.problems) == 1
    assert result.problems[0].startswith("train/id") and len(result.problems[0]) < 300


def test_halves_of_the_users_own_pairs_are_not_completed_with_others(tmp_path, capsys):
    source, out = tmp_path / "stage1", tmp_path / "data"
    dsb2018(source, 5)
    save(out / "raw" / "id0.png", GREY + np.uint8(1))  # another image
    (out / "gt").mkdir(parents=True)
    (out / "gt" / "id1.geojson").write_text("{}")  # corrected by hand
    (out / "gt" / "id2.png").symlink_to("nowhere")
    (out / "raw" / "id3.png").mkdir()
    assert import_data.main(["--from", str(source), "--out", str(out)]) == 1
    text = capsys.readouterr().out
    assert "id0.png is another image of this name" in text
    assert "id2.png stands in its place" in text and "id3.png stands in its place" in text
    assert sorted(path.name for path in (out / "gt").iterdir()) == [
        "id1.geojson",
        "id2.png",
        "id4.png",
    ]
    assert (out / "gt" / "id2.png").is_symlink() and (out / "raw" / "id1.png").is_file()


def test_pipes_and_hidden_names_are_named_and_never_waited_for(tmp_path, capsys):
    source = tmp_path / "set"
    dsb2018(source, 2)
    (source / "id0").rename(source / ".id0")
    assert import_data.main(["--from", str(source), "--out", str(tmp_path / "data")]) == 1
    assert ".id0 begins with a dot, so its files would be hidden" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "data" / "gt").iterdir()] == ["id1.png"]
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(FileNotFoundError, match=r"pipe.zip is a pipe or a device; expected"):
        import_dsb2018(tmp_path / "pipe.zip", tmp_path / "data")
    (tmp_path / "arrays").mkdir()
    os.mkfifo(tmp_path / "arrays" / "images.npy")
    np.save(tmp_path / "arrays" / "masks.npy", np.zeros((1, 8, 8, 6)))
    assert array_sets(tmp_path / "arrays") == {}


def test_a_file_under_two_names_is_not_removed_as_its_own_old_one(tmp_path):
    """A disk that does not tell a from A has both names for one file, as a hard link has."""
    for part in ("raw", "gt"):
        (tmp_path / part).mkdir()
        save(tmp_path / part / "a.png", GREY)
        os.link(tmp_path / part / "a.png", tmp_path / part / "a.PNG")
        save(tmp_path / part / "a.bmp", GREY)
    names = ("a.PNG", "a.bmp")
    present = {part: {"a": [tmp_path / part / name for name in names]} for part in ("raw", "gt")}
    paths = {part: tmp_path / part / "a.png" for part in ("raw", "gt")}
    Target(tmp_path, True, present).keep_only("a", paths)
    for part in ("raw", "gt"):
        assert sorted(path.name for path in (tmp_path / part).iterdir()) == ["a.PNG", "a.png"]
