"""Both layouts of a folder: a set is corrected in place, flat images get a set beside them."""

import numpy as np
import pytest
from app_tools import make_workspace, write_images
from PIL import Image
from slides_tools import write_pyramid, write_svs, write_zarr

from nuclei.app import corrections
from nuclei.app.edits import Refused
from nuclei.app.entry import FAILED
from nuclei.app.files import find_files
from nuclei.datasets.pairs import find_pairs, read_pair
from nuclei.written import recording


@pytest.mark.parametrize("is_set", (False, True))
def test_accepted_images_are_pairs_for_the_training_at_any_time(tmp_path, is_set):
    source = tmp_path / "images" / "raw" if is_set else tmp_path / "images"
    drawn = write_images(source)
    files = find_files(tmp_path / "images")
    assert files.home == (tmp_path / "images" if is_set else tmp_path / "images" / "corrected")
    with recording(files.home):
        workspace = make_workspace(tmp_path / "images", drawn)
        key = next(key for key, it in workspace.entries.items() if it.stem == "b")
        corrections.accept(workspace, key, True)
    pairs = find_pairs(files.home / "raw", files.home / "gt")
    assert set(pairs) == {"b"}
    image, truth = read_pair(*pairs["b"])
    assert np.array_equal(truth.labels > 0, drawn["b"] > 0)
    assert np.array_equal(image[..., 0] > 100, drawn["b"] > 0)


def test_images_are_copied_where_the_disk_has_no_links(tmp_path, monkeypatch):
    write_images(tmp_path / "images")

    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    files = find_files(tmp_path / "images")
    for _ in range(2):
        files.into_set("a")
    copy, original = files.home / "raw" / "a.png", tmp_path / "images" / "a.png"
    assert copy.read_bytes() == original.read_bytes()
    assert [path.name for path in copy.parent.iterdir()] == ["a.png"]


def test_two_images_of_one_stem_are_named(tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "images" / "a.tif").write_bytes(b"")
    with pytest.raises(ValueError, match="several images are called a"):
        find_files(tmp_path / "images")


def test_slides_are_told_from_images_and_have_stems_of_their_own(tmp_path):
    write_images(tmp_path)
    image = np.zeros((200, 300, 3), np.uint8)
    write_pyramid(tmp_path / "slide.tif", image)
    write_svs(tmp_path / "a.svs", image)  # beside a.png
    write_zarr(tmp_path / "z.zarr", image)
    files = find_files(tmp_path)
    assert {stem: path.name for stem, path in files.slides.items()} == {
        "a.svs": "a.svs",
        "slide": "slide.tif",
        "z": "z.zarr",
    }
    assert set(files.images) == {"a", "b"}
    temporary = tmp_path / "temporary.png"
    temporary.write_bytes((tmp_path / "a.png").read_bytes())
    with pytest.raises(ValueError, match="an image of this name already"):  # as many disks say
        files.add("A.PNG", temporary)
    with pytest.raises(ValueError, match="an image of this name already"):
        files.add("slide.png", temporary)
    with pytest.raises(ValueError, match="new.mrxs is a part of a slide: copy all its files"):
        files.add("new.mrxs", temporary)
    with pytest.raises(ValueError, match="new.svs"):
        bad = tmp_path / "temporary.svs"
        bad.write_bytes(b"no slide")
        files.add("new.svs", bad)
    assert files.add("new.svs", write_svs(tmp_path / "temporary.svs", image)) == "new"
    assert files.slides["new"] == tmp_path / "new.svs" and (tmp_path / "new.svs").is_file()
    assert files.add("p.tif", write_pyramid(tmp_path / "temporary.tif", image)) == "p"
    assert files.slides["p"] == tmp_path / "p.tif"


def test_a_damaged_log_is_named_and_the_other_images_open(tmp_path):
    drawn = write_images(tmp_path / "images")
    files = find_files(tmp_path / "images")
    files.log("a").path.parent.mkdir(parents=True)
    files.log("a").path.write_text("nothing\n")
    workspace = make_workspace(tmp_path / "images")
    entries = {it.stem: it for it in workspace.entries.values()}
    assert entries["a"].state == FAILED and "line 1 is damaged" in entries["a"].note
    assert entries["b"].state != FAILED and set(drawn) == set(entries)


def test_a_truth_that_has_vanished_is_said_and_two_of_one_stem_are_refused(tmp_path):
    drawn = write_images(tmp_path / "images")
    home = tmp_path / "images" / "corrected"
    with recording(home):
        workspace = make_workspace(tmp_path / "images", drawn)
        key = next(key for key, it in workspace.entries.items() if it.stem == "a")
        corrections.accept(workspace, key, True)
        (home / "gt" / "a.png").rename(home / "gt" / "b.png")
        entry = make_workspace(tmp_path / "images").entries[key]
        assert entry.state == "predicted" and "no longer has its file" in entry.note
        (home / "gt" / "b.geojson").write_text("{}")
        with pytest.raises(ValueError, match="more than once .b.geojson = b.png"):
            make_workspace(tmp_path / "images")


def test_an_image_that_is_a_link_is_in_the_set_with_its_content(tmp_path):
    folder = tmp_path / "images"
    write_images(tmp_path / "store")
    folder.mkdir()
    (folder / "a.png").symlink_to("../store/a.png")
    find_files(folder).into_set("a")
    place = folder / "corrected" / "raw" / "a.png"
    assert place.read_bytes() == (folder / "a.png").read_bytes() and not place.is_symlink()


def test_another_image_in_the_set_is_never_taken_for_the_corrected_one(tmp_path):
    folder = tmp_path / "images"
    drawn = write_images(folder)
    raw = folder / "corrected" / "raw"
    raw.mkdir(parents=True)
    (raw / "a.png").write_bytes((folder / "b.png").read_bytes())
    (raw / "b.png").symlink_to("nowhere")
    with recording(folder / "corrected"):
        workspace = make_workspace(folder, drawn)
        for key in workspace.entries:
            with pytest.raises(ValueError, match=r"corrected/raw/..png is another image .* move"):
                corrections.accept(workspace, key, True)
    assert not list((folder / "corrected").glob("gt/*.png")) and (raw / "b.png").is_symlink()
    assert (raw / "a.png").read_bytes() == (folder / "b.png").read_bytes()


def test_a_truth_of_the_user_of_another_suffix_is_left_alone(tmp_path):
    drawn = write_images(tmp_path / "raw")
    (tmp_path / "gt").mkdir()
    truth = tmp_path / "gt" / "a.tif"
    Image.fromarray(drawn["a"].astype(np.uint16)).save(truth)
    with recording(tmp_path):
        workspace = make_workspace(tmp_path)
        with pytest.raises(Refused, match=r"gt/a.tif was not written by this program"):
            corrections.accept(workspace, workspace.entry_of("a").key, True)
    assert [path.name for path in (tmp_path / "gt").iterdir()] == ["a.tif"]
    make_workspace(tmp_path)
