"""A set of binary masks is divided by found nuclei; all else of it comes along as it is."""

import json
import re
import shutil

import numpy as np
import pytest
from disk_tools import short_files
from images_tools import fluorescence, save
from scipy import ndimage
from truth_tools import PAIRS

import import_data
import predict
from nuclei.datasets.pairs import find_pairs, read_pair

INSIDE = ndimage.minimum_filter(PAIRS, 5) == ndimage.maximum_filter(PAIRS, 5)
FOUND = np.where(INSIDE, PAIRS, 0).astype(np.uint16)
MASK = (PAIRS > 0) * np.uint8(255)
RADII = np.hypot(*np.ogrid[-24:176, -40:200]), np.hypot(*np.ogrid[-24:176, -48:192])
CRESCENT = ((RADII[0] < 20) & (RADII[1] > 16)) * np.uint8(255)  # too hollow for one nucleus
STEMS = ("a", "b", "measured", "numbered")
TABLE = "stem,split\na,train\nb,train\nmeasured,validation\nnumbered,train\n"


@pytest.fixture
def places(tmp_path):
    """A set with a split, of which `numbered` has ids already, and nuclei found in all images."""
    for index, stem in enumerate(STEMS):
        truth = PAIRS.astype(np.uint16) if stem == "numbered" else MASK
        save(tmp_path / "set" / "raw" / f"{stem}.tif", fluorescence(PAIRS, seed=index))
        save(tmp_path / "set" / "gt" / f"{stem}.png", truth)
        save(tmp_path / "found" / f"{stem}.png", FOUND)
    (tmp_path / "set" / "split.csv").write_text(TABLE)
    return tmp_path


def divide(places, *flags, out="out"):
    words = [places / "set", "--divide-by", places / "found", "--out", places / out, *flags]
    return import_data.main([str(word) for word in words])


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def truth(places, stem):
    image, truth = find_pairs(places / "out" / "raw", places / "out" / "gt")[stem]
    return read_pair(image, truth)[1]


def test_training_masks_are_divided_and_the_rest_is_copied(places, capsys):
    before = files(places / "set")
    assert divide(places) == 0
    assert files(places / "set") == before
    after = files(places / "out")
    assert set(after) == set(before)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"gt/a.png", "gt/b.png"}
    for stem in ("a", "b", "numbered"):
        divided = truth(places, stem)
        assert divided.form == "instances" and divided.labels.max() == PAIRS.max()
        assert ((divided.labels > 0) == (PAIRS > 0)).all()
    assert truth(places, "measured").form == "binary"
    said = capsys.readouterr().out
    assert (
        "4 imported" in said and "2 masks divided: 32 regions into several nuclei, 0 void" in said
    )
    assert "Without split.csv" not in said


def test_what_nobody_can_tell_is_void_and_teaches_nothing(places):
    mask = MASK.copy()
    mask[:50] = CRESCENT[:50]
    save(places / "set" / "gt" / "a.png", mask)
    assert divide(places) == 0
    divided = truth(places, "a")
    assert divided.labels.max() == PAIRS.max() - PAIRS[:50].max()
    assert (divided.void == (CRESCENT > 0)).all()


def test_a_second_run_completes_the_first_and_another_division_needs_overwrite(places, capsys):
    divide(places)
    before = files(places / "out")
    (places / "out" / "gt" / "b.png").unlink()
    save(places / "found" / "a.png", np.where(PAIRS == 1, 0, FOUND))
    assert divide(places) == 0
    said = capsys.readouterr()
    assert files(places / "out") == before and "3 already there" in said.out
    assert "1 mask (a): their images have a truth there; --overwrite replaces it" in said.err
    assert divide(places, "--overwrite") == 0
    after = files(places / "out")
    assert {name for name in after if after[name] != before[name]} == {"gt/a.png"}
    assert capsys.readouterr().err == ""


