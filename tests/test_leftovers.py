"""What killed runs left is removed by the next one, and a folder is tried before the work."""

import multiprocessing
import os
import time

import pytest

from nuclei.cli import describe_system_fault
from nuclei.files import replacing
from nuclei.folder_lock import only_run
from nuclei.leftovers import OLD_SECONDS, adding_to, temporary_name, writing_into
from nuclei.written import recording


def leave(folder):
    """A file and a folder of a killed run, and files of the user that look alike."""
    places = [folder, folder / "masks", folder / "fields" / "raw", folder / ".a.work"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        temporary_name(place / "a.png").write_text("half")
        (place / ".nuclei-notes.txt").write_text("mine")
    zarr = temporary_name(folder / "masks" / "a.zarr")
    zarr.mkdir()
    (zarr / "0").write_text("half")
    return len(places)


def halves(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.read_text() == "half"]


@pytest.mark.parametrize("context", [writing_into, recording, only_run])
def test_the_next_run_removes_what_a_killed_one_left(tmp_path, context):
    num_places = leave(tmp_path)
    with context(tmp_path):
        assert not halves(tmp_path)
    assert len(list(tmp_path.rglob(".nuclei-notes.txt"))) == num_places
    assert not [path for path in tmp_path.rglob("*.zarr")]


def test_below_a_folder_of_the_user_nothing_is_removed(tmp_path):
    num_places = leave(tmp_path)
    num_halves = len(halves(tmp_path))
    with adding_to(tmp_path):
        assert len(halves(tmp_path)) == num_halves - 1
        assert not [path for path in halves(tmp_path) if path.parent == tmp_path]
    assert len(list(tmp_path.rglob(".nuclei-notes.txt"))) == num_places
    with adding_to(tmp_path / "missing"):  # it may vanish before
        assert not (tmp_path / "missing").exists()


def write_slowly(folder, started):
    with recording(folder), replacing(folder / "masks" / "a.png") as temporary:
        temporary.write_text("half")
        os.utime(temporary, (0, 0))
        started.set()
        time.sleep(60)


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
def test_files_of_a_run_that_goes_on_stay_and_those_of_a_killed_one_go(tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    other = context.Process(target=write_slowly, args=(tmp_path, started))
    other.start()
    assert started.wait(20)
    os.utime(halves(tmp_path)[0])
    with recording(tmp_path):
        assert len(halves(tmp_path)) == 1
    os.utime(halves(tmp_path)[0], (time.time() - 2 * OLD_SECONDS,) * 2)
    other.kill()
    other.join()
    assert len(halves(tmp_path)) == 1
    with recording(tmp_path):
        assert not halves(tmp_path)


@pytest.mark.parametrize("context", [writing_into, recording, only_run])
def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(tmp_path, context):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OSError) as caught, context(folder):
            raise AssertionError("the work has begun")
        line = describe_system_fault(caught.value)
        assert str(tmp_path / "file") in line and "give another --out" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_made_for_nothing_is_removed(tmp_path):
    for context in (writing_into, recording, only_run):
        with pytest.raises(ValueError), context(tmp_path / "a" / "b"):
            raise ValueError("wrong input")
        assert not (tmp_path / "a").exists()
    with writing_into(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    assert (tmp_path / "a" / "b" / "result").exists()


def test_the_folder_of_a_name_of_any_length_takes_a_temporary_file(tmp_path):
    path = tmp_path / f"{'ü' * 125}.png"
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
