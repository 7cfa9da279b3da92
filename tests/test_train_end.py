"""How train.py ends: with the next command, or where it was stopped with what can be resumed."""

import json
import shlex
from pathlib import Path

import pytest
from training_tools import interrupted, run, write_data

import train
from nuclei.images.origin import SYNTHETIC
from nuclei.model_file import PROJECT, find_model, read_settings
from nuclei.training.recipe import Run

BOOKKEEPER = "nuclei.training.bookkeeping.Bookkeeper"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), num_pairs=2)


@pytest.mark.parametrize(
    ("method", "saved"), [("on_train_batch_end", False), ("on_epoch_begin", True)]
)
def test_a_stop_promises_only_what_resume_can_do(
    method, saved, data, tmp_path, capsys, monkeypatch
):
    calls = []

    def stop_in_second_epoch(self, *_, **__):
        self.started = 0
        calls.append(self)
        if len(calls) > saved:
            interrupted()

    monkeypatch.setattr(f"{BOOKKEEPER}.{method}", stop_in_second_epoch)
    assert run(data, tmp_path, "--epochs", 2) == 130
    output = capsys.readouterr().out
    assert ("--resume" in output) == saved and ("nothing to resume" in output) != saved
    monkeypatch.undo()
    status = train.main(["--resume", "--out", str(tmp_path)])
    assert (status == 0) == saved


def test_a_run_keeps_all_of_itself_in_its_folder_and_says_how_to_go_on(data, tmp_path, capsys):
    out = tmp_path / "runs" / "first try"
    assert run(data, out, "--epochs", 1) == 0
    assert {path.name for path in out.iterdir()} >= {"history.csv", "settings.json"}
    settings = read_settings(find_model(out))
    text = (out / "settings.json").read_text(encoding="utf-8")
    assert json.loads(text) == {name: settings[name] for name in settings if name != "schema"}
    assert settings["data"]["sets"] == [data.name]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Next: python predict.py MY_IMAGES --model {shlex.quote(str(out))} " + (
        "--out MY_RESULTS"
    )


def test_the_next_command_predicts_the_test_images_after_the_demo(capsys):
    train.say_next(Run(Path("runs/demo")), type("Data", (), {"set_names": [SYNTHETIC]}))
    words = "python predict.py --model runs/demo --out runs/demo/predictions"
    assert capsys.readouterr().out == f"Next: {words}\n"


def test_the_model_to_start_from_can_be_the_shipped_one_or_a_folder(tmp_path, capsys):
    recipe, *_ = train.parse_arguments(["--init", "shipped"])
    assert Path(recipe.init).samefile(PROJECT / "Saved_Model" / "pretrained.h5")
    assert recipe.for_model_file()["init"] == "pretrained.h5"
    assert train.main(["--init", str(tmp_path)]) == 1
    assert "holds no trained_model.h5" in capsys.readouterr().err
