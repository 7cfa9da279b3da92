"""Inputs become stems and formats, and what earlier runs have finished is left out."""

import os

import pytest

from nuclei.inference.find import Options
from nuclei.results.image import DEFAULT_FORMATS
from nuclei.slides.formats import is_slide, open_slide
from nuclei.slides.found import SLIDE_FORMATS_DEFAULT
from nuclei.slides.plan import Plan, choose_formats, collect, describe_left_out, formats_for
from nuclei.written import Record


@pytest.fixture
def folder(tmp_path):
    """A folder with an image, two slides and a file of another kind; nothing is in them."""
    for name in ("a.png", "b.svs", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "c.zarr").mkdir()
    return tmp_path


def test_files_and_folders_are_collected_by_stem(folder):
    expected = {"b": folder / "b.svs", "c": folder / "c.zarr", "a": folder / "a.png"}
    assert collect([folder]) == expected
    assert list(collect([folder / "a.png", folder])) == ["a", "b", "c"]  # twice is once
    assert collect([folder / "c.zarr"]) == {"c": folder / "c.zarr"}


def test_what_cannot_be_collected_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        collect([folder / "gone"])
    with pytest.raises(ValueError, match="notes.txt is no image by its name"):
        collect([folder / "notes.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        collect([tmp_path / "empty"])
    (tmp_path / "capital").mkdir()
    (tmp_path / "capital" / "A.png").write_bytes(b"")
    with pytest.raises(ValueError, match="would both become A.png"):
        collect([folder / "a.png", tmp_path / "capital"])
    (folder / "a.tif").write_bytes(b"")
    with pytest.raises(ValueError, match="would both become a.png"):
        collect([folder / "a.png", folder / "a.tif"])


def test_what_is_left_out_of_a_folder_is_named(folder):
    assert describe_left_out([folder / "a.png", folder / "c.zarr"]) == []
    for name in ("cell.webp", ".hidden", "run/b.png", "empty/notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    others, nested = describe_left_out([folder])
    assert "2 files of other kinds are left out: cell.webp, notes.txt" in others
    assert "images in its folders are left out: run" in nested


def test_images_and_slides_have_formats_of_their_own(folder, capsys):
    files = collect([folder])
    formats = choose_formats(files, {"b", "c"}, None)
    assert formats["a"] == list(DEFAULT_FORMATS)
    assert formats["b"] == formats["c"] == list(SLIDE_FORMATS_DEFAULT)
    assert formats_for("b.svs", True, ["masks", "overlays"]) == ["overlays"]
    assert "is not written as masks" in capsys.readouterr().out
    with pytest.raises(ValueError, match="is a slide, which is written as"):
        formats_for("b.svs", True, ["masks"])


def test_a_plan_knows_what_is_left(folder, capsys):
    files = {"a": folder / "a.png"}
    plan = Plan(folder / "out", folder / "m.h5", Options(), "m", files, set(), {"a": ["masks"]})
    jobs, staying = plan.jobs_left(Record(plan.out))
    assert [(job.stem, job.formats) for job in jobs] == [("a", ("masks",))] and not any(staying)
    assert capsys.readouterr().out == ""


def test_pipes_and_devices_are_named_and_never_waited_for(folder):
    for name in ("p.svs", "p.czi", "p.tif"):
        os.mkfifo(folder / name)
        assert not is_slide(folder / name)
        with pytest.raises(ValueError, match=f"{name} is a pipe or a device; expected an image"):
            collect([folder / name])
        with pytest.raises(FileNotFoundError, match=f"{name} is no file"):
            open_slide(folder / name)
    (folder / "zero.ndpi").symlink_to("/dev/zero")
    assert list(collect([folder])) == ["b", "c", "a"]
    odd, _ = describe_left_out([folder])
    assert "4 entries are named like images and are no files" in odd


def test_an_image_that_became_a_slide_renews_what_slides_have(folder, tmp_path):
    plan = Plan(tmp_path, None, Options(), "", {"b": folder / "b.svs"}, {"b"}, {"b": []})
    written = [("b", ["masks", "csv", "geojson", "unknown"])]
    assert plan.possible_formats(written) == {"b": ["csv", "geojson"]}
    of_an_image = plan._replace(slides=set()).possible_formats(written)
    assert of_an_image == {"b": ["masks", "csv", "geojson"]}