def test_masks_that_cannot_be_divided_stay_as_they_are_and_are_named(places, capsys):
    (places / "found" / "a.png").unlink()
    save(places / "set" / "gt" / "b.png", CRESCENT)
    assert divide(places, "--quiet") == 0
    error = capsys.readouterr().err
    assert "Not divided, 1 mask (a): there are no labels for them" in error
    assert "Not divided, 1 mask (b): nuclei, void and specks would be taken" in error
    assert files(places / "set") == files(places / "out")


def test_a_mask_whose_nuclei_would_be_misread_stays_as_it_is(places, capsys):
    mask = MASK.copy()
    mask[3::5, 3::5] = 255  # specks, beside which ids are taken for soft edges
    save(places / "set" / "gt" / "a.png", mask)
    assert divide(places) == 0
    assert "Not divided, 1 mask (a)" in capsys.readouterr().err
    assert files(places / "out" / "gt")["a.png"] == files(places / "set" / "gt")["a.png"]


def test_a_pair_that_fails_is_named_and_the_others_are_divided(places, capsys):
    save(places / "found" / "a.png", (FOUND > 0) * np.uint8(255))
    (places / "set" / "raw" / "measured.tif").write_bytes(b"no image")
    save(places / "found" / "numbered.png", FOUND[:-1])  # not asked: it has ids
    assert divide(places) == 1
    error = capsys.readouterr().err
    assert "found/a.png is a mask of 0 and 255" in error and "measured.tif" in error
    assert {path.stem for path in (places / "out" / "gt").iterdir()} == {"b", "numbered"}
    save(places / "found" / "a.png", (FOUND > 0) * np.uint8(1))
    assert divide(places) == 1
    assert "found/a.png is a mask of 0 and 1" in capsys.readouterr().err
    save(places / "found" / "a.png", FOUND[:-1])
    assert divide(places) == 1
    assert "(199, 240) px, its image (200, 240)" in capsys.readouterr().err


def test_files_without_a_partner_are_named(places, capsys):
    save(places / "set" / "raw" / "lonely.png", fluorescence(PAIRS))
    save(places / "set" / "gt" / "orphan.png", MASK)
    assert divide(places) == 0
    said = capsys.readouterr().out
    assert "1 image without truth: lonely.png" in said
    assert "1 truth without image: orphan.png" in said


def test_void_of_the_masks_stays_void(places):
    mask = np.where(PAIRS > 2, 1, 0).astype(np.uint8)
    mask[PAIRS == 1] = 255
    save(places / "set" / "gt" / "a.png", mask)
    assert divide(places) == 0
    divided = truth(places, "a")
    assert (divided.void == (PAIRS == 1)).all() and divided.labels.max() == PAIRS.max() - 2


def test_without_a_split_all_masks_are_divided_and_a_line_says_so(places, capsys):
    (places / "set" / "split.csv").unlink()
    assert divide(places) == 0
    assert "3 masks divided" in (said := capsys.readouterr().out) and "Without split.csv" in said
    assert not (places / "out" / "split.csv").exists()


def test_only_what_the_table_calls_training_is_divided(places, capsys):
    (places / "set" / "split.csv").write_text("stem,split\nb,train\nB_mask,validation\n")
    assert divide(places) == 0
    said = capsys.readouterr()
    assert "1 mask divided" in said.out
    assert "No image has 1 name of split.csv: B_mask" in said.err


def test_no_truth_of_a_model_comes_into_validation_by_a_later_split(places, capsys):
    table, out = places / "set" / "split.csv", places / "out"
    table.unlink()
    divide(places)
    table.write_text(TABLE)
    before = files(out)
    assert divide(places) == 1 and files(out) == before
    assert "was divided by another split" in capsys.readouterr().err
    assert divide(places, "--overwrite") == 0 and truth(places, "measured").form == "binary"
    table.write_text(TABLE.replace("b,train", "b,test"))
    before = files(out)
    assert divide(places) == 1 and files(out) == before
    assert divide(places, "--overwrite") == 0 and truth(places, "b").form == "binary"
    table.unlink()
    before = files(out)
    for flags in ([], ["--overwrite"]):
        assert divide(places, *flags) == 1 and files(out) == before
    assert "remove that file" in capsys.readouterr().err


