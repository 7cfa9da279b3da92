"""Layouts may lie side by side in one source; a source of none is told what is expected."""

import numpy as np
import pytest
from images_tools import discs, dsb2018, save, tissue

import import_data
from nuclei.datasets.folder_sets import import_folders


def test_two_layouts_side_by_side_both_come_in(tmp_path):
    truth = dsb2018(tmp_path / "set" / "dsb", 2)
    labels = discs(seed=5)
    save(tmp_path / "set" / "more" / "images" / "b.png", tissue(labels))
    save(tmp_path / "set" / "more" / "masks" / "b.png", labels.astype(np.uint16))
    result = import_folders(tmp_path / "set", tmp_path / "out")
    assert (result.images, result.problems) == (3, [])
    assert result.nuclei == labels.max() + sum(one.max() for one in truth.values())


@pytest.mark.parametrize(
    "names", [(), ("a.png",), ("images/a.png", "labels/a.txt"), ("raw/a.png",)]
)
def test_a_source_of_no_known_layout_is_told_the_layouts(tmp_path, capsys, names):
    (tmp_path / "set").mkdir()
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    assert import_data.main(["--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "has no layout that is known; expected" in error
    for layout in ("DSB2018", "NuInsSeg", "TNBC", "PanNuke", "CoNIC", "raw/ and gt/ already needs"):
        assert layout in error
