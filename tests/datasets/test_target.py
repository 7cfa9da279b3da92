"""What a user has is kept, whatever an import brings."""

import json
import os

import numpy as np
import pytest
from images_tools import GREY, LABELS, dsb2018, save

import import_data
from nuclei.datasets.pairs import find_pairs, read_pair
from nuclei.datasets.target import Target


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


def test_halves_of_the_users_own_pairs_are_not_completed_with_others(tmp_path, capsys):
    source, out = tmp_path / "stage1", tmp_path / "data"
    dsb2018(source, 5)
    save(out / "raw" / "id0.png", GREY + np.uint8(1))  # another image
    (out / "gt").mkdir(parents=True)
    (out / "gt" / "id1.geojson").write_text("{}")  # corrected by hand
    (out / "gt" / "id2.png").symlink_to("nowhere")
    (out / "raw" / "id3.png").mkdir()
    assert import_data.main(["--from", str(source), "--out", str(out)]) == 1
    text = capsys.readouterr().err
    assert "id0.png is another image of this name" in text
    assert "id2.png stands in its place" in text and "id3.png stands in its place" in text
    assert sorted(path.name for path in (out / "gt").iterdir()) == [
        "id1.geojson",
        "id2.png",
        "id4.png",
    ]
    assert (out / "gt" / "id2.png").is_symlink() and (out / "raw" / "id1.png").is_file()


@pytest.mark.parametrize("has_image", [True, False])
@pytest.mark.parametrize("name", ["a_mask.png", "a_seg.npy", "instances.json"])
def test_a_truth_that_serves_an_image_under_another_name_stays_in_force(
    tmp_path, capsys, name, has_image
):
    source, out = tmp_path / "set", tmp_path / "out"
    for stem in ("a", "b"):
        save(source / "images" / f"{stem}.png", GREY)
        save(source / "masks" / f"{stem}.png", LABELS.astype(np.uint16))
    if has_image:
        save(out / "raw" / "a.png", GREY)
    (out / "gt").mkdir(parents=True)
    one = np.where(LABELS == 1, 1, 0)
    if name.endswith("json"):
        rows, columns = np.nonzero(one)
        box = [int(number) for number in (columns.min(), rows.min(), np.ptp(columns), np.ptp(rows))]
        x, y, width, height = box
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        image = {"id": 1, "file_name": "a.png", "height": GREY.shape[0], "width": GREY.shape[1]}
        nucleus = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [corners], "bbox": box}
        category = {"id": 1, "name": "nucleus"}
        coco = {"images": [image], "annotations": [nucleus], "categories": [category]}
        (out / "gt" / name).write_text(json.dumps(coco))
    elif name.endswith("npy"):
        np.save(out / "gt" / name, one)
    else:
        save(out / "gt" / name, one.astype(np.uint16))
    assert import_data.main(["--from", str(source), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    numbers = "1 imported, 1 already there" if has_image else "2 imported, 0 already there"
    assert f"{numbers}, 9 nuclei\n" in text  # those that came in
    pairs = find_pairs(out / "raw", out / "gt")
    assert [read_pair(*paths)[1].labels.max() for paths in pairs.values()] == [1, 9]
    assert import_data.main(["--from", str(source), "--out", str(out), "--overwrite"]) == 0
    text = capsys.readouterr().out
    assert "2 replaced\n" in text
    assert "Truth under another name counts no more, for 1 image: a\n" in text
    assert (out / "gt" / name).exists()


def test_truths_that_contradict_one_another_end_the_import_before_the_work(tmp_path, capsys):
    source, out = tmp_path / "set", tmp_path / "out"
    save(source / "images" / "a.png", GREY)
    save(source / "masks" / "a.png", LABELS.astype(np.uint16))
    for name in ("q.png", "q.tif", "a_mask.png"):
        save(out / "gt" / name, LABELS.astype(np.uint16))
    assert import_data.main(["--from", str(source), "--out", str(out)]) == 1
    assert "q.png = q.tif" in capsys.readouterr().err
    assert len(list((out / "gt").iterdir())) == 3 and not (out / "raw").exists()


def test_a_folder_in_the_place_of_an_image_leaves_its_truth_alone(tmp_path, capsys):
    source, out = tmp_path / "set", tmp_path / "out"
    for part in ("images", "masks"):
        save(source / part / "a.png", LABELS.astype(np.uint16))
    save(out / "raw" / "a.tif", GREY)
    (out / "raw" / "a.png").mkdir()
    kept = save(out / "gt" / "a.png", (LABELS == 1).astype(np.uint8)).read_bytes()
    assert import_data.main(["--from", str(source), "--out", str(out), "--overwrite"]) == 1
    assert "raw/a.png stands in its place and is no image" in capsys.readouterr().err
    assert (out / "gt" / "a.png").read_bytes() == kept


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
    Target(tmp_path, True, present, set()).keep_only("a", paths)
    for part in ("raw", "gt"):
        assert sorted(path.name for path in (tmp_path / part).iterdir()) == ["a.PNG", "a.png"]
