"""The record: no writer replaces a file of the user; every writer replaces its own."""

import hashlib
import json
import os

import numpy as np
import pandas as pd
import pytest
from inference_tools import blobs, read_files
from results_tools import write_predictions

import graph
from nuclei.files import append, remove, replacing
from nuclei.formats.registry import FORMATS
from nuclei.inference.find import Found
from nuclei.results.evaluation import write_evaluation
from nuclei.results.image import DEFAULT_FORMATS, result_files
from nuclei.results.plot_page import write_plot_page
from nuclei.results.tables import (
    SUMMARY,
    append_table,
    merge_changed_rows,
    replace_row,
    rewrite_rows,
    write_table,
)
from nuclei.slides.fields import Field, field_files, write_fields
from nuclei.slides.found import write_parquet_parts
from nuclei.written import OPEN, RECORD, Protected, Record, join, recording

SUMMARY_ROW = {"image": "a", "made_by": "m", "formats": "csv"}
ROWS = pd.DataFrame({"image": ["a"], "id": [1]})


def write_format(name):
    def write(out):
        image, labels = blobs()
        maps = np.stack([np.where(labels > 0, 0.9, 0.1)] * 2, axis=-1).astype(np.float32)
        write_predictions(out, Found(image, (0.0, 255.0), labels, maps, 1.0), "a", (name,))

    return write


def write_field(out):
    image, labels = blobs()
    columns = {"image": ["a_field_1"], "id": [1], "diameter_px": [9.0], "positive": [1.0]}
    field = Field("a_field_1", image, labels, pd.DataFrame(columns))
    write_fields(out, [field], {**dict.fromkeys(SUMMARY, ""), "image": "a"})


def last_picture(out):
    return [path for path in field_files(out, "a") if path.suffix == ".png"][-1]


def write_row(out):
    replace_row(out, SUMMARY_ROW)
    merge_changed_rows(out)


# By name: (what writes, a file that it replaces).
WRITERS = {
    **{
        name: (write_format(name), lambda out, name=name: result_files(out, "a", name)[0])
        for name in (*DEFAULT_FORMATS, *FORMATS)
        if name != "csv"
    },
    "labels of the other kind": (write_format("labels"), lambda out: out / "labels" / "a.tif"),
    "nuclei.csv": (write_format("csv"), lambda out: out / "nuclei.csv"),
    "summary.csv": (write_format("csv"), lambda out: out / "summary.csv"),
    "row": (write_row, lambda out: out / "summary.csv"),
    "no row": (
        lambda out: rewrite_rows(out / "nuclei.csv", lambda row: None),
        lambda out: out / "nuclei.csv",
    ),
    "no table": (
        lambda out: write_table(out / "summary.csv", ROWS.iloc[:0]),
        lambda out: out / "summary.csv",
    ),
    "fields": (write_field, lambda out: field_files(out, "a")[0]),
    "fields of before": (write_field, lambda out: last_picture(out)),
    "table of fields": (write_field, lambda out: out / "fields" / "nuclei.csv"),
    "parquet of a slide": (
        lambda out: write_parquet_parts(out / "parquet" / "a.parquet", iter([ROWS])),
        lambda out: out / "parquet" / "a.parquet",
    ),
    "evaluation": (
        lambda out: write_evaluation(out, {"images": [{"stem": "a", "dice": 1.0}]}),
        lambda out: out / "evaluation.json",
    ),
    "page": (lambda out: write_plot_page(out / "a.html", "A", [], []), lambda out: out / "a.html"),
}


