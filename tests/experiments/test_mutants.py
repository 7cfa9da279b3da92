"""The mutants: what mutmut says becomes a table; a room with gaps in its tests is a failure."""

import csv
import subprocess
from types import SimpleNamespace

import pytest

from experiments import mutants

ENDS = {
    "nuclei.images.labels.x_joined__mutmut_1": "killed",
    "nuclei.images.labels.x_joined__mutmut_2": "survived",
    "nuclei.images.labels.x_joined__mutmut_3": "timeout",
    "nuclei.images.labels.x_joined__mutmut_4": "no tests",
}


@pytest.fixture
def mutated(monkeypatch):
    """The rooms that were mutated; each has the mutants ENDS."""
    rooms = []
    monkeypatch.setattr(mutants, "require", lambda *_: None)
    monkeypatch.setattr(mutants, "copy_project", lambda tree: tree.mkdir(exist_ok=True))
    monkeypatch.setattr(mutants, "mutate", lambda tree, room, _: rooms.append(room) or ENDS)
    monkeypatch.setattr(mutants, "differences", lambda _, names: "\n".join(names))
    return rooms


def test_rooms_are_counted_and_a_second_call_goes_on(mutated, tmp_path, capsys):
    tmp_path = tmp_path / "mutants"
    tmp_path.mkdir()
    assert mutants.main(["images/labels", "--out", str(tmp_path)]) == 1
    with open(tmp_path / "mutants.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row.values()) == ["images/labels", "4", "2", "0.500", "1"]
    assert (tmp_path / "images_labels.txt").read_text().count("mutmut") == 2
    mutants.main(["images/labels", "training/muon", "--out", str(tmp_path)])
    assert mutated == ["images/labels", "training/muon"]
    assert "training/muon 4 2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        mutants.main(["cli"])


def test_mutmut_is_told_what_to_change_and_its_failure_is_shown(tmp_path, monkeypatch):
    tree, calls = tmp_path / "tree", []
    mutants.copy_project(tree)
    assert (tree / "tests" / "test_house.py").is_file() and (tree / "unet.py").is_file()

    def run(command, **_):
        calls.append(command)
        listed = "".join(f"    {name}: {end}\n" for name, end in ENDS.items())
        return SimpleNamespace(returncode=0, stdout=listed, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert mutants.mutate(tree, "images/labels", ["images/test_labels"]) == ENDS
    settings = (tree / "pyproject.toml").read_text()
    assert 'only_mutate = ["nuclei/images/labels.py"]' in settings and len(calls) == 2
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stdout="", stderr="red")
    )
    with pytest.raises(ValueError, match="could not be tested with images/test_labels: "):
        mutants.mutate(tree, "images/labels", ["images/test_labels"])


def test_every_room_and_its_tests_exist():
    for room, tests in mutants.ROOMS.items():
        assert (mutants.PROJECT / "nuclei" / f"{room}.py").is_file(), room
        for name in tests:
            assert (mutants.PROJECT / "tests" / f"{name}.py").is_file(), name


def test_without_mutmut_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nuclei.machine.is_installed", lambda _: False)
    assert mutants.main(["--out", str(tmp_path)]) == 1
    assert "python -m pip install mutmut" in capsys.readouterr().err
