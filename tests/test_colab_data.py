"""google_colab.py reads masks of nuclei, refuses others, and reads each picture once."""

import cv2
import numpy as np
import pytest
from images_tools import discs
from training_tools import write_data

import google_colab


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def test_masks_are_read_as_ids_colours_or_pieces(tmp_path):
    image = np.zeros((40, 50, 3), np.uint8)
    image[5:9, 5:9, 2] = 200  # red, in the order of OpenCV
    write(tmp_path / "image.png", image)
    ids = np.zeros((40, 50), np.uint16)
    ids[5:15, 5:15], ids[15:25, 5:15], ids[5:15, 30:40] = 3, 700, 9  # the first two touch
    colours = np.zeros((40, 50, 3), np.uint8)
    for value, colour in ((3, (9, 0, 0)), (700, (0, 9, 0)), (9, (9, 9, 0))):
        colours[ids == value] = colour
    for name, mask, form, number in (
        ("ids.png", ids, "ids", 3),
        ("ids.tif", ids, "ids", 3),
        ("colours.png", colours, "ids", 3),
        ("mask.png", (ids > 0).astype(np.uint8) * 255, "binary", 2),
        ("mask.jpg", (ids > 0).astype(np.uint8) * 255, "binary", 2),
        ("empty.png", ids * 0, "binary", 0),
    ):
        write(tmp_path / name, mask)
        sample = google_colab.read_sample(tmp_path / "image.png", tmp_path / name)
        assert (sample.form, sample.labels.max()) == (form, number), name
        if name != "mask.jpg":
            np.testing.assert_array_equal(sample.labels > 0, ids * (number > 0) > 0)
    assert sample.image[6, 6].tolist() == [255, 0, 0] and sample.scale == 1


def soft(labels):
    return cv2.GaussianBlur((labels > 0).astype(np.uint8) * 255, (0, 0), 1.5)


def with_edges(labels):
    inner = cv2.erode((labels > 0).astype(np.uint8), np.ones((3, 3)))
    return (labels > 0).astype(np.uint8) + inner


def soft_colours(labels):
    colours = np.random.default_rng(3).integers(60, 256, (labels.max() + 1, 3)).astype(np.uint8)
    colours[0] = 0
    return cv2.GaussianBlur(colours[labels], (0, 0), 1)


def classes(labels):
    return (labels % 3 + (labels > 0)).astype(np.uint8)


@pytest.mark.parametrize("damage", [soft, with_edges, soft_colours, classes])
def test_a_mask_whose_numbers_are_no_nuclei_is_named(tmp_path, damage):
    labels = discs(128, 128, count=16)
    write(tmp_path / "a.png", np.zeros((128, 128), np.uint8))
    write(tmp_path / "m.png", damage(labels))
    with pytest.raises(SystemExit, match="m.png has no ids of nuclei .*; save it as binary"):
        google_colab.read_sample(tmp_path / "a.png", tmp_path / "m.png")


@pytest.mark.parametrize("kind", ["specks", "pieces", "cut", "touching", "small", "tiny"])
def test_ids_with_faults_are_still_nuclei(tmp_path, kind):
    labels = discs(128, 128, count=16).astype(np.uint16)
    if kind == "specks":  # as many as can be without being the most
        labels[0, : 2 * labels.max() : 2] = labels.max() + 1 + np.arange(labels.max())
    elif kind == "pieces":
        labels[0, 1:13:2] = np.arange(1, 7)
    elif kind == "cut":  # by the border of a crop
        labels = np.zeros((128, 128), np.uint16)
        labels[0, 10:20], labels[0, 30:40], labels[50:60, -1] = 1, 2, 3
    elif kind == "touching":
        labels = np.kron(np.arange(64).reshape(8, 8), np.ones((16, 16))).astype(np.uint16)
    elif kind == "small":
        labels = np.kron(np.arange(1, 65).reshape(8, 8), np.pad(np.ones((5, 5)), 6)[:16, :16])
    else:  # spindles of 2 x 8 px
        labels = np.kron(np.arange(1, 65).reshape(8, 8), np.pad(np.ones((2, 8)), ((7, 7), (4, 4))))
    write(tmp_path / "a.png", np.zeros((128, 128), np.uint8))
    write(tmp_path / "m.png", labels.astype(np.uint16))
    sample = google_colab.read_sample(tmp_path / "a.png", tmp_path / "m.png")
    assert sample.form == "ids" and sample.labels.max() == len(np.unique(labels)) - 1


def test_files_that_are_no_pictures_are_passed_over_and_two_of_one_name_told(tmp_path, capsys):
    write_data(tmp_path, 3)
    expected = len(google_colab.read_pairs(tmp_path))
    for part in ("raw", "gt"):
        for name in ("desktop.ini", "Thumbs.db", "notes.txt", "._a.png", ".hidden.png"):
            (tmp_path / part / name).write_bytes(b"no picture")
    assert len(google_colab.read_pairs(tmp_path)) == expected
    assert "0 files without a partner" in capsys.readouterr().out.splitlines()[-1]
    for part in ("raw", "gt"):
        path = next((tmp_path / part).glob("*.png"))
        other = path.with_suffix(".TIF")
        other.write_bytes(path.read_bytes())
        with pytest.raises(SystemExit) as stopped:
            google_colab.read_pairs(tmp_path)
        assert all(one.name in str(stopped.value) for one in (path, other))
        assert "have one name; move one of them away" in str(stopped.value)
        other.unlink()
