"""Training curves: panels, colours, axes, the mark of the best epoch, what the hover box says."""

from history_tools import write_history

from nuclei.results.curves import draw_curves
from nuclei.results.history import best_row, describe_history, panel_of, read_history


def curves(figure):
    """The lines of a figure without the rings of the best epoch."""
    return [trace for trace in figure.data if "lines" in trace.mode]


def test_one_hover_reads_all_curves(tmp_path):
    figure = draw_curves({"run": read_history(write_history(tmp_path))})
    assert figure.layout.hovermode == "x unified" and figure.layout.hoversubplots == "axis"
    assert {trace.xaxis or "x" for trace in figure.data} == {"x"}
    assert len(curves(figure)) == 9
    shown = [trace for trace in curves(figure) if trace.hoverinfo != "skip"]
    assert len(shown) == 5  # validation with training in the same line, and the learning rate
    assert all("training %{customdata}" in trace.hovertemplate for trace in shown[:4])
    assert shown[0].customdata[0] == "1.0000"


def test_training_and_validation_share_a_colour_and_differ_in_dash(tmp_path):
    figure = draw_curves({"run": read_history(write_history(tmp_path))})
    by_group = {}
    for trace in curves(figure):
        by_group.setdefault(trace.legendgroup, []).append(trace.line)
    assert [len(lines) for lines in by_group.values()] == [2, 2, 2, 2, 1]
    for lines in list(by_group.values())[:4]:
        assert lines[0].color == lines[1].color and [line.dash for line in lines] == [
            "solid",
            "dot",
        ]
    assert len({lines[0].color for lines in by_group.values()}) == 5


def test_axes_do_not_clip(tmp_path):
    figure = draw_curves({"run": read_history(write_history(tmp_path))})
    assert figure.layout.xaxis.range[0] < 1 and figure.layout.xaxis.range[1] > 6
    assert len([key for key in figure.layout if key.startswith("yaxis")]) == 3
    axes = [figure.layout[key] for key in ("yaxis", "yaxis2", "yaxis3")]
    assert all(axis.range is None for axis in axes)  # fitted by plotly
    edges = [edge for axis in axes for edge in reversed(axis.domain)]
    assert edges == sorted(edges, reverse=True) and edges[0] == 1 and abs(edges[-1]) < 1e-9


def test_best_epoch_is_marked(tmp_path):
    figure = draw_curves({"run": read_history(write_history(tmp_path, num_epochs=9, worse_from=5))})
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 5
    assert any(
        "best epoch 5" in note.text and "val_loss" in note.text
        for note in figure.layout.annotations
    )
    rings = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(rings) == 4 and all(ring.x == (5,) for ring in rings)


def test_older_files_are_known_by_name_not_by_place(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(
        ",val_acc,val_loss,acc,lr,loss\n0,0.7,0.9,0.8,0.001,0.5\n1,0.75,0.8,0.85,0.001,0.4\n"
    )
    columns = read_history(path)
    assert (
        columns["epoch"] == [1, 2]
        and columns["val_accuracy"] == [0.7, 0.75]
        and columns["loss"] == [0.5, 0.4]
    )
    figure = draw_curves({"old": columns})
    assert {trace.legendgroup for trace in figure.data} == {"loss", "accuracy", "learning_rate"}


def test_more_numbers_find_their_panel(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(
        "epoch,loss,border_loss,val_ap50,count_error,empty\n1,2,1,0.1,12,\n2,1,0.5,0.4,7,\n"
    )
    columns = read_history(path)
    kinds = [
        panel_of(name, [columns])
        for name in ("loss", "border_loss", "val_ap50", "count_error", "empty")
    ]
    assert kinds == ["loss", "loss", "scores", "other", None]
    figure = draw_curves({"run": columns})
    assert [note.text for note in figure.layout.annotations[:3]] == [
        "<b>loss</b>",
        "<b>scores</b>",
        "<b>other</b>",
    ]
    assert "val_ap50" not in describe_history("run", {"epoch": [1], "loss": [2.0]})
    assert describe_history("run", columns).endswith("best 2: val_ap50 0.4000")


def test_wide_losses_get_a_log_axis_and_scores_never(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(
        "epoch,loss,dice\n" + "".join(f"{n},{10.0**-n},{0.001 * 3**n}\n" for n in range(1, 6))
    )
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
    assert all(
        trace.line.dash == "solid" and "training" in trace.hovertemplate for trace in curves(figure)
    )


def test_one_epoch_is_a_dot(tmp_path):
    figure = draw_curves({"run": read_history(write_history(tmp_path, num_epochs=1))})
    assert all(trace.mode == "lines+markers" for trace in curves(figure))
    assert figure.layout.xaxis.range[0] < 1 < figure.layout.xaxis.range[1]
    long = draw_curves({"run": read_history(write_history(tmp_path, num_epochs=80))})
    assert {trace.mode for trace in curves(long)} == {"lines"}


def test_gaps_stay_gaps(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(
        "epoch,loss,val_loss,learning_rate\n1,1,,x\n2,nan,0.8,0.1\n3,0.5,inf,0.1\n4,0.4,0.6,0.1\n"
    )
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


def test_several_trainings_get_a_panel_for_each_number(tmp_path):
    paths = {"A": write_history(tmp_path / "A")}
    paths["B"] = write_history(tmp_path / "B", num_epochs=9, worse_from=6)
    figure = draw_curves({name: read_history(path) for name, path in paths.items()})
    assert len([key for key in figure.layout if key.startswith("yaxis")]) == 5
    assert [trace.name for trace in figure.data if trace.showlegend] == ["A", "B"]
    assert len({trace.line.color for trace in curves(figure)}) == 2
