"""The data contract: any image and any mask in, one meaning out; and every bad input ends in one clear line."""

import errno
import hashlib
import http.server
import io
import os
import struct
import subprocess
import sys
import threading
import types
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

import import_data
from nuclei.cli import show_progress, user_errors_in_one_line
from nuclei.files import LOCK, lock, only_run, replacing
from nuclei.images.download import RETRIES, download
from nuclei.images.dsb2018 import import_dsb2018
from nuclei.images.intensity import intensity_range, normalise, percentiles
from nuclei.images.labels import merge_masks
from nuclei.images.masks import read_truth
from nuclei.images.modality import modality
from nuclei.images.pairs import find_images, find_pairs, read_pair
from nuclei.images.reading import declared_pixels, read_image, read_stored
from nuclei.images.split import read_split, split_stems

SCRIPT = Path(data.__file__)
REAL_DATA = Path(os.environ.get("DSB2018_DIR", SCRIPT.parent / import_data.PUBLIC_DATA_DIR))  # where --download puts it


def discs(height=96, width=112, count=9, radius=6, seed=0):
    """Labels of separate discs on a jittered grid: (H, W) int32."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    labels, side = np.zeros((height, width), np.int32), int(np.ceil(np.sqrt(count)))
    for index in range(count):
        row = (index // side + 0.5) * height / side + rng.uniform(-3, 3)
        column = (index % side + 0.5) * width / side + rng.uniform(-3, 3)
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = index + 1
    return labels


def fluorescence(labels, dark=8, light=90, seed=0):
    """Grey nuclei on black with noise: (H, W) uint8."""
    noise = np.random.default_rng(seed).normal(0, 1, labels.shape)
    return np.clip(np.where(labels > 0, light, dark) + noise, 0, 255).astype(np.uint8)


def tissue(labels, seed=0):
    """Purple nuclei on pink: (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).normal(0, 4, (*labels.shape, 3))
    colour = np.where(labels[..., None] > 0, [110, 70, 150], [225, 180, 205])
    return np.clip(colour + noise, 0, 255).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array, **options)
    else:
        Image.fromarray(array).save(path, **options)
    return path


def same_partition(one, other):
    """Two label images that divide the pixels alike, whatever the ids."""
    pairs = {*zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and (0, 0) in pairs


def is_without_gaps(labels):
    return labels.dtype == np.int32 and sorted({0, *np.unique(labels)}) == list(range(labels.max() + 1))


def data_set(folder, count=4, form=lambda labels: labels.astype(np.uint16)):
    for index in range(count):
        labels = discs(seed=index)
        save(folder / "raw" / f"image{index}.png", fluorescence(labels))
        save(folder / "gt" / f"image{index}.png", form(labels))
    return folder


# ---- finding and pairing


def test_images_are_found_by_stem_in_order_whatever_their_suffix(tmp_path):
    for name in ("b.TIF", "a.b.png", "c.jpeg", ".hidden.png", "._b.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [(stem, path.name) for stem, path in find_images(tmp_path).items()] == [
        ("a.b", "a.b.png"),
        ("b", "b.TIF"),
        ("c", "c.jpeg"),
    ]


def test_a_missing_empty_or_ambiguous_folder_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; expected a folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no image; expected files ending in .png"):
        find_images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="is a file, not a folder"):
        find_images(tmp_path / "a.png")
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="a.jpg = a.png.*keep one"):
        find_images(tmp_path)


def test_pairs_share_a_stem_and_unpaired_files_are_left_out(tmp_path):
    for name in ("raw/a.jpg", "raw/b.png", "gt/b.tif", "gt/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert find_pairs(tmp_path / "raw", tmp_path / "gt") == {"b": (tmp_path / "raw/b.png", tmp_path / "gt/b.tif")}
    (tmp_path / "gt/b.tif").unlink()
    with pytest.raises(ValueError, match="no pair between .*a.jpg.*c.png.*same name"):
        find_pairs(tmp_path / "raw", tmp_path / "gt")


# ---- reading images

GREY = fluorescence(discs())
COLOUR = tissue(discs())
ALPHA = np.dstack([COLOUR, np.full(GREY.shape, 255, np.uint8)])


@pytest.mark.parametrize(
    ("name", "array", "options", "expected"),
    [
        ("grey.png", GREY, {}, GREY),
        ("grey.bmp", GREY, {}, GREY),
        ("grey.tif", GREY, {"photometric": "minisblack"}, GREY),
        ("inverted.tif", GREY, {"photometric": "miniswhite"}, 255 - GREY),
        ("inverted_bit.tif", GREY > 50, {"photometric": "miniswhite"}, (GREY <= 50) * np.uint8(255)),
        ("deflate.tif", GREY, {"photometric": "minisblack", "compression": "zlib"}, GREY),
        ("rgb.png", COLOUR, {}, COLOUR),
        ("rgb.bmp", COLOUR, {}, COLOUR),
        ("rgb.tif", COLOUR, {"photometric": "rgb"}, COLOUR),
        ("planar.tif", np.moveaxis(COLOUR, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, COLOUR),
        ("rgba.tiff", ALPHA, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, COLOUR),
        ("pages.tif", np.moveaxis(COLOUR, -1, 0), {"photometric": "minisblack"}, COLOUR),
        ("untold.tif", COLOUR.astype(np.uint16) * 99, {"photometric": "minisblack"}, COLOUR.astype(np.uint16) * 99),
        ("rgba.png", ALPHA, {}, COLOUR),
        ("grey16.png", GREY.astype(np.uint16) * 40, {}, GREY.astype(np.uint16) * 40),
        ("grey16.tif", GREY.astype(np.uint16) * 40, {"photometric": "minisblack"}, GREY.astype(np.uint16) * 40),
        ("bigendian.tif", GREY.astype(">u2") * 40, {"byteorder": ">"}, GREY.astype(np.uint16) * 40),
        ("bit.png", GREY > 50, {}, (GREY > 50) * np.uint8(255)),
        ("bit.tif", GREY > 50, {"photometric": "minisblack"}, (GREY > 50) * np.uint8(255)),
    ],
)
def test_every_lossless_form_comes_back_as_rgb_of_its_own_depth(tmp_path, name, array, options, expected):
    image = read_image(save(tmp_path / name, array, **options))
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    assert image.dtype == expected.dtype and image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(image, expected)


def test_pillow_modes_and_palettes_come_back_as_their_colours(tmp_path):
    picture = Image.fromarray(COLOUR)
    quantised = picture.quantize(16)
    expected = np.asarray(quantised.convert("RGB"))
    quantised.save(tmp_path / "palette.png")
    quantised.save(tmp_path / "palette.tif")
    quantised.save(tmp_path / "transparent.png", transparency=bytes(range(16)))
    for name in ("palette.png", "palette.tif", "transparent.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)
    Image.fromarray(GREY).convert("LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png")[..., 1], GREY)
    for mode in ("CMYK", "YCbCr"):
        picture.convert(mode).save(tmp_path / "other.jpg", quality=95)
        assert np.abs(read_image(tmp_path / "other.jpg").astype(int) - COLOUR).mean() < 6
    picture.save(tmp_path / "really_a_png.jpg", format="PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "really_a_png.jpg"), COLOUR)
    save(tmp_path / "t.tif", COLOUR, photometric="rgb").rename(tmp_path / "really_a_tiff.png")
    np.testing.assert_array_equal(read_image(tmp_path / "really_a_tiff.png"), COLOUR)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_png_keeps_its_depth(tmp_path, channels):
    deep = (ALPHA[..., :channels].astype(np.uint16) * 257) ^ 1
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., [2, 1, 0, 3][:channels]])
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), deep[..., :3])


