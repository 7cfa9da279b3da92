"""The tables: rows are added and rewritten one at a time, and finished images are known."""

import pandas as pd
import pytest

from nuclei.results.tables import (
    append_table,
    finished_before,
    read_table,
    replace_row,
    rewrite_rows,
)


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
    with pytest.raises(ValueError, match="no table of predict"):
        rewrite_rows(path, lambda row: row)


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
    with pytest.raises(ValueError, match="results for a, b by another model"):
        finished_before(tmp_path, "model 2", False, ["a", "b"])
    assert finished_before(tmp_path, "model 2", True, ["a"]) == {"a": ["masks", "csv"]}
    assert list(read_table(tmp_path / "summary.csv")["image"]) == ["b", "other"]
    assert list(read_table(tmp_path / "nuclei.csv")["image"]) == ["other"]


def test_a_row_replaces_that_of_the_same_image(tmp_path):
    path = tmp_path / "summary.csv"
    for formats in ("masks", "masks csv"):
        replace_row(path, summary_row("a", formats))
        replace_row(path, summary_row("b", "labels"))
    assert read_table(path).to_dict("records") == [
        summary_row("a", "masks csv"),
        summary_row("b", "labels"),
    ]
