"""What the user sees of a training: lines, bar, graph, preview, event files, and nothing."""

import sys

import numpy as np
import pytest
from training_tools import history, interrupted, run

import train
from nuclei.images.reading import read_image
from nuclei.training import display


def test_each_epoch_has_a_line_and_renews_graph_preview_and_event_files(
    data, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("tensorboard")
    drawings = []

    def write(path, *rest):
        drawings.append(path.name)
        path.write_text("a page")

    monkeypatch.setattr(display, "write_graph_page", write)
    monkeypatch.setattr(display, "MAX_SHARE", np.inf)  # also where an epoch takes no time
    assert run(data, tmp_path, "--epochs", 3, "--log", "tensorboard") == 0
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.startswith("Epoch ")]
    assert len(lines) == 3 and err == ""
    assert lines[0].startswith(f"Epoch 1 of 3: loss {float(history(tmp_path)[0]['loss']):.3f}, ")
    assert lines[0].endswith(" left") and not lines[2].endswith(" left")
    assert drawings == ["Training_Graph.html"] * 3
    assert read_image(tmp_path / "preview.jpg").shape[1] > 3 * 32
    names = {path.parent.name for path in tmp_path.glob("tensorboard/*/*/events.out.*")}
    assert names == {"train", "validation"}


def test_a_terminal_shows_a_bar_and_of_short_epochs_the_last_one_is_drawn(
    data, tmp_path, capsys, monkeypatch
):
    drawn = []
    monkeypatch.setattr(display, "MAX_SHARE", 0.0)
    monkeypatch.setattr(display, "draw_preview", lambda *a: drawn.append(a[2]) or np.zeros((9, 9)))
    monkeypatch.setattr(display, "write_jpeg", lambda *a: None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    assert run(data, tmp_path, "--epochs", 2) == 0
    out, err = capsys.readouterr()
    assert "32 of 32 steps" in err and "epoch 2 of 2, loss " in err and "Epoch 2 of 2" in out
    assert drawn == ["after epoch 2 of 2"]


def test_a_network_without_numbers_draws_no_preview(data, tmp_path, monkeypatch):
    """After a loss that is not a number the last preview stays."""
    drawn = []
    monkeypatch.setattr(display, "draw_preview", lambda *a: drawn.append(a))
    monkeypatch.setattr(display, "separate", lambda maps, **thresholds: drawn.append(maps))
    broken = lambda crops, size: np.full((1, 32, 32, 3), np.nan, np.float32)
    monkeypatch.setattr(display, "preview_batch", broken)
    assert run(data, tmp_path, "--epochs", 1) == 0
    assert not drawn and (tmp_path / "Training_Graph.html").exists()


def test_quiet_shows_errors_only(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "fit", interrupted)
    assert run(data, tmp_path, "--quiet") == 130
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("train.py: stopped by Ctrl-C")


def test_a_missing_tensorboard_is_named_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nuclei.machine.is_installed", lambda name: name != "tensorboard")
    assert run(tmp_path / "none", tmp_path / "out", "--log", "tensorboard") == 1
    error = capsys.readouterr().err
    assert "--log tensorboard needs tensorboard" in error and "pip install tensorboard" in error
    assert not (tmp_path / "out").exists()