@pytest.fixture(params=["with imagecodecs where it is installed", "without imagecodecs"])
def codecs(request, monkeypatch):
    """Both ways of unpacking a TIFF: imagecodecs is no dependency, but others bring it along."""
    if request.param.startswith("without"):
        from tifffile import _imagecodecs  # what tifffile does itself where the package is missing

        monkeypatch.setattr(tifffile.tifffile, "imagecodecs", _imagecodecs)
        monkeypatch.setattr(tifffile.TIFF.DECOMPRESSORS, "_codecs", {})


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_every_lossless_tiff_compression_is_read(tmp_path, codecs, compression):
    for array in (GREY, COLOUR, ALPHA, GREY > 50):
        Image.fromarray(array).save(tmp_path / "a.tif", compression=compression)
        expected = (array * np.uint8(255) if array.dtype == bool else array)[..., : 3 if array.ndim == 3 else None]
        expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)
    Image.fromarray(COLOUR).quantize(16).save(tmp_path / "a.tif", compression=compression)
    expected = np.asarray(Image.fromarray(COLOUR).quantize(16).convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


def test_compressed_tiff_keeps_its_depth_and_jpeg_in_tiff_is_known_as_lossy(tmp_path, codecs):
    for deep in (GREY.astype(np.uint16) * 40, COLOUR.astype(np.uint16) * 257):
        cv2.imwrite(str(tmp_path / "a.tif"), deep[..., ::-1] if deep.ndim == 3 else deep)  # LZW is OpenCV's default
        expected = deep if deep.ndim == 3 else np.dstack([deep] * 3)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)
    Image.fromarray((discs() > 0) * np.uint8(255)).save(tmp_path / "a.tif", compression="jpeg")
    assert read_truth(tmp_path / "a.tif").form == "binary (lossy JPEG)"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", "lzw.tif"])
def test_a_rotated_camera_is_undone(tmp_path, orientation, suffix):
    upright = np.zeros((48, 32), np.uint8)
    upright[:16, :16] = 255  # top left
    upright[:16, 16:] = 120  # top right
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    if suffix == "lzw.tif":
        picture = Image.fromarray(np.ascontiguousarray(turned))
        picture.save(tmp_path / "alzw.tif", compression="tiff_lzw", tiffinfo={274: orientation})
    elif suffix == ".tif":
        tag = [(274, "H", 1, orientation, True)]
        save(tmp_path / "a.tif", np.ascontiguousarray(turned), photometric="minisblack", extratags=tag)
    else:
        Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / f"a{suffix}", exif=exif)
    image = read_image(tmp_path / f"a{suffix}")
    assert image.shape == (48, 32, 3)
    assert np.abs(image[..., 0].astype(int) - upright).max() <= 12
    stored = read_stored(tmp_path / f"a{suffix}").pixels  # what read_truth starts from
    assert stored.shape == (48, 32) and stored[0, 0] > 200 and stored[-1, 0] < 20


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(dtype, scale) for dtype in ("float16", "float32", "float64") for scale in (1 / 255, 1, 37)]
    + [(dtype, scale) for dtype in ("int16", "int32", "uint32", "int64") for scale in (1, 37)],
)
def test_float_and_wide_integers_are_scaled_never_clipped_or_black(tmp_path, dtype, scale):
    values = (GREY.astype(float) * scale - (20 if dtype == "int16" else 0)).astype(dtype)
    image = read_image(save(tmp_path / "a.tif", values, photometric="minisblack"))
    assert image.dtype == np.uint16 and image.shape == (*GREY.shape, 3)
    assert np.ptp(image) > 60000
    assert np.corrcoef(image[..., 0].ravel(), GREY.ravel())[0, 1] > 0.999
    # What the network sees is the same picture as from the 8-bit file.
    assert np.abs(normalise(image)[..., 0] - normalise(np.dstack([GREY] * 3))[..., 0]).max() < 0.05


