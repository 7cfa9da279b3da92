"""predict.py takes slides like images, goes on where it stopped, and refuses what is wrong."""

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from blob_model import write_blob_model
from PIL import Image
from slides_tools import contents, draw_fluorescence, in_order_of_place, write_pyramid

import predict
import report
from nuclei.folder_lock import LOCK, only_run
from nuclei.inference.find import NUCLEUS_UM
from nuclei.model_file import TRAINED_DIAMETER_PX
from nuclei.slides import folder as slides
from nuclei.slides.folder import search_tiles_in_worker
from nuclei.slides.found import FoundOnSlide
from nuclei.slides.work import work_folder
from nuclei.written import Protected

TWO_CHANNELS = {"Channel": {"Name": ["FITC", "DAPI"]}}
FIELD = "b.ome_field_1.png"
FILES = f"""
fields/labels/{FIELD} fields/nuclei.csv fields/raw/{FIELD} fields/summary.csv
geojson/b.ome.geojson.zip labels/a.png masks/a.png nuclei.csv overlays/a.jpg overlays/b.ome.jpg
summary.csv tissue/b.ome.png written.jsonl
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture(scope="module")
def fluorescence():
    return draw_fluorescence()


@pytest.fixture
def slide(fluorescence, tmp_path):
    return write_pyramid(tmp_path / "a.ome.tif", fluorescence, mpp=0.4)


def run(model, out, *arguments):
    return predict.main([*map(str, arguments), "--model", str(model), "--out", str(out)])


def read_rows(path):
    return pd.read_csv(path, dtype={"image": str}, keep_default_na=False)


def read_summary(out):
    return read_rows(out / "summary.csv").set_index("image")


@pytest.fixture
def mixed(fluorescence, tmp_path):
    """A folder with a slide of two channels and an image."""
    folder = tmp_path / "in"
    channels = np.stack([np.zeros_like(fluorescence[..., 0]), fluorescence[..., 0]])
    options = {"levels": 2, "axes": "CYX", "metadata": TWO_CHANNELS, "mpp": 0.4}
    write_pyramid(folder / "b.ome.tif", channels, **options)
    Image.fromarray(fluorescence).save(folder / "a.png")
    return folder


def test_predict_takes_slides_like_images(model, mixed, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(model, out, mixed, "--tile", "500") == 0
    printed = capsys.readouterr().out
    outlines = out / "geojson" / "b.ome.geojson.zip"
    assert f"b.ome: in QuPath, open b.ome.tif and drag {outlines} onto it" in printed
    assert "b.ome: channel 2 of 2 is taken, DAPI" in printed
    assert f"To look at them: python report.py {out}" in printed
    assert report.main([str(out)]) == 0
    assert "report.html: 2 images, " in capsys.readouterr().out
    (out / "report.html").unlink()
    assert sorted(map(Path.as_posix, contents(out))) == FILES.split()
    table, row = read_rows(out / "nuclei.csv"), read_summary(out).loc["b.ome"]
    table = table[table["image"] == "b.ome"]
    assert len(table) == row["nuclei"] > 20
    assert table["id"].tolist() == list(range(1, len(table) + 1))
    rows_um = table["centroid_row_um"].astype(float)
    np.testing.assert_allclose(rows_um, table["centroid_row_px"] * 0.4, atol=0.01)
    assert float(row["mpp"]) == 0.4 and row["modality"] == "fluorescence"
    scale = TRAINED_DIAMETER_PX * 0.4 / NUCLEUS_UM
    assert float(row["scale"]) == pytest.approx(scale, abs=0.001)


def test_a_finished_slide_gets_only_the_formats_that_it_lacks(model, mixed, tmp_path, capsys):
    slide, out = mixed / "b.ome.tif", tmp_path / "out"
    assert run(model, out, mixed, "--tile", "500") == 0
    before, num_nuclei = contents(out), len(read_rows(out / "nuclei.csv"))
    work_folder(out, "b.ome").path.mkdir()  # killed after the last row, before this folder went
    capsys.readouterr()
    assert run(model, out, slide, "--tile", "500") == 0
    assert "Finished already" in capsys.readouterr().out and contents(out) == before
    assert not work_folder(out, "b.ome").path.exists()
    assert run(model, out, slide, "--tile", "700", "--formats", "csv,omezarr,masks") == 0
    assert "is a slide: it is not written as masks" in capsys.readouterr().out
    assert (out / "omezarr" / "b.ome.zarr").is_dir()
    assert (out / "nuclei.csv").read_bytes() == before[Path("nuclei.csv")]
    assert read_summary(out).loc["b.ome", "formats"] == "overlays csv geojson.zip omezarr"
    assert run(model, out, slide, "--overwrite") == 0
    assert len(read_rows(out / "nuclei.csv")) == num_nuclei


def test_the_result_of_a_slide_is_that_of_the_image(model, slide, fluorescence, tmp_path):
    def read_nuclei(out):
        return in_order_of_place(
            read_rows(out / "nuclei.csv").drop(columns=["image", "id", "nearest_id"])
        )

    Image.fromarray(fluorescence).save(tmp_path / "a.png")
    assert run(model, tmp_path / "image", tmp_path / "a.png", "--mpp", "0.4") == 0
    expected = read_nuclei(tmp_path / "image")
    for tile in ("400", "2048"):
        assert run(model, tmp_path / tile, slide, "--no-tissue-mask", "--tile", tile) == 0
        pd.testing.assert_frame_equal(read_nuclei(tmp_path / tile), expected, check_exact=True)


def test_a_damaged_slide_is_named_and_the_others_are_done(
    model, fluorescence, readable, tmp_path, capsys
):
    write_pyramid(tmp_path / "in" / "a.ome.tif", fluorescence, mpp=0.4)
    whole = readable["svs"].read_bytes()
    (tmp_path / "in" / "cut.svs").write_bytes(whole[: len(whole) // 2])
    assert run(model, tmp_path / "out", tmp_path / "in") == 1
    errors = capsys.readouterr().err
    assert "cut.svs" in errors and "1 of 2 images" in errors and "Traceback" not in errors
    assert read_summary(tmp_path / "out").index.tolist() == ["a.ome"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--formats", "masks,labels"], "is a slide, which is written as"),
        (["--tile", "128"], "give --tile"),
    ],
)
def test_options_that_no_slide_can_have_are_refused(
    model, slide, tmp_path, capsys, arguments, message
):
    assert run(model, tmp_path / "out", slide, *arguments) == 1
    assert message in capsys.readouterr().err


def test_a_pixel_size_far_from_that_of_the_file_is_told(model, slide, tmp_path, capsys):
    assert run(model, tmp_path / "out", slide, "--mpp", "4", "--diameter", "20") == 0
    assert "although the file says 0.4" in capsys.readouterr().out


def test_a_channel_that_no_slide_has_is_refused(model, fluorescence, tmp_path, capsys):
    channels = np.stack([fluorescence[..., 0]] * 2)
    options = {"axes": "CYX", "metadata": TWO_CHANNELS, "levels": 1}
    two = write_pyramid(tmp_path / "two.ome.tif", channels, **options)
    assert run(model, tmp_path / "out", two, "--channel", "GFP") == 1
    assert "has no channel GFP" in capsys.readouterr().err


def test_a_slide_and_an_image_of_one_name_are_refused(model, tmp_path, capsys):
    (tmp_path / "twice").mkdir()
    for name in ("x.svs", "x.png"):
        (tmp_path / "twice" / name).write_bytes(b"")
    assert run(model, tmp_path / "out", tmp_path / "twice") == 1
    assert "two --out folders" in capsys.readouterr().err


def test_a_full_disk_ends_in_one_line_and_the_next_run_goes_on(
    model, slide, tmp_path, capsys, monkeypatch
):
    out, arguments = tmp_path / "out", ["--tile", "400", "--no-tissue-mask"]
    save, num_left = np.savez_compressed, 2

    def save_twice(*paths, **arrays):
        nonlocal num_left
        num_left -= 1
        if num_left < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(paths[0]))
        save(*paths, **arrays)

    with monkeypatch.context() as patched:
        patched.setattr("nuclei.slides.tile_nuclei.np.savez_compressed", save_twice)
        assert run(model, out, slide, *arguments) == 1
    assert "the disk is full" in capsys.readouterr().err
    work = work_folder(out, "a.ome").path
    assert len(list(work.glob("tile_*.npz"))) == 2 and not list(work.glob(".tile_*"))
    assert run(model, out, slide, *arguments) == 0
    assert "tiles were finished before" in capsys.readouterr().out


def test_a_second_run_into_one_folder_is_refused(model, fluorescence, tmp_path, capsys):
    Image.fromarray(fluorescence).save(tmp_path / "a.png")
    out = tmp_path / "out"
    with only_run(out):
        assert run(model, out, tmp_path / "a.png") == 1
        assert f"process {os.getpid()}" in capsys.readouterr().err
        assert not (out / "summary.csv").exists()
    assert not list(out.glob("*"))
    out.mkdir(exist_ok=True)
    (out / LOCK).write_text("process 1 on a machine that is off")  # of a run that was killed
    assert run(model, out, tmp_path / "a.png") == 0 and not (out / LOCK).exists()


def test_a_worker_without_setup_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="setup.json.*run again"):
        search_tiles_in_worker(None, None, None, tmp_path, [])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long"), "name"),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), "too little memory"),
    ],
)
def test_a_fault_of_one_slide_costs_no_other(
    model, fluorescence, tmp_path, monkeypatch, capsys, error, message
):
    """The same faults skip an image."""
    for name in ("a", "b"):
        write_pyramid(tmp_path / "in" / f"{name}.ome.tif", fluorescence, mpp=0.4)
    write = FoundOnSlide.write

    def failing(found, *args):
        if found.stem == "a.ome":
            raise error
        return write(found, *args)

    monkeypatch.setattr(FoundOnSlide, "write", failing)
    assert run(model, tmp_path / "out", tmp_path / "in") == 1
    assert message in capsys.readouterr().err
    assert list(read_summary(tmp_path / "out").index) == ["b.ome"]


def test_a_file_of_the_user_in_the_place_of_a_field_costs_no_other_slide(
    model, fluorescence, tmp_path, monkeypatch, capsys
):
    for name in ("a", "b"):
        write_pyramid(tmp_path / "in" / f"{name}.ome.tif", fluorescence, mpp=0.4)
    write = slides.write_fields

    def in_the_way(out, fields, summary):
        if summary["image"] == "a.ome":
            raise Protected("fields/raw/a.png was not written by this program")
        write(out, fields, summary)

    monkeypatch.setattr(slides, "write_fields", in_the_way)
    assert run(model, tmp_path / "out", tmp_path / "in") == 1
    assert "was not written by this program" in capsys.readouterr().err
    assert list(read_summary(tmp_path / "out").index) == ["b.ome"]
