"""predict.py loses nothing of the user, and one bad file does not stop the others."""

import os
import shutil
from pathlib import Path

import pytest
from blob_model import write_blob_model
from disk_tools import short_files
from inference_tools import blobs, read_files, read_rows, run_predict, write_blobs
from PIL import Image

import exports
import nuclei.inference.folder
import report
from nuclei.images.reading import open_image
from nuclei.written import RECORD


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture
def images(tmp_path):
    return write_blobs(tmp_path / "images", 2)


def test_a_file_of_the_user_stays_and_the_other_images_are_done(model, images, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    shutil.copy(images / "image1.png", tmp_path / "masks" / "image0.png")
    before = read_files(tmp_path)
    image = images / "image0.png"
    assert run_predict(model, tmp_path, image) == 1  # nothing can be done
    error = capsys.readouterr().err
    assert "image0.png was not written by this program" in error and error.count("\n") == 1
    assert read_files(tmp_path) == before
    assert run_predict(model, tmp_path, images) == 1
    assert f"place of results (give --out another place, or --overwrite): {tmp_path}" in (
        error := capsys.readouterr().err
    )
    assert error.count("\n") == 1
    after = read_files(tmp_path)
    assert before.items() <= after.items() and Path("masks/image1.png") in after
    assert not any("image0" in path.name for path in after.keys() - before.keys())
    assert [row["image"] for row in read_rows(tmp_path / "summary.csv")] == ["image1"]
    assert run_predict(model, tmp_path, images, "--overwrite") == 0
    assert read_files(tmp_path)[Path("masks/image0.png")] != before[Path("masks/image0.png")]


def test_inputs_are_never_replaced(model, images, tmp_path, capsys):
    images.rename(tmp_path / "masks")
    before = read_files(tmp_path)
    for flags in ([], ["--overwrite"]):
        assert run_predict(model, tmp_path, tmp_path / "masks", *flags) == 1
        assert "holds images to predict" in capsys.readouterr().err
        assert read_files(tmp_path) == before


def test_a_corrected_result_stays_and_the_rest_is_done(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, images, "--formats", "masks,geojson") == 0
    corrected = out / "geojson" / "image0.geojson"
    first = corrected.read_bytes()
    corrected.write_text("corrected")
    summary = (out / "summary.csv").read_text().replace("masks geojson", "masks")
    (out / "summary.csv").write_text(summary)
    assert run_predict(model, out, images, "--formats", "masks,geojson") == 1
    assert "summary.csv was changed since" in capsys.readouterr().err
    (out / "summary.csv").unlink()  # as after a run that was killed before the row
    (images / "image2.png").write_bytes((images / "image1.png").read_bytes())
    assert run_predict(model, out, images, "--formats", "masks,geojson") == 1
    error = capsys.readouterr().err
    assert f"left as you changed them (--overwrite replaces them): {corrected}" in error
    assert corrected.read_text() == "corrected"
    assert {row["image"]: row["formats"] for row in read_rows(out / "summary.csv")} == {
        "image0": "masks",
        "image1": "masks geojson",
        "image2": "masks geojson",
    }
    assert run_predict(model, out, images, "--formats", "masks,geojson", "--overwrite") == 0
    assert corrected.read_bytes() == first


def test_a_table_of_the_user_stays(model, images, tmp_path, capsys):
    for name in ("nuclei.csv", "summary.csv"):
        out = tmp_path / name
        out.mkdir()
        text = "image,my_grade,made_by,formats\na,3,me,csv\n"
        (out / name).write_text(text)
        assert run_predict(model, out, images) == 1
        assert f"{name} was not written by this program" in capsys.readouterr().err
        assert (out / name).read_text() == text


def test_a_file_that_cannot_be_read_is_skipped(model, images, tmp_path, monkeypatch, capsys):
    for name in ("vanished", "forbidden", "zzz"):
        shutil.copy(images / "image0.png", images / f"{name}.png")

    def reading(path, *arguments):
        if Path(path).stem == "vanished":
            Path(path).unlink()
        if Path(path).stem == "forbidden":
            raise PermissionError(13, "Permission denied", str(path))
        return open_image(path, *arguments)

    monkeypatch.setattr(nuclei.inference.folder, "open_image", reading)
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 1
    error = capsys.readouterr().err
    assert "forbidden.png cannot be read (Permission denied)" in error
    assert "vanished.png does not exist" in error
    assert [row["image"] for row in read_rows(out / "summary.csv")] == ["image0", "image1", "zzz"]


def test_names_of_any_length_and_bytes_are_predicted_or_skipped(model, images, tmp_path, capsys):
    longest = "x" * 247
    try:
        os.rename(images / "image0.png", images / f"{longest}.png")
        raw = os.fsencode(images) + b"/\xff\xe4.png"
        with open(raw, "wb") as file:
            Image.fromarray(blobs()[0]).save(file, "PNG")
    except OSError:
        pytest.skip("this disk does not take such names")
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    stems = {row["image"] for row in read_rows(out / "summary.csv")}
    assert stems == {longest, "image1", "ÿä"}
    assert run_predict(model, tmp_path / "one", os.fsdecode(raw)) == 0  # named by itself
    capsys.readouterr()
    out = tmp_path / "zip"
    assert run_predict(model, out, images, "--formats", "geojson.zip") == 1  # a longer suffix
    assert "its name is too long" in capsys.readouterr().err
    assert {row["image"] for row in read_rows(out / "summary.csv")} == {"image1", "ÿä"}
    assert sorted(os.listdir(out)) == ["geojson", "summary.csv", RECORD]


def test_a_full_disk_ends_in_one_line_and_the_same_command_goes_on(model, images, tmp_path, capsys):
    for limit in (100, 3000):  # bytes of a file: of a mask, of a table that grows
        out = tmp_path / str(limit)
        with short_files(limit):
            assert run_predict(model, out, images) == 1
        error = capsys.readouterr().err
        assert f"predict.py: {out}" in error and "cannot be written" in error
        assert error.count("\n") == 1
        assert not [path for path in out.rglob("*") if path.name.startswith(".")]
        assert run_predict(model, out, images) == 0
    assert (tmp_path / "100" / "nuclei.csv").read_bytes() == (
        tmp_path / "3000" / "nuclei.csv"
    ).read_bytes()


def test_a_folder_that_cannot_be_written_to_is_told_before_any_work(
    model, images, tmp_path, capsys
):
    assert run_predict(model, images / "image0.png", images) == 1
    output = capsys.readouterr()
    assert "image0.png is a file; results need a folder" in output.err
    assert output.err.count("\n") == 1 and not output.out


def test_names_that_a_terminal_or_a_spreadsheet_would_obey_are_harmless(model, tmp_path, capsys):
    images = write_blobs(tmp_path / "images", 1)
    names = ["=1+1.png", "-2+3.png", "line\nbreak\x1b[2J.png", "+bad\n.png"]
    try:
        for name in names[:3]:
            shutil.copy(images / "image0.png", images / name)
        (images / names[3]).write_text("no picture")
    except OSError:
        pytest.skip("this disk does not take such names")
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 1
    output = capsys.readouterr()
    assert "\x1b" not in output.err + output.out and "+bad␊.png is no image" in output.err
    text = (out / "summary.csv").read_text(encoding="utf-8") + (out / "nuclei.csv").read_text()
    assert not [line for line in text.splitlines() if line[:1] in "=+-@"]
    expected = ["'-2+3", "'=1+1", "image0", "line␊break␛[2J"]
    assert sorted(row["image"] for row in read_rows(out / "summary.csv")) == expected
    (images / names[3]).unlink()
    assert run_predict(model, out, images) == 0 and "Nothing to do" in capsys.readouterr().out
    assert exports.main([str(out), "--formats", "geojson,csv"]) == 0
    assert (out / "csv" / "=1+1.csv").is_file()
    assert report.main([str(out)]) == 0
    assert "'=1+1" not in (out / "report.html").read_text(encoding="utf-8")


def test_files_with_names_of_old_bookkeeping_and_folders_like_it_stay(model, images, tmp_path):
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    (out / ".image0.work").mkdir()
    (out / ".image0.work" / "notes.txt").write_text("mine")
    (out / ".lock").write_text("mine")
    assert run_predict(model, out, images) == 0
    assert (out / ".image0.work" / "notes.txt").read_text() == "mine"
    assert (out / ".lock").read_text() == "mine"


def test_entries_named_like_images_that_are_no_files_are_named(model, images, tmp_path, capsys):
    (images / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (images / "folder.png").mkdir()
    assert run_predict(model, tmp_path / "out", images) == 0
    text = "".join(capsys.readouterr())
    assert "2 entries are named like images and are no files" in text
    assert "folder.png, gone.png" in text


def test_a_folder_in_the_place_of_a_result_stops_no_other(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    (out / "geojson" / "image0.geojson").mkdir(parents=True)
    capsys.readouterr()
    assert exports.main([str(out), "--overwrite"]) == 1
    assert "image0.geojson is a folder where a file should go" in capsys.readouterr().err
    assert (out / "geojson" / "image1.geojson").is_file()


@pytest.mark.parametrize("name", ["nuclei.csv", "../images/image0.png", "page.pdf", ".bashrc"])
def test_a_report_has_the_name_of_a_page(model, images, tmp_path, name):
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    before = read_files(tmp_path)
    for flags in ([], ["--overwrite"]):
        assert report.main([str(out), "--out", str(out / name), *flags]) == 1
    assert read_files(tmp_path) == before


def test_another_image_of_the_same_stem_is_not_taken_for_finished(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 0
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(images / "image0.png", other / "image0.png")
    assert run_predict(model, out, other) == 0  # a copy is the same image
    shutil.copy(images / "image1.png", other / "image0.png")
    capsys.readouterr()
    assert run_predict(model, out, other) == 1
    assert "holds results of other images named image0" in capsys.readouterr().err
    with Image.open(images / "image1.png") as image:
        image.save(images / "image0.tif")
    (images / "image0.png").unlink()
    assert run_predict(model, out, images) == 1
    assert "holds results of other images named image0" in capsys.readouterr().err
    assert run_predict(model, out, images, "--overwrite") == 0


def test_images_that_moved_with_their_results_are_finished(model, images, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    images.rename(tmp_path / "a" / "images")
    assert run_predict(model, tmp_path / "a" / "out", tmp_path / "a" / "images") == 0
    (tmp_path / "a").rename(tmp_path / "b")
    capsys.readouterr()
    assert run_predict(model, tmp_path / "b" / "out", tmp_path / "b" / "images") == 0
    assert "Nothing to do" in capsys.readouterr().out
    (tmp_path / "b" / "images").rename(tmp_path / "elsewhere")
    assert run_predict(model, tmp_path / "b" / "out", tmp_path / "elsewhere") == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_a_backup_of_hard_links_stays_as_it_was(model, images, tmp_path):
    out, backup = tmp_path / "out", tmp_path / "backup"
    assert run_predict(model, out, images / "image0.png") == 0
    shutil.copytree(out, backup, copy_function=os.link)
    before = read_files(backup)
    assert run_predict(model, out, images) == 0
    assert len(read_rows(out / "summary.csv")) == 2 and read_files(backup) == before


def test_a_file_in_the_place_of_a_folder_of_results_is_named(model, images, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "masks").write_text("mine")
    assert run_predict(model, tmp_path / "out", images) == 1
    error = capsys.readouterr().err
    assert "masks is no folder, as results need it" in error and error.count("\n") == 1
    assert (tmp_path / "out" / "masks").read_text() == "mine"


def test_a_report_shows_pictures_of_odd_names_and_long_cells_stop_nothing(
    model, images, tmp_path, capsys
):
    out = tmp_path / "out"
    (images / "image0.png").rename(images / "new\nline.png")
    assert run_predict(model, out, images) == 0
    capsys.readouterr()
    assert report.main([str(out)]) == 0
    assert "without a picture" not in capsys.readouterr().err
    table = out / "summary.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("image1.png", "x" * 5000))
    assert report.main([str(out), "--overwrite"]) == 0
    assert "1 image shown without a picture" in capsys.readouterr().err
