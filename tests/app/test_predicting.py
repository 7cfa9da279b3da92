"""Images are predicted in the background: the one looked at first, bad files stop nothing."""

import numpy as np
import pytest
from app_tools import bright_model, make_workspace, nuclei_of, write_images

from nuclei.app import corrections
from nuclei.app.entry import ACCEPTED, FAILED, PREDICTED, WAITING
from nuclei.app.predicting import Predictor
from nuclei.app.requests import Delete
from nuclei.written import recording


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "images", ("a", "b", "c"))
    return tmp_path / "images"


def states(workspace):
    return {entry.stem: entry.state for entry in workspace.entries.values()}


def predict_all(workspace):
    """Predict all images. Returns: the lines that the terminal got."""
    lines = []
    predictor = Predictor(workspace, lines.append)
    while (entry := workspace.next_to_predict()) is not None:
        predictor.predict(entry)
    return lines


def test_all_images_are_predicted_and_the_next_run_knows_them(folder):
    workspace = make_workspace(folder)
    assert set(states(workspace).values()) == {WAITING}
    predict_all(workspace)
    assert set(states(workspace).values()) == {PREDICTED}
    again = make_workspace(folder)
    assert set(states(again).values()) == {PREDICTED}
    key = next(iter(again.entries))
    assert nuclei_of(again, key) == nuclei_of(workspace, key)
    assert len(nuclei_of(again, key)["nuclei"]) > 5
    assert again.entry(key).describe()["nuclei"] == len(nuclei_of(again, key)["nuclei"])


def test_the_image_that_the_user_looks_at_comes_first(folder):
    workspace = make_workspace(folder)
    wanted = next(key for key, it in workspace.entries.items() if it.stem == "c")
    assert nuclei_of(workspace, wanted)["state"] == WAITING
    assert workspace.next_to_predict().stem == "c"


def test_a_damaged_file_is_named_and_the_others_go_on(folder):
    (folder / "b.png").write_bytes(b"nothing")
    workspace = make_workspace(folder)
    (line,) = predict_all(workspace)
    assert line.startswith(str(folder / "b.png")) and "b.png: " not in line
    assert states(workspace) == {"a": PREDICTED, "b": FAILED, "c": PREDICTED}
    note = next(it.note for it in workspace.entries.values() if it.stem == "b")
    assert "b.png" in note and str(folder) not in note


def test_the_order_is_by_need(folder):
    workspace = make_workspace(folder)
    predict_all(workspace)
    for stem, uncertainty, flagged in (("a", 0.1, False), ("b", 0.3, False), ("c", 0.05, True)):
        entry = next(it for it in workspace.entries.values() if it.stem == stem)
        facts = {**entry.prediction.__dict__, "uncertainty": uncertainty, "flagged": flagged}
        entry.prediction = type(entry.prediction)(**facts)
    names = [image["name"] for image in workspace.state()["images"]]
    assert names == ["c.png", "b.png", "a.png"]
    next(it for it in workspace.entries.values() if it.stem == "c").state = ACCEPTED
    assert [image["name"][0] for image in workspace.state()["images"]] == ["b", "a", "c"]


def test_another_model_predicts_anew_what_the_user_has_not_touched(folder, tmp_path):
    workspace = make_workspace(folder)
    predict_all(workspace)
    touched = next(key for key, it in workspace.entries.items() if it.stem == "a")
    request = Delete("delete", 0, [nuclei_of(workspace, touched)["nuclei"][0]["id"]])
    corrections.edit(workspace, touched, request)
    labels = workspace.corrected.get(touched).canvas.labels.copy()
    other = next(key for key, it in workspace.entries.items() if it.stem == "b")
    looked_at = workspace.corrected.get(other)
    (tmp_path / "other.h5").write_bytes((tmp_path / "model.h5").read_bytes() + b"0")
    workspace.models.use(tmp_path / "other.h5")
    workspace.models.model = bright_model()
    workspace.predict_anew()
    assert states(workspace) == {"a": PREDICTED, "b": WAITING, "c": WAITING}
    assert looked_at.is_retired  # an edit that is under way is refused, not lost
    predict_all(workspace)
    assert np.array_equal(workspace.corrected.get(touched).canvas.labels, labels)
    assert workspace.corrected.get(other) is not looked_at


def test_a_damaged_prediction_is_named(folder):
    workspace = make_workspace(folder)
    predict_all(workspace)
    for content in (b"nothing", b"\x89PNG and nothing"):
        (folder / "corrected" / ".nuclei" / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match=".nuclei/a.png is damaged .*remove it"):
            nuclei_of(workspace, workspace.entry_of("a").key)


def test_the_thread_ends_when_it_is_told(folder):
    workspace = make_workspace(folder)
    predictor = Predictor(workspace, lambda line: None)
    predictor.start()
    predictor.stop()
    predictor.join(60)
    assert not predictor.is_alive()


def test_what_cannot_be_kept_is_named_and_the_others_go_on(folder):
    (folder / "corrected" / ".nuclei" / "a.png").mkdir(parents=True)
    with recording(folder / "corrected", elsewhere="take another folder"):
        workspace = make_workspace(folder)
        (line,) = predict_all(workspace)
    assert "a.png is a folder where a file should go; remove it, or take another folder" in line
    assert states(workspace) == {"a": FAILED, "b": PREDICTED, "c": PREDICTED}


def test_a_fault_of_a_library_stops_no_other_image(folder, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such kernel")

    workspace = make_workspace(folder)
    monkeypatch.setattr("nuclei.inference.find.find_nuclei", fail)
    lines = predict_all(workspace)
    assert len(lines) == 3 and all(line.endswith(": no such kernel") for line in lines)
    assert set(states(workspace).values()) == {FAILED}
