"""Files are whole or absent, and what is wrong with one is said in one line."""

import errno
import os
import re
from pathlib import Path

import pytest

from nuclei.datasets.split import read_split
from nuclei.files import (
    existing_file,
    explaining_damage,
    fault_of,
    plural,
    replacing,
    text_of_table,
    unreadable,
)
from nuclei.results.evaluation_record import read_evaluation_record
from nuclei.results.groups import read_groups
from nuclei.results.history import read_history
from nuclei.results.tables import read_table

PROJECT = Path(__file__).resolve().parent.parent


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.png"
    with replacing(path) as temporary:
        assert (
            temporary.parent == path.parent
            and temporary.suffix == ".png"
            and temporary.name.startswith(".")
        )
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("two")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and [entry.name for entry in path.parent.iterdir()] == [
        "a.png"
    ]


def test_a_full_disk_leaves_no_half_file(tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with (
        pytest.raises(OSError) as failure,
        replacing(tmp_path / "a.csv"),
        open(full, "w", encoding="utf-8") as file,
    ):
        file.write("x")
        file.flush()
    assert failure.value.errno == 28 and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), "a.png is damaged (KeyError)"),
        (ValueError("bad head"), "a.png is damaged (ValueError)"),
        (ValueError("a.png has no nuclei"), "a.png has no nuclei"),
        (MemoryError(), "a.png does not fit into memory; cut its image into smaller ones"),
        (OSError(errno.EINVAL, "Invalid argument"), "a.png is damaged (OSError)"),
    ],
)
def test_what_a_decoder_raises_becomes_one_message_with_the_file(error, message):
    with (
        pytest.raises(ValueError, match=re.escape(message)),
        explaining_damage(Path("a.png"), lambda e: f"is damaged ({type(e).__name__})"),
    ):
        raise error


def test_a_fault_of_the_disk_is_no_damage():
    with pytest.raises(PermissionError), explaining_damage(Path("a.png"), str):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        existing_file(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        existing_file(tmp_path)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 nuclei"), (1, "1 nucleus"), (1681, "1,681 nuclei")]
)
def test_counts_read_like_a_sentence(count, words):
    assert plural(count, "nucleus", "nuclei") == words
    assert plural(2, "image") == "2 images"


def test_a_file_that_cannot_be_read_is_named_once():
    denied = PermissionError(errno.EACCES, "Permission denied", "a.png")
    assert fault_of(denied) == "a.png cannot be read (Permission denied)"
    assert fault_of(ValueError("a.png is empty")) == "a.png is empty"
    assert str(unreadable("a.png", denied)).startswith("a.png cannot be read (Permission denied);")
    gone = FileNotFoundError("a.png does not exist")
    assert str(unreadable("a.png", gone)) == "a.png does not exist"
    assert "b.png cannot be read (bad head)" in str(unreadable("b.png", ValueError("bad head")))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("stem,split\n".encode("utf-16"), "UTF-16"),
        ("stem,split\n".encode("utf-16-le"), "NUL bytes"),
        (b"stem,split\na\0,train\n", "NUL bytes"),
        (b"stem,gr\xfc\xdf\n", "no CSV text in UTF-8"),
        (bytes(2_000_001), "more than 2 MB"),
        (None, "is a pipe or a device"),
    ],
)
def test_what_is_no_table_is_named_by_all_readers_and_not_waited_for(
    tmp_path, monkeypatch, content, fault
):
    path = tmp_path / "t.csv"
    monkeypatch.setattr("nuclei.files.MAX_TABLE_MEGABYTES", 2)
    if content is None:
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes in folders of this system")
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    for read in (text_of_table, read_groups, read_split, read_history):
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}") as raised:
            read(path)
        message = str(raised.value)
        assert fault in message and "expected" in message and len(message) < 500 + len(str(path))


def test_a_pipe_in_the_place_of_our_own_table_or_record_is_named(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes in folders of this system")
    os.mkfifo(tmp_path / "summary.csv")
    os.mkfifo(tmp_path / "evaluation.json")
    with pytest.raises(ValueError, match="summary.csv is no file"):
        read_table(tmp_path / "summary.csv")
    with pytest.raises(ValueError, match="evaluation.json.*a pipe or a device"):
        read_evaluation_record(tmp_path / "evaluation.json")


def test_a_table_of_100_000_columns_and_one_with_a_mark_of_order_are_read(tmp_path):
    path = tmp_path / "t.csv"
    many = ",".join(f"c{number}" for number in range(100_000))
    path.write_text(f"stem,split,{many}\na,train\n", encoding="utf-8-sig")
    assert read_split(path) == {"a": "train"}
