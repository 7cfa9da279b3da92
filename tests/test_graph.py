"""graph.py: any history.csv that one may meet becomes one page, or one line that says why not."""

import ast
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import graph
from nuclei.results.curves import draw_curves
from nuclei.results.history import best_row, describe_history, panel_of, read_history

HEADER = "epoch,loss,accuracy,dice,iou,val_loss,val_accuracy,val_dice,val_iou,learning_rate,seconds"
PNG = b"\x89PNG\r\n\x1a\n"


def history(folder, num_epochs=6, header=HEADER, worse_from=4):
    """Write a history whose validation loss is lowest in epoch `worse_from`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [header]
    for epoch in range(1, num_epochs + 1):
        loss, validation = 1 / epoch, 1 / epoch + 0.2 * max(0, epoch - worse_from) + 0.1
        score = 1 - 0.5 / epoch
        rows.append(f"{epoch},{loss},{score},{score},{score},{validation},{score},{score},{score},{1e-3 / epoch},9.5")
    path = folder / "history.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


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


def curves(figure):
    """The lines of a figure without the rings of the best epoch."""
    return [trace for trace in figure.data if "lines" in trace.mode]


def test_no_arguments_read_and_write_the_standard_folder(tmp_path, monkeypatch, capsys, fake_kaleido):
    monkeypatch.chdir(tmp_path)
    history(tmp_path / "Saved_Model")
    assert graph.main([]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert "6 epochs, best 4: val_loss 0.3500, val_accuracy 0.8750" in output.out
    assert "Saved_Model/Training_Graph.html" in output.out.replace(os.sep, "/")
    assert sorted(path.name for path in (tmp_path / "Saved_Model").iterdir()) == [
        "Training_Graph.html",
        "Training_Graph.png",
        "history.csv",
    ]
    assert fake_kaleido[0]["format"] == "png"


def test_page_stands_alone_and_fits_a_phone(tmp_path, no_kaleido):
    path = history(tmp_path / "a<b>")
    assert graph.main([str(path)]) == 0
    page = (tmp_path / "a<b>" / "Training_Graph.html").read_text(encoding="utf-8")
    assert len(page) > 3_000_000 and not re.search(r"<(script|link|img)[^>]*(src|href)=", page)
    assert '<meta name="viewport"' in page and '"responsive": true' in page
    assert "a&lt;b&gt;" in page and "<b>/history" not in page
    assert '"showSendToCloud": false' in page


def test_one_hover_reads_all_curves(tmp_path):
    figure = draw_curves({"run": read_history(history(tmp_path))})
    assert figure.layout.hovermode == "x unified" and figure.layout.hoversubplots == "axis"
    assert {trace.xaxis or "x" for trace in figure.data} == {"x"}
    assert len(curves(figure)) == 9
    shown = [trace for trace in curves(figure) if trace.hoverinfo != "skip"]
    assert len(shown) == 5  # validation with training in the same line, and the learning rate
    assert all("training %{customdata}" in trace.hovertemplate for trace in shown[:4])
    assert shown[0].customdata[0] == "1.0000"


def test_training_and_validation_share_a_colour_and_differ_in_dash(tmp_path):
    figure = draw_curves({"run": read_history(history(tmp_path))})
    by_group = {}
    for trace in curves(figure):
        by_group.setdefault(trace.legendgroup, []).append(trace.line)
    assert [len(lines) for lines in by_group.values()] == [2, 2, 2, 2, 1]
    for lines in list(by_group.values())[:4]:
        assert lines[0].color == lines[1].color and [line.dash for line in lines] == ["solid", "dot"]
    assert len({lines[0].color for lines in by_group.values()}) == 5


def test_axes_do_not_clip(tmp_path):
    figure = draw_curves({"run": read_history(history(tmp_path))})
    assert figure.layout.xaxis.range[0] < 1 and figure.layout.xaxis.range[1] > 6
    assert len([key for key in figure.layout if key.startswith("yaxis")]) == 3
    axes = [figure.layout[key] for key in ("yaxis", "yaxis2", "yaxis3")]
    assert all(axis.range is None for axis in axes)  # fitted by plotly
    edges = [edge for axis in axes for edge in reversed(axis.domain)]
    assert edges == sorted(edges, reverse=True) and edges[0] == 1 and abs(edges[-1]) < 1e-9


def test_best_epoch_is_marked(tmp_path):
    figure = draw_curves({"run": read_history(history(tmp_path, num_epochs=9, worse_from=5))})
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 5
    assert any("best epoch 5" in note.text and "val_loss" in note.text for note in figure.layout.annotations)
    rings = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(rings) == 4 and all(ring.x == (5,) for ring in rings)


def test_several_histories_share_a_graph_in_the_current_folder(tmp_path, monkeypatch, capsys, no_kaleido):
    monkeypatch.chdir(tmp_path)
    history(tmp_path / "A"), history(tmp_path / "B", num_epochs=9, worse_from=6)
    assert graph.main(["A/history.csv", "B"]) == 0  # a folder stands for its history.csv
    output = capsys.readouterr().out
    assert "A: 6 epochs, best 4" in output and "B: 9 epochs, best 6" in output
    assert (tmp_path / "Training_Graph.html").exists() and not list((tmp_path / "A").glob("*.html"))

    figure = draw_curves({name: read_history(tmp_path / name / "history.csv") for name in "AB"})
    page = (tmp_path / "Training_Graph.html").read_text(encoding="utf-8")
    for name, colour in zip("AB", [trace.line.color for trace in figure.data if trace.showlegend], strict=True):
        assert f'<p><span style="color:{colour}">●</span> {name}: ' in page  # told apart at the top, too
    assert len([key for key in figure.layout if key.startswith("yaxis")]) == 5  # one panel for each number
    assert [trace.name for trace in figure.data if trace.showlegend] == ["A", "B"]
    assert len({trace.line.color for trace in curves(figure)}) == 2


def test_names_tell_runs_apart(tmp_path):
    paths = [tmp_path / name for name in ("x/A/history.csv", "y/A/history.csv", "B/history.csv", "wide.csv")]
    assert graph.run_names(paths) == [str(paths[0]), str(paths[1]), "B", "wide"]


def test_one_history_named_twice_is_one(tmp_path, capsys, no_kaleido):
    path = str(history(tmp_path / "A"))
    assert graph.main([path, path]) == 0
    assert capsys.readouterr().out.count("epochs") == 1
    assert (tmp_path / "A" / "Training_Graph.html").exists()


def test_out_is_made(tmp_path, no_kaleido):
    out = tmp_path / "new" / "figures"
    assert graph.main([str(history(tmp_path)), "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["Training_Graph.html"]


def test_older_files_are_known_by_name_not_by_place(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(",val_acc,val_loss,acc,lr,loss\n0,0.7,0.9,0.8,0.001,0.5\n1,0.75,0.8,0.85,0.001,0.4\n")
    columns = read_history(path)
    assert columns["epoch"] == [1, 2] and columns["val_accuracy"] == [0.7, 0.75] and columns["loss"] == [0.5, 0.4]
    figure = draw_curves({"old": columns})
    assert {trace.legendgroup for trace in figure.data} == {"loss", "accuracy", "learning_rate"}


def test_accuracy_is_not_replaced_by_acc(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("accuracy,acc,loss\n0.9,0.1,1\n")
    assert read_history(path)["accuracy"] == [0.9]


def test_more_numbers_find_their_panel(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,border_loss,val_ap50,count_error,empty\n1,2,1,0.1,12,\n2,1,0.5,0.4,7,\n")
    columns = read_history(path)
    kinds = [panel_of(name, [columns]) for name in ("loss", "border_loss", "val_ap50", "count_error", "empty")]
    assert kinds == ["loss", "loss", "scores", "other", None]
    figure = draw_curves({"run": columns})
    assert [note.text for note in figure.layout.annotations[:3]] == ["<b>loss</b>", "<b>scores</b>", "<b>other</b>"]
    assert "val_ap50" not in describe_history("run", {"epoch": [1], "loss": [2.0]})
    assert describe_history("run", columns).endswith("best 2: val_ap50 0.4000")


def test_wide_losses_get_a_log_axis_and_scores_never(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,dice\n" + "".join(f"{n},{10.0**-n},{0.001 * 3**n}\n" for n in range(1, 6)))
    figure = draw_curves({"run": read_history(path)})
    assert figure.layout.yaxis.type == "log" and figure.layout.yaxis2.type == "linear"
    assert "log scale" in figure.layout.annotations[0].text
    path.write_text("epoch,loss\n1,5\n2,0\n")
    assert draw_curves({"run": read_history(path)}).layout.yaxis.type == "linear"


def test_a_constant_is_read_off_its_axis(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,accuracy,shift,learning_rate\n1,3,0,-2,0.001\n2,1,0,-2,0.001\n")
    layout = draw_curves({"run": read_history(path)}).layout
    assert layout.yaxis.range is None and layout.yaxis2.range == (-1, 1)
    assert layout.yaxis3.range == (-4, 0) and layout.yaxis4.range == (0, 0.002)


def test_without_validation_training_is_solid_and_the_lowest_loss_best(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,accuracy\n1,3,0.5\n2,1,0.7\n3,2,0.6\n")
    columns = read_history(path)
    figure = draw_curves({"run": columns})
    assert best_row(columns) == (1, "loss")
    assert all(trace.line.dash == "solid" and "training" in trace.hovertemplate for trace in curves(figure))


def test_accuracy_alone_has_no_best_epoch(tmp_path, capsys, no_kaleido):
    path = tmp_path / "history.csv"
    path.write_text("epoch,accuracy\n1,0.5\n2,0.7\n")
    assert graph.main([str(path)]) == 0
    assert f"{tmp_path.name}: 2 epochs\n" in capsys.readouterr().out
    assert not draw_curves({"run": read_history(path)}).layout.shapes


def test_one_epoch_is_a_dot(tmp_path):
    figure = draw_curves({"run": read_history(history(tmp_path, num_epochs=1))})
    assert all(trace.mode == "lines+markers" for trace in curves(figure))
    assert figure.layout.xaxis.range[0] < 1 < figure.layout.xaxis.range[1]
    long = draw_curves({"run": read_history(history(tmp_path, num_epochs=80))})
    assert {trace.mode for trace in curves(long)} == {"lines"}


def test_gaps_stay_gaps(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_loss,learning_rate\n1,1,,x\n2,nan,0.8,0.1\n3,0.5,inf,0.1\n4,0.4,0.6,0.1\n")
    columns = read_history(path)
    figure = draw_curves({"run": columns})
    validation, training = curves(figure)[:2]
    assert validation.y == (None, 0.8, None, 0.6) and training.y == (1, None, 0.5, 0.4)
    assert "markers" in validation.mode  # between two gaps a line has nothing to show
    assert "validation" in validation.hovertemplate and "training" in training.hovertemplate
    assert best_row(columns) == (3, "val_loss")
    path.write_text("epoch,loss,val_loss,val_dice\n1,1,0.5,\n2,1,0.8,0.7\n")
    assert describe_history("run", read_history(path)) == "run: 2 epochs, best 1: val_loss 0.5000"


def test_hover_says_where_training_has_no_number(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_loss\n1,nan,3\n2,1,2\n")
    assert curves(draw_curves({"run": read_history(path)}))[0].customdata == ("none", "1.0000")


def test_repeated_epochs_count_once_and_in_order(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss\n1,3\n2,9\n3,8\n2,2\n,7\n")
    columns = read_history(path)
    assert columns["epoch"] == [1, 2, 3] and columns["loss"] == [3, 2, 8]


@pytest.mark.parametrize("tail", ["3", "3,0.2", "3,0.2,", "3,0.2,1e-", "3,0.2,0.1,"])
def test_a_row_that_is_being_written_is_left_out(tmp_path, tail):
    path = tmp_path / "history.csv"
    path.write_text(f"epoch,loss,val_loss\n1,0.5,0.6\n2,0.3,0.4\n{tail}")
    assert read_history(path)["epoch"] == [1, 2]


def test_a_whole_last_row_counts_without_its_line_break(tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(b"\xef\xbb\xbfepoch,loss\r\n1,0.5\r\n\r\n2,0.3")  # as Excel on Windows saves it
    assert read_history(path)["loss"] == [0.5, 0.3]


@pytest.mark.parametrize(
    "content, words",
    [
        (None, ["no such file", "python train.py"]),
        (b"", ["empty", "first epoch"]),
        (b"\n\n", ["empty"]),
        (HEADER.encode(), ["no epoch yet"]),
        (HEADER.encode() + b"\n", ["no epoch yet"]),
        (HEADER.encode() + b"\n1,0.5", ["no epoch yet"]),
        (b"epoch,loss\n1,nan\n2,\n", ["no number", "NaN"]),
        (b"epoch,loss,learning_rate\n1,nan,0.1\n", ["no number"]),
        (b"name,age\nAda,36\n", ["not a training history", "'name', 'age'"]),
        (b"Dear diary, today\nI trained a network\n", ["not a training history", "Dear diary"]),
        (PNG + bytes(range(256)), ["a text with commas"]),
        (b"epoch,loss\n1,2,3\n2,1\n", ["row 2 has 3 columns", "2"]),
        (b'epoch,loss\n1,"' + b"9" * 200_000 + b'"\n', ["a text with commas"]),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, capsys, content, words):
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_bytes(content)
    assert graph.main([str(path)]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith(f"graph.py: {path}") and output.err.count("\n") == 1
    assert all(word in output.err for word in words), output.err
    assert {file.name for file in tmp_path.iterdir()} <= {"history.csv"}


def test_out_that_is_a_file_is_one_line(tmp_path, capsys):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    assert graph.main([str(history(tmp_path)), "--out", str(blocked)]) == 1
    error = capsys.readouterr().err
    assert str(blocked) in error and error.count("\n") == 1


def test_a_full_disk_leaves_the_old_page(tmp_path, capsys, monkeypatch, no_kaleido):
    path = history(tmp_path)
    page = tmp_path / "Training_Graph.html"
    page.write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert graph.main([str(path)]) == 1
    assert "No space left" in capsys.readouterr().err
    assert page.read_text() == "old" and len(list(tmp_path.iterdir())) == 2


def test_interrupt_is_one_line(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nuclei.results.curves.draw_curves", interrupt)
    assert graph.main([str(history(tmp_path))]) == 130
    assert capsys.readouterr().err == "graph.py: stopped\n"


def test_without_kaleido_the_page_is_enough(tmp_path, capsys, no_kaleido):
    assert graph.main([str(history(tmp_path))]) == 0
    output = capsys.readouterr().out
    assert "No Training_Graph.png: it needs kaleido" in output and "pip install kaleido" in output
    assert "earlier" not in output and not (tmp_path / "Training_Graph.png").exists()


def test_without_a_browser_the_page_is_enough(tmp_path, capsys, monkeypatch, fake_kaleido):
    import plotly.graph_objects as go

    def no_browser(self, file, **_):
        raise RuntimeError("Kaleido requires Google Chrome to be installed.\n\nEither download and install ...")

    monkeypatch.setattr(go.Figure, "write_image", no_browser)
    (tmp_path / "Training_Graph.png").write_bytes(PNG)
    assert graph.main([str(history(tmp_path))]) == 0
    output = capsys.readouterr().out
    assert "plotly_get_chrome (Kaleido requires Google Chrome to be installed.)" in output
    assert "from an earlier run" in output and output.count("\n") == 3
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".png"]


def test_a_full_disk_while_the_picture_is_written_is_an_error(tmp_path, capsys, monkeypatch, fake_kaleido):
    import plotly.graph_objects as go

    def full(self, file, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(go.Figure, "write_image", full)
    assert graph.main([str(history(tmp_path))]) == 1
    assert "No space left" in capsys.readouterr().err
    assert (tmp_path / "Training_Graph.html").exists() and not (tmp_path / "Training_Graph.png").exists()


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chrome or Chromium on the path")
def test_a_real_browser_draws_the_picture(tmp_path):
    pytest.importorskip("kaleido")
    path = history(tmp_path)
    done = subprocess.run([sys.executable, graph.__file__, str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "Training_Graph.png").read_bytes().startswith(PNG)


def test_help_needs_no_plotly():
    code = "import sys; sys.modules.update(plotly=None, pandas=None, numpy=None); import graph; graph.main(['--help'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(graph.__file__).parent,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0 and "history.csv" in done.stdout, done.stderr


def test_it_imports_nothing_of_ours():
    tree = ast.parse(Path(graph.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names) | {"plotly", "kaleido"}
