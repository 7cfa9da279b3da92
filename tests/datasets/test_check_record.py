"""The check for programs: what each file was taken for, warnings, errors and the exit status."""

import json
import os

import numpy as np
from formats_tools import circle
from images_tools import data_set, discs, fluorescence, save
from outline_tools import SHAPE, write_json

import import_data

PAIR = {
    "stem": "image0",
    "image": "image0.png",
    "truth": "image0.png",
    "modality": "fluorescence",
    "height_px": 96,
    "width_px": 112,
    "dtype": "uint8",
    "form": "instances",
    "repaired": 0.0,
    "left_out": "",
    "nuclei": 9,
}


def check(tmp_path, expected_status):
    """The record that the script writes."""
    path = tmp_path / "new" / "check.json"
    assert import_data.main([str(tmp_path), "--json", str(path)]) == expected_status
    record = json.loads(path.read_bytes())
    assert record["schema"] == 1 and record["exit_status"] == expected_status
    assert record["folder"] == str(tmp_path)
    return record


def test_a_sound_folder(tmp_path, capsys):
    data_set(tmp_path, 3)
    save(tmp_path / "raw" / "alone.png", fluorescence(discs()))
    record = check(tmp_path, 0)
    assert record["can_train"] and record["errors"] == []
    assert record["counts"] == {"pairs": 3, "nuclei": 27}
    first = record["pairs"][0]
    assert abs(first.pop("median_diameter_px") - 12) < 1 and first == PAIR
    (warning,) = record["warnings"]
    assert warning["files"] == ["alone.png"] and "images without truth" in warning["message"]
    assert "3 sound pairs" in capsys.readouterr().out  # the words for people stay


def test_a_folder_with_faults(tmp_path, capsys):
    data_set(tmp_path, 2)
    (tmp_path / "gt" / "image1.png").write_bytes(b"no image")
    save(tmp_path / "raw" / "empty.png", np.full((50, 50), 6, np.uint8))
    save(tmp_path / "gt" / "empty.png", np.zeros((50, 50), np.uint8))
    save(tmp_path / "raw" / "drawn.png", np.full(SHAPE, 6, np.uint8))
    shapes = [{"shape_type": "polygon", "points": circle(30, 30, 9)}]
    shapes.append({"shape_type": "point", "points": [[1, 1]]})
    write_json(tmp_path / "gt" / "drawn.json", {"shapes": shapes})
    record = check(tmp_path, 1)
    by_stem = {pair["stem"]: pair for pair in record["pairs"]}
    assert by_stem["empty"]["median_diameter_px"] is None and by_stem["empty"]["form"] == "empty"
    assert by_stem["drawn"]["left_out"] == "points or lines 1"
    messages = {warning["message"]: warning["files"] for warning in record["warnings"]}
    assert messages["truth of which something was left out"] == ["drawn.json: points or lines 1"]
    assert not record["can_train"] and len(record["errors"]) == 2
    assert "image1.png is no image" in record["errors"][0] and "repair" in record["errors"][1]
    assert "drawn.json: points or lines 1" in capsys.readouterr().out


def test_a_folder_that_cannot_be_checked(tmp_path, capsys):
    record = check(tmp_path, 1)
    (error,) = record["errors"]
    assert "raw does not exist" in error and error in capsys.readouterr().err
    assert record["pairs"] == [] and not record["can_train"]


def test_a_check_replaces_a_check_and_nothing_else(tmp_path, capsys):
    data = tmp_path / "data"
    for index in range(2):
        labels = discs(seed=index)
        save(data / "raw" / f"{index}.png", fluorescence(labels))
        save(data / "gt" / f"{index}.png", labels.astype(np.uint16))
    check = tmp_path / "check.json"
    for _ in range(2):  # the second one replaces the first
        assert import_data.main([str(data), "--json", str(check)]) == 0
    notes = tmp_path / "notes.json"
    notes.write_text("[1]")
    link = tmp_path / "link.json"
    link.symlink_to("nowhere")
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (data / "gt" / "0.png", data / "raw" / "1.png", notes, link, pipe, data):
        before = path.read_bytes() if path.is_file() else None
        assert import_data.main([str(data), "--json", str(path)]) == 1
        assert "is no check of this program" in capsys.readouterr().err
        assert (path.read_bytes() if path.is_file() else None) == before


def test_a_place_that_takes_no_check_is_told_with_the_flag_that_helps(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert import_data.main([str(tmp_path), "--json", str(tmp_path / "file" / "c.json")]) == 1
    assert "is a file; results need a folder: give --json another file" in capsys.readouterr().err
