"""A search that was killed goes on where it stopped, and other settings begin anew."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from slides_tools import FORMATS, ROOT, contents, find

from experiments.campaign.damage import damaged
from nuclei.slides.formats import open_slide
from nuclei.slides.setup import Setup
from nuclei.slides.work import work_folder


def kill_after_tiles(num_tiles, path, out, folder):
    """Search a slide in a process of its own, and kill that when it has finished some tiles."""
    folders = [ROOT, ROOT / "tests", ROOT / "data"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, ROOT / "tests" / "slides_tools.py", path, out]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("tile_*.npz"))) < num_tiles:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def times_of_tiles(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("tile_*.npz")}


def test_a_killed_run_goes_on_and_its_files_equal_those_of_one_in_one_go(
    readable, tmp_path, capsys
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    folder = work_folder(cut, "s").path
    kill_after_tiles(3, readable["ome"], cut, folder)
    finished = times_of_tiles(folder)
    assert len(finished) >= 3
    (folder / "tile_000001.npz").write_bytes(b"half of a fi")  # as a loss of power leaves it
    del finished["tile_000001.npz"]
    slide = open_slide(readable["ome"])
    found = find(slide, cut)
    num_tiles = len(found.tiles)
    expected = f"{len(finished)} of {num_tiles} tiles were finished before"
    assert expected in capsys.readouterr().out and len(finished) < num_tiles
    now = times_of_tiles(folder)
    assert {name: now[name] for name in finished} == finished
    found.write(cut, FORMATS)
    find(slide, whole).write(whole, FORMATS)
    for out in (whole, cut):
        work_folder(out, "s").clear()
    assert contents(cut) == contents(whole) and len(contents(whole)) > len(FORMATS)


def test_a_tile_that_was_cut_or_changed_is_done_again(readable, tmp_path):
    work = work_folder(tmp_path, "s")
    found = find(open_slide(readable["ome"]), tmp_path)
    tile = found.tiles[0]
    content, generator = work.tile_path(tile).read_bytes(), random.Random(0)
    num_nuclei = work.count_nuclei(tile)
    for _ in range(200):
        work.tile_path(tile).write_bytes(damaged(content, "zip", generator)[0])
        assert work.count_nuclei(tile) in (None, num_nuclei)


def test_what_was_begun_with_other_settings_is_begun_anew(readable, tmp_path, capsys):
    slide, work = open_slide(readable["ome"]), work_folder(tmp_path, "s")
    find(slide, tmp_path)
    before = contents(tmp_path)
    find(slide, tmp_path)
    assert contents(tmp_path) == before
    capsys.readouterr()
    found = find(slide, tmp_path, tile_px=416)
    tiles = times_of_tiles(work.path)
    assert "begun anew" in capsys.readouterr().out
    assert len(found.tiles) == len(tiles) < sum("tile" in path.name for path in before)
    setup = (work.path / "setup.json").read_text()
    # Damaged, also where it can be read: nothing is known of the tiles there.
    for text in ("{", "[" * 9000, setup.replace("region_px", "region"), setup.replace("1", "2")):
        (work.path / "setup.json").write_text(text)
        assert text != setup and work.read_setup() is None
    find(slide, tmp_path)
    assert contents(tmp_path).keys() == before.keys()


SETUP = Setup(
    "key", (900, 800), (450, 400), 0.5, (3.0, 250), 255, "tissue", False, 512, 40, 16, 2048, 60
)


def test_tiles_of_another_setup_are_never_taken_for_finished(tmp_path, monkeypatch):
    work, tile = work_folder(tmp_path, "s"), SimpleNamespace(index=3)
    work.write_setup(SETUP)
    work.tile_path(tile).write_bytes(b"of this setup")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("nuclei.slides.work.shutil.rmtree", killed)
        work.clear()
    assert work.read_setup() == SETUP and not work.tile_path(tile).exists()
    work.tile_path(tile).write_bytes(b"of a worker that lost its setup")
    (work.path / "setup.json").unlink()
    work.write_setup(SETUP)
    assert not work.tile_path(tile).exists()


def test_a_setup_comes_back_as_it_was(tmp_path):
    work = work_folder(tmp_path, "s")
    work.write_setup(SETUP)
    assert work.read_setup() == work.require_setup() == SETUP


@pytest.mark.parametrize(
    "damage",
    [
        {"scale": 0},
        {"scale": "1"},
        {"shape": [900]},
        {"shape": [-1, 800]},
        {"intensity": [None, 1]},
        {"region_px": 2.5},
        {"multiple_px": 0},
        {"kind": {"a": 1}},
        {"more": 1},
    ],
)
def test_a_damaged_setup_is_none(tmp_path, damage):
    work = work_folder(tmp_path, "s")
    work.write_setup(SETUP)
    path = work.path / "setup.json"
    text = path.read_text()
    for content in (json.dumps(json.loads(text) | damage), text[:40], "[" * 10**5, "\xff", "[]"):
        path.write_bytes(content.encode("latin-1"))
        assert work.read_setup() is None
    with pytest.raises(ValueError, match="no setup.json"):
        work.require_setup()


PIPES = [("", os.mkfifo), ("setup.json", os.mkfifo)] if hasattr(os, "mkfifo") else []


@pytest.mark.parametrize(("name", "make"), [("setup.json", os.mkdir), *PIPES])
def test_what_stands_in_the_place_of_unfinished_work_is_named(tmp_path, name, make):
    work = work_folder(tmp_path, "s")
    if name:
        work.path.mkdir()
    make(work.path / name if name else work.path)
    with pytest.raises(ValueError, match="stands in the place of unfinished work"):
        work.read_setup()