def test_broken_pixels_of_a_float_file_do_not_rule_the_others(tmp_path):
    values = GREY.astype(np.float32) / 255
    values[0, :3] = np.nan, np.inf, -np.inf
    image = read_image(save(tmp_path / "a.tif", values, photometric="minisblack"))
    assert image[0, 0, 0] == 0 and image[0, 1, 0] == 65535 and image[0, 2, 0] == 0
    assert np.corrcoef(image[1:, :, 0].ravel(), GREY[1:].ravel())[0, 1] > 0.999
    with pytest.raises(ValueError, match="a.tif holds no finite number"):
        read_image(save(tmp_path / "a.tif", np.full((4, 4), np.nan, np.float32)))
    with pytest.raises(ValueError, match="a.tif holds complex numbers"):
        read_image(save(tmp_path / "a.tif", np.ones((4, 4), np.complex64)))


@pytest.mark.parametrize("level", [0.0, 0.02, 0.9, 120.0, 3000.0])
def test_a_blank_float_image_stays_blank(tmp_path, level):
    values = level + np.random.default_rng(0).normal(0, level / 2000, (64, 64)).astype(np.float32)
    normalised = normalise(read_image(save(tmp_path / "a.tif", values, photometric="minisblack")))
    assert np.ptp(normalised) < 0.3


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((5, 40, 40), {"photometric": "minisblack"}),
        ((2, 40, 40), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}),
        ((4, 40, 40), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}),
        ((3, 40, 40), {"photometric": "minisblack", "metadata": {"axes": "ZYX"}, "imagej": True}),
        ((2, 40, 40, 3), {"photometric": "rgb"}),
    ],
)
def test_a_stack_is_refused_with_its_shape_and_the_way_out(tmp_path, shape, options):
    save(tmp_path / "stack.tif", np.zeros(shape, np.uint8), **options)
    with pytest.raises(ValueError, match=r"stack.tif is a stack of shape .* save the plane"):
        read_image(tmp_path / "stack.tif")


