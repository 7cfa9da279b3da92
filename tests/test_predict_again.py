"""predict.py again: it continues where it stopped, and adds what is missing."""

from pathlib import Path

import pytest
import tifffile
from blob_model import write_blob_model
from inference_tools import add_and_die, read_files, read_rows, run_predict, write_blobs

from nuclei.files import append
from nuclei.images.writing import write_png
from nuclei.progress import Progress
from nuclei.results.tables import read_table, write_table
from nuclei.written import RECORD, recording


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture
def images(tmp_path):
    return write_blobs(tmp_path / "in", 3)


def test_a_second_run_skips_what_is_finished_and_overwrite_does_it_again(
    model, images, tmp_path, capsys
):
    out = tmp_path / "out"
    run_predict(model, out, images)
    before = read_files(out)
    (out / "masks" / "image1.png").write_bytes(b"touched")
    assert run_predict(model, out, images) == 0
    assert "Finished already: 3 images" in capsys.readouterr().out
    assert (out / "masks" / "image1.png").read_bytes() == b"touched"
    assert run_predict(model, out, images, "--overwrite") == 0
    after = read_files(out)
    for path in before:
        if path.name != "summary.csv":  # it holds seconds
            assert after[path] == before[path]
    assert set(after) == set(before)


def test_an_interrupted_run_goes_on_and_ends_with_the_same_tables(model, images, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_predict(model, whole, images)
    run_predict(model, cut, images / "image0.png")
    # The rows of a second image, cut off before its row in summary.csv.
    add_and_die(cut / "nuclei.csv", "image1" + ",1" * 16 + "\nimage1,2,3")
    assert run_predict(model, cut, images) == 0
    assert (cut / "nuclei.csv").read_bytes() == (whole / "nuclei.csv").read_bytes()
    assert [row["image"] for row in read_rows(cut / "summary.csv")] == [
        "image0",
        "image1",
        "image2",
    ]


def test_results_of_another_model_are_not_mixed_in(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    run_predict(model, out, images)
    before = read_files(out)
    assert run_predict(model, out, images, "--threshold", "0.7") == 1
    assert "another model or other settings" in capsys.readouterr().err
    assert read_files(out) == before
    assert run_predict(model, out, images, "--threshold", "0.7", "--overwrite") == 0
    assert len({row["made_by"] for row in read_rows(out / "summary.csv")}) == 1


def test_other_formats_are_added_without_touching_what_is_there(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, images / "image0.png", "--formats", "masks,geojson") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "geojson",
        "masks",
        "summary.csv",
        RECORD,
    ]
    assert read_rows(out / "summary.csv")[0]["formats"] == "masks geojson"
    (out / "masks" / "image0.png").write_bytes(b"touched")
    (out / "geojson" / "image0.geojson").write_bytes(b"corrected")
    capsys.readouterr()
    assert run_predict(model, out, images, "--formats", "masks,csv,coco") == 0
    output = capsys.readouterr().out
    assert "Finished but for coco, csv: 1 image" in output and "already" not in output
    assert (out / "masks" / "image0.png").read_bytes() == b"touched"
    assert (out / "geojson" / "image0.geojson").read_bytes() == b"corrected"
    summary = {row["image"]: row["formats"] for row in read_rows(out / "summary.csv")}
    assert summary == {
        "image0": "masks geojson csv coco",
        "image1": "masks csv coco",
        "image2": "masks csv coco",
    }
    assert {row["image"] for row in read_rows(out / "nuclei.csv")} == set(summary)
    before = read_files(out)
    assert run_predict(model, out, images, "--formats", "coco,masks") == 0
    assert "Finished already: 3 images" in capsys.readouterr().out and read_files(out) == before
    # Done again, an image renews all that it had, and so does its table.
    assert run_predict(model, out, images, "--formats", "masks", "--overwrite") == 0
    assert (
        (out / "geojson" / "image0.geojson").read_bytes().startswith(b'{"type":"FeatureCollection"')
    )
    assert (out / "masks" / "image0.png").read_bytes() != b"touched"
    assert (out / "nuclei.csv").read_bytes() == before[Path("nuclei.csv")]


def test_formats_that_cannot_be_written_now_cost_nothing(
    model, images, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    assert run_predict(model, out, images, "--formats", "masks,imagej") == 0
    table = out / "summary.csv"
    table.write_text(table.read_text().replace("masks imagej", "masks of_a_later_version imagej"))
    before = read_files(out)
    with monkeypatch.context() as patch:  # the package has gone since
        patch.setattr("nuclei.machine.is_installed", lambda name: name != "roifile")
        assert run_predict(model, out, images, "--formats", "masks", "--overwrite") == 1
        assert "pip install roifile" in capsys.readouterr().err and read_files(out) == before
    assert run_predict(model, out, images, "--formats", "masks", "--overwrite") == 0
    assert {row["formats"] for row in read_rows(table)} == {"masks imagej"}


def test_a_table_half_added_is_not_doubled(model, images, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_predict(model, whole, images / "image0.png", "--formats", "masks,csv")
    run_predict(model, cut, images / "image0.png", "--formats", "masks")
    # Stopped between the rows of nuclei.csv and the row of summary.csv that says so.
    with recording(cut):
        append(cut / "nuclei.csv", (whole / "nuclei.csv").read_bytes())
    assert run_predict(model, cut, images / "image0.png", "--formats", "masks,csv") == 0
    assert (cut / "nuclei.csv").read_bytes() == (whole / "nuclei.csv").read_bytes()


def test_tables_with_other_columns_are_continued_by_name(model, images, tmp_path):
    out = tmp_path / "out"
    run_predict(model, out, images / "image0.png")
    table = read_table(out / "nuclei.csv").drop(columns=["solidity", "nearest_id"])
    with recording(out):
        write_table(out / "nuclei.csv", table)
    assert run_predict(model, out, images) == 0
    table = read_rows(out / "nuclei.csv")
    assert {row["solidity"] == "" for row in table if row["image"] == "image0"} == {True}
    assert all(
        float(row["solidity"]) > 0 and int(row["area_px"]) > 0
        for row in table
        if row["image"] == "image1"
    )
    assert [row["formats"] for row in read_rows(out / "summary.csv")] == [
        "masks labels overlays csv"
    ] * 3


def test_pixel_size_gives_microns_and_is_not_mixed(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, images, "--mpp", "0.5", "--formats", "csv,ometiff") == 0
    for row in read_rows(out / "nuclei.csv"):
        assert float(row["area_um2"]) == pytest.approx(int(row["area_px"]) / 4)
    with tifffile.TiffFile(out / "ometiff" / "image0.ome.tif") as tiff:
        assert 'PhysicalSizeX="0.5"' in tiff.ome_metadata
    assert run_predict(model, out, images) == 1
    assert "other settings" in capsys.readouterr().err


def test_a_full_disk_ends_the_run_and_leaves_whole_images_only(
    model, images, tmp_path, capsys, monkeypatch
):
    write = write_png

    def full(path, array):
        if path.parent.name == "labels" and path.stem == "image1":
            raise OSError(28, "No space left on device", str(path))
        write(path, array)

    monkeypatch.setattr("nuclei.images.writing.write_png", full)
    assert run_predict(model, tmp_path / "out", images) == 1
    assert "disk is full" in capsys.readouterr().err
    assert [row["image"] for row in read_rows(tmp_path / "out" / "summary.csv")] == ["image0"]
    monkeypatch.setattr("nuclei.images.writing.write_png", write)
    assert run_predict(model, tmp_path / "out", images) == 0
    run_predict(model, tmp_path / "whole", images)
    assert (tmp_path / "out" / "nuclei.csv").read_bytes() == (
        tmp_path / "whole" / "nuclei.csv"
    ).read_bytes()


def test_ctrl_c_between_images_leaves_whole_images_only(model, images, tmp_path, monkeypatch):
    class Interrupted(Progress):
        def add(self, *arguments, **options):
            super().add(*arguments, **options)
            if self.done == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr("nuclei.inference.folder.Progress", Interrupted)
    assert run_predict(model, tmp_path / "out", images) == 130
    assert [row["image"] for row in read_rows(tmp_path / "out" / "summary.csv")] == [
        "image0",
        "image1",
    ]
    monkeypatch.undo()
    assert run_predict(model, tmp_path / "out", images) == 0
    run_predict(model, tmp_path / "whole", images)
    assert (tmp_path / "out" / "nuclei.csv").read_bytes() == (
        tmp_path / "whole" / "nuclei.csv"
    ).read_bytes()
