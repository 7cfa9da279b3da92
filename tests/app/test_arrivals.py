"""Files that other programs put into the folder are listed, once they are whole."""

import os

import numpy as np
import pytest
from app_tools import make_workspace, write_images
from PIL import Image

from nuclei.app import arrivals
from nuclei.app.entry import ACCEPTED, FAILED, WAITING, key_of
from nuclei.app.predicting import Predictor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "LOOK_SECONDS", 0)
    write_images(tmp_path / "images" / "raw")
    return tmp_path / "images"


def look(workspace, times=2):
    for _ in range(times):
        workspace.look()
    return sorted(it.path.name for it in workspace.entries.values())


def test_a_new_image_is_listed_after_it_has_rested(folder):
    workspace = make_workspace(folder)
    assert look(workspace) == ["a.png", "b.png"]
    content = (folder / "raw" / "a.png").read_bytes()
    (folder / "raw" / "c.png").write_bytes(content[:50])
    assert look(workspace, 1) == ["a.png", "b.png"]
    with open(folder / "raw" / "c.png", "ab") as file:
        file.write(content[50:])
    assert look(workspace, 1) == ["a.png", "b.png"]  # it has grown
    assert look(workspace, 1) == ["a.png", "b.png", "c.png"]
    assert workspace.entries[key_of("c")].state == WAITING
    assert workspace.files.images["c"] == folder / "raw" / "c.png"


def test_other_files_and_a_second_one_of_a_stem_are_left_out(folder):
    workspace = make_workspace(folder)
    content = (folder / "raw" / "a.png").read_bytes()
    for name in ("a.bmp", ".c.png", "notes.txt", "d.png", "d.bmp"):
        (folder / "raw" / name).write_bytes(content)
    assert look(workspace, 3) == ["a.png", "b.png"]
    assert workspace.entries[key_of("a")].path.name == "a.png"


def test_truth_that_comes_with_an_image_is_its_truth(folder):
    workspace = make_workspace(folder)
    (folder / "gt").mkdir(exist_ok=True)
    Image.fromarray(np.ones((120, 120), np.uint8)).save(folder / "gt" / "c.png")
    (folder / "raw" / "c.png").write_bytes((folder / "raw" / "a.png").read_bytes())
    look(workspace)
    assert workspace.entries[key_of("c")].state == ACCEPTED


def test_a_file_that_was_repaired_is_read_again(folder):
    good = (folder / "raw" / "a.png").read_bytes()
    (folder / "raw" / "b.png").write_bytes(b"no image")
    workspace = make_workspace(folder)
    entry = workspace.entries[key_of("b")]
    Predictor(workspace, lambda line: None).predict(entry)
    look(workspace)
    assert entry.state == FAILED
    (folder / "raw" / "b.png").write_bytes(good)
    look(workspace)
    assert entry.state == WAITING and entry.note == ""


def test_the_folder_is_listed_only_after_a_change(folder, monkeypatch):
    monkeypatch.setattr(arrivals, "CLOCK_SECONDS", 0)
    workspace, lists = make_workspace(folder), []
    listing = arrivals.list_folder
    monkeypatch.setattr(
        arrivals, "list_folder", lambda *given: lists.append(given) or listing(*given)
    )
    look(workspace, 5)
    assert len(lists) == 0
    os.utime(folder / "raw")
    look(workspace, 5)
    assert len(lists) <= 1


def test_a_folder_that_is_away_for_a_while_stops_nothing(folder):
    workspace = make_workspace(folder)
    (folder / "raw").rename(folder / "away")
    assert look(workspace) == ["a.png", "b.png"]
    (folder / "away").rename(folder / "raw")
    (folder / "raw" / "c.png").write_bytes((folder / "raw" / "a.png").read_bytes())
    assert "c.png" in look(workspace, 3)
