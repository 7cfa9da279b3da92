"""train.py loses nothing, one bad pair does not stop it, and a full disk ends it in one line."""

import shutil

import pytest
from disk_tools import short_files
from training_tools import RESULTS, run, write_data

from nuclei.folder_lock import LOCK, only_run
from nuclei.model_file import read_settings


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", num_pairs=2)


def test_pairs_that_cannot_be_used_are_named_and_the_others_are_learned(data, tmp_path, capsys):
    (data / "raw" / "bad.png").write_text("no picture")
    shutil.copy(data / "gt" / "f0.png", data / "gt" / "bad.png")
    shutil.copy(data / "raw" / "f0.png", data / "raw" / "other.tif")
    (data / "gt" / "other.png").write_bytes(b"")
    out = tmp_path / "out"
    assert run(data, out, "--epochs", 1) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.startswith(f"skipped: {data / 'raw' / 'bad.png'} ")]
    assert [line for line in errors if line.startswith(f"skipped: {data / 'gt' / 'other.png'} ")]
    assert errors[-1] == "train.py: 2 pairs could not be used: skipped, see above"
    assert sorted(path.name for path in out.iterdir()) == sorted(RESULTS)
    assert sum(read_settings(out / "trained_model.h5")["data"]["truth"].values()) == 4


def test_where_no_pair_can_be_used_nothing_is_written(data, tmp_path, capsys):
    for path in (data / "raw").iterdir():
        path.write_text("no picture")
    assert run(data, tmp_path / "out") == 1
    assert "4 of 4 pairs cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_trainings_do_not_share_a_folder(data, tmp_path, capsys):
    with only_run(tmp_path / "out"):
        assert run(data, tmp_path / "out") == 1
        output = capsys.readouterr()
        assert "is being written to by another run" in output.err and not output.out
        assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK]


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_read(data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run(data, tmp_path / "file") == 1
    output = capsys.readouterr()
    assert "is a file; results need a folder" in output.err and not output.out
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_told_before_the_first_epoch_or_ends_it_in_one_line(
    data, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "out"
    with short_files():
        assert run(data, out, "--epochs", 2) == 1
    output = capsys.readouterr()
    assert f"train.py: {out / 'trained_model.h5'} cannot be written: " in output.err
    assert output.err.count("\n") == 1 and "nothing to resume" not in output.out
    assert not [path for path in out.rglob("*") if path.suffix in (".h5", ".png", ".html")]
    monkeypatch.setattr("nuclei.full_disk.free_bytes", lambda folder: 1000)
    assert run(data, tmp_path / "full") == 1
    output = capsys.readouterr()
    assert "has 1,000 bytes free, and the files of this training need" in output.err
    assert "Epoch" not in output.out and not (tmp_path / "full").exists()
