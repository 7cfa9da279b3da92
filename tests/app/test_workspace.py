"""What the app shows of an image belongs to the picture that is there, also a replaced one."""

import os
import shutil
import threading
import time

import pytest
from app_tools import make_workspace, nuclei_of, write_images

from nuclei.app import corrections
from nuclei.app.edits import Refused
from nuclei.app.entry import ACCEPTED, FAILED, PREDICTED, WAITING, key_of
from nuclei.app.predicting import Predictor
from nuclei.app.requests import Delete

A, B = key_of("a"), key_of("b")


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "images", ("a", "b"))
    return tmp_path / "images"


def predicted(folder):
    """A workspace whose waiting images are predicted."""
    workspace = make_workspace(folder)
    predictor = Predictor(workspace, pytest.fail)
    while (entry := workspace.next_to_predict()) is not None:
        predictor.predict(entry)
    return workspace


def delete_one(workspace, key):
    """Delete the first nucleus of an image."""
    corrected = workspace.corrected.get(key)
    request = Delete("delete", corrected.revision, [min(corrected.canvas.boxes)])
    return corrections.edit(workspace, key, request)


def replace_by_b(folder):
    shutil.copyfile(folder / "b.png", folder / "a.png")


def test_predictions_of_an_image_that_was_replaced_are_made_anew(folder):
    predicted(folder)
    replace_by_b(folder)
    assert make_workspace(folder).entry(A).state == WAITING
    workspace = predicted(folder)
    assert nuclei_of(workspace, A)["nuclei"] == nuclei_of(workspace, B)["nuclei"]


def test_edits_are_not_shown_on_another_picture_and_come_back_with_their_own(folder):
    workspace = predicted(folder)
    delete_one(workspace, A)
    corrections.accept(workspace, A, True)
    edited, own = nuclei_of(workspace, A)["nuclei"], (folder / "a.png").read_bytes()
    replace_by_b(folder)
    again = make_workspace(folder)
    assert again.entry(A).state == FAILED and nuclei_of(again, A)["nuclei"] == []
    assert "move gt/a.edits.jsonl away" in again.entry(A).note
    log = (folder / "corrected" / "gt" / "a.edits.jsonl").read_bytes()
    with pytest.raises(ValueError, match="another picture"):
        corrections.edit(again, A, Delete("delete", 0, [1]))
    with pytest.raises(ValueError, match="another picture"):
        corrections.accept(again, A, True)
    assert (folder / "corrected" / "gt" / "a.edits.jsonl").read_bytes() == log
    (folder / "a.png").write_bytes(own)
    back = make_workspace(folder)
    assert back.entry(A).state == ACCEPTED and nuclei_of(back, A)["nuclei"] == edited


@pytest.mark.parametrize("is_edited", [False, True])
def test_an_image_that_is_replaced_while_it_is_open_takes_no_edit(folder, is_edited):
    workspace = predicted(folder)
    nuclei_of(workspace, A)
    if is_edited:
        delete_one(workspace, A)
    replace_by_b(folder)
    for act in (lambda: delete_one(workspace, A), lambda: corrections.accept(workspace, A, True)):
        with pytest.raises(
            (Refused, ValueError), match="replaced by another|another picture|still"
        ):
            act()
    assert not (folder / "corrected" / "gt" / "a.png").exists()
    assert workspace.entry(A).state == (FAILED if is_edited else WAITING)
    assert workspace.entry(B).state == PREDICTED


def test_the_same_picture_with_another_time_keeps_its_edits(folder):
    workspace = predicted(folder)
    delete_one(workspace, A)
    os.utime(folder / "a.png", ns=(0, 0))
    delete_one(workspace, A)
    again = make_workspace(folder)
    assert again.entry(A).state == PREDICTED
    assert nuclei_of(again, A)["nuclei"] == nuclei_of(workspace, A)["nuclei"]


def test_a_choice_of_the_model_waits_for_an_edit_and_the_edit_for_nothing(folder):
    """An edit ends with the lock of the workspace: who holds that one must not wait for edits."""
    workspace = predicted(folder)
    corrected, begun = workspace.corrected.get(A), threading.Event()

    def edit():
        with corrected.lock:
            begun.set()
            time.sleep(0.2)  # the network works
            workspace.update(workspace.entry(A), corrected.summary)

    threads = [
        threading.Thread(target=work, daemon=True) for work in (edit, workspace.predict_anew)
    ]
    threads[0].start()
    begun.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert workspace.entry(A).state == WAITING


def test_an_accepted_image_without_its_truth_is_never_accepted(folder):
    workspace = predicted(folder)
    corrections.accept(workspace, A, True)
    (folder / "corrected" / "gt" / "a.png").unlink()
    again = make_workspace(folder)
    assert again.entry(A).state == PREDICTED
    again.corrected.get(A)  # the user looks at it
    assert again.entry(A).state == PREDICTED and "gt/ no longer has" in again.entry(A).note


def test_a_log_that_another_program_changed_leaves_the_truth_as_it_is(folder):
    workspace = predicted(folder)
    corrections.accept(workspace, A, True)
    truth, log = (folder / "corrected" / "gt" / f"a{end}" for end in (".png", ".edits.jsonl"))
    delete_one(workspace, A)
    with open(log, "a", encoding="utf-8") as file:
        file.write("{}")
    before = truth.read_bytes()
    for accepted in (True, False):
        with pytest.raises(ValueError, match="nothing was saved"):
            corrections.accept(workspace, A, accepted)
        assert truth.read_bytes() == before
