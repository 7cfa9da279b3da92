"""A folder of predictions is read again, whatever its images are called."""

import json

import numpy as np
import pytest
from formats_tools import odd_shapes, run
from images_tools import save
from PIL import Image
from results_tools import write_predictions
from synthetic import draw

from nuclei.formats.predictions import load_nuclei, open_predictions
from nuclei.inference.find import Found

NAMES = ("NA", "null", "nan", "None", "007", "1e5", "True", "Größe ü", "a,b", "-x", "plain")


def test_a_name_that_means_missing_elsewhere_is_a_name(tmp_path):
    image, labels = draw("fluorescence", 60, 70, num_nuclei=4, diameter=14, seed=2)
    maps = np.stack([np.where(labels > 0, 0.9, 0.1)] * 2, axis=-1).astype(np.float32)
    for name in NAMES:
        found = Found(image, (0.0, 255.0), labels, maps, 1.0)
        write_predictions(tmp_path, found, name, formats=("labels", "csv"))
    folder = open_predictions(tmp_path)
    assert set(folder.tables) == set(folder.labels) == set(NAMES)
    for name in NAMES:
        table = load_nuclei(folder, name).table
        assert len(table) == labels.max() and set(table["image"]) == {name}
        # No stains in fluorescence: empty cells stay missing numbers.
        assert table["area_px"].dtype.kind in "if" and table["haematoxylin_od"].isna().all()
    assert run(tmp_path, "--formats", "csv,coco", "--out", tmp_path / "other") == 0
    assert len(list((tmp_path / "other" / "coco").iterdir())) == len(NAMES)


@pytest.mark.parametrize("name", ["komisch ü.tif", "a.b.bmp", "c.PNG", "d.ome.tiff"])
def test_without_a_table_the_file_that_is_there_is_named(tmp_path, name):
    save(tmp_path / name, np.pad(np.full((8, 9), 7, np.uint8), 5))
    folder = open_predictions(tmp_path)
    (stem,) = folder.labels
    assert load_nuclei(folder, stem).file_name == name
    assert run(tmp_path, "--formats", "coco,omezarr", "--out", tmp_path / "other") == 0
    coco = json.loads((tmp_path / "other" / "coco" / f"{stem}.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in coco["images"]] == [name]
    attributes = next((tmp_path / "other" / "omezarr").rglob(".zattrs")).read_text(encoding="utf-8")
    assert name in json.dumps(json.loads(attributes), ensure_ascii=False)


def test_a_folder_without_labels_says_what_to_do(tmp_path, capsys):
    (tmp_path / "summary.csv").write_text("image\na\n")
    assert run(tmp_path, "--formats", "geojson") == 1
    assert "predict the images again with --formats labels" in capsys.readouterr().err
    (tmp_path / "fields").mkdir()  # of a slide
    with pytest.raises(FileNotFoundError, match="for a slide give predict.py the --formats"):
        open_predictions(tmp_path)


def write_grey_images(folder):
    """Grey images of each kind, of 8 and 16 bits; returns their number."""
    for kind in ("tissue", "fluorescence"):
        image, _ = draw(kind, 90, 120, num_nuclei=9, diameter=18, seed=5)
        grey = image.mean(axis=2)
        Image.fromarray(grey.astype(np.uint8)).save(folder / f"{kind}.png")
        fine = (grey * 257 + np.random.default_rng(0).integers(0, 257, grey.shape)) * 0.99
        Image.fromarray(fine.astype(np.uint16)).save(folder / f"{kind}_16.png")
    return 4


def test_grey_images_are_no_label_images(tmp_path, capsys):
    count = write_grey_images(tmp_path)
    assert run(tmp_path, "--formats", "csv", "--out", tmp_path / "out") == 1
    errors = capsys.readouterr().err
    assert errors.count("grey levels of an image") == count and "python predict.py" in errors
    assert not list((tmp_path / "out").glob("csv/*"))


def test_label_images_of_any_kind_are_no_grey_images(tmp_path):
    """Touching, in parts, with holes, of single pixels, scattered, and nearly nothing else."""
    crowded = draw("tissue", 120, 150, num_nuclei=30, diameter=20, seed=3, touching=0.9)[1]
    dots = np.zeros((60, 60), np.int32)
    dots[::6, ::6] = np.arange(1, 101).reshape(10, 10)
    stray = np.where(crowded == 1, 1, 0)
    stray[0, 0] = 2
    shapes = {"odd": odd_shapes(), "crowded": crowded, "dots": dots, "stray": stray}
    shapes |= {
        "large_ids": dots * 600,
        "full": np.kron(np.arange(1, 101).reshape(10, 10), np.ones((7, 7), int)),
    }
    shapes |= {"empty": np.zeros((9, 9), int), "classes": (crowded + 2) % 3}
    for stem, labels in shapes.items():
        Image.fromarray(labels.astype(np.uint16)).save(tmp_path / f"{stem}.png")
    assert run(tmp_path, "--formats", "csv", "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("csv/*"))) == len(shapes)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("summary.csv", "file\na.png\n", "no column 'image'"),
        ("summary.csv", "image\na\n", "no column 'file'"),
        ("summary.csv", "image,file,mpp\na,a.png,wide\n", "wide"),
        ("summary.csv", "image,file,mpp\na,a.png,-1\n", "-1 µm per pixel"),
        ("summary.csv", "image,file\n\xff,a.png\n", "codec"),
        ("summary.csv", "", "No columns"),
        ("nuclei.csv", "id\n1\n", "no column 'image'"),
        ("nuclei.csv", "image\na\n", "no column 'id'"),
        ("nuclei.csv", 'image,id\n"a,1\n', "EOF"),
        ("nuclei.csv", "image,id,area_px\na,1,19\x18\n", "19"),
        ("nuclei.csv", "image,id,perimeter_um\na,1,x\n", "'x'"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, capsys, name, text, fault):
    image, labels = draw("fluorescence", 60, 70, num_nuclei=4, diameter=14, seed=2)
    maps = np.full((*labels.shape, 1), 0.9, np.float32)
    found = Found(image, (0.0, 255.0), labels, maps, 1.0)
    write_predictions(tmp_path, found, "a", formats=("labels", "csv"))
    (tmp_path / name).write_bytes(text.encode("latin-1" if "\xff" in text else "utf-8"))
    assert run(tmp_path, "--formats", "geojson") == 1
    error = capsys.readouterr().err
    assert f"{name} is damaged, or no table of predict.py" in error and error.count("\n") == 1
    assert fault in error and "predict the images again" in error
