"""Learning: train.py in a process of its own, compared on what was held out, chosen by the user."""

import time
from pathlib import Path

import numpy as np
import pytest
from app_tools import bright_model, make_workspace, write_images

import train
from nuclei.app import comparing, corrections
from nuclei.app.edits import Refused
from nuclei.app.learning import Learning, model_used_before
from nuclei.app.training_process import TrainingProcess, flags
from nuclei.datasets.split import read_split
from nuclei.results.history import read_history
from nuclei.written import recording

STEMS = ("a", "b", "c", "d", "e")
STAND_IN = """
import pathlib, shutil, sys, time
words = sys.argv[1:]
given = dict(zip(words[::2], words[1::2]))
out = pathlib.Path(given["--out"])
for epoch in range(1, int(given["--epochs"]) + 1):
    with open(out / "history.csv", "a") as file:
        file.write("epoch,loss,val_loss,seconds\\n" if epoch == 1 else "")
        file.write(f"{epoch},{1 / epoch},{2 / epoch},{PAUSE}\\n")
    print(f"Epoch {epoch} of {given['--epochs']}: loss {1 / epoch}", flush=True)
    time.sleep(PAUSE)
FAULT
shutil.copy(given["--init"], out / "trained_model.h5")
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Five images, four accepted; a program that writes what train.py writes takes its place."""
    drawn = write_images(tmp_path / "images", STEMS)
    monkeypatch.setattr("nuclei.app.training_process.PROJECT", tmp_path)
    monkeypatch.setattr("nuclei.app.learning.LOOK_SECONDS", 0.02)
    monkeypatch.setattr(comparing, "load_model", lambda path, say: bright_model())
    with recording(tmp_path / "images" / "corrected"):
        workspace = make_workspace(tmp_path / "images", drawn)
        for key, entry in list(workspace.entries.items()):
            if entry.stem != "e":
                corrections.accept(workspace, key, True)
        yield workspace


def put_program(workspace, pause=0.0, fault=""):
    text = STAND_IN.replace("PAUSE", str(pause)).replace("FAULT", fault)
    (workspace.files.folder.parent / "train.py").write_text(text)


