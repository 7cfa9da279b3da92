"""history.csv as columns: names, repeated epochs, rows that are not whole, the best epoch."""

import pytest
from history_tools import HEADER

from nuclei.results.history import best_row, describe_history, read_history


def test_accuracy_is_not_replaced_by_acc(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("accuracy,acc,loss\n0.9,0.1,1\n")
    assert read_history(path)["accuracy"] == [0.9]


def test_repeated_epochs_count_once_and_in_order(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss\n1,3\n2,9\n3,8\n2,2\n , \nmean,1\n")  # and rows of a spreadsheet
    columns = read_history(path)
    assert columns["epoch"] == [1, 2, 3] and columns["loss"] == [3, 2, 8]


@pytest.mark.parametrize("cells", ["1,,3", ",,", "a,b,c", "1,nan,3", "0,,2"])
def test_rows_are_counted_where_an_epoch_lacks_its_number(tmp_path, cells):
    """No row is lost: it may be the best one."""
    path = tmp_path / "history.csv"
    rows = [f"{epoch},{loss}" for epoch, loss in zip(cells.split(","), (3, 1, 2), strict=True)]
    path.write_text("\n".join(["epoch,loss", *rows, ""]))
    columns = read_history(path)
    assert columns == {"epoch": [1, 2, 3], "loss": [3, 1, 2]} and best_row(columns) == (1, "loss")


def test_epochs_that_are_counted_from_0_begin_at_1(tmp_path):
    """Keras's CSVLogger, and google_colab.py by it, count so; train.py counts from 1."""
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss\n0,3\n1,1\n2,2\n1,0.5\n")
    columns = read_history(path)
    assert columns == {"epoch": [1, 2, 3], "loss": [3, 0.5, 2]}
    assert ", best 2: loss 0.5" in describe_history("a", columns)
    path.write_text("epoch,loss\n5,3\n6,1\n")  # a part of a training
    assert read_history(path)["epoch"] == [5, 6]


@pytest.mark.parametrize("tail", ["3", "3,0.2", "3,0.2,", "3,0.2,1e-", "3,0.2,0.1,"])
def test_a_row_that_is_being_written_is_left_out(tmp_path, tail):
    path = tmp_path / "history.csv"
    path.write_text(f"epoch,loss,val_loss\n1,0.5,0.6\n2,0.3,0.4\n{tail}")
    assert read_history(path)["epoch"] == [1, 2]


def test_a_whole_last_row_counts_without_its_line_break(tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(
        b"\xef\xbb\xbfepoch,loss\r\n1,0.5\r\n\r\n2,0.3"
    )  # as Excel on Windows saves it
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
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ["a text with commas"]),
        (b"epoch,loss\n1,2,3\n2,1\n", ["row 2 has 3 columns", "2"]),
        (b'epoch,loss\n1,"' + b"9" * 200_000 + b'"\n', ["a text with commas"]),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, content, words):
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        read_history(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and all(word in message for word in words), message
