"""A folder belongs to one run, until its process is gone."""

import errno
import subprocess
import sys
import types
from pathlib import Path

import pytest

from nuclei.folder_lock import LOCK, lock, only_run

PROJECT = Path(__file__).resolve().parent.parent
HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from nuclei.folder_lock import only_run
with only_run(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_one_runs_until_its_process_is_gone(tmp_path):
    folder = tmp_path / "new" / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(PROJECT), str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        for _ in range(2):
            with (
                pytest.raises(ValueError, match=f"process {process.pid} on .*--out"),
                only_run(folder),
            ):
                pass
        with only_run(tmp_path):  # another folder
            pass
    finally:
        process.kill()
        process.communicate()
    assert (folder / LOCK).exists()  # killed, it could not remove its file
    with only_run(folder):
        pass
    assert list(folder.iterdir()) == []


def test_a_lock_that_was_removed_in_between_is_taken_anew(tmp_path, monkeypatch):
    take, path = lock, tmp_path / LOCK

    def remove_first(file):
        monkeypatch.setattr("nuclei.folder_lock.lock", take)
        path.unlink()
        return take(file)

    monkeypatch.setattr("nuclei.folder_lock.lock", remove_first)
    with only_run(tmp_path):
        assert path.exists()
        with pytest.raises(ValueError, match="another run"), only_run(tmp_path):
            pass


def test_locks_of_other_systems(tmp_path, monkeypatch):
    def fails(number):
        def call(*_):
            raise OSError(number, "no")

        return call

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", fails(errno.ENOLCK))  # a network folder without locks
    with only_run(tmp_path):
        pass
    windows = types.SimpleNamespace(LK_NBLCK=2, locking=lambda *_: None)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    with only_run(tmp_path):
        pass
    windows.locking = fails(errno.EACCES)
    with pytest.raises(ValueError, match="another run"), only_run(tmp_path):
        pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / LOCK).symlink_to("mine")
    with pytest.raises(ValueError, match="is a link, in the place of a lock"), only_run(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "precious"
