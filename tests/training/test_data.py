"""Several sets train together; each keeps its name and its split."""

import csv

import pytest
from training_tools import TINY, write_data, write_pair

import train
from nuclei.model_file import data_sets, read_settings
from nuclei.training.data import read_data
from nuclei.training.recipe import Recipe
from nuclei.training.shares import sampling_shares


@pytest.fixture
def folders(tmp_path):
    """A set of label images, and one of binary masks with a split of its own and equal stems."""
    labels = write_data(tmp_path / "labels", 3)
    binary = tmp_path / "binary"
    for number in range(3):
        write_pair(binary, f"f{number}", seed=10 + number, binary=True)
    with open(binary / "split.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("stem", "split"), ("f0", "train"), ("f1", "validation"), ("f2", "test")]
        )
    return [str(labels), str(binary)]


def test_each_set_is_divided_by_itself(folders, tmp_path):
    lines = []
    data = read_data(Recipe(data_dir=folders), lines.append, tmp_path)
    count = lambda part, name: sum(sample.set_name == name for sample in part)
    assert (count(data.training, "binary"), count(data.validating, "binary")) == (1, 1)
    assert count(data.training, "labels") + count(data.validating, "labels") == 6
    assert data.set_names == ["labels", "binary"]
    assert {"labels/f0", "binary/f0"} <= set(data.forms)
    assert any(line.startswith("binary: Divided as in") for line in lines)
    assert any("binary among instance labels" in line for line in lines)
    for sample in data.training:
        assert (sample.is_clump is None) == (sample.set_name == "labels")


def test_one_set_keeps_its_plain_stems(folders, tmp_path):
    lines = []
    data = read_data(Recipe(data_dir=folders[0]), lines.append, tmp_path)
    assert "f0" in data.forms and data.set_names == ["labels"]
    assert not any(line.startswith("labels:") for line in lines)


def test_the_data_change_with_the_sets(folders, tmp_path):
    both, one = (
        read_data(Recipe(data_dir=names), print, tmp_path) for names in (folders, folders[:1])
    )
    assert both.fingerprint != one.fingerprint


def test_the_data_change_with_their_division(folders, tmp_path):
    split, keys = tmp_path / "split.csv", set()
    names = ["f0", "f1"]
    for parts in (("train", "validation"), ("validation", "train")):
        rows = (f"{stem},{part}" for stem, part in zip(names, parts, strict=True))
        split.write_text("\n".join(["stem,split", *rows]))
        recipe = Recipe(data_dir=folders[0], split=str(split))
        keys.add(read_data(recipe, print, tmp_path).fingerprint)
    assert len(keys) == 2


def test_a_set_of_a_modality_is_drawn_by_its_size(folders, tmp_path):
    data = read_data(Recipe(data_dir=folders), print, tmp_path)
    shares = sampling_shares(data.training, 32)
    assert shares.sum() == pytest.approx(1) and (shares > 0).all()
    assert shares.max() <= 6.1 / len(shares)


def test_a_training_on_two_sets_tells_its_scores_by_set(folders, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--data-dir", *folders, "--out", str(out), "--epochs", "1", *TINY]
    assert train.main(flags) == 0
    printed = capsys.readouterr().out
    settings = read_settings(out / "trained_model.h5")
    scores = settings["scores"]["validation"]
    assert {"all", "fluorescence", "labels", "binary"} <= set(scores)
    assert scores["binary"]["images"] == 1 and "validation binary" in printed
    assert data_sets(settings) == ["labels", "binary"]
    assert settings["arguments"]["data_dir"] == ["labels", "binary"]


@pytest.mark.parametrize("name", ["raw", "gt"])
def test_results_never_lie_among_the_images_or_their_truth(folders, name):
    with pytest.raises(ValueError, match="holds the data.*give another --out"):
        read_data(Recipe(data_dir=folders), print, f"{folders[1]}/{name}")
