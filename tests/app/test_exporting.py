"""Every format of exports.py is written of what the folder holds now."""

import json

import numpy as np
import pytest
from app_tools import make_workspace, write_images

from nuclei.app import corrections
from nuclei.app.edits import Refused
from nuclei.app.exporting import available_formats, export
from nuclei.app.requests import Delete
from nuclei.formats.registry import FORMATS
from nuclei.written import recording


@pytest.fixture
def workspace(tmp_path):
    drawn = write_images(tmp_path / "images")
    with recording(tmp_path / "images" / "corrected"):
        yield make_workspace(tmp_path / "images", drawn)


def test_all_formats_are_written_for_all_images(workspace):
    names = available_formats()
    record = export(workspace, names)
    out = workspace.files.home / "exports"
    assert record["folder"] == str(out) and record["files"] == 2 * len(names)
    assert all(FORMATS[name].path(out, stem).exists() for name in names for stem in "ab")


def test_an_export_has_the_corrections_and_replaces_its_own_files_only(workspace):
    key = next(key for key, it in workspace.entries.items() if it.stem == "a")
    path = workspace.files.home / "exports" / "geojson" / "a.geojson"
    export(workspace, ["geojson"])
    num = len(json.loads(path.read_text())["features"])
    corrections.edit(workspace, key, Delete("delete", 0, [3, 4]))
    export(workspace, ["geojson"])
    assert len(json.loads(path.read_text())["features"]) == num - 2
    path.write_text("corrected in QuPath")
    message = export(workspace, ["geojson"])["message"]
    assert "a.png" in message and "was changed since" in message
    assert path.read_text() == "corrected in QuPath"


def test_unknown_formats_and_empty_folders_are_refused(workspace, tmp_path):
    for name in ("../x", "exe", ""):
        with pytest.raises(Refused, match="cannot be written"):
            export(workspace, [name])
    write_images(tmp_path / "others")
    with pytest.raises(Refused, match="No image has nuclei"):
        export(make_workspace(tmp_path / "others"), ["geojson"])


def test_ids_have_no_gaps_after_a_deletion(workspace):
    import pandas as pd

    key = next(iter(workspace.entries))
    stem = workspace.entry(key).stem
    corrections.edit(workspace, key, Delete("delete", 0, [2]))
    export(workspace, ["csv"])
    table = pd.read_csv(workspace.files.home / "exports" / "csv" / f"{stem}.csv")
    assert table["id"].tolist() == list(np.arange(1, len(table) + 1))