def test_the_masks_are_safe_behind_links(places, capsys):
    (places / "out").mkdir()
    for part in ("raw", "gt"):
        (places / "out" / part).symlink_to(places / "set" / part)
    before = files(places / "set")
    assert divide(places, "--overwrite") == 1
    assert "gt holds the masks themselves" in capsys.readouterr().err
    (places / "out" / "gt").unlink()
    assert divide(places, "--overwrite") == 0  # the images may be shared
    assert files(places / "set") == before and truth(places, "a").form == "instances"


def test_truth_of_a_whole_set_is_written_for_each_image(places):
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    images = [
        {"id": k, "file_name": f"{stem}.tif", "height": 200, "width": 240}
        for k, stem in enumerate(("a", "b"))
    ]
    nuclei = [{"id": k, "image_id": k, "category_id": 1, "segmentation": [square]} for k in (0, 1)]
    content = {"images": images, "annotations": nuclei, "categories": [{"id": 1, "name": "n"}]}
    for stem in ("a", "b"):
        (places / "set" / "gt" / f"{stem}.png").unlink()
    (places / "set" / "gt" / "all.json").write_text(json.dumps(content))
    assert divide(places) == 0
    assert {path.name for path in (places / "out" / "gt").iterdir()} == {
        f"{stem}.png" for stem in STEMS
    }
    assert truth(places, "a").labels.sum() == 400


def test_the_folder_of_a_prediction_is_understood(places, capsys):
    shutil.rmtree(places / "found")
    words = [str(places / "set" / "raw"), "--formats", "labels", "--out", str(places / "found")]
    assert predict.main([*words, "--quiet"]) == 0 and (places / "found" / "labels").is_dir()
    assert divide(places) == 0
    assert "2 masks divided" in capsys.readouterr().out


def test_a_name_is_found_where_none_is_given(places, monkeypatch, capsys):
    monkeypatch.chdir(places)
    assert import_data.main(["set", "--divide-by", "found", "--json", "check.json"]) == 0
    record = json.loads((places / "check.json").read_text())
    assert record["folder"] == "set_divided" and len(record["pairs"]) == 4
    monkeypatch.chdir(places / "set")
    assert import_data.main([".", "--divide-by", "../found"]) == 0
    assert "set_divided: 0 imported, 4 already there" in capsys.readouterr().out
    assert import_data.main([".", "--divide-by", ""]) == 1


@pytest.mark.parametrize(
    ("found", "out", "message"),
    [
        ("nowhere", "out", "nowhere does not exist; expected a folder of label images"),
        ("other", "out", r"no label image of the name of an image \(for example a.png\)"),
        ("found", "set", "set holds the masks themselves"),
        ("found/a.png", "out", "a.png is no folder; expected a folder of label images"),
        ("empty", "out", "holds no label image: python predict.py"),
        ("found", "file", "gt is no folder"),
    ],
)
def test_errors_say_the_way_out_and_write_nothing(places, capsys, found, out, message):
    save(places / "other" / "x.png", FOUND)
    (places / "empty").mkdir()
    (places / "file").mkdir()
    (places / "file" / "gt").write_text("mine")
    before = files(places / "set")
    words = [places / "set", "--divide-by", places / found, "--out", places / out]
    assert import_data.main([str(word) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert files(places / "set") == before and not (places / "out" / "gt").exists()
    assert (places / "file" / "gt").read_text() == "mine"


def test_a_full_disk_stops_at_once(places, capsys):
    with short_files():
        assert divide(places) == 1
    assert capsys.readouterr().err.count("cannot be written") == 1
    assert {path.name for path in (places / "out").rglob("*") if path.is_file()} == {"split.csv"}
