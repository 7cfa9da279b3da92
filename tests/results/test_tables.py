"""The tables: rows are added and rewritten one at a time, and finished images are known."""

import os
import re

import numpy as np
import pandas as pd
import pytest

from nuclei.results import tables
from nuclei.results.tables import (
    append_table,
    finished_before,
    merge_changed_rows,
    positive_share,
    read_table,
    replace_row,
    rewrite_rows,
    write_table,
)
from nuclei.written import Protected

NAMES = ["NA", "007", "=1+1", 'a, "b"', "ü–核", "'=x", " a ", "1e5", "None"]


def test_names_come_back_as_they_were_and_are_no_formulas(tmp_path, monkeypatch):
    """From each function that writes a table, and from each that reads one."""
    monkeypatch.setattr(os, "linesep", "\r\n")  # as on Windows
    rows = pd.DataFrame([summary_row(name, "csv") for name in NAMES])
    appended, replaced, seen = tmp_path / "nuclei.csv", tmp_path / "summary.csv", []
    append_table(appended, rows[:4])
    append_table(appended, rows[4:])
    write_table(replaced, rows)
    expected = replaced.read_bytes()
    assert appended.read_bytes() == expected and b"\r" not in expected
    assert b"\n=" not in expected and "ü–核" in expected.decode("utf-8")
    rewrite_rows(appended, lambda row: seen.append(row["image"]) or row, ["more"])
    assert appended.read_bytes() == expected.replace(b"\n", b",\n").replace(b"ats,", b"ats,more")
    assert seen[: len(NAMES)] == NAMES == read_table(appended)["image"].tolist()
    finished = finished_before(tmp_path, "model 1", False, NAMES)
    assert finished == dict.fromkeys(NAMES, ["csv"])
    assert read_table(replaced)["image"].tolist() == NAMES


def test_the_share_of_positive_nuclei_is_that_of_the_known():
    assert positive_share(np.array([1, 0, np.nan, 1])) == 0.6667
    assert positive_share(np.array([0.0])) == 0
    assert positive_share(np.array([np.nan])) == positive_share(np.zeros(0)) == ""


def test_tables_are_rewritten_a_row_at_a_time(tmp_path):
    path = tmp_path / "nuclei.csv"
    rewrite_rows(path, lambda row: row)  # nothing there, nothing done
    text = 'image,id\n"a, ""b""",1\nc,2\nd\nc,3'
    path.write_text(text)
    rewrite_rows(path, lambda row: row, ["more"])
    assert path.read_text() == 'image,id,more\n"a, ""b""",1,\nc,2,\nd,,\n'
    append_table(path, pd.DataFrame({"more": [1.5], "image": ["e"], "id": [7], "new": [8]}))
    assert path.read_text().splitlines()[0::4] == ["image,id,more,new", "e,7,1.5,8"]
    rewrite_rows(path, lambda row: row if row["image"] in "ce" else None)
    assert path.read_text() == "image,id,more,new\nc,2,,\ne,7,1.5,8\n"
    rewrite_rows(path, lambda row: None)
    assert not path.exists()
    path.write_text("name,size\na,1\n")
    with pytest.raises(ValueError, match="no table of predict.* it has the columns name, size;"):
        rewrite_rows(path, lambda row: row)
    assert path.read_text() == "name,size\na,1\n"


def summary_row(image, formats, made_by="model 1"):
    return {"image": image, "made_by": made_by, "formats": formats}


def test_finished_images_are_those_of_the_summary(tmp_path):
    rows = [summary_row("a", "masks csv"), summary_row("b", "masks"), summary_row("other", "csv")]
    append_table(tmp_path / "summary.csv", pd.DataFrame(rows))
    ids = {"image": ["a", "a", "b", "other", "c"], "id": [1, 2, 1, 1, 1]}
    append_table(tmp_path / "nuclei.csv", pd.DataFrame(ids))
    finished = finished_before(tmp_path, "model 1", False, ["a", "b", "c"])
    assert finished == {"a": ["masks", "csv"], "b": ["masks"]}
    # The rows of b and c were written, but not their line in summary.csv that says so.
    assert list(read_table(tmp_path / "nuclei.csv")["image"]) == ["a", "a", "other"]
    message = (
        f"{tmp_path} holds results for a, b by another model or other settings; give --out "
        "another folder, or --overwrite to replace them"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        finished_before(tmp_path, "model 2", False, ["a", "b"])
    assert finished_before(tmp_path, "model 2", True, ["a"]) == {"a": ["masks", "csv"]}
    assert list(read_table(tmp_path / "summary.csv")["image"]) == ["b", "other"]
    assert list(read_table(tmp_path / "nuclei.csv")["image"]) == ["other"]


def test_rows_replace_those_of_the_same_images_once_for_all(tmp_path, monkeypatch):
    path, num_writes = tmp_path / "summary.csv", []
    append_table(path, pd.DataFrame([summary_row(image, "masks") for image in "abc"]))
    for image in "abd":
        for formats in ("masks labels", "masks csv"):
            replace_row(tmp_path, summary_row(image, formats))
    assert list(read_table(path)["formats"]) == ["masks"] * 3  # a run that is killed here
    monkeypatch.setattr(tables, "write_table", lambda *args: num_writes.append(write_table(*args)))
    wanted = {"a": ["masks", "csv"], "b": ["masks", "csv"], "c": ["masks"]}
    assert finished_before(tmp_path, "model 1", False, "abc") == wanted  # is known to the next
    num_before = len(num_writes)
    merge_changed_rows(tmp_path)
    assert len(num_writes) == num_before <= 2  # and not one for each image
    assert sorted(file.name for file in tmp_path.iterdir()) == ["summary.csv"]
    rows = read_table(path).to_dict("records")
    assert sorted(rows, key=lambda row: row["image"]) == [
        summary_row("a", "masks csv"),
        summary_row("b", "masks csv"),
        summary_row("c", "masks"),
        summary_row("d", "masks csv"),
    ]


def test_rows_that_the_user_does_not_let_in_are_dropped(tmp_path, monkeypatch):
    append_table(tmp_path / "summary.csv", pd.DataFrame([summary_row("a", "masks")]))
    before = (tmp_path / "summary.csv").read_bytes()
    replace_row(tmp_path, summary_row("a", "masks csv"))

    def refuse(*_):
        raise Protected("changed by hand")

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_table", refuse)
        with pytest.raises(Protected, match="^changed by hand$"):
            merge_changed_rows(tmp_path)
    merge_changed_rows(tmp_path)  # nothing is left that could be refused again
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]
    assert (tmp_path / "summary.csv").read_bytes() == before


