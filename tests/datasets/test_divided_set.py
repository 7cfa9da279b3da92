"""A set of binary masks is divided by found nuclei; all else of it comes along as it is."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_a_folder_that_is_there_stays_as_it_is(places, capsys):
    divide(places)
    save(places / "found" / "a.png", np.where(PAIRS == 1, 0, FOUND))
    before = files(places)
    for out in ("out", "set", "found", "set/gt"):
        assert divide(places, out=out) == 1
        assert f"{out} is there already; give --out a new folder" in capsys.readouterr().err
    assert files(places) == before
    (places / "link").symlink_to("nowhere")
    assert divide(places, out="link") == 1
    (places / "empty").mkdir()
    assert divide(places, out="empty") == 0 and len(files(places / "empty")) == 9


def test_a_killed_run_leaves_no_half_of_a_set_and_the_next_one_clears_up(places):
    words = [str(places / "set"), "--divide-by", str(places / "found")]
    words += ["--out", str(places / "out")]
    code = (
        "import os; from nuclei.datasets import divided_set; import import_data\n"
        "divided_set.write_png = lambda *_: os._exit(9)\n"
        f"import_data.main({words})"
    )
    root = Path(import_data.__file__).parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 9
    assert not (places / "out" / "raw").exists()
    assert [path.name for path in places.iterdir() if path.name.startswith(".")]
    assert divide(places) == 0 and len(files(places / "out")) == 9
    assert not [path.name for path in places.iterdir() if path.name.startswith(".")]


def test_masks_that_cannot_be_divided_stay_as_they_are_and_are_named(places, capsys):
    (places / "found" / "a.png").unlink()
    save(places / "set" / "gt" / "b.png", CRESCENT)
    assert divide(places, "--quiet") == 0
    error = capsys.readouterr().err
    assert "1 mask not divided, since no labels have its name: a\n" in error
    assert "1 mask not divided, since it would be misread: b\n" in error
    assert files(places / "set") == files(places / "out")


def test_a_mask_whose_nuclei_would_be_misread_stays_as_it_is(places, capsys):
    mask = MASK.copy()
    mask[3::5, 3::5] = 255  # specks, beside which ids are taken for soft edges
    save(places / "set" / "gt" / "a.png", mask)
    assert divide(places) == 0
    assert "1 mask not divided, since it would be misread: a\n" in capsys.readouterr().err
    assert files(places / "out" / "gt")["a.png"] == files(places / "set" / "gt")["a.png"]


def test_a_pair_that_fails_is_named_and_the_others_are_divided(places, capsys):
    save(places / "found" / "a.png", (FOUND > 0) * np.uint8(255))
    (places / "set" / "raw" / "measured.tif").write_bytes(b"no image")
    save(places / "found" / "numbered.png", FOUND[:-1])  # not asked: it has ids
    assert divide(places) == 1
    error = capsys.readouterr().err
    assert "found/a.png is a mask of 0 and 255" in error and "measured.tif" in error
    assert {path.stem for path in (places / "out" / "gt").iterdir()} == {"b", "numbered"}
    save(places / "found" / "a.png", FOUND[:-1])
    assert divide(places, out="other") == 1
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


def test_one_truth_of_several_images_is_copied_once(places, capsys):
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    stems = ("a", "b", "missing")
    images = [
        {"id": k, "file_name": f"{stem}.tif", "height": 200, "width": 240}
        for k, stem in enumerate(stems)
    ]
    nuclei = [
        {"id": k, "image_id": k, "category_id": 1, "segmentation": [square]} for k in range(3)
    ]
    content = {"images": images, "annotations": nuclei, "categories": [{"id": 1, "name": "n"}]}
    for stem in ("a", "b"):
        (places / "set" / "gt" / f"{stem}.png").unlink()
    (places / "set" / "gt" / "all.json").write_text(json.dumps(content))
    assert divide(places) == 0
    assert "without image" not in capsys.readouterr().out
    assert files(places / "out") == files(places / "set")
    assert truth(places, "b").labels.sum() == 400


@pytest.mark.parametrize("value", [1, 128, 255, 65535])
@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_a_mask_is_never_taken_for_found_nuclei(places, capsys, value, suffix):
    mask = (FOUND > 0) * np.uint16(value)
    (places / "found" / "a.png").unlink()
    if suffix == "npy":
        np.save(places / "found" / "a.npy", mask)
    else:
        save(places / "found" / "a.png", mask)
    assert divide(places) == 1
    error = capsys.readouterr().err
    assert f"found/a.{suffix}" in error and "expected one id" in error


def test_ids_of_found_nuclei_are_never_void(places):
    ids = np.where(FOUND < 16, FOUND, 255 * (FOUND < 17)).astype(np.uint16)
    (places / "found" / "a.png").unlink()
    np.save(places / "found" / "a.npy", ids)
    save(places / "found" / "b.png", ids)
    assert divide(places) == 0
    for stem in ("a", "b"):
        assert truth(places, stem).labels.max() == 24  # of 16 pairs, 8 are divided


def test_without_a_split_all_masks_are_divided_and_a_line_says_so(places, capsys):
    (places / "set" / "split.csv").unlink()
    assert divide(places) == 0
    assert "3 masks divided" in (said := capsys.readouterr().out) and "Without split.csv" in said
    assert not (places / "out" / "split.csv").exists()


def test_only_what_the_table_calls_training_is_divided(places, capsys):
    (places / "set" / "split.csv").write_text("stem,split\nb,train\nB_mask,validation\n")
    assert divide(places) == 0
    said = capsys.readouterr()
    assert "1 mask divided" in said.out and truth(places, "b").form == "instances"
    assert "1 name in split.csv that no image has: B_mask\n" in said.err
    assert "split.csv does not name it: a, measured, numbered\n" in said.err


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
    assert import_data.main([".", "--divide-by", "../found"]) == 1
    assert "set_divided is there already" in capsys.readouterr().err
    assert import_data.main([".", "--divide-by", ""]) == 1


@pytest.mark.parametrize(
    ("found", "out", "message"),
    [
        ("nowhere", "out", "nowhere does not exist; expected a folder of label images"),
        ("other", "out", r"no label image of the name of an image \(for example a.png\)"),
        ("found", "set", "set is there already"),
        ("found/a.png", "out", "a.png is no folder; expected a folder of label images"),
        ("empty", "out", "holds no label image and no outlines: python predict.py"),
    ],
)
def test_errors_say_the_way_out_and_write_nothing(places, capsys, found, out, message):
    save(places / "other" / "x.png", FOUND)
    (places / "empty").mkdir()
    before = files(places / "set")
    words = [places / "set", "--divide-by", places / found, "--out", places / out]
    assert import_data.main([str(word) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert files(places / "set") == before and not (places / "out" / "gt").exists()


def test_a_full_disk_stops_at_once(places, capsys):
    with short_files():
        assert divide(places) == 1
    assert capsys.readouterr().err.count("cannot be written") == 1
    assert not (places / "out").exists()