def wait_for_end(learning):
    end = time.monotonic() + 60
    while learning.job()["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.02)
    learning.watcher.join()
    return learning.job()


def test_the_real_train_py_understands_the_flags(tmp_path, workspace):
    out = tmp_path / "out"
    model = workspace.models.path
    words = flags(workspace.files.home, model, out, out / "split.csv", 7)
    recipe, run, resume, _ = train.parse_arguments(words)
    assert recipe.sets[0].raw_dir == (workspace.files.home / "raw").resolve()
    assert (recipe.epochs, recipe.init, run.out, resume) == (7, str(model), out, False)


def test_it_learns_compares_and_leaves_the_choice_to_the_user(workspace):
    put_program(workspace)
    learning = Learning(workspace, lambda line: None)
    assert learning.comparison() is None and learning.job() is None
    assert learning.begin(3)["state"] == "running"
    job = wait_for_end(learning)
    assert (job["state"], job["epoch"], job["epochs"]) == ("done", 3, 3)
    assert [point["val_loss"] for point in job["curve"]] == [2, 1, pytest.approx(2 / 3)]
    parts = read_split(learning.process.out / "split.csv")
    assert set(parts) == {"a", "b", "c", "d"} and list(parts.values()).count("validation") == 1
    held_out = [it.stem for it in workspace.entries.values() if it.held_out]
    assert [stem for stem, part in parts.items() if part == "validation"] == held_out

    comparison = learning.comparison()
    assert comparison["held_out"] and comparison["in_use"] == "old"
    assert len(comparison["images"]) == 1 and comparison["old"]["ap50"] > 0.3
    before = workspace.models.path
    assert comparison["new"]["name"].endswith("/trained_model.h5")
    assert workspace.models.path == before  # nothing is replaced unasked

    learning.use("new")
    assert workspace.models.path == learning.process.model
    assert model_used_before(workspace.files.cache) == learning.process.model
    again = Learning(workspace)  # the next run knows it
    assert again.comparison()["in_use"] == "new"
    again.use("old")
    assert workspace.models.path == before and again.comparison()["in_use"] == "old"
    assert learning.process.model.is_file()


def test_a_training_can_be_stopped_and_only_one_runs(workspace):
    put_program(workspace, pause=60)
    learning = Learning(workspace, lambda line: None)
    learning.begin(None)
    with pytest.raises(Refused, match="already"):
        learning.begin(None)
    process = learning.process
    assert learning.stop()["state"] == "stopped"
    assert process.status() is not None and learning.comparison() is None
    put_program(workspace)
    learning.begin(1)
    assert wait_for_end(learning)["state"] == "done"


def test_a_training_that_fails_says_why(workspace):
    put_program(workspace, fault="sys.exit('train.py: the disk is full')")
    learning = Learning(workspace, lambda line: None)
    learning.begin(1)
    job = wait_for_end(learning)
    assert job["state"] == "failed" and "the disk is full" in job["message"]
    assert learning.comparison() is None
    with pytest.raises(Refused, match="No model was learned"):
        learning.use("new")


def test_without_an_accepted_image_there_is_nothing_to_learn_from(tmp_path):
    drawn = write_images(tmp_path / "images")
    workspace = make_workspace(tmp_path / "images", drawn)
    with pytest.raises(Refused, match="Accept an image first"):
        Learning(workspace).begin(None)


def test_a_model_that_is_gone_is_not_used_in_the_next_run(workspace):
    put_program(workspace)
    learning = Learning(workspace, lambda line: None)
    learning.begin(1)
    wait_for_end(learning)
    learning.use("new")
    learning.process.model.unlink()
    assert model_used_before(workspace.files.cache) is None


def test_whatever_ends_a_comparison_ends_the_learning(workspace, monkeypatch):
    """Each engine has exceptions of its own, and a disk may be full."""
    put_program(workspace)
    learning = Learning(workspace, lambda line: None)
    for place in ("compare", "replacing"):
        with monkeypatch.context() as patch:

            def failing(*_):
                raise RuntimeError("no more memory")

            patch.setattr(f"nuclei.app.learning.{place}", failing)
            learning.begin(1)
            job = wait_for_end(learning)
        assert job["state"] == "failed" and "no more memory" in job["message"]
    learning.begin(1)
    assert wait_for_end(learning)["state"] == "done"


def test_the_choice_holds_wherever_the_next_run_is_started(workspace, monkeypatch):
    put_program(workspace)
    monkeypatch.chdir(workspace.files.folder.parent)
    learning = Learning(make_workspace(Path("images")), lambda line: None)
    learning.begin(1)
    wait_for_end(learning)
    learning.use("new")
    cache = workspace.files.cache.resolve()
    monkeypatch.chdir("/")
    assert model_used_before(cache) == Path(learning.choice.new)


def test_progress_tells_the_time_left(workspace, tmp_path):
    put_program(workspace, pause=0.3)
    split = tmp_path / "split.csv"
    process = TrainingProcess(workspace.files.home, workspace.models.path, tmp_path, split, 4)
    assert process.progress()["seconds_left"] is None
    assert process.doing() == "The training starts."
    lefts, words = [], set()
    while process.status() is None:
        lefts.append(process.progress()["seconds_left"])
        words.add(process.doing())
        time.sleep(0.05)
    numbers = [left for left in lefts if left is not None]
    assert numbers == sorted(numbers, reverse=True) and {*numbers} <= {0.9, 0.6, 0.3, 0.0}
    assert "" in words <= {"The training starts.", ""}
    assert len(read_history(tmp_path / "history.csv")["epoch"]) == 4


def test_two_models_are_scored_on_the_same_images(workspace, monkeypatch):
    def load(path, say):
        model = bright_model()
        if path.name == "blind.h5":
            return type(model)(**{**model.__dict__, "network": lambda it: 0 * it[..., :2]})
        return model

    monkeypatch.setattr(comparing, "load_model", load)
    entry = next(it for it in workspace.entries.values() if it.stem == "a")
    pairs = {entry.key: (entry.path, workspace.truths["a"])}
    old, new = workspace.files.folder / "blind.h5", workspace.files.folder / "seeing.h5"
    record = comparing.compare(old, new, pairs, True, print)
    assert record["old"]["ap50"] == 0 and record["new"]["ap50"] > 0.3
    image = record["images"][0]
    assert image["id"] == entry.key and image["new_ap50"] == record["new"]["ap50"]
    assert np.isfinite(record["new"]["dice"])
