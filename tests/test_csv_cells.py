"""Cells that begin with = + - @ are no formulas in a spreadsheet, and come back as they were."""

import csv

import pandas as pd
import pytest

from nuclei.csv_cells import plain, plain_table, safe, safe_table
from nuclei.formats.predictions import read_rows
from nuclei.report.predictions import read_nuclei
from nuclei.results.comparison import score_confidence
from nuclei.results.groups import read_groups
from nuclei.results.tables import (
    append_table,
    merge_changed_rows,
    read_table,
    replace_row,
    rewrite_rows,
)

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "＝1+1", "'=1", "''@a"]
OTHERS = ["a", "", "'a", "a=b", "-5", "+1.5e-3", "-.5", "é"]


@pytest.mark.parametrize("text", FORMULAS + OTHERS)
def test_every_text_comes_back_and_none_begins_a_formula(text):
    assert plain(safe(text)) == text
    assert (safe(text) == text) == (text in OTHERS)
    assert text in OTHERS or safe(text)[0] == "'"


def test_a_cell_is_one_line():
    assert safe("a\nb\r\tc\x1b[2J\x85") == "a␊b␍␉c␛[2J\ufffd" and safe("\t=1") == "␉=1"


def test_numbers_of_a_table_stay():
    table = pd.DataFrame({"image": ["=a", "b"], "angle": [-1.5, 2.0], "id": [1, 2]})
    assert safe_table(table)["image"].tolist() == ["'=a", "b"]
    assert safe_table(table)["angle"].tolist() == [-1.5, 2.0]
    assert plain_table(safe_table(table)).equals(table)


def test_a_table_on_disk_is_safe_and_is_read_back(tmp_path):
    path = tmp_path / "summary.csv"
    rows = {"image": FORMULAS, "made_by": "m", "formats": "csv", "group": FORMULAS[::-1]}
    append_table(path, pd.DataFrame(rows))
    append_table(path, pd.DataFrame({"image": ["b"], "made_by": "m", "formats": "csv"}))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            assert not any(cell[0] in "=+-@＝" for cell in row if cell)
    assert read_table(path)["image"].tolist() == [*FORMULAS, "b"]
    replace_row(tmp_path, {"image": "=1+1", "made_by": "n", "formats": "csv"})
    merge_changed_rows(tmp_path)
    assert sorted(read_table(path)["image"]) == sorted([*FORMULAS, "b"])
    rewrite_rows(path, lambda row: None if row["image"] == "@SUM(A1)" else row, ["new"])
    assert "@SUM(A1)" not in set(read_table(path)["image"])
    groups = read_groups(path)
    assert groups["-2+3"] == rows["group"][2] and "=1+1" in groups


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfeimage", b"image,id\n\x00\xff", b'image\n"' + b"a" * 140_000, b"a,b\n1,2\n"],
)
@pytest.mark.parametrize(
    "read",
    [
        read_table,
        lambda path: rewrite_rows(path, lambda row: row),
        lambda path: append_table(path, pd.DataFrame({"image": ["a"]})),
        read_rows,
        lambda path: read_nuclei(path, {"a"}),
        lambda path: score_confidence({}, path),
    ],
)
def test_a_file_that_is_no_table_is_named_or_can_be_used(tmp_path, content, read):
    path = tmp_path / "nuclei.csv"
    path.write_bytes(content)
    try:
        read(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
