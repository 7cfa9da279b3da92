"""graph.py: any history.csv becomes one page, or one line that says why not."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from history_tools import HEADER, find_browser, write_history

import graph
from nuclei.files import replacing
from nuclei.results.curves import COLOURS, draw_curves
from nuclei.results.history import read_history
from nuclei.written import RECORD, recording

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def no_kaleido(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)  # `import kaleido` raises ImportError


@pytest.fixture
def fake_kaleido(monkeypatch):
    """A kaleido that draws at once; returns the settings with which it was called."""
    import plotly.graph_objects as go

    calls = []

    def write_image(self, file, **settings):
        calls.append(settings)
        Path(file).write_bytes(PNG)

    monkeypatch.setitem(sys.modules, "kaleido", types.ModuleType("kaleido"))
    monkeypatch.setattr(go.Figure, "write_image", write_image)
    return calls


def test_no_arguments_read_and_write_the_standard_folder(
    tmp_path, monkeypatch, capsys, fake_kaleido
):
    monkeypatch.chdir(tmp_path)
    write_history(tmp_path / "Saved_Model")
    assert graph.main([]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert "6 epochs, best 4: val_loss 0.3500, val_accuracy 0.8750" in output.out
    assert "Saved_Model/Training_Graph.html" in output.out.replace(os.sep, "/")
    assert sorted(path.name for path in (tmp_path / "Saved_Model").iterdir()) == [
        "Training_Graph.html",
        "Training_Graph.png",
        "history.csv",
        RECORD,
    ]
    assert fake_kaleido[0]["format"] == "png"


def test_before_any_training_the_curve_of_the_shipped_weights_is_drawn(
    tmp_path, monkeypatch, capsys, no_kaleido
):
    monkeypatch.chdir(tmp_path)
    assert graph.main([]) == 1
    assert "Saved_Model/history.csv: no such file" in capsys.readouterr().err.replace(os.sep, "/")
    write_history(tmp_path).rename(tmp_path / "pretrained_history.csv")
    (tmp_path / "Saved_Model").mkdir()
    (tmp_path / "pretrained_history.csv").rename("Saved_Model/pretrained_history.csv")
    assert graph.main(["--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert "pretrained_history" in Path("Saved_Model/Training_Graph.html").read_text("utf-8")


def test_page_stands_alone_and_fits_a_phone(tmp_path, no_kaleido):
    path = write_history(tmp_path / "a<b>")
    assert graph.main([str(path)]) == 0
    page = (tmp_path / "a<b>" / "Training_Graph.html").read_text(encoding="utf-8")
    assert len(page) > 3_000_000 and not re.search(r"<(script|link|img)[^>]*(src|href)=", page)
    assert '<meta name="viewport"' in page and '"responsive": true' in page
    assert "a&lt;b&gt;" in page and "<b>/history" not in page
    assert '"showSendToCloud": false' in page


def test_several_histories_share_a_graph_in_the_current_folder(
    tmp_path, monkeypatch, capsys, no_kaleido
):
    monkeypatch.chdir(tmp_path)
    write_history(tmp_path / "A"), write_history(tmp_path / "B", num_epochs=9, worse_from=6)
    assert graph.main(["A/history.csv", "B"]) == 0  # a folder stands for its history.csv
    output = capsys.readouterr().out
    assert "A: 6 epochs, best 4" in output and "B: 9 epochs, best 6" in output
    assert (tmp_path / "Training_Graph.html").exists() and not list((tmp_path / "A").glob("*.html"))

    page = (tmp_path / "Training_Graph.html").read_text(encoding="utf-8")
    for name, colour in zip("AB", COLOURS, strict=False):  # told apart above the graph, too
        assert f'<p><span style="color:{colour}">●</span> {name}: ' in page


def test_names_tell_runs_apart(tmp_path):
    paths = [
        tmp_path / name
        for name in ("x/A/history.csv", "y/A/history.csv", "B/history.csv", "wide.csv")
    ]
    assert graph.run_names(paths) == [str(paths[0]), str(paths[1]), "B", "wide"]


def test_one_history_named_twice_is_one(tmp_path, capsys, no_kaleido):
    path = str(write_history(tmp_path / "A"))
    assert graph.main([path, path]) == 0
    assert capsys.readouterr().out.count("epochs") == 1
    assert (tmp_path / "A" / "Training_Graph.html").exists()


def test_out_is_made(tmp_path, no_kaleido):
    out = tmp_path / "new" / "figures"
    assert graph.main([str(write_history(tmp_path)), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["Training_Graph.html", RECORD]


def test_accuracy_alone_has_no_best_epoch(tmp_path, capsys, no_kaleido):
    path = tmp_path / "history.csv"
    path.write_text("epoch,accuracy\n1,0.5\n2,0.7\n")
    assert graph.main([str(path)]) == 0
    assert f"{tmp_path.name}: 2 epochs\n" in capsys.readouterr().out
    assert not draw_curves({"run": read_history(path)}).layout.shapes


def test_a_bad_file_is_one_line(tmp_path, capsys):
    path = tmp_path / "history.csv"
    for content in (None, HEADER, "name,age\nAda,36\n"):
        if content:
            path.write_text(content)
        assert graph.main([str(path)]) == 1
        output = capsys.readouterr()
        assert output.out == "" and output.err.count("\n") == 1
        assert output.err.startswith(f"graph.py: {path}")
        assert {file.name for file in tmp_path.iterdir()} <= {"history.csv"}


def test_out_that_is_a_file_is_one_line(tmp_path, capsys):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    assert graph.main([str(write_history(tmp_path)), "--out", str(blocked)]) == 1
    error = capsys.readouterr().err
    assert str(blocked) in error and error.count("\n") == 1


def test_a_full_disk_leaves_the_old_page(tmp_path, capsys, monkeypatch, no_kaleido):
    path = write_history(tmp_path)
    page = tmp_path / "Training_Graph.html"
    with recording(tmp_path), replacing(page) as temporary:
        temporary.write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert graph.main([str(path)]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert page.read_text() == "old" and len(list(tmp_path.iterdir())) == 3


def test_interrupt_is_one_line(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("graph.draw_graph", interrupt)
    assert graph.main([str(write_history(tmp_path))]) == 130
    assert re.fullmatch("graph.py: stopped by Ctrl-C[^\n]*\n", capsys.readouterr().err)


def test_without_kaleido_the_page_is_enough(tmp_path, capsys, no_kaleido):
    assert graph.main([str(write_history(tmp_path))]) == 0
    output = capsys.readouterr().out
    assert "No Training_Graph.png: it needs kaleido" in output and "pip install kaleido" in output
    assert "earlier" not in output and not (tmp_path / "Training_Graph.png").exists()


def test_without_a_browser_the_page_is_enough(tmp_path, capsys, monkeypatch, fake_kaleido):
    import plotly.graph_objects as go

    def no_browser(self, file, **_):
        raise RuntimeError(
            "Kaleido requires Google Chrome to be installed.\n\nEither download and install ..."
        )

    monkeypatch.setattr(go.Figure, "write_image", no_browser)
    with recording(tmp_path), replacing(tmp_path / "Training_Graph.png") as temporary:
        temporary.write_bytes(PNG)
    assert graph.main([str(write_history(tmp_path))]) == 0
    output = capsys.readouterr().out
    assert "plotly_get_chrome (Kaleido requires Google Chrome to be installed.)" in output
    assert "from an earlier run" in output and output.count("\n") == 3
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["Training_Graph.html", "Training_Graph.png", "history.csv", RECORD]


def test_a_full_disk_while_the_picture_is_written_is_an_error(
    tmp_path, capsys, monkeypatch, fake_kaleido
):
    import plotly.graph_objects as go

    def full(self, file, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(go.Figure, "write_image", full)
    assert graph.main([str(write_history(tmp_path))]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert (tmp_path / "Training_Graph.html").exists() and not (
        tmp_path / "Training_Graph.png"
    ).exists()


@pytest.mark.skipif(not find_browser(), reason="no Chrome or Chromium on the path")
def test_a_real_browser_draws_the_picture(tmp_path):
    pytest.importorskip("kaleido")
    path = write_history(tmp_path)
    done = subprocess.run(
        [sys.executable, graph.__file__, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "Training_Graph.png").read_bytes().startswith(PNG)


def test_help_needs_no_plotly():
    code = (
        "import sys; sys.modules.update(plotly=None, pandas=None, numpy=None); "
        "import graph; graph.main(['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(graph.__file__).parent,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0 and "history.csv" in done.stdout, done.stderr
