"""Prediction: what it writes for any image, what it skips, what it refuses, and that it goes on where it stopped."""

import contextlib
import csv
import os
import shlex
import threading
import time
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from synthetic import draw

import predict
import report
from nuclei.images.masks import read_truth
from nuclei.inference.folder import show_image_progress
from nuclei.inference.threads import PixelBudget, in_order
from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.model_file import TRAINED_DIAMETER_PX, load_network, save_model
from nuclei.results.pictures import draw_overlay, write_labels, write_png
from nuclei.results.tables import append_table, read_table, rewrite_rows, write_table
from nuclei.slides.folder import NUCLEUS_UM
from unet import HEADS, build_unet


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network whose nucleus map is the image's brightness: it finds bright blobs without any training."""
    network = build_unet(heads=HEADS[:2], width=8, depth=1, stem_stride=1, normalisation="none")
    weights = [np.zeros_like(w) for w in network.get_weights()]
    network.set_weights(weights)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    first, second, last = convolutions[0], convolutions[1], convolutions[-1]
    kernel, bias = first.get_weights()
    kernel[1, 1, :, 0] = 1 / 3
    first.set_weights([kernel, bias])
    kernel, bias = second.get_weights()
    kernel[1, 1, 0, 0] = 1
    second.set_weights([kernel, bias])
    for layer in convolutions[4:-1]:  # the decoder: the skip's first channel follows the 8 upsampled ones
        kernel, bias = layer.get_weights()
        kernel[1, 1, 8 if layer is convolutions[4] else 0, 0] = 1
        layer.set_weights([kernel, bias])
    kernel, bias = last.get_weights()
    kernel[0, 0, 0, :], bias[:] = 30, -10
    last.set_weights([kernel, bias])
    path = tmp_path_factory.mktemp("model") / "model.h5"
    architecture = {"heads": ["nucleus", "distance"], "width": 8, "depth": 1, "stem_stride": 1, "normalisation": "none"}
    save_model(path, network, {"architecture": architecture, "thresholds": {"min_area_px": 15}})
    return path


def blobs(seed=0, size=(60, 80)):
    return draw("fluorescence", *size, num_nuclei=6, diameter=16, seed=seed, touching=0)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(blobs(number)[0]).save(folder / f"image{number}.png")
    return folder


