"""Every usual form of truth gives the same nuclei; what is destroyed is refused."""

import cv2
import numpy as np
import pytest
import tifffile
from images_tools import EYE, INK, LABELS, discs, is_without_gaps, same_partition, save
from PIL import Image

from nuclei.images.reading import Stored
from nuclei.truth.masks import read_truth


@pytest.mark.parametrize(
    ("name", "array", "form"),
    [
        ("a.png", LABELS > 0, "binary"),
        ("a.png", (LABELS > 0).astype(np.uint8), "binary"),
        ("a.png", (LABELS > 0) * np.uint8(255), "binary"),
        ("a.bmp", (LABELS > 0) * np.uint8(255), "binary"),
        ("a.png", np.dstack([(LABELS > 0) * np.uint8(255)] * 3), "binary"),
        (
            "a.png",
            np.dstack([(LABELS > 0) * np.uint8(255)] * 3 + [np.full(LABELS.shape, 255, np.uint8)]),
            "binary",
        ),
        ("a.tif", (LABELS > 0).astype(np.float32), "binary"),
        ("a.tif", (LABELS > 0).astype(np.uint16) * 65535, "binary"),
        (
            "a.png",
            np.where(LABELS > 0, [[[255]], [[0]], [[0]]], 0).astype(np.uint8).transpose(1, 2, 0),
            "binary",
        ),
        ("a.png", LABELS.astype(np.uint8), "instances"),
        ("a.png", np.dstack([LABELS.astype(np.uint8)] * 3), "instances"),
        ("a.png", LABELS.astype(np.uint16), "instances"),
        ("a.png", EYE[LABELS].astype(np.uint16), "instances"),
        ("a.tif", EYE[LABELS].astype(np.int32), "instances"),
        ("a.tif", EYE[LABELS].astype(np.uint32) * 14_000_000, "instances"),
        ("a.tif", EYE[LABELS].astype(np.float32), "instances"),
        ("a.tif", EYE[LABELS].astype(np.float64) * 1e7, "instances"),
        ("a.tif", (EYE[LABELS] / 300).astype(np.float32), "instances"),
        ("a.tif", (LABELS > 0).astype(np.float32) / 2, "binary"),
        ("a.png", INK[LABELS], "instance colours"),
        (
            "a.png",
            np.where(LABELS[..., None] > 0, INK[LABELS], 255).astype(np.uint8),
            "instance colours",
        ),
        ("a.tif", INK[LABELS].astype(np.uint16) * 250, "instance colours"),
    ],
)
def test_every_exact_form_gives_the_same_nuclei(tmp_path, name, array, form):
    options = (
        {"photometric": "rgb" if array.ndim == 3 else "minisblack"} if name.endswith("tif") else {}
    )
    truth = read_truth(save(tmp_path / name, array, **options))
    assert (truth.form, truth.repaired) == (form, 0)
    assert is_without_gaps(truth.labels) and truth.labels.max() == 9
    assert same_partition(truth.labels, LABELS)


def test_ids_keep_their_order_and_the_parts_of_one_id_stay_together(tmp_path):
    labels = np.zeros((40, 40), np.uint16)
    labels[2:9, 2:9], labels[20:30, 2:9], labels[2:9, 20:30], labels[30:38, 30:38] = 70, 5, 900, 5
    truth = read_truth(save(tmp_path / "a.png", labels))
    assert truth.form == "instances" and truth.labels[3, 3] == 2 and truth.labels[3, 22] == 3
    assert truth.labels[25, 5] == truth.labels[35, 35] == 1


def test_palette_truth_is_read_by_its_colours(tmp_path):
    picture = Image.fromarray(LABELS.astype(np.uint8))
    picture.putpalette(INK.ravel().tolist())
    picture.save(tmp_path / "a.png")
    truth = read_truth(tmp_path / "a.png")
    assert truth.form == "instance colours" and same_partition(truth.labels, LABELS)


@pytest.mark.parametrize("palette", [[0] * 768, [255] * 3 + [0] * 765, 256 * [9, 9, 9]])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_ids_behind_a_palette_of_equal_colours_count(tmp_path, palette, suffix):
    picture = Image.fromarray(LABELS.astype(np.uint8))
    picture.putpalette(palette)
    picture.save(tmp_path / f"a{suffix}")
    truth = read_truth(tmp_path / f"a{suffix}")
    assert truth.form == "instances" and same_partition(truth.labels, LABELS)
    assert "palette" in truth.meaning


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("top", [255, 120])
@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_masks_are_thresholded_and_the_repaired_share_reported(tmp_path, quality, top, colour):
    mask = (LABELS > 0) * np.uint8(top)
    path = save(tmp_path / "a.jpg", np.dstack([mask] * 3) if colour else mask, quality=quality)
    stored = np.asarray(Image.open(path).convert("L"))
    truth = read_truth(path)
    assert truth.form == "binary (lossy JPEG)" and truth.labels.max() == 9
    assert np.mean((truth.labels > 0) != (LABELS > 0)) < 0.01
    assert (
        truth.repaired == pytest.approx(np.mean((stored != 0) & (stored != top)), abs=0.02)
        and truth.repaired > 0
    )


