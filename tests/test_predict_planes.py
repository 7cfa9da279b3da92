"""predict.py on files with channels, focal planes and a stated pixel size."""

import json

import h5py
import numpy as np
import pytest
from blob_model import write_blob_model
from inference_tools import read_rows, run_predict
from PIL import Image
from stack_tools import focal_planes, nuclei_and_others, write_ome

import exports
import import_data
import report
from nuclei.inference.find import NUCLEUS_UM
from nuclei.model_file import SETTINGS, TRAINED_DIAMETER_PX

NUCLEI, CYTOPLASM, *_, LABELS = nuclei_and_others()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture
def file(tmp_path):
    """Two channels of 0.325 µm per pixel."""
    sizes = {f"PhysicalSize{axis}": 0.325 for axis in "XY"}
    (tmp_path / "in").mkdir()
    return write_ome(
        tmp_path / "in" / "a.ome.tif",
        np.stack([CYTOPLASM, NUCLEI]),
        "CYX",
        ["GFP", "DAPI"],
        **sizes,
    )


def test_a_file_of_channels_gets_all_that_an_image_gets(model, file, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, file) == 0
    printed = capsys.readouterr().out
    assert "a.ome: channel 2 of 2 is taken, DAPI (--channel takes another: GFP, DAPI)" in printed
    assert "a.ome: 0.325 µm per pixel, as the file says, nuclei of 8 µm" in printed
    for place in ("masks/a.ome.png", "labels/a.ome.png", "overlays/a.ome.jpg"):
        assert (out / place).is_file()
    (row,) = read_rows(out / "summary.csv")
    assert (row["channel"], row["plane"], row["mpp"]) == ("2", "", "0.325")
    scale = TRAINED_DIAMETER_PX * 0.325 / NUCLEUS_UM
    assert float(row["scale"]) == pytest.approx(scale, abs=0.001)
    assert float(read_rows(out / "nuclei.csv")[0]["area_um2"]) > 0
    found = np.array(Image.open(out / "masks" / "a.ome.png")) > 0
    assert (found & (LABELS > 0)).sum() > 0.8 * found.sum()


def test_the_pixel_size_of_the_user_wins_and_another_is_told(model, file, tmp_path, capsys):
    assert run_predict(model, tmp_path / "out", file, "--mpp", "0.65") == 0
    assert "--mpp 0.65 is taken, although the file says 0.325" in capsys.readouterr().out
    assert read_rows(tmp_path / "out" / "summary.csv")[0]["mpp"] == "0.65"


def test_report_and_exports_read_the_channel_that_was_predicted(model, file, tmp_path):
    out = tmp_path / "out"
    assert run_predict(model, out, file, "--channel", "gfp") == 0
    assert read_rows(out / "summary.csv")[0]["channel"] == "1"
    arguments = [str(out), "--images", str(file.parent)]
    assert report.main([*arguments, "--model", str(model)]) == 0
    assert exports.main([*arguments, "--formats", "csv", "--out", str(tmp_path / "again")]) == 0
    rows = read_rows(tmp_path / "again" / "csv" / "a.ome.csv")
    before = read_rows(out / "nuclei.csv")
    columns = [name for name in before[0] if "intensity" in name]
    assert columns and [[float(row[name]) for name in columns] for row in rows] == [
        [float(row[name]) for name in columns] for row in before
    ]


def test_a_wrong_channel_is_named_and_does_not_stop_the_folder(model, file, tmp_path, capsys):
    Image.fromarray(NUCLEI).save(file.parent / "b.png")
    assert run_predict(model, tmp_path / "out", file.parent, "--channel", "Cy5") == 1
    errors = capsys.readouterr().err
    assert "a.ome.tif has no channel Cy5; it has 1 GFP, 2 DAPI" in errors
    assert [row["image"] for row in read_rows(tmp_path / "out" / "summary.csv")] == ["b"]


@pytest.mark.parametrize(("plane", "expected"), [(None, "2"), ("3", "3"), ("max", "max")])
def test_a_focal_plane_is_taken(model, tmp_path, plane, expected, capsys):
    path = write_ome(tmp_path / "z.ome.tif", focal_planes(NUCLEI), "ZYX")
    flags = [] if plane is None else ["--plane", plane]
    assert run_predict(model, tmp_path / "out", path, *flags) == 0
    assert read_rows(tmp_path / "out" / "summary.csv")[0]["plane"] == expected
    assert "of the z-stack" in capsys.readouterr().out


def test_equal_lines_are_printed_once_and_counted(model, file, tmp_path, capsys):
    for name in ("b", "c"):
        (file.parent / f"{name}.ome.tif").write_bytes(file.read_bytes())
    assert run_predict(model, tmp_path / "out", file.parent) == 0
    printed = capsys.readouterr().out
    assert printed.count("channel 2 of 2 is taken, DAPI") == 2
    assert "the same of 2 more: channel 2 of 2 is taken, DAPI" in printed


def test_the_channel_of_the_training_is_repeated_unless_another_is_asked_for(model, file, tmp_path):
    own = tmp_path / "own.h5"
    own.write_bytes(model.read_bytes())
    with h5py.File(own, "r+") as opened:
        settings = json.loads(opened.attrs[SETTINGS])
        settings["arguments"] = {"channel": "GFP", "plane": None}
        opened.attrs[SETTINGS] = json.dumps(settings)
    for flags, expected in (([], "1"), (["--channel", "auto"], "2")):
        out = tmp_path / f"out{expected}"
        assert run_predict(own, out, file, *flags) == 0
        assert read_rows(out / "summary.csv")[0]["channel"] == expected


def test_the_check_reads_and_says_the_same(file, tmp_path, capsys):
    data = tmp_path / "data"
    for stem in ("a", "b"):
        for part in ("raw", "gt"):
            (data / part).mkdir(parents=True, exist_ok=True)
        (data / "raw" / f"{stem}.tif").write_bytes(file.read_bytes())
        Image.fromarray(LABELS.astype(np.uint16)).save(data / "gt" / f"{stem}.png")
    assert import_data.main([str(data), "--channel", "GFP"]) == 0
    assert "a.tif: channel 1 of 2 is taken, GFP" in capsys.readouterr().out
    assert import_data.main([str(data), "--channel", "Cy5"]) == 1
    assert "no channel Cy5" in capsys.readouterr().out
    assert import_data.main([str(data), "--plane", "max"]) == 0
