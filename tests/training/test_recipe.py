"""A recipe: its defaults, what must agree between processes, and what a model file tells."""

from dataclasses import asdict

import pytest

from nuclei.training.recipe import FINE_TUNING_RATE, LEARNING_RATE, MIN_PATIENCE, Recipe, Run
from unet import HEADS, build_unet


def test_the_learning_rate_follows_from_the_beginning():
    assert Recipe().peak_learning_rate == LEARNING_RATE
    assert Recipe(init="model.h5").peak_learning_rate == FINE_TUNING_RATE < LEARNING_RATE
    assert Recipe(init="model.h5", learning_rate=0.5).peak_learning_rate == 0.5


def test_a_long_training_has_the_patience_to_reach_its_last_quarter():
    for epochs in (1, 30, 80, 500):
        assert Recipe(epochs=epochs).epochs_to_wait == max(MIN_PATIENCE, epochs // 2)
    assert Recipe(epochs=500, patience=0).epochs_to_wait == 0


def test_its_architecture_builds_the_network():
    architecture = Recipe(width=8, depth=1).architecture
    assert build_unet(**architecture).output_shape[-1] == len(HEADS)


def test_files_may_lie_elsewhere_in_another_process_and_stay_unknown_to_others():
    here, there = Recipe(data_dir="/a/data", init="/a/m.h5"), Recipe(data_dir="/b", init="/b/m.h5")
    assert here.without_places() == there.without_places()
    assert here.without_places() != Recipe(epochs=31).without_places()
    settings = here.for_model_file()
    assert settings["data_dir"] == ["data"] and settings["init"] == "m.h5"
    assert set(settings) == set(asdict(here))


def test_a_set_has_a_folder_of_its_own_and_perhaps_a_split(tmp_path):
    for name in ("one/data", "two/data", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "other" / "split.csv").touch()
    folders = [str(tmp_path / name) for name in ("one/data", "two/data", "other")]
    sets = Recipe(data_dir=folders).sets
    assert [one.name for one in sets] == [*folders[:2], "other"]
    assert sets[2].raw_dir == tmp_path / "other" / "raw"
    assert sets[2].truth_dir == tmp_path / "other" / "gt"
    assert [one.split for one in sets] == [None, None, tmp_path / "other" / "split.csv"]
    (one,) = Recipe(data_dir=folders[2], gt_dir="masks", split="mine.csv").sets
    assert (str(one.truth_dir), str(one.split)) == ("masks", "mine.csv")


def test_a_set_is_not_called_like_another_line_of_the_scores(tmp_path):
    folders = [str(tmp_path / name) for name in ("tissue", "all", "mine")]
    assert [one.name for one in Recipe(data_dir=folders).sets] == [*folders[:2], "mine"]
    assert [one.name for one in Recipe(data_dir=folders[0]).sets] == ["tissue"]


def test_places_of_one_set_do_not_fit_several():
    for place in ("gt_dir", "split"):
        with pytest.raises(ValueError, match="belong to one set"):
            _ = Recipe(data_dir=("a", "b"), **{place: "c"}).sets
    with pytest.raises(ValueError, match="named twice"):
        _ = Recipe(data_dir=("a", "b/../a")).sets


def test_only_the_first_process_speaks(capsys):
    run = Run()
    run.say("hello")
    assert capsys.readouterr().out == "hello\n"
    assert run.checkpoint.parent == run.history.parent == run.out