def test_soft_edges_in_a_lossless_file_are_thresholded_too(tmp_path):
    soft = cv2.GaussianBlur((LABELS > 0) * np.uint8(255), (0, 0), 0.8)
    save(tmp_path / "a.tif", soft.astype(np.float32) / 255, photometric="minisblack")
    for path in (save(tmp_path / "a.png", soft), tmp_path / "a.tif"):
        truth = read_truth(path)
        assert truth.form == "binary" and same_partition(truth.labels > 0, LABELS > 0)
        assert truth.repaired == pytest.approx(np.mean((soft > 0) & (soft < 255)), abs=0.01)


def test_what_jpeg_or_resampling_destroyed_is_refused(tmp_path):
    labels = discs(200, 200, count=36, radius=12)
    ids = save(tmp_path / "ids.jpg", (labels * 7).astype(np.uint8))
    colours = np.resize(INK[1:], (37, 3))[labels] * (labels > 0).astype(np.uint8)[..., None]
    coloured = save(tmp_path / "colours.jpg", colours)
    blurred = save(
        tmp_path / "blur.png", cv2.GaussianBlur(np.resize(INK, (37, 3))[labels], (0, 0), 2)
    )
    photo = save(
        tmp_path / "photo.png", np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8)
    )
    deep = save(tmp_path / "deep.tif", np.random.default_rng(0).random((90, 90)).astype(np.float32))
    for path in (ids, coloured, blurred, photo, deep):
        with pytest.raises(ValueError, match=rf"{path.name} .* destroy.* ids.*save"):
            read_truth(path)


def test_tiny_nuclei_with_ids_are_no_soft_edges(tmp_path):
    labels = np.zeros((40, 40), np.uint8)
    labels[::4, ::4] = np.arange(1, 101).reshape(10, 10)
    truth = read_truth(save(tmp_path / "a.png", labels))
    assert truth.form == "instances" and truth.labels.max() == 100


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_empty_truth_is_valid_and_full_truth_is_one_nucleus(tmp_path, suffix):
    empty = read_truth(save(tmp_path / f"a{suffix}", np.zeros((20, 30), np.uint8)))
    assert empty.form == "empty" and empty.labels.shape == (20, 30) and not empty.labels.any()
    full = read_truth(save(tmp_path / f"a{suffix}", np.full((20, 30), 255, np.uint8)))
    assert full.form.startswith("binary") and (full.labels == 1).all()
    one = read_truth(save(tmp_path / f"a{suffix}", np.full((1, 1), 255, np.uint8)))
    assert one.labels.shape == (1, 1)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.where(LABELS > 0, LABELS, -1).astype(np.int32), "negative values"),
        (np.where(LABELS > 0, np.nan, 0).astype(np.float32), "holds NaN"),
        (
            np.where(LABELS[..., None] > 0, INK[LABELS] / 255, 0).astype(np.float32),
            "coloured truth of dtype float32",
        ),
    ],
)
def test_truth_that_means_nothing_is_refused(tmp_path, array, message):
    options = {"photometric": "rgb" if array.ndim == 3 else "minisblack"}
    with pytest.raises(ValueError, match=message):
        read_truth(save(tmp_path / "a.tif", array, **options))


@pytest.mark.parametrize("dtype", [bool, np.complex64, np.float16, "U1"])
def test_values_of_any_type_are_understood_or_named(tmp_path, monkeypatch, dtype):
    colours = np.dstack([LABELS > 0] * 3).astype(dtype)
    monkeypatch.setattr("nuclei.truth.masks.read_stored", lambda *_, **__: Stored(colours, False))
    try:
        assert np.array_equal(read_truth(tmp_path / "a.tif").labels > 0, LABELS > 0)
    except ValueError as error:
        assert dtype in (np.complex64, "U1") and str(tmp_path / "a.tif") in str(error)


@pytest.mark.parametrize("values", [np.float64(1e300), np.uint64(2**63 + 5), np.float32(1e30)])
def test_numbers_too_large_for_ids_are_named(tmp_path, values):
    tifffile.imwrite(tmp_path / "a.tif", np.where(LABELS > 0, values, values * 0))
    with pytest.raises(ValueError, match=r"a\.tif holds values up to .*; expected ids of nuclei"):
        read_truth(tmp_path / "a.tif")
