"""Any image comes back as RGB of its own depth, upright."""

import cv2
import numpy as np
import pytest
import tifffile
from images_tools import ALPHA, COLOUR, GREY, discs, save
from PIL import Image

from nuclei.images.intensity import normalise
from nuclei.images.reading import read_image, read_stored
from nuclei.truth.masks import read_truth


@pytest.mark.parametrize(
    ("name", "array", "options", "expected"),
    [
        ("grey.png", GREY, {}, GREY),
        ("grey.bmp", GREY, {}, GREY),
        ("grey.tif", GREY, {"photometric": "minisblack"}, GREY),
        ("inverted.tif", GREY, {"photometric": "miniswhite"}, 255 - GREY),
        (
            "inverted_bit.tif",
            GREY > 50,
            {"photometric": "miniswhite"},
            (GREY <= 50) * np.uint8(255),
        ),
        ("deflate.tif", GREY, {"photometric": "minisblack", "compression": "zlib"}, GREY),
        ("rgb.png", COLOUR, {}, COLOUR),
        ("rgb.bmp", COLOUR, {}, COLOUR),
        ("rgb.tif", COLOUR, {"photometric": "rgb"}, COLOUR),
        (
            "planar.tif",
            np.moveaxis(COLOUR, -1, 0),
            {"photometric": "rgb", "planarconfig": "separate"},
            COLOUR,
        ),
        ("rgba.tiff", ALPHA, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, COLOUR),
        (
            "untold.tif",
            COLOUR.astype(np.uint16) * 99,
            {"photometric": "minisblack"},
            COLOUR.astype(np.uint16) * 99,
        ),
        ("rgba.png", ALPHA, {}, COLOUR),
        ("grey16.png", GREY.astype(np.uint16) * 40, {}, GREY.astype(np.uint16) * 40),
        (
            "grey16.tif",
            GREY.astype(np.uint16) * 40,
            {"photometric": "minisblack"},
            GREY.astype(np.uint16) * 40,
        ),
        ("bigendian.tif", GREY.astype(">u2") * 40, {"byteorder": ">"}, GREY.astype(np.uint16) * 40),
        ("bit.png", GREY > 50, {}, (GREY > 50) * np.uint8(255)),
        ("bit.tif", GREY > 50, {"photometric": "minisblack"}, (GREY > 50) * np.uint8(255)),
    ],
)
def test_every_lossless_form_comes_back_as_rgb_of_its_own_depth(
    tmp_path, name, array, options, expected
):
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
        expected = (array * np.uint8(255) if array.dtype == bool else array)[
            ..., : 3 if array.ndim == 3 else None
        ]
        expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)
    Image.fromarray(COLOUR).quantize(16).save(tmp_path / "a.tif", compression=compression)
    expected = np.asarray(Image.fromarray(COLOUR).quantize(16).convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


def test_compressed_tiff_keeps_its_depth_and_jpeg_in_tiff_is_known_as_lossy(tmp_path, codecs):
    for deep in (GREY.astype(np.uint16) * 40, COLOUR.astype(np.uint16) * 257):
        cv2.imwrite(
            str(tmp_path / "a.tif"), deep[..., ::-1] if deep.ndim == 3 else deep
        )  # LZW is OpenCV's default
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
        save(
            tmp_path / "a.tif",
            np.ascontiguousarray(turned),
            photometric="minisblack",
            extratags=tag,
        )
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
    assert image[0, :3, 0].tolist() == [image[1:].min(), 65535, image[1:].min()]
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