def bomb(path, side=40_000):
    """A PNG of some bytes that declares side x side px."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def bad_files(folder):
    """{name: what the message says}, each name a file that is no image."""
    good = save(folder / "good.png", tissue(discs(200, 200))).read_bytes()
    tiff = save(folder / "good.tif", tissue(discs(200, 200)), photometric="rgb").read_bytes()
    Image.fromarray(tissue(discs(200, 200))).save(folder / "good.tif", compression="tiff_lzw")
    lzw = (folder / "good.tif").read_bytes()
    cv2.imwrite(str(folder / "good.png"), tissue(discs(200, 200)).astype(np.uint16) * 257)
    deep = (folder / "good.png").read_bytes()
    jpeg = io.BytesIO()
    Image.fromarray(COLOUR).save(jpeg, format="JPEG")
    contents = {
        "text.png": (b"stem,split\n", "is no image that can be read"),
        "empty.png": (b"", "is empty"),
        "cut.png": (good[: len(good) // 2], "is damaged"),
        "cut.jpg": (jpeg.getvalue()[: len(jpeg.getvalue()) // 2], "is damaged"),
        "cut.tif": (tiff[: len(tiff) // 2], "is damaged"),
        "head.tif": (tiff[:6], "is damaged"),
        "lzw.tif": (lzw[:2000] + bytes(4000) + lzw[6000:], "is damaged"),
        "cut16.png": (deep[: len(deep) // 2], "is damaged"),
        "flipped.png": (good[:300] + bytes([good[300] ^ 255]) + good[301:], "is damaged"),
    }
    (folder / "good.png").unlink()
    (folder / "good.tif").unlink()
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    bomb(folder / "bomb.png")
    return {name: message for name, (_, message) in contents.items()} | {"bomb.png": "declares 40000 x 40000 px"}


def test_bad_files_are_refused_by_name_with_the_way_out(tmp_path):
    for name, message in bad_files(tmp_path).items():
        for read in (read_image, read_truth):
            with pytest.raises(ValueError, match=f"{name} {message}.*(again|remove|cut it)"):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_image(tmp_path)


def test_large_images_pass_where_a_bomb_does_not(tmp_path, monkeypatch):
    Image.new("1", (12_000, 9_000)).save(tmp_path / "large.png")  # above Pillow's own limit of 89 MP
    assert read_stored(tmp_path / "large.png").pixels.shape == (9_000, 12_000)
    monkeypatch.setattr("nuclei.images.reading.MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="declares 96 x 112 px, more than the 1,000 px"):
        read_image(save(tmp_path / "a.tif", GREY, photometric="minisblack"))


def test_too_little_memory_is_said_and_a_disk_fault_is_passed_on(tmp_path, monkeypatch):
    save(tmp_path / "a.png", GREY)
    for error, expected in ((MemoryError(), ValueError), (PermissionError(13, "no", "a.png"), PermissionError)):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr("nuclei.images.reading.read_with_pillow", fail)
        with pytest.raises(expected):
            read_image(tmp_path / "a.png")


# ---- normalisation and modality


def test_normalised_images_fill_0_to_1_and_forget_gain_offset_and_depth():
    plain = normalise(np.dstack([GREY] * 3))
    assert plain.dtype == np.float32 and plain.min() == 0 and plain.max() == 1
    deep = np.dstack([GREY] * 3).astype(np.uint16) * 300 + 777
    np.testing.assert_allclose(normalise(deep), plain, atol=1e-5)


def test_one_range_for_all_channels_and_for_all_tiles():
    low, high = intensity_range(COLOUR)
    expected = np.clip((COLOUR.astype(float) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(normalise(COLOUR), expected, atol=1e-6)
    tile = normalise(COLOUR[:20, 30:], intensity_range=intensity_range(COLOUR))
    np.testing.assert_array_equal(tile, normalise(COLOUR)[:20, 30:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_histogram_gives_exact_percentiles_in_any_order_and_any_bands(dtype, monkeypatch):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (37, 29, 3)).astype(dtype)
    expected = np.percentile(image, (0.5, 50, 99.8), method="inverted_cdf")
    np.testing.assert_array_equal(percentiles(image, (0.5, 50, 99.8)), expected)
    monkeypatch.setattr("nuclei.images.intensity.BAND_PIXELS", 100)
    np.testing.assert_array_equal(percentiles(image[::-1, ::-1], (0.5, 50, 99.8)), expected)
    with pytest.raises(ValueError, match="float64 came"):
        percentiles(image / 2, (1,))


@pytest.mark.parametrize(("dtype", "noise"), [(np.uint8, 1), (np.uint16, 2)])
@pytest.mark.parametrize("level", [3, 100, 240])
def test_blank_images_are_not_blown_up_and_keep_their_polarity(dtype, noise, level):
    white = np.iinfo(dtype).max / 255
    blank = np.random.default_rng(0).normal(level * white, noise, (64, 64, 3)).clip(0).astype(dtype)
    normalised = normalise(blank)
    assert normalised.std() < 0.2
    assert (normalised.mean() > 0.5) == (level > 128)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_single_pixel_normalises(value, dtype):
    normalised = normalise(np.full((1, 1, 3), value, dtype))
    assert normalised.shape == (1, 1, 3) and np.isfinite(normalised).all() and 0 <= normalised.min() <= 1


@pytest.mark.parametrize("gain", [1, 16, 200])
def test_modality_by_colour_whatever_the_depth(gain):
    labels = discs()
    blue = np.dstack([np.zeros_like(GREY)] * 2 + [GREY])
    bright = 255 - np.dstack([fluorescence(labels, dark=30, light=120)] * 3)
    for image, expected in (
        (np.dstack([GREY] * 3), "fluorescence"),
        (blue, "fluorescence"),
        (tissue(labels), "tissue"),
        (bright, "brightfield"),
    ):
        assert modality(image if gain == 1 else image.astype(np.uint16) * gain) == expected
    assert modality(np.full((9, 9, 3), 240, np.uint8)) == "brightfield"
    assert modality(np.full((1, 1, 3), 3, np.uint8)) == "fluorescence"
    assert modality(np.full((9, 9, 3), 100, np.uint16)) == "fluorescence"  # a blank camera frame


# ---- truth

LABELS = discs()
INK = np.random.default_rng(1).integers(1, 255, (10, 3)).astype(np.uint8)
INK[0] = 0
EYE = np.random.default_rng(2).permutation(np.arange(1, 300))[:10]
EYE[0] = 0


@pytest.mark.parametrize(
    ("name", "array", "form"),
    [
        ("a.png", LABELS > 0, "binary"),
        ("a.png", (LABELS > 0).astype(np.uint8), "binary"),
        ("a.png", (LABELS > 0) * np.uint8(255), "binary"),
        ("a.bmp", (LABELS > 0) * np.uint8(255), "binary"),
        ("a.png", np.dstack([(LABELS > 0) * np.uint8(255)] * 3), "binary"),
        ("a.png", np.dstack([(LABELS > 0) * np.uint8(255)] * 3 + [np.full(LABELS.shape, 255, np.uint8)]), "binary"),
        ("a.tif", (LABELS > 0).astype(np.float32), "binary"),
        ("a.tif", (LABELS > 0).astype(np.uint16) * 65535, "binary"),
        ("a.png", np.where(LABELS > 0, [[[255]], [[0]], [[0]]], 0).astype(np.uint8).transpose(1, 2, 0), "binary"),
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
        ("a.png", np.where(LABELS[..., None] > 0, INK[LABELS], 255).astype(np.uint8), "instance colours"),
        ("a.tif", INK[LABELS].astype(np.uint16) * 250, "instance colours"),
    ],
)
def test_every_exact_form_gives_the_same_nuclei(tmp_path, name, array, form):
    options = {"photometric": "rgb" if array.ndim == 3 else "minisblack"} if name.endswith("tif") else {}
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
    assert truth.repaired == pytest.approx(np.mean((stored != 0) & (stored != top)), abs=0.02) and truth.repaired > 0


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
    blurred = save(tmp_path / "blur.png", cv2.GaussianBlur(np.resize(INK, (37, 3))[labels], (0, 0), 2))
    photo = save(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8))
    deep = save(tmp_path / "deep.tif", np.random.default_rng(0).random((90, 90)).astype(np.float32))
    for path in (ids, coloured, blurred, photo, deep):
        with pytest.raises(ValueError, match=rf"{path.name} .* destroy.* ids.*save"):
            read_truth(path)


def test_tiny_nuclei_with_ids_are_no_soft_edges(tmp_path):
    labels = np.zeros((40, 40), np.uint8)
    labels[::4, ::4] = np.arange(1, 101).reshape(10, 10)
    truth = read_truth(save(tmp_path / "a.png", labels))
    assert truth.form == "instances" and truth.labels.max() == 100


def test_a_few_classes_in_many_places_are_a_mask(tmp_path):
    labels = discs(150, 150, count=25)
    classes = np.array([0, *(1 + np.arange(25) % 3)], np.uint8)[labels]
    truth = read_truth(save(tmp_path / "a.png", classes))
    assert truth.form == "binary" and same_partition(truth.labels, labels)


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
        (np.where(LABELS[..., None] > 0, INK[LABELS] / 255, 0).astype(np.float32), "coloured truth of dtype float32"),
    ],
)
def test_truth_that_means_nothing_is_refused(tmp_path, array, message):
    options = {"photometric": "rgb" if array.ndim == 3 else "minisblack"}
    with pytest.raises(ValueError, match=message):
        read_truth(save(tmp_path / "a.tif", array, **options))


def test_a_pair_must_agree_in_size(tmp_path):
    image, truth = save(tmp_path / "a.png", GREY), save(tmp_path / "b.png", LABELS.astype(np.uint8))
    assert read_pair(image, truth)[1].labels.max() == 9
    with pytest.raises(ValueError, match="90 x 112 px.*96 x 112; expected equal sizes"):
        read_pair(image, save(tmp_path / "b.png", LABELS[:90].astype(np.uint8)))


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="no real data: python import_data.py --download, or set DSB2018_DIR")
def test_real_pairs_are_understood():
    pairs = find_pairs(REAL_DATA / "raw", REAL_DATA / "gt")
    for stem, (image_path, truth_path) in list(pairs.items())[::100]:
        image, truth = read_pair(image_path, truth_path)
        assert modality(image) in ("fluorescence", "tissue", "brightfield") and is_without_gaps(truth.labels)
        if truth_path.suffix == ".jpg":
            assert truth.form == "binary (lossy JPEG)" and 0 < truth.repaired < 0.3
            assert np.mean((truth.labels > 0) != (np.asarray(Image.open(truth_path).convert("L")) > 127)) < 0.002
            truth_path = REAL_DATA / "instances" / f"{stem}.png"
        if truth_path.exists():
            ids = np.asarray(Image.open(truth_path))
            assert read_truth(truth_path).labels.max() == len(np.unique(ids[ids > 0]))


# ---- splits


def test_a_split_is_exact_stratified_and_blind_to_order():
    groups = {f"s{index}": "tissue" if index % 5 == 0 else "fluorescence" for index in range(100)}
    split = split_stems(groups, 0.2, seed=3)
    assert list(split) == sorted(groups) and set(split.values()) == {"train", "validation"}
    for group, expected in (("tissue", 4), ("fluorescence", 16)):
        assert sum(split[stem] == "validation" for stem in groups if groups[stem] == group) == expected
    assert split_stems(dict(reversed(groups.items())), 0.2, seed=3) == split
    assert split_stems(groups, 0.2, seed=4) != split
    more = split_stems(groups | {"new": "tissue"}, 0.2, seed=3)
    assert sum(more[stem] != split[stem] for stem in groups) <= 2


@pytest.mark.parametrize(
    ("groups", "share", "validation"),
    [
        ({"a": "x"}, 0.2, 0),
        ({"a": "x", "b": "x"}, 0.1, 1),
        ({"a": "x", "b": "y"}, 0.1, 1),
        ({"a": "x", "b": "y", "c": "y"}, 0.9, 1),
        ({"a": "x", "b": "x", "c": "x"}, 0.99, 2),
        ({"a": "x", "b": "x"}, 0, 0),
        ({}, 0.2, 0),
    ],
)
def test_small_splits_keep_something_on_each_side(groups, share, validation):
    split = split_stems(groups, share, seed=0)
    assert sum(part == "validation" for part in split.values()) == validation


@pytest.mark.parametrize("share", [-0.1, 1, 20])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="expected 0 or more"):
        split_stems({"a": "x"}, share, seed=0)


def test_a_given_split_is_read_and_its_faults_are_named(tmp_path):
    path = tmp_path / "split.csv"
    text = "\ufeffstem,modality,split\na,x,train\nb.png,x, Validation \nc,y,test\na,x,train\n"
    path.write_text(text, encoding="utf-8")
    assert read_split(path) == {"a": "train", "b": "validation", "c": "test"}
    for text, message in (
        ("stem,part\na,train\n", "columns .*expected stem and split"),
        ("stem,split\na,trian\n", "line 2: stem 'a', split 'trian'"),
        ("stem,split\na,train\na,validation\n", "line 3: a is in train and in validation"),
        ("stem,split\na\n", "line 2"),
        ("stem,split\n", "no row"),
        ("", "expected stem and split"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_split(path)
    path.write_bytes(b"\xff\xfe\x00s")
    with pytest.raises(ValueError, match="no CSV text"):
        read_split(path)
    with pytest.raises(FileNotFoundError, match="columns stem and split"):
        read_split(tmp_path / "nothing.csv")


# ---- writing and ending well


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.png"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".png" and temporary.name.startswith(".")
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("two")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and [entry.name for entry in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("a.png is\n  wrong"), 1, "a.png is wrong"),
        (FileNotFoundError("data does not exist"), 1, "data does not exist"),
        (PermissionError(13, "Permission denied", "a.png"), 1, "Permission denied: a.png"),
        (OSError(28, "No space left on device", "a.png"), 1, "the disk is full (a.png)"),
        (OSError("write failed (errno = 28, 'No space left on device')"), 1, "the disk is full"),
        (OSError(5, "Input/output error"), 1, "Input/output error"),
        (MemoryError(), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
    ],
)
def test_a_users_mistake_ends_in_one_line(capsys, error, status, line):
    @user_errors_in_one_line
    def main(argv=None):
        raise error

    assert main([]) == status
    stderr = capsys.readouterr().err
    assert stderr.startswith("test_import_data.py: ") and line in stderr and stderr.count("\n") == 1


def test_a_programming_error_keeps_its_traceback():
    @user_errors_in_one_line
    def main(argv=None):
        return {}["missing"]

    with pytest.raises(KeyError):
        main([])


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_leaves_is_no_error(tmp_path, buffered):
    data_set(tmp_path, 2)
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | ({} if buffered else {"PYTHONUNBUFFERED": "1"})
    command = [sys.executable, SCRIPT, tmp_path]
    run = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writing)
    assert (run.returncode, run.stderr) == (1, "")


HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
import import_data
with import_data.only_run(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_one_runs_until_its_process_is_gone(tmp_path):
    folder = tmp_path / "new" / "out"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(SCRIPT.parent), str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        for _ in range(2):
            with pytest.raises(ValueError, match=f"process {process.pid} on .*--out"), only_run(folder):
                pass
        with only_run(tmp_path):  # another folder
            pass
    finally:
        process.kill()
        process.communicate()
    assert (folder / LOCK).exists()  # killed, it could not remove its file
    with only_run(folder):
        pass
    assert list(folder.iterdir()) == []


def test_a_lock_that_was_removed_in_between_is_taken_anew(tmp_path, monkeypatch):
    take, path = lock, tmp_path / LOCK

    def remove_first(file):
        monkeypatch.setattr("nuclei.files.lock", take)
        path.unlink()
        return take(file)

    monkeypatch.setattr("nuclei.files.lock", remove_first)
    with only_run(tmp_path):
        assert path.exists()
        with pytest.raises(ValueError, match="another run"), only_run(tmp_path):
            pass


def test_locks_of_other_systems(tmp_path, monkeypatch):
    def fails(number):
        def call(*_):
            raise OSError(number, "no")

        return call

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", fails(errno.ENOLCK))  # a network folder without locks
    with only_run(tmp_path):
        pass
    windows = types.SimpleNamespace(LK_NBLCK=2, locking=lambda *_: None)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    with only_run(tmp_path):
        pass
    windows.locking = fails(errno.EACCES)
    with pytest.raises(ValueError, match="another run"), only_run(tmp_path):
        pass


# ---- the check


def test_the_check_tells_what_is_there(tmp_path, capsys):
    data_set(tmp_path)
    labels = discs(120, 140)
    save(tmp_path / "raw" / "slide.tif", tissue(labels), photometric="rgb")
    save(tmp_path / "gt" / "slide.jpg", (labels > 0) * np.uint8(255), quality=60)
    save(tmp_path / "raw" / "none.png", np.full((50, 50), 6, np.uint16))
    save(tmp_path / "gt" / "none.png", np.zeros((50, 50), np.uint8))
    assert import_data.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    fluorescent = next(line for line in lines if line.startswith("fluorescence"))
    for part in ("5 ", "50 x 50, 96 x 112", "uint16, uint8", "empty 1, instances 4", "36", "12."):
        assert part in fluorescent
    slide = next(line for line in lines if line.startswith("tissue"))
    for part in ("120 x 140", "binary (lossy JPEG) 1", " 9 ", "12."):
        assert part in slide
    text = "\n".join(lines)
    assert "6 sound pairs" in text and "touching nuclei are merged" in text and "(slide)" in text
    assert "1 truth that is empty (valid" in text and lines[-1] == "Training can run on this data."


def test_the_check_lists_every_kind_of_problem_five_names_at_most(tmp_path, capsys):
    data_set(tmp_path, 8)
    (tmp_path / "raw" / "notes.svs").write_text("x")
    (tmp_path / "raw" / ".DS_Store").write_text("x")
    for index in range(7):
        save(tmp_path / "raw" / f"alone{index}.png", GREY)
    save(tmp_path / "gt" / "orphan.png", LABELS.astype(np.uint8))
    save(tmp_path / "gt" / "image0.png", LABELS[:50].astype(np.uint8))
    (tmp_path / "raw" / "image1.png").write_bytes((tmp_path / "raw" / "image2.png").read_bytes()[:500])
    (tmp_path / "gt" / "image2.png").unlink()
    save(tmp_path / "gt" / "image2.jpg", (discs(count=36, radius=7) * 7).astype(np.uint8))
    save(tmp_path / "gt" / "image3.png", np.full(GREY.shape, 255, np.uint8))
    assert import_data.main([str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "7 images without truth" in text and "alone4.png\n    and 2 more" in text and "alone5.png" not in text
    assert "1 truth without an image (left out of training):\n    orphan.png" in text
    assert "3 pairs that cannot be used" in text and "expected equal sizes" in text
    assert "image1.png is damaged" in text and "ids of nuclei saved as JPEG" in text
    assert "1 truth that is more than 90% nucleus" in text
    assert "1 other files (passed over):" in text and "notes.svs" in text and ".DS_Store" not in text
    assert "Training could not run: repair or remove the pairs" in text


@pytest.mark.parametrize(
    ("count", "form", "message"),
    [
        (1, lambda labels: labels.astype(np.uint8), "at least two sound pairs"),
        (3, lambda labels: np.zeros(labels.shape, np.uint8), "no truth shows both"),
    ],
)
def test_data_that_cannot_be_learnt_from_ends_with_1(tmp_path, capsys, count, form, message):
    data_set(tmp_path, count, form)
    assert import_data.main([str(tmp_path)]) == 1
    assert message in capsys.readouterr().out


def test_sizes_are_summed_up_beyond_two(tmp_path, capsys):
    for side in (40, 50, 60):
        labels = discs(side, side, count=4)
        save(tmp_path / "raw" / f"{side}.png", fluorescence(labels))
        save(tmp_path / "gt" / f"{side}.png", labels.astype(np.uint8))
    assert import_data.main([str(tmp_path)]) == 0
    assert "40 x 40 ... 60 x 60 (3 sizes)" in capsys.readouterr().out


def test_the_script_runs_by_itself_and_needs_no_keras(tmp_path):
    data_set(tmp_path / "data")
    run = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0 and "fluorescence" in run.stdout and run.stderr == ""
    code = "import sys, import_data; sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent).returncode == 0
    run = subprocess.run([sys.executable, SCRIPT, "nowhere"], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1 and run.stderr.count("\n") == 1 and "nowhere/raw does not exist" in run.stderr


def test_the_bar_is_for_terminals_only(capsys, monkeypatch):
    show_progress("reading", 1, 2, "pairs")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    show_progress("reading", 1, 2, "pairs")
    show_progress("reading", 2, 2, "pairs")
    show_progress("reading", 2, 0, "pairs")
    shown = capsys.readouterr().err
    assert "1 of 2 pairs" in shown and shown.endswith("2 of 2 pairs\n")


# ---- other layouts


def dsb2018(folder, count=3, touching=True):
    """A tree as the competition published it: {ID: labels}."""
    truth = {}
    for index in range(count):
        stem, labels = f"id{index}", discs(seed=index)
        image = np.dstack([fluorescence(labels)] * 3 + [np.full(labels.shape, 255, np.uint8)])
        save(folder / stem / "images" / f"{stem}.png", image)
        for nucleus in range(1, labels.max() + 1):
            save(folder / stem / "masks" / f"{stem}_{nucleus:02d}.png", (labels == nucleus) * np.uint8(255))
        truth[stem] = labels
    return truth


def zipped(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("prefix", [None, "", "stage1_train/"])
def test_a_dsb2018_folder_or_zip_becomes_pairs(tmp_path, capsys, prefix):
    source, out = tmp_path / "stage1", tmp_path / "data"
    truth = dsb2018(source)
    save(source / "unlabelled" / "images" / "unlabelled.png", GREY)
    save(source / "__MACOSX" / "id0" / "images" / "._id0.png", GREY)
    (source / "readme.md").write_text("x")
    given = source if prefix is None else zipped(source, tmp_path / "train.zip", prefix)
    assert import_data.main(["--from", str(given), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "3 imported, 0 already there, 1 without image or masks, 27 nuclei, 0 pixels claimed twice" in text
    assert "instances 3" in text and "Training can run" in text
    for stem, (image, gt) in find_pairs(out / "raw", out / "gt").items():
        assert image.read_bytes() == (source / stem / "images" / f"{stem}.png").read_bytes()
        assert gt.read_bytes()[24] == 16  # bits
        np.testing.assert_array_equal(read_truth(gt).labels, truth[stem])
    assert sorted(path.name for path in out.rglob(".*")) == []


def test_one_image_folder_alone_can_be_imported(tmp_path):
    dsb2018(tmp_path, 1)
    counts, problems = import_dsb2018(tmp_path / "id0", tmp_path / "out")
    assert counts["imported"] == 1 and not problems and (tmp_path / "out/raw/id0.png").exists()


def test_nothing_there_is_overwritten_unless_asked_and_a_half_import_is_completed(tmp_path, capsys):
    source, out = tmp_path / "stage1", tmp_path / "data"
    truth = dsb2018(source)
    save(out / "raw" / "id0.jpg", GREY)
    save(out / "gt" / "id0.bmp", (truth["id0"] > 0) * np.uint8(255))
    save(out / "gt" / "id1.png", truth["id1"].astype(np.uint16))
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert import_data.main(["--from", str(source), "--out", str(out)]) == 0
    assert "2 imported, 1 already there" in capsys.readouterr().out
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(find_pairs(out / "raw", out / "gt")) == 3
    assert import_data.main(["--from", str(source), "--out", str(out), "--overwrite"]) == 0
    assert sorted(path.name for path in (out / "raw").iterdir()) == ["id0.png", "id1.png", "id2.png"]
    assert sorted(path.name for path in (out / "gt").iterdir()) == ["id0.png", "id1.png", "id2.png"]


def test_overlapping_masks_give_the_shared_pixels_to_the_smallest():
    masks = np.zeros((4, 30, 30), bool)
    masks[0, 10:14, 10:14] = masks[1, 5:25, 5:25] = masks[2, 20:28, 20:28] = True  # inside, large, at a corner; none
    labels, claimed = merge_masks(masks, (30, 30))
    assert claimed == 16 + 25
    assert (labels[10:14, 10:14] == 1).all() and labels[6, 6] == 2 and labels[22, 22] == 3 and labels.max() == 3
    shuffled, _ = merge_masks(masks[[2, 3, 1, 0]], (30, 30))
    assert same_partition(shuffled, labels)
    assert not merge_masks([], (3, 4))[0].any()


def test_images_that_cannot_be_brought_in_are_named_and_the_others_are_done(tmp_path, capsys):
    source = tmp_path / "stage1"
    dsb2018(source, 6)
    save(source / "id0" / "masks" / "zz.png", np.zeros((5, 5), np.uint8))
    (source / "id1" / "images" / "id1.png").write_bytes(b"no image")
    save(source / "id2" / "images" / "second.png", GREY)
    save(source / "more" / "id3" / "images" / "id3.png", GREY)
    save(source / "more" / "id3" / "masks" / "1.png", GREY)
    assert import_data.main(["--from", str(source), "--out", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert "3 imported" in text and "4 images were not imported" in text
    for part in ("id0: a mask of (5, 5) px", "id1.png is no image", "id2: 2 images", "more/id3: it is there twice"):
        assert part in text


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil/images/x.png", "/etc/evil.png", "C:/evil.png", "..\\evil.png"])
def test_an_archive_that_would_escape_is_refused_whole(tmp_path, capsys, name):
    dsb2018(tmp_path / "stage1", 1)
    path = zipped(tmp_path / "stage1", tmp_path / "train.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    before = sorted(tmp_path.rglob("*"))
    assert import_data.main(["--from", str(path), "--out", str(tmp_path / "data")]) == 1
    assert "points outside the archive; nothing was unpacked" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before and not (tmp_path.parent / "evil.png").exists()


def test_links_giants_and_secrets_in_an_archive_are_refused(tmp_path, monkeypatch):
    dsb2018(tmp_path / "stage1", 1)
    path = zipped(tmp_path / "stage1", tmp_path / "train.zip")
    link = zipfile.ZipInfo("id0/images/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="is a symbolic link"):
        import_dsb2018(path, tmp_path / "data")
    zipped(tmp_path / "stage1", path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted member
    (tmp_path / "locked.zip").write_bytes(raw)
    with pytest.raises(ValueError, match="is encrypted"):
        import_dsb2018(tmp_path / "locked.zip", tmp_path / "data")
    monkeypatch.setattr("nuclei.files.MAX_MEMBER_BYTES", 100)
    with pytest.raises(ValueError, match="unpacks to .* bytes, more than 100"):
        import_dsb2018(path, tmp_path / "data")


def test_a_damaged_member_is_named_and_a_wrong_source_refused(tmp_path):
    dsb2018(tmp_path / "stage1", 2)
    path = zipped(tmp_path / "stage1", tmp_path / "train.zip")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\x89PNG") + 60] ^= 255
    path.write_bytes(raw)
    counts, problems = import_dsb2018(path, tmp_path / "data")
    assert counts["imported"] == 1 and len(problems) == 1 and "CRC" in problems[0]
    (tmp_path / "stage1" / "id1" / "masks" / "id1_03.png").write_bytes(b"no image")
    counts, problems = import_dsb2018(zipped(tmp_path / "stage1", path), tmp_path / "data2")
    assert counts["imported"] == 1 and problems[0].startswith("train/id1: id1_03.png is no image")
    nothing, no_layout = tmp_path / "nothing", tmp_path / "data"
    for source, error in ((nothing, FileNotFoundError), (no_layout, ValueError), (SCRIPT, ValueError)):
        with pytest.raises(error, match="expected .*(DSB2018|ID/images)"):
            import_dsb2018(source, tmp_path / "out")


# ---- download


class Server(http.server.ThreadingHTTPServer):
    """A loopback server of one file, with the faults that the tests ask for."""

    content, ranges, cut_after, announced, status, log = b"", True, None, None, 200, None


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, start, status = self.server, 0, self.server.status
        asked = self.headers.get("Range")
        server.log.append(asked)
        if status != 200:
            self.send_error(status)
            return
        if asked and server.ranges:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        body = server.content[start:]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(server.announced or len(body)))
        self.end_headers()
        self.wfile.write(body if server.cut_after is None else body[: server.cut_after])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("nuclei.images.download.RETRY_SECONDS", 0.0)
    dsb2018(tmp_path / "stage1", 2)
    server = Server(("127.0.0.1", 0), Handler)
    server.content, server.log = zipped(tmp_path / "stage1", tmp_path / "train.zip").read_bytes(), []
    server.url = f"http://127.0.0.1:{server.server_address[1]}/some/stage1_train.zip?x=1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_command_downloads_verifies_and_imports(server, tmp_path, capsys):
    command = ["--download", "--url", server.url, "--out", str(tmp_path / "data")]
    command += ["--sha256", hashlib.sha256(server.content).hexdigest().upper()]
    assert import_data.main(command) == 0
    text = capsys.readouterr().out
    assert "every member sound" in text and "2 imported" in text and "Training can run" in text
    assert (tmp_path / "data" / "stage1_train.zip").read_bytes() == server.content
    assert import_data.main(command) == 0 and server.log == [None]  # there already: verified, not fetched
    assert not list((tmp_path / "data").glob("*.part"))


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path):
    server.cut_after = len(server.content) // 3 + 1
    path = download(server.url, tmp_path / "a.zip")
    assert path.read_bytes() == server.content
    assert server.log == [None, f"bytes={server.cut_after}-", f"bytes={2 * server.cut_after}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_second_run_goes_on_from_the_part(server, tmp_path, ranges):
    server.ranges = ranges
    (tmp_path / "a.zip.part").write_bytes(server.content[:1000])
    assert download(server.url, tmp_path / "a.zip").read_bytes() == server.content
    assert server.log == ["bytes=1000-"]


def test_a_part_that_is_whole_or_too_long_is_recognised(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(server.content)
    assert download(server.url, tmp_path / "a.zip").read_bytes() == server.content
    (tmp_path / "b.zip.part").write_bytes(server.content + b"more")
    assert download(server.url, tmp_path / "b.zip").read_bytes() == server.content


def test_a_server_that_never_sends_all_ends_in_one_line_and_keeps_the_part(server, tmp_path, capsys):
    server.ranges, server.cut_after = False, 700
    assert import_data.main(["--download", "--url", server.url, "--out", str(tmp_path / "data")]) == 1
    assert "the connection was cut after 700 bytes, which are kept in" in capsys.readouterr().err
    assert (tmp_path / "data" / "stage1_train.zip.part").stat().st_size == 700
    assert not (tmp_path / "data" / "stage1_train.zip").exists()


def test_a_download_of_another_content_is_refused_and_removed(server, tmp_path):
    with pytest.raises(ValueError, match="has the SHA-256 .*; expected 00"):
        download(server.url, tmp_path / "a.zip", sha256="00")
    server.announced = 900  # fewer bytes than the zip has
    with pytest.raises(ValueError, match="is no whole zip"):
        download(server.url, tmp_path / "a.zip")
    server.announced = None
    damaged = bytearray(server.content)
    damaged[damaged.index(b"\x89PNG") + 60] ^= 255
    server.content = bytes(damaged)
    with pytest.raises(ValueError, match="has a damaged member|is no whole zip"):
        download(server.url, tmp_path / "a.zip")
    assert list(tmp_path.glob("a.zip*")) == []
    (tmp_path / "mine.zip").write_bytes(b"mine")
    with pytest.raises(ValueError, match="mine.zip is no whole zip"):
        download(server.url, tmp_path / "mine.zip")
    assert (tmp_path / "mine.zip").read_bytes() == b"mine"  # not ours to remove


def test_addresses_that_do_not_answer(server, tmp_path):
    server.status = 404
    with pytest.raises(OSError, match="404.*check the address.*--from"):
        download(server.url, tmp_path / "a.zip")
    server.status = 503
    with pytest.raises(OSError, match="503.*after 0 bytes.*run the same command again"):
        download(server.url, tmp_path / "a.zip")
    assert len(server.log) == 1 + RETRIES
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/a.zip"):
        with pytest.raises(ValueError, match="no http or https address"):
            download(url, tmp_path / "a.zip")


@pytest.mark.parametrize(
    "arguments", [["--download", "--from", "x"], ["--out", "x"], ["--overwrite"], ["data2", "--from", "x"]]
)
def test_flags_that_do_not_go_together_are_a_usage_error(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        import_data.main(arguments)
    assert end.value.code == 2 and "usage:" in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_file(tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(OSError) as failure, replacing(tmp_path / "a.csv"), open(full, "w") as file:
        file.write("x")
        file.flush()
    assert failure.value.errno == 28 and os.listdir(tmp_path) == []


def test_the_head_of_a_file_says_how_large_its_image_is(tmp_path):
    for name in ("a.png", "a.jpg", "a.tif", "a.bmp"):
        Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(tmp_path / name)
        assert declared_pixels(tmp_path / name) == 1500
    whole = (tmp_path / "a.png").read_bytes()
    for damaged in (b"", b"no image", whole[:20]):
        (tmp_path / "damaged.png").write_bytes(damaged)
        assert declared_pixels(tmp_path / "damaged.png") == 0
    assert declared_pixels(tmp_path / "missing.png") == 0