def test_rows_of_other_columns_leave_cells_empty(tmp_path):
    append_table(tmp_path / "summary.csv", pd.DataFrame([summary_row("a", "csv")]))
    replace_row(tmp_path, summary_row("b", "csv") | {"mpp": 0.5})
    merge_changed_rows(tmp_path)
    expected = "image,made_by,formats,mpp\na,model 1,csv,\nb,model 1,csv,0.5\n"
    assert (tmp_path / "summary.csv").read_text() == expected


NO_TEXT, LONG_CELL = b"im\xffge,id\na,1\n", b'image,id\n"' + b"a" * 200_000 + b"\n"


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (read_table, NO_TEXT),
        (read_table, LONG_CELL),
        (lambda path: append_table(path, pd.DataFrame({"image": ["b"]})), NO_TEXT),
        (lambda path: rewrite_rows(path, lambda row: None), NO_TEXT),
        (lambda path: rewrite_rows(path, lambda row: None), LONG_CELL),
    ],
)
def test_a_table_that_cannot_be_read_is_named_and_stays(tmp_path, use, text):
    path = tmp_path / "nuclei.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="nuclei.csv is (damaged|no table)") as raised:
        use(path)
    assert "; predict the images again" in str(raised.value) or str(raised.value).endswith(
        "); give --out another folder"
    )
    assert len(str(raised.value)) < 1000 and path.read_bytes() == text


def test_an_empty_table_takes_the_header_of_its_first_rows(tmp_path):
    path = tmp_path / "nuclei.csv"
    path.touch()
    append_table(path, pd.DataFrame({"image": ["a"], "id": [1]}))
    append_table(path, pd.DataFrame({"image": ["b"], "id": [2]}))
    assert path.read_text() == "image,id\na,1\nb,2\n"
    rewrite_rows(path, lambda row: None, ["more"])  # a table of no rows keeps its new header
    assert path.read_text() == "image,id,more\n"
    write_table(path, pd.DataFrame({"image": ["c"], "id": [3]}))
    assert path.read_text() == "image,id\nc,3\n"
    write_table(path, pd.DataFrame({"image": []}))
    assert not path.exists() and read_table(path).empty
    assert list(read_table(path)) == ["image", "made_by", "formats"]


def test_a_table_in_which_nothing_changes_is_left_alone(tmp_path):
    path = tmp_path / "nuclei.csv"
    path.write_text("image,id\na,1\nb,2\n")
    before = path.stat().st_mtime_ns
    rewrite_rows(path, lambda row: row)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["summary.csv", "nuclei.csv"])
def test_a_table_of_others_is_refused_with_its_columns(tmp_path, name):
    path = tmp_path / name
    path.write_text("size,made_by\n1,me\n")
    expected = f"{path} is no table of predict.py: it has the columns size, made_by; give --out "
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}another folder$"):
        read_table(path)
    path.write_text("image,made_by\na,me\n")
    if name == "summary.csv":  # needs formats, too
        with pytest.raises(ValueError, match="it has the columns image, made_by"):
            read_table(path)
    else:
        assert read_table(path)["image"].tolist() == ["a"]


def test_a_row_that_was_cut_off_is_no_row(tmp_path):
    path = tmp_path / "nuclei.csv"
    path.write_text("image,id\na,1\nb,2")
    assert read_table(path)["image"].tolist() == ["a"]
    path.write_text("image,id\na,1\nb")
    assert read_table(path)["image"].tolist() == ["a"]


def test_a_table_of_others_is_not_rewritten(tmp_path):
    path = tmp_path / "nuclei.csv"
    path.write_text("size\n1\n")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is no table of predict.py"):
        rewrite_rows(path, lambda row: row)
    assert path.read_text() == "size\n1\n"