def place(path, text="image,made_by,formats\na,1,2\nb,2,3\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", WRITERS)
def test_no_writer_replaces_a_file_of_the_user(name, tmp_path):
    write, target = WRITERS[name]
    place(target(tmp_path))
    before = target(tmp_path).read_bytes()
    with pytest.raises(Protected, match="was not written by this program"), recording(tmp_path):
        write(tmp_path)
    assert target(tmp_path).read_bytes() == before
    assert not [path for path in tmp_path.rglob(".*") if path.name != RECORD]  # no litter
    with recording(tmp_path, overwrite=True):
        write(tmp_path)
    assert not target(tmp_path).is_file() or target(tmp_path).read_bytes() != before


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_replaces_its_own_file_until_the_user_changes_it(name, tmp_path):
    write, target = WRITERS[name]
    path = target(tmp_path)
    for _ in range(3):  # each is a run of its own
        with recording(tmp_path):
            write(tmp_path)
    if not path.exists():
        with recording(tmp_path), replacing(path) as temporary:
            temporary.write_text("image,made_by,formats\n")
    file = path if path.is_file() else next(file for file in path.rglob("*") if file.is_file())
    with open(file, "ab") as opened:
        opened.write(b"z,9,9\n")
    before = read_files(tmp_path)
    before = read_files(tmp_path)
    with recording(tmp_path) as record:
        assert "was changed since" in record.fault(path)
        with pytest.raises(Protected):
            write(tmp_path)
    assert file.read_bytes() == before[file.relative_to(tmp_path)]


def test_an_input_is_no_target_even_where_the_user_overwrites(tmp_path):
    place(tmp_path / "a.csv")
    os.link(tmp_path / "a.csv", tmp_path / "b.csv")  # another name of the input
    with recording(tmp_path, overwrite=True, inputs=[tmp_path / "a.csv"]) as record:
        for name in "ab":
            with pytest.raises(Protected, match="is an input"):
                append(tmp_path / f"{name}.csv", b"x")
            with pytest.raises(Protected, match="is an input"):
                remove(tmp_path / f"{name}.csv")
        record.require(tmp_path / "c.csv")
    assert (tmp_path / "b.csv").read_text() == "image,made_by,formats\na,1,2\nb,2,3\n"


def test_a_run_that_is_killed_leaves_nothing_that_looks_foreign(tmp_path, monkeypatch):
    page, table = tmp_path / "a.html", tmp_path / "nuclei.csv"
    with recording(tmp_path):
        page.write_bytes(b"")  # not ours
        remove(tmp_path / "none")
    page.unlink()
    for content in (b"one", b"two"):
        with pytest.raises(SystemExit), recording(tmp_path), monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *_: exit())  # killed before the file was there
            with replacing(page) as temporary:
                temporary.write_bytes(content)
        with recording(tmp_path), replacing(page) as temporary:
            temporary.write_bytes(b"three")
    record = Record(tmp_path)  # of a run that is killed while rows are added: never closed
    record.read()
    with monkeypatch.context() as patch:
        patch.setitem(OPEN, str(tmp_path), record)
        append_table(table, ROWS)
        append_table(table, ROWS)
        record.begin_growth(table, b"a,1\n")
    table.write_bytes(table.read_bytes() + b"a,")
    (tmp_path / RECORD).write_text((tmp_path / RECORD).read_text() + '{"file": "nu')
    with recording(tmp_path):
        rewrite_rows(table, lambda row: row)
        append_table(table, ROWS)
    assert table.read_text() == "image,id\na,1\na,1\na,1\n"
    with recording(tmp_path) as record:
        assert record.fault(table) == record.fault(page) == ""
    place(table, table.read_text() + "mine,1\n")  # after a whole run a row more is the user's
    with recording(tmp_path) as record, pytest.raises(Protected):
        append_table(table, ROWS)


def test_a_damaged_record_protects(tmp_path):
    with recording(tmp_path), replacing(tmp_path / "a") as temporary:
        temporary.write_text("x")
    lines = '[]\n{"file": 1}\n{"file": "a", "size": [], "sha256": 0}\n' + "[" * 9999 + "\n\xff\n"
    (tmp_path / RECORD).write_text(lines, encoding="latin-1")
    with recording(tmp_path) as record:
        assert "was not written by this program" in record.fault(tmp_path / "a")


def test_the_lines_of_workers_are_gathered(tmp_path):
    with recording(tmp_path), replacing(tmp_path / "a") as temporary:
        temporary.write_text("x")
    record = Record(tmp_path)
    record.read()
    try:
        join(*record.part([tmp_path / "a", tmp_path / "b"]))
        for name in "ab":
            with replacing(tmp_path / name) as temporary:
                temporary.write_text("y")
        entry = {"file": "d", "size": 1, "sha256": hashlib.sha256(b"d").hexdigest()}
        place(tmp_path / ".written.other.jsonl", json.dumps(entry))  # of a worker that has died
        place(tmp_path / "d", "d")
        with replacing(tmp_path / "d") as temporary:
            temporary.write_text("e")
        place(tmp_path / "c")
        with pytest.raises(Protected), replacing(tmp_path / "c"):
            pass
    finally:
        OPEN.clear()
    record.gather_parts()
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c", "d", RECORD]
    with recording(tmp_path) as record:
        assert [name for name in "abcd" if record.fault(tmp_path / name)] == ["c"]


