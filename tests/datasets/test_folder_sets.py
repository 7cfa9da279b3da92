"""Layouts may lie side by side in one source; a source of none is told what is expected."""

import errno
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from images_tools import data_set, discs, dsb2018, save, tissue, zipped

import import_data
from nuclei.datasets.folder_sets import import_folders
from nuclei.full_disk import DiskFull


def test_two_layouts_side_by_side_both_come_in(tmp_path):
    truth = dsb2018(tmp_path / "set" / "dsb", 2)
    labels = discs(seed=5)
    save(tmp_path / "set" / "more" / "images" / "b.png", tissue(labels))
    save(tmp_path / "set" / "more" / "masks" / "b.png", labels.astype(np.uint16))
    result = import_folders(tmp_path / "set", tmp_path / "out")
    assert (result.images, result.problems) == (3, [])
    assert result.nuclei == labels.max() + sum(one.max() for one in truth.values())


def test_arrays_and_folders_side_by_side_both_come_in(tmp_path, capsys):
    labels = discs(seed=5)
    for stem in ("a", "b"):
        save(tmp_path / "set" / "images" / f"{stem}.png", tissue(labels))
        save(tmp_path / "set" / "masks" / f"{stem}.png", labels.astype(np.uint16))
    (tmp_path / "set" / "arrays").mkdir()
    np.save(tmp_path / "set" / "arrays" / "images.npy", tissue(labels)[None])
    np.save(tmp_path / "set" / "arrays" / "masks.npy", np.dstack([labels, labels])[None])
    assert import_data.main(["--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    assert "3 sound pairs" in capsys.readouterr().out


def ids(folder, mask, labels):
    """One image in a folder of its own, with all nuclei in one truth of another name."""
    save(folder / "images" / "image.png", tissue(labels))
    save(folder / "masks" / mask, labels.astype(np.uint16))


def two_values(folder, mask, labels):
    """The same with a binary truth."""
    save(folder / "images" / "image.png", tissue(labels))
    save(folder / "masks" / mask, (labels > 0) * np.uint8(255))


@pytest.mark.parametrize("write", [ids, two_values])
@pytest.mark.parametrize("mask", ["mask.png", "case0.png", "nuclei.tif"])
def test_the_one_mask_of_an_image_may_show_all_of_its_nuclei(tmp_path, write, mask):
    for index in range(3):
        write(tmp_path / "set" / f"case{index}", mask, discs(seed=index, count=5))
    result = import_folders(tmp_path / "set", tmp_path / "out")
    assert (result.images, result.nuclei, result.problems) == (3, 15, [])
    for path in (tmp_path / "out" / "gt").iterdir():
        source = tmp_path / "set" / path.stem / "masks" / mask
        assert path.read_bytes() == source.read_bytes()


def test_several_masks_that_show_several_nuclei_each_are_refused(tmp_path):
    for index in range(3):
        labels = discs(seed=index, count=5)
        ids(tmp_path / "set" / f"case{index}", "ids.png", labels)
        save(tmp_path / "set" / f"case{index}" / "masks" / "border.png", (labels > 0) * np.uint8(9))
    save(tmp_path / "other" / "images" / "left.png", tissue(labels))
    for name in ("a", "b"):
        save(tmp_path / "other" / "masks" / f"{name}.png", labels.astype(np.uint16))
    for source, place in (("set", "set/case0"), ("other", "other")):
        result = import_folders(tmp_path / source, tmp_path / "out")
        assert result.images == 0 and result.problems[0].startswith(f"{place}: ")
        assert (
            "shows 5 nuclei; expected the mask of one nucleus, or one truth with the"
            in (result.problems[0])
        )


NUCLEI = "{}", "{}_1", "{}_2"  # masks of one nucleus each, of which the first has the image's name


@pytest.mark.parametrize("names", [NUCLEI, ("{}_mask", "{}_mask_1", "{}_mask_2"), ("0", "1", "2")])
@pytest.mark.parametrize("images", [("0",), ("0", "1", "img2")])
def test_masks_of_one_nucleus_count_whatever_their_names(tmp_path, names, images):
    labels = discs(count=3)
    for image in images:
        save(tmp_path / "set" / image / "images" / f"{image}.png", tissue(labels))
        for index, name in enumerate(names, 1):
            mask = (labels == index) * np.uint8(255)
            save(tmp_path / "set" / image / "masks" / f"{name.format(image)}.png", mask)
    result = import_folders(tmp_path / "set", tmp_path / "out")
    assert (result.images, result.nuclei, result.problems) == (len(images), 3 * len(images), [])
    assert not result.truths_alone


def test_a_nucleus_in_pieces_is_one_where_others_have_masks_of_their_own(tmp_path):
    dsb2018(tmp_path / "set", 2)
    labels = discs(count=2)
    save(tmp_path / "set" / "one" / "images" / "one.png", tissue(labels))
    save(tmp_path / "set" / "one" / "masks" / "1f.png", (labels > 0) * np.uint8(255))
    assert import_folders(tmp_path / "set", tmp_path / "out").nuclei == 2 * 9 + 1


def test_a_mask_that_may_be_either_is_named(tmp_path):
    labels = discs(count=3)
    save(tmp_path / "set" / "images" / "a.png", tissue(labels))
    for name in ("a", "b", "c"):
        save(tmp_path / "set" / "masks" / f"{name}.png", (labels > 0) * np.uint8(255))
    (problem,) = import_folders(tmp_path / "set", tmp_path / "out").problems
    assert "a.png has the name of the image and shows 3 regions, and 2 other masks lie" in problem


def test_small_nuclei_of_soft_edges_are_nuclei(tmp_path):
    for index in range(2):
        place = tmp_path / "set" / f"id{index}"
        save(place / "images" / f"id{index}.png", tissue(discs()))
        for number, radius in enumerate((1, 1.2, 1.5, 2, 6)):
            rows, columns = np.mgrid[:96, :112]
            distance = np.hypot(rows - 20.3, columns - 20 - 18 * number)
            soft = np.clip(radius + 0.5 - distance, 0, 1) * 255
            save(place / "masks" / f"{number}.png", soft.astype(np.uint8))
    result = import_folders(tmp_path / "set", tmp_path / "out")
    assert (result.images, result.nuclei, result.problems) == (2, 10, [])


def test_one_image_left_beside_many_truths_has_its_own(tmp_path):
    for index in range(5):
        save(tmp_path / "set" / "masks" / f"{index}.png", discs(seed=index).astype(np.uint16))
    save(tmp_path / "set" / "images" / "3.png", tissue(discs(seed=3)))
    result = import_folders(tmp_path / "set", tmp_path / "out")
    assert (result.images, result.nuclei) == (1, 9)
    assert result.truths_alone == [f"set/masks/{index}.png" for index in (0, 1, 2, 4)]


def test_names_that_do_not_pair_are_told_what_is_expected(tmp_path, capsys):
    for index in range(3):
        save(tmp_path / "set" / "images" / f"image_{index}.png", tissue(discs()))
        save(tmp_path / "set" / "masks" / f"mask_{index}.png", discs().astype(np.uint16))
    assert import_data.main(["--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "set: 3 images and no mask of the name of one of them; expected one image with" in error
    assert "does not exist" not in error  # nothing came in, so nothing is there to be checked
    assert f"no pair of {tmp_path / 'set'} came in: set: 3 images and no mask of" in error


def test_folders_behind_links_come_in_and_loops_end(tmp_path):
    truth = dsb2018(tmp_path / "elsewhere", 2)
    (tmp_path / "set").mkdir()
    for stem in truth:
        (tmp_path / "set" / stem).symlink_to(tmp_path / "elsewhere" / stem)
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere" / "id0" / "more").symlink_to(tmp_path / "elsewhere" / "id1")
    (tmp_path / "elsewhere" / "id1" / "more").symlink_to(tmp_path / "elsewhere" / "id0")
    (tmp_path / "elsewhere" / "id0" / "a link").symlink_to("images")  # comes before the folder
    result = import_folders(tmp_path / "set", tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out" / "raw").iterdir()} >= {*truth}
    assert all("/more: it is there twice" in problem for problem in result.problems)


def test_two_folders_may_share_their_truth_by_a_link(tmp_path):
    for place in ("a", "b"):
        save(tmp_path / "set" / place / "images" / f"{place}.png", tissue(discs()))
    save(tmp_path / "set" / "a" / "masks" / "a.png", discs().astype(np.uint16))
    save(tmp_path / "set" / "a" / "masks" / "b.png", discs().astype(np.uint16))
    (tmp_path / "set" / "b" / "masks").symlink_to("../a/masks")
    assert import_folders(tmp_path / "set", tmp_path / "out").images == 2


@pytest.mark.parametrize("extra", ["README.md", "types.npy", "a.png"])
def test_arrays_in_the_folder_itself_come_in(tmp_path, monkeypatch, extra):
    labels = discs(seed=5)
    np.save(tmp_path / "images.npy", np.stack([tissue(labels)] * 2))
    np.save(tmp_path / "labels.npy", np.stack([np.dstack([labels, labels])] * 2))
    (tmp_path / extra).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert import_data.main(["--from", ".", "--out", "out"]) == 0
    assert len(list((tmp_path / "out" / "raw").iterdir())) == 2


@pytest.mark.parametrize("fault", ["no layout", "sizes"])
def test_a_file_for_programs_says_that_nothing_came_in(tmp_path, fault):
    if fault == "sizes":
        save(tmp_path / "set" / "images" / "a.png", tissue(discs()))
        save(tmp_path / "set" / "masks" / "a.png", discs()[1:].astype(np.uint16))
    (tmp_path / "set").mkdir(exist_ok=True)
    json_path = tmp_path / "check.json"
    data_set(tmp_path / "good")
    assert import_data.main([str(tmp_path / "good"), "--json", str(json_path)]) == 0
    assert json.loads(json_path.read_text())["can_train"] is True
    flags = ["--json", str(json_path), "--from", str(tmp_path / "set"), "--out"]
    assert import_data.main([*flags, str(tmp_path / "out")]) == 1
    record = json.loads(json_path.read_text())
    assert record["can_train"] is False and record["exit_status"] == 1
    assert record["folder"] == str(tmp_path / "out")
    reason = "has no layout" if fault == "no layout" else "its image set/images/a.png 96 x 112"
    assert reason in json_path.read_text()


def test_arrays_without_an_image_are_told(tmp_path, capsys):
    np.save(tmp_path / "images.npy", np.zeros((0, 8, 8, 3), np.uint8))
    np.save(tmp_path / "masks.npy", np.zeros((0, 8, 8, 6), np.uint8))
    assert import_data.main(["--from", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert f"no pair of {tmp_path} came in: it holds no image\n" in capsys.readouterr().err


def test_members_of_a_zip_have_one_name_each(tmp_path):
    labels = discs(seed=5)
    image = save(tmp_path / "a.png", tissue(labels))
    truth = save(tmp_path / "b.png", labels.astype(np.uint16))
    for name, problem in (("./masks/a.png", False), ("masks\\a.png", True)):
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.write(image, "./images/a.png")
            archive.write(truth, name)
            if problem:
                archive.write(truth, "masks/a.png")
        if problem:
            with pytest.raises(ValueError, match="two members of the name .*a.png"):
                import_folders(tmp_path / "set.zip", tmp_path / "other")
        else:
            assert import_folders(tmp_path / "set.zip", tmp_path / "out").nuclei == 9


def test_a_zip_of_windows_comes_in(tmp_path):
    labels = discs(seed=5)
    image = save(tmp_path / "a.png", tissue(labels))
    truth = save(tmp_path / "b.png", labels.astype(np.uint16))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(image, "top\\images\\a.png")
        archive.write(truth, "top\\masks\\a.png")
    result = import_folders(tmp_path / "set.zip", tmp_path / "out")
    assert (result.images, result.nuclei, result.problems) == (1, 9, [])


def test_a_full_disk_ends_the_import(tmp_path, monkeypatch):
    save(tmp_path / "set" / "images" / "a.png", tissue(discs()))
    save(tmp_path / "set" / "masks" / "a.png", discs().astype(np.uint16))

    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(DiskFull):
        import_folders(tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize("name", ["train", "raw", "data"])
def test_a_name_that_tells_no_set_from_others_needs_a_folder(tmp_path, capsys, name):
    (tmp_path / name).mkdir()
    with pytest.raises(SystemExit) as end:
        import_data.main(["--from", str(tmp_path / name)])
    assert end.value.code == 2
    assert f"{name} says nothing about the set; give --out a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my set", "set.zip", "."])
def test_an_import_has_a_folder_of_the_name_of_its_source(tmp_path, monkeypatch, name):
    source = tmp_path / "my set"
    for stem in ("a", "b"):
        save(source / "images" / f"{stem}.png", tissue(discs()))
        save(source / "masks" / f"{stem}.png", discs().astype(np.uint16))
    zipped(source, tmp_path / "set.zip")
    monkeypatch.chdir(source if name == "." else tmp_path)
    assert import_data.main(["--from", name]) == 0
    out = "data/set" if name.endswith("zip") else "data/my set"
    assert len(list((Path.cwd() / out / "raw").iterdir())) == 2


@pytest.mark.parametrize(
    "names", [(), ("a.png",), ("images/a.png", "labels/a.txt"), ("raw/a.png",)]
)
def test_a_source_of_no_known_layout_is_told_the_layouts(tmp_path, capsys, names):
    (tmp_path / "set").mkdir()
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    assert import_data.main(["--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "has no layout that is known" in error
    folders = {Path(name).parent.name for name in names} - {""}
    assert all(folder in error.partition("; expected")[0] for folder in folders)
    for layout in ("DSB2018", "NuInsSeg", "TNBC", "PanNuke", "CoNIC", "raw/ and gt/ already needs"):
        assert layout in error
