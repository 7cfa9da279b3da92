"""app.py at the command line: what it refuses, and what it needs. tests/app/ has the rest."""

import pytest
from app_tools import write_images

import app
from nuclei.folder_lock import only_run


def run(capsys, *words):
    """(exit status, stderr)."""
    status = app.main([*map(str, words)])
    return status, capsys.readouterr().err


def test_a_missing_folder_is_named(tmp_path, capsys):
    status, error = run(capsys, tmp_path / "none", "--no-browser")
    assert status == 1 and "none does not exist; expected a folder of images" in error
    (tmp_path / "file").write_text("")
    status, error = run(capsys, tmp_path / "file", "--no-browser")
    assert status == 1 and "is a file, not a folder" in error


def test_where_results_cannot_be_written_the_way_out_is_another_folder(tmp_path, capsys):
    write_images(tmp_path)
    with only_run(tmp_path / "corrected"):  # the app is open on this folder already
        status, error = run(capsys, tmp_path, "--no-browser")
        assert status == 1 and "by another run (process " in error
        assert app.ELSEWHERE in error and "--out" not in error
    (tmp_path / "corrected").write_text("")
    status, error = run(capsys, tmp_path, "--no-browser")
    assert status == 1 and f"is a file; results need a folder: {app.ELSEWHERE}" in error


def test_missing_packages_are_named_with_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nuclei.machine.is_installed", lambda package: False)
    status, error = run(capsys, tmp_path)
    assert status == 1
    assert "app.py needs starlette uvicorn" in error
    assert "python -m pip install starlette uvicorn" in error


def test_a_wrong_model_is_named_before_the_server_starts(tmp_path, capsys):
    write_images(tmp_path / "images")
    status, error = run(capsys, tmp_path / "images", "--model", tmp_path / "none.h5")
    assert status == 1 and "none.h5: there is no such model file" in error


@pytest.mark.parametrize("port", ("0", "-1", "70000", "x"))
def test_a_wrong_port_is_a_usage_error(port, capsys):
    with pytest.raises(SystemExit) as stopped:
        app.main(["--port", port])
    assert stopped.value.code == 2 and "--port" in capsys.readouterr().err
