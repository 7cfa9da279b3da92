"""A recipe: its defaults, what must agree between processes, and what a model file tells."""

from dataclasses import asdict

from nuclei.training.recipe import FINE_TUNING_RATE, LEARNING_RATE, Recipe, Run
from unet import HEADS, build_unet


def test_the_learning_rate_follows_from_the_beginning():
    assert Recipe().peak_learning_rate == LEARNING_RATE
    assert Recipe(init="model.h5").peak_learning_rate == FINE_TUNING_RATE < LEARNING_RATE
    assert Recipe(init="model.h5", learning_rate=0.5).peak_learning_rate == 0.5


def test_its_architecture_builds_the_network():
    architecture = Recipe(width=8, depth=1).architecture
    assert build_unet(**architecture).output_shape[-1] == len(HEADS)


def test_files_may_lie_elsewhere_in_another_process_and_stay_unknown_to_others():
    here, there = Recipe(data_dir="/a/data", init="/a/m.h5"), Recipe(data_dir="/b", init="/b/m.h5")
    assert here.without_places() == there.without_places()
    assert here.without_places() != Recipe(epochs=31).without_places()
    settings = here.for_model_file()
    assert settings["data_dir"] == "data" and settings["init"] == "m.h5"
    assert set(settings) == set(asdict(here))


def test_only_the_first_process_speaks(capsys):
    run = Run()
    run.say("hello")
    assert capsys.readouterr().out == "hello\n"
    assert run.checkpoint.parent == run.history.parent == run.out
