"""Unsafe archives are refused whole; damaged, missing and strange sources are named."""

import os
import struct
import zipfile

import numpy as np
import pytest
from images_tools import dsb2018, zipped

import import_data
from nuclei.datasets.array_sets import array_sets
from nuclei.datasets.folder_sets import import_folders

SCRIPT = import_data.__file__


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
        import_folders(path, tmp_path / "data")
    zipped(tmp_path / "stage1", path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted member
    (tmp_path / "locked.zip").write_bytes(raw)
    with pytest.raises(ValueError, match="is encrypted"):
        import_folders(tmp_path / "locked.zip", tmp_path / "data")
    monkeypatch.setattr("nuclei.archives.MAX_MEMBER_BYTES", 100)
    with pytest.raises(ValueError, match="unpacks to .* bytes, more than 100"):
        import_folders(path, tmp_path / "data")


def test_a_damaged_member_is_named_and_a_wrong_source_refused(tmp_path):
    dsb2018(tmp_path / "stage1", 2)
    path = zipped(tmp_path / "stage1", tmp_path / "train.zip")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\x89PNG") + 60] ^= 255
    path.write_bytes(raw)
    result = import_folders(path, tmp_path / "data")
    assert result.images == 1 and len(result.problems) == 1 and "CRC" in result.problems[0]
    (tmp_path / "stage1" / "id1" / "masks" / "id1_03.png").write_bytes(b"no image")
    result = import_folders(zipped(tmp_path / "stage1", path), tmp_path / "data2")
    assert result.images == 1
    assert result.problems[0].startswith("train/id1: id1_03.png is no image")
    nothing, no_layout = tmp_path / "nothing", tmp_path / "data"
    for source, error in (
        (nothing, FileNotFoundError),
        (no_layout, ValueError),
        (SCRIPT, ValueError),
    ):
        with pytest.raises(error, match="expected .*(truth|ID/images)"):
            import_folders(source, tmp_path / "out")


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
            import_folders(path, tmp_path / "data")
        return
    result = import_folders(path, tmp_path / "data")
    assert result.images == 1 and len(result.problems) == 1
    assert result.problems[0].startswith("train/id") and len(result.problems[0]) < 300


def test_pipes_and_hidden_names_are_named_and_never_waited_for(tmp_path, capsys):
    source = tmp_path / "set"
    dsb2018(source, 2)
    (source / "id0").rename(source / ".id0")
    assert import_data.main(["--from", str(source), "--out", str(tmp_path / "data")]) == 1
    assert ".id0 begins with a dot, so its files would be hidden" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "data" / "gt").iterdir()] == ["id1.png"]
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(FileNotFoundError, match=r"pipe.zip is a pipe or a device; expected"):
        import_folders(tmp_path / "pipe.zip", tmp_path / "data")
    (tmp_path / "arrays").mkdir()
    os.mkfifo(tmp_path / "arrays" / "images.npy")
    np.save(tmp_path / "arrays" / "masks.npy", np.zeros((1, 8, 8, 6)))
    assert array_sets(tmp_path / "arrays") == {}
