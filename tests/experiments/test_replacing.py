"""No experiment replaces a file of the user, or one of its inputs, unless --overwrite says so."""

import importlib

import pytest
from images_tools import discs, fluorescence, save

from experiments import mutants, otsu
from nuclei.images.labels import read_labels

WORDS = {  # of each program, with "out" for the folder of results
    "otsu": "raw out",
    "stress": "raw gt --model none.h5 --out out",
    "clicks": "raw gt --split split.csv --out out",
    "few_images": "raw gt split.csv --without tissue --out out",
    "ablation": "raw gt split.csv --out out",
    "benchmark.__main__": "raw --model shipped --out out",
    "mutants": "images/labels --out out",
}
OUTPUTS = [
    ("otsu", "a.png"),
    ("stress", "stress.csv"),
    *(("clicks", name) for name in ("fields.csv", "scores.csv")),
    *(("few_images", name) for name in ("few_images.csv", "base.csv", "groups.csv")),
    ("ablation", "ablation.csv"),
    *(("benchmark.__main__", f"benchmark{suffix}") for suffix in (".csv", ".json", ".html")),
    *(("mutants", name) for name in ("mutants.csv", "images_labels.txt")),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a pair, a split and the results of others in it."""
    save(tmp_path / "raw" / "a.png", fluorescence(discs()))
    save(tmp_path / "gt" / "a.png", discs().astype("uint16"))
    (tmp_path / "split.csv").write_text("stem,split,modality\na,validation,tissue\n")
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(mutants, "require", lambda *_: None)
    monkeypatch.setattr(mutants, "finished_rooms", lambda _: [])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("program, name", OUTPUTS)
def test_a_file_of_the_user_stays_and_is_named_before_the_work(here, capsys, program, name):
    (here / "out" / name).write_text("mine")
    main = importlib.import_module(f"experiments.{program}").main
    assert main(WORDS[program].split()) == 1
    error = capsys.readouterr().err
    assert f"{name} was not written by this program; give another " in error
    assert error.count("\n") == 1 and (here / "out" / name).read_text() == "mine"


def test_otsu_keeps_images_and_replaces_its_own_labels_and_what_overwrite_allows(here, capsys):
    before = (here / "raw" / "a.png").read_bytes()
    for flags in ([], ["--overwrite"]):
        assert otsu.main(["raw", "raw", *flags]) == 1
        assert "raw holds the images; expected another folder" in capsys.readouterr().err
        assert otsu.main(["raw", "out", *flags]) == 0  # the second time its own
        (here / "out" / "a.png").unlink()
        (here / "out" / "a.png").symlink_to(here / "raw" / "a.png")
        assert otsu.main(["raw", "out", *flags]) == 1
        assert "a.png is an input, which is never replaced" in capsys.readouterr().err
        (here / "out" / "a.png").unlink()
    assert (here / "raw" / "a.png").read_bytes() == before
    (here / "out" / "a.png").write_text("mine")
    assert otsu.main(["raw", "out", "--overwrite"]) == 0
    assert read_labels(here / "out" / "a.png").max() == discs().max()
