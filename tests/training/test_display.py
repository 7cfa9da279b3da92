"""What the user sees of a training: lines, bar, graph, preview, event files, and nothing."""

import sys

import numpy as np
import pytest
from training_tools import history, run

from nuclei.images.reading import read_image
from nuclei.training import display


def test_each_epoch_has_one_line_and_renews_graph_and_preview(data, tmp_path, capsys, monkeypatch):
    drawings = []

    def write(path, *rest):
        drawings.append(path.name)
        path.write_text("a page")

    monkeypatch.setattr(display, "write_graph_page", write)
    monkeypatch.setattr(display, "MAX_SHARE", np.inf)  # also where an epoch takes no time
    assert run(data, tmp_path, "--epochs", 3) == 0
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.startswith("Epoch ")]
    assert len(lines) == 3 and err == ""
    assert lines[0].startswith(f"Epoch 1 of 3: loss {float(history(tmp_path)[0]['loss']):.3f}, ")
    assert lines[0].endswith(" left") and not lines[2].endswith(" left")
    assert drawings == ["Training_Graph.html"] * 3
    assert read_image(tmp_path / "preview.jpg").shape[1] > 3 * 32


def test_where_epochs_are_short_the_last_one_is_drawn_all_the_same(data, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(display, "MAX_SHARE", 0.0)
    monkeypatch.setattr(display, "draw_preview", lambda *a: drawn.append(a[2]) or np.zeros((9, 9)))
    monkeypatch.setattr(display, "write_jpeg", lambda *a: None)
    assert run(data, tmp_path, "--epochs", 3) == 0
    assert drawn == ["after epoch 3 of 3"]


def test_a_bar_on_a_terminal_counts_all_steps_and_quiet_shows_nothing(
    data, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    assert run(data, tmp_path / "shown", "--epochs", 2) == 0
    out, err = capsys.readouterr()
    assert "32 of 32 steps, epoch 2 of 2, loss " in err and "Training" not in out.split("\n")[-2]
    assert run(data, tmp_path / "hidden", "--epochs", 1, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "hidden" / "Training_Graph.html").is_file()


def test_tensorboard_gets_its_event_files(data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    assert run(data, tmp_path, "--epochs", 1, "--log", "tensorboard") == 0
    names = {path.parent.name for path in tmp_path.glob("tensorboard/*/*/events.out.*")}
    assert names == {"train", "validation"}
    monkeypatch.setattr("nuclei.machine.is_installed", lambda name: name != "tensorboard")
    assert run(data, tmp_path / "without", "--log", "tensorboard") == 1
    error = capsys.readouterr().err
    assert "--log tensorboard needs tensorboard" in error and "pip install tensorboard" in error
    assert not (tmp_path / "without").exists()