def test_what_an_orphan_of_another_run_writes_meanwhile_is_ours(tmp_path):
    path, foreign = tmp_path / "masks" / "a.png", tmp_path / "masks" / "b.png"
    path.parent.mkdir()
    with recording(tmp_path):
        orphan = Record(tmp_path, journal=".written.orphan.jsonl")
        for name in (path, foreign):
            name.write_bytes(b"mask")
        orphan.note(path, path)
        with replacing(path) as temporary:
            temporary.write_bytes(b"again")
        with pytest.raises(Protected, match="not written by this program"), replacing(foreign):
            pass
    assert path.read_bytes() == b"again" and foreign.read_bytes() == b"mask"


def test_a_graph_stops_before_it_replaces_a_page_of_the_user(tmp_path, capsys):
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n1,0.5,0.6\n2,0.4,0.5\n")
    place(tmp_path / f"{graph.GRAPH_NAME}.html", "mine")
    assert graph.main([str(tmp_path)]) == 1
    assert "was not written by this program" in capsys.readouterr().err
    assert (tmp_path / f"{graph.GRAPH_NAME}.html").read_text() == "mine"
    assert graph.main([str(tmp_path), "--overwrite"]) == 0
    assert graph.main([str(tmp_path)]) == 0  # its own


@pytest.mark.parametrize("text", ["mine\n", '{"my": "log"}\n', "link", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_record_of_somebody_else_is_not_extended(tmp_path, text, overwrite):
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.write_text("precious")
    if text == "link":
        (out / RECORD).symlink_to(other)
    elif text == "folder":
        (out / RECORD).mkdir()
    else:
        (out / RECORD).write_text(text)
    with pytest.raises(Protected, match="is no record of this program"), recording(out, overwrite):
        pass
    assert other.read_text() == "precious"
    if text not in ("link", "folder"):
        assert (out / RECORD).read_text() == text


@pytest.mark.parametrize("size", ["1e999", "-1", "NaN", "[]", "null", '"x"'])
def test_no_line_of_a_record_stops_a_run(tmp_path, size):
    line = f'{{"file": "a", "size": {size}, "sha256": "x"}}\n'
    (tmp_path / RECORD).write_text(line)
    with recording(tmp_path), replacing(tmp_path / "b") as temporary:
        temporary.write_text("b")
    assert (tmp_path / "b").read_text() == "b"


@pytest.mark.parametrize("name", [".bashrc", ".lock", ".a.workbook", "sub/.hidden"])
def test_hidden_files_of_the_user_are_no_bookkeeping(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with recording(tmp_path) as record, pytest.raises(Protected, match="was not written by"):
        record.require(tmp_path / name)


def test_a_folder_where_a_file_should_go_is_named_also_with_overwrite(tmp_path):
    (tmp_path / "a.png").mkdir()
    with recording(tmp_path, overwrite=True) as record, pytest.raises(Protected, match="a folder"):
        record.require(tmp_path / "a.png")


@pytest.mark.parametrize("num_written", [0, 2, 4])
def test_rows_of_the_user_after_a_killed_run_stay(tmp_path, monkeypatch, num_written):
    table, rows = tmp_path / "nuclei.csv", b"b,1\n"
    record = Record(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(OPEN, str(tmp_path), record)
        append_table(table, ROWS)
        append_table(table, ROWS)
        record.begin_growth(table, rows)
    killed = table.read_bytes() + rows[:num_written]
    table.write_bytes(killed)
    with recording(tmp_path) as again:
        assert again.fault(table) == ""
    table.write_bytes(killed + b"mynote,1\n")
    with recording(tmp_path), pytest.raises(Protected, match=r"nuclei\.csv was changed"):
        append_table(table, ROWS)
    assert table.read_bytes() == killed + b"mynote,1\n"