def run(model, out, *inputs):
    return predict.main([*map(str, inputs), "--model", str(model), "--out", str(out)])


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_everything_is_written_at_the_size_of_the_image(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(model, out, images) == 0
    table, summary = rows(out / "nuclei.csv"), rows(out / "summary.csv")
    for number in range(3):
        stem = f"image{number}"
        mask = np.array(Image.open(out / "masks" / f"{stem}.png"))
        labels = cv2.imread(str(out / "labels" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == labels.shape == (60, 80)
        assert set(np.unique(mask)) == {0, 255} and mask.dtype == np.uint8
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(mask > 0, labels > 0)
        assert np.array(Image.open(out / "overlays" / f"{stem}.jpg")).shape == (60, 80, 3)
        mine = [row for row in table if row["image"] == stem]
        assert [int(row["id"]) for row in mine] == list(range(1, labels.max() + 1))
        assert [int(row["area_px"]) for row in mine] == np.bincount(labels.ravel())[1:].tolist()
        assert int(summary[number]["nuclei"]) == len(mine) > 0
        truth = blobs(number)[1]
        counts = count_matches(match(truth, labels), thresholds=(0.4,))
        assert average_precision(counts)[0] > 0.5
        read_truth(out / "labels" / f"{stem}.png")
    last = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(last.removeprefix("To look at them: "))
    assert words[:3] == ["python", "report.py", str(out)]
    assert report.main(words[2:]) == 0 and (out / "report.html").is_file()


def test_a_second_run_skips_what_is_finished_and_overwrite_does_it_again(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    run(model, out, images)
    before = contents(out)
    (out / "masks" / "image1.png").write_bytes(b"touched")
    assert run(model, out, images) == 0
    assert "3 images are finished already" in capsys.readouterr().out
    assert (out / "masks" / "image1.png").read_bytes() == b"touched"
    assert run(model, out, images, "--overwrite") == 0
    after = contents(out)
    for path in before:
        if path.name != "summary.csv":  # it holds seconds
            assert after[path] == before[path]
    assert set(after) == set(before)


def test_an_interrupted_run_goes_on_and_ends_with_the_same_tables(model, images, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(model, whole, images)
    run(model, cut, images / "image0.png")
    with open(cut / "nuclei.csv", "a") as file:  # the rows of a second image, cut off before its row in summary.csv
        file.write("image1" + ",1" * 16 + "\nimage1,2,3")
    assert run(model, cut, images) == 0
    assert (cut / "nuclei.csv").read_bytes() == (whole / "nuclei.csv").read_bytes()
    assert [row["image"] for row in rows(cut / "summary.csv")] == ["image0", "image1", "image2"]


def test_results_of_another_model_are_not_mixed_in(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    run(model, out, images)
    before = contents(out)
    assert run(model, out, images, "--threshold", "0.7") == 1
    assert "another model or other settings" in capsys.readouterr().err
    assert contents(out) == before
    assert run(model, out, images, "--threshold", "0.7", "--overwrite") == 0
    assert len({row["made_by"] for row in rows(out / "summary.csv")}) == 1


def test_thresholds_can_be_given(model, images, tmp_path):
    areas = {}
    for threshold in ("0.2", "0.9"):
        run(model, tmp_path / threshold, images, "--threshold", threshold)
        areas[threshold] = sum(int(row["area_px"]) for row in rows(tmp_path / threshold / "nuclei.csv"))
    assert areas["0.2"] > areas["0.9"]
    run(model, tmp_path / "large", images, "--min-area", "100000")
    assert len((tmp_path / "large" / "nuclei.csv").read_text().splitlines()) == 1  # the header
    with pytest.raises(SystemExit) as stopped:
        predict.main(["--threshold", "7"])
    assert stopped.value.code == 2


def test_small_areas_are_those_of_the_image_whatever_the_zoom(model, tmp_path):
    image = np.zeros((80, 120, 3), np.uint8)
    y, x = np.mgrid[:80, :120]
    image[(y - 40) ** 2 + (x - 30) ** 2 <= 6**2] = image[(y - 40) ** 2 + (x - 90) ** 2 <= 9**2] = 200
    Image.fromarray(image).save(tmp_path / "x.png")
    for diameter in ("12", "24", "40"):
        run(model, tmp_path / diameter, tmp_path / "x.png", "--diameter", diameter, "--min-area", "180")
        assert len(rows(tmp_path / diameter / "nuclei.csv")) == 1


def test_the_scale_is_estimated_or_given_and_written_down(model, tmp_path, capsys):
    for number, diameter in enumerate((8, 24, 70)):
        image = draw("fluorescence", 10 * diameter, 10 * diameter, num_nuclei=10, diameter=diameter, seed=3, touching=0)[0]
        Image.fromarray(image).save(tmp_path / f"x{number}.png")
    assert run(model, tmp_path / "out", *sorted(tmp_path.glob("x*.png"))) == 0
    scales = [float(row["scale"]) for row in rows(tmp_path / "out" / "summary.csv")]
    for scale, diameter in zip(scales, (8, 24, 70), strict=True):
        assert 1 / 1.6 < scale * diameter / 24 < 1.6
    assert run(model, tmp_path / "given", tmp_path / "x0.png", "--diameter", "12") == 0
    assert rows(tmp_path / "given" / "summary.csv")[0]["scale"] == "2.0"
    assert run(model, tmp_path / "mpp", tmp_path / "x0.png", "--mpp", "0.5") == 0
    expected = TRAINED_DIAMETER_PX / (NUCLEUS_UM / 0.5)
    assert float(rows(tmp_path / "mpp" / "summary.csv")[0]["scale"]) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("flags", [("--diameter", "0"), ("--mpp", "-1"), ("--diameter", "nan"), ("--mpp", "nan")])
def test_scales_that_mean_nothing_are_usage_errors(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        predict.main([*flags])
    assert stopped.value.code == 2


def test_test_time_augmentation_gives_the_same_for_a_network_without_preferences(model, images, tmp_path):
    run(model, tmp_path / "plain", images)
    assert run(model, tmp_path / "tta", images, "--tta") == 0
    for number in range(3):
        plain, averaged = (read_truth(tmp_path / name / "labels" / f"image{number}.png").labels for name in ("plain", "tta"))
        assert (plain > 0).sum() == pytest.approx((averaged > 0).sum(), rel=0.02)
    assert rows(tmp_path / "plain" / "summary.csv")[0]["made_by"] != rows(tmp_path / "tta" / "summary.csv")[0]["made_by"]


def test_confidence_and_unlike_images_come_from_the_models_settings(model, images, tmp_path):
    run(model, tmp_path / "without", images)
    assert "confidence" not in rows(tmp_path / "without" / "nuclei.csv")[0]
    assert rows(tmp_path / "without" / "summary.csv")[0]["out_of_distribution"] == ""
    network, settings = load_network(model)
    uncertainties = {row["image"]: float(row["uncertainty"]) for row in rows(tmp_path / "without" / "summary.csv")}
    assert len(set(uncertainties.values())) == 3 and all(0 < uncertainty < 1 for uncertainty in uncertainties.values())
    limit = sorted(uncertainties.values())[1]
    settings |= {"calibration": {"weights": [0.5, 0.0, 0.0, 0.0, 0.3]}, "out_of_distribution": {"uncertainty_above": limit + 1e-4}}
    save_model(tmp_path / "model.h5", network, settings)
    run(tmp_path / "model.h5", tmp_path / "with", images)
    table = rows(tmp_path / "with" / "nuclei.csv")
    assert all(0 < float(row["confidence"]) < 1 for row in table)
    flags = {row["image"]: row["out_of_distribution"] for row in rows(tmp_path / "with" / "summary.csv")}
    assert flags == {image: str(int(uncertainty > limit)) for image, uncertainty in uncertainties.items()}


def test_other_formats_are_added_without_touching_what_is_there(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(model, out, images / "image0.png", "--formats", "masks,geojson") == 0
    assert sorted(path.name for path in out.iterdir()) == ["geojson", "masks", "summary.csv"]
    assert rows(out / "summary.csv")[0]["formats"] == "masks geojson"
    (out / "masks" / "image0.png").write_bytes(b"touched")
    (out / "geojson" / "image0.geojson").write_bytes(b"corrected")
    capsys.readouterr()
    assert run(model, out, images, "--formats", "masks,csv,coco") == 0
    said = capsys.readouterr().out
    assert "1 images are finished but for coco, csv" in said and "finished already" not in said
    assert (out / "masks" / "image0.png").read_bytes() == b"touched"
    assert (out / "geojson" / "image0.geojson").read_bytes() == b"corrected"
    summary = {row["image"]: row["formats"] for row in rows(out / "summary.csv")}
    assert summary == {"image0": "masks geojson csv coco", "image1": "masks csv coco", "image2": "masks csv coco"}
    assert {row["image"] for row in rows(out / "nuclei.csv")} == set(summary)
    before = contents(out)
    assert run(model, out, images, "--formats", "coco,masks") == 0
    assert "3 images are finished already" in capsys.readouterr().out and contents(out) == before
    # Done again, an image renews all that it had, and so does its table.
    assert run(model, out, images, "--formats", "masks", "--overwrite") == 0
    assert (out / "geojson" / "image0.geojson").read_bytes().startswith(b'{"type":"FeatureCollection"')
    assert (out / "masks" / "image0.png").read_bytes() != b"touched"
    assert (out / "nuclei.csv").read_bytes() == before[Path("nuclei.csv")]


def test_a_table_half_added_is_not_doubled(model, images, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(model, whole, images / "image0.png", "--formats", "masks,csv")
    run(model, cut, images / "image0.png", "--formats", "masks")
    # Stopped between the rows of nuclei.csv and the row of summary.csv that says that they are there.
    (cut / "nuclei.csv").write_bytes((whole / "nuclei.csv").read_bytes())
    assert run(model, cut, images / "image0.png", "--formats", "masks,csv") == 0
    assert (cut / "nuclei.csv").read_bytes() == (whole / "nuclei.csv").read_bytes()


def test_tables_of_an_earlier_version_are_continued_by_name(model, images, tmp_path):
    out = tmp_path / "out"
    run(model, out, images / "image0.png")
    for name, gone in (("summary.csv", ["formats"]), ("nuclei.csv", ["solidity", "nearest_id"])):
        table = read_table(out / name).drop(columns=gone)
        write_table(out / name, table)
    assert run(model, out, images) == 0
    table = rows(out / "nuclei.csv")
    assert {row["solidity"] == "" for row in table if row["image"] == "image0"} == {True}
    assert all(float(row["solidity"]) > 0 and int(row["area_px"]) > 0 for row in table if row["image"] == "image1")
    assert [row["formats"] for row in rows(out / "summary.csv")] == ["masks labels overlays csv"] * 3


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
    with pytest.raises(ValueError, match="no table of ours"):
        rewrite_rows(path, lambda row: row)


def test_pixel_size_gives_microns_and_is_not_mixed(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(model, out, images, "--mpp", "0.5", "--formats", "csv,ometiff") == 0
    for row in rows(out / "nuclei.csv"):
        assert float(row["area_um2"]) == pytest.approx(int(row["area_px"]) / 4)
    with tifffile.TiffFile(out / "ometiff" / "image0.ome.tif") as tiff:
        assert 'PhysicalSizeX="0.5"' in tiff.ome_metadata
    assert run(model, out, images) == 1
    assert "other settings" in capsys.readouterr().err


def test_unknown_formats_and_missing_packages_end_before_any_work(model, images, tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit) as stopped:
        run(model, tmp_path / "out", images, "--formats", "masks,bmp")
    assert stopped.value.code == 2
    monkeypatch.setattr(predict.exports, "is_installed", lambda package: package != "roifile")
    assert run(model, tmp_path / "out", images, "--formats", "masks,imagej") == 1
    assert "python -m pip install roifile" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 3), (131, 257)])
def test_any_size(model, tmp_path, size):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).save(tmp_path / "x.png")
    assert run(model, tmp_path / "out", tmp_path / "x.png") == 0
    assert np.array(Image.open(tmp_path / "out" / "masks" / "x.png")).shape == size


def test_tiles_and_batches_change_nothing(model, tmp_path):
    Image.fromarray(blobs(size=(300, 220))[0]).save(tmp_path / "x.png")
    native = ("--diameter", str(TRAINED_DIAMETER_PX))  # an estimated scale looks at small images as a whole
    run(model, tmp_path / "whole", tmp_path / "x.png", *native)
    run(model, tmp_path / "tiled", tmp_path / "x.png", "--tile", "96", "--batch-size", "3", *native)
    assert (tmp_path / "whole" / "labels" / "x.png").read_bytes() == (tmp_path / "tiled" / "labels" / "x.png").read_bytes()


def test_a_tile_without_core_is_refused_before_any_work(model, images, tmp_path, capsys):
    assert run(model, tmp_path / "out", images, "--tile", "8") == 1
    assert "--tile" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_files_that_cannot_be_read_are_named_and_the_others_done(model, images, tmp_path, capsys):
    (images / "broken.png").write_text("no image")
    (images / "zero.tif").write_bytes(b"")
    out = tmp_path / "out"
    assert run(model, out, images) == 1
    error = capsys.readouterr().err
    assert "broken.png" in error and "zero.tif" in error and "2 of 5 images" in error and "Traceback" not in error
    assert len(rows(out / "summary.csv")) == 3
    (images / "broken.png").unlink()
    (images / "zero.tif").unlink()
    assert run(model, out, images) == 0


def test_inputs_that_make_no_sense(model, images, tmp_path, capsys):
    def fails(*inputs, word):
        assert run(model, tmp_path / "out", *inputs) == 1
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1, error

    fails(tmp_path / "nowhere", word="does not exist")
    (tmp_path / "notes.txt").write_text("x")
    fails(tmp_path / "notes.txt", word="no image by its name")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", word="holds no image")
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(blobs()[0]).save(other / "image0.png")
    fails(images, other, word="two --out folders")
    assert run(tmp_path / "none.h5", tmp_path / "out", images) == 1
    assert "none.h5" in capsys.readouterr().err
    assert run(images / "image0.png", tmp_path / "out", images) == 1
    assert "not a model file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_table_of_somebody_elses_is_left_alone(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for text in ("name,size\na,1\n", 'image,made_by\n"a,b\n1,2,3\n'):
        (out / "summary.csv").write_text(text)
        assert run(model, out, images) == 1
        assert "summary.csv is no table of ours" in capsys.readouterr().err
        assert (out / "summary.csv").read_text() == text


@pytest.mark.parametrize("flag", ["--tile", "--batch-size", "--min-area"])
def test_numbers_below_one_are_usage_errors(flag):
    with pytest.raises(SystemExit) as stopped:
        predict.main([flag, "0"])
    assert stopped.value.code == 2


def test_without_any_model_it_says_how_to_get_one(images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert predict.main([str(images)]) == 1
    assert "python train.py" in capsys.readouterr().err


def test_the_users_model_comes_before_the_shipped_one(model, images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Saved_Model").mkdir()
    os.link(model, "Saved_Model/pretrained.h5")
    assert predict.main([str(images)]) == 0
    assert "pretrained.h5" in capsys.readouterr().out
    os.link(model, "Saved_Model/trained_model.h5")
    assert predict.main([str(images), "--overwrite"]) == 0
    assert "trained_model.h5" in capsys.readouterr().out
    assert Path("predictions/summary.csv").exists()


def test_more_nuclei_than_sixteen_bits_hold_become_a_tiff(tmp_path):
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    write_labels(tmp_path, "many", labels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "many.tif"), labels)
    assert not (tmp_path / "many.png").exists()
    write_labels(tmp_path, "many", labels % 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.png"]


def test_overlays_outline_each_nucleus():
    image, labels = blobs()
    overlay = draw_overlay(image, (0.0, 255.0), labels)
    changed = (overlay != predict.normalise(image, (0.0, 255.0)) * 255 // 1).any(-1)
    assert changed[labels > 0].any() and not changed[labels == 0].any()


def test_progress_counts_down(capsys, monkeypatch):
    for done in range(1, 21):
        show_image_progress(done, 20, 0.0, done)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[-1].startswith("20/20 images")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show_image_progress(1, 2, 0.0, 3)
    assert capsys.readouterr().out.startswith("\r1/2 images")


# --- Many images at once --------------------------------------------------------------------------------------------


def test_every_engine_finds_the_same(model, images, tmp_path, capsys):
    for name in ("auto", "keras"):
        assert run(model, tmp_path / name, images, "--engine", name) == 0
    said = capsys.readouterr().out
    assert "with litert" in said or "with openvino" in said
    for number in range(3):
        ours, theirs = (read_truth(tmp_path / name / "labels" / f"image{number}.png").labels for name in ("auto", "keras"))
        assert (ours != theirs).mean() < 0.002
    assert run(model, tmp_path / "auto", images, "--engine", "keras") == 0  # another engine is no other setting
    assert "Nothing to do" in capsys.readouterr().out


def test_work_is_done_side_by_side_and_yielded_in_order():
    together = threading.Barrier(3, timeout=10)

    def work(item):
        if item < 3:
            together.wait()  # broken, and an error, if the first three are not at work together
        time.sleep(0.01 * (3 - item % 3))
        return item

    assert list(in_order(work, range(10), workers=3)) == list(range(10))


def test_work_that_is_stopped_begins_nothing_more():
    begun = []

    def work(item):
        begun.append(item)
        if item == 2:
            raise OSError("disk")
        return item

    with pytest.raises(OSError), contextlib.closing(in_order(work, range(1000), workers=2)) as results:
        for _ in results:
            pass
    assert len(begun) < 20


def test_large_images_wait_until_they_are_alone():
    room, inside, seen = PixelBudget(10), [], []

    def work(size):
        with room.taken(size):
            inside.append(size)
            time.sleep(0.01)
            seen.append(list(inside))
            inside.remove(size)

    list(in_order(work, [4, 6, 5, 99, 3, 3, 3, 3, 10, 1], workers=5))
    assert all(sum(min(size, 10) for size in together) <= 10 for together in seen)
    assert room.free == 10


def test_a_full_disk_ends_the_run_and_leaves_whole_images_only(model, images, tmp_path, capsys, monkeypatch):
    write = write_png

    def full(path, array):
        if path.parent.name == "labels" and path.stem == "image1":
            raise OSError(28, "No space left on device", str(path))
        write(path, array)

    monkeypatch.setattr("nuclei.results.pictures.write_png", full)
    assert run(model, tmp_path / "out", images) == 1
    assert "disk is full" in capsys.readouterr().err
    assert [row["image"] for row in rows(tmp_path / "out" / "summary.csv")] == ["image0"]
    monkeypatch.setattr("nuclei.results.pictures.write_png", write)
    assert run(model, tmp_path / "out", images) == 0
    run(model, tmp_path / "whole", images)
    assert (tmp_path / "out" / "nuclei.csv").read_bytes() == (tmp_path / "whole" / "nuclei.csv").read_bytes()


def test_ctrl_c_between_images_leaves_whole_images_only(model, images, tmp_path, monkeypatch):
    progress = show_image_progress

    def stop(done, *others):
        if done == 2:
            raise KeyboardInterrupt
        progress(done, *others)

    monkeypatch.setattr("nuclei.inference.folder.show_image_progress", stop)
    assert run(model, tmp_path / "out", images) == 130
    assert [row["image"] for row in rows(tmp_path / "out" / "summary.csv")] == ["image0", "image1"]
    monkeypatch.setattr("nuclei.inference.folder.show_image_progress", progress)
    assert run(model, tmp_path / "out", images) == 0
    run(model, tmp_path / "whole", images)
    assert (tmp_path / "out" / "nuclei.csv").read_bytes() == (tmp_path / "whole" / "nuclei.csv").read_bytes()
