"""What is no image, or too much of one, is refused by name with the way out."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from images_tools import COLOUR, GREY, discs, save, tissue
from PIL import Image

from nuclei.images.reading import declared_pixels, read_image, read_stored
from nuclei.truth.masks import read_truth


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
        read_stored(tmp_path / "stack.tif")


def bomb(path, side=40_000):
    """A PNG of some bytes that declares side x side px."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

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
    return {name: message for name, (_, message) in contents.items()} | {
        "bomb.png": "declares 40000 x 40000 px"
    }


def test_bad_files_are_refused_by_name_with_the_way_out(tmp_path):
    for name, message in bad_files(tmp_path).items():
        for read in (read_image, read_truth):
            with pytest.raises(ValueError, match=f"{name} {message}.*(again|remove|cut it)"):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_pictures_of_other_kinds_are_called_by_their_kind(tmp_path, suffix):
    kind = "WEBP" if suffix != ".gif" else "GIF"
    Image.fromarray(COLOUR).save(tmp_path / f"a{suffix}", format=kind)  # one is called .png
    for read in (read_image, read_truth):
        with pytest.raises(ValueError, match=f"a{suffix} is a {kind} picture.*save it as png"):
            read(tmp_path / f"a{suffix}")
    (tmp_path / "b.png").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    with pytest.raises(ValueError, match="git lfs pull"):
        read_image(tmp_path / "b.png")


def test_large_images_pass_where_a_bomb_does_not(tmp_path, monkeypatch):
    Image.new("1", (12_000, 9_000)).save(
        tmp_path / "large.png"
    )  # above Pillow's own limit of 89 MP
    assert read_stored(tmp_path / "large.png").pixels.shape == (9_000, 12_000)
    monkeypatch.setattr("nuclei.images.content.MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="declares 96 x 112 px, more than the 1,000 px"):
        read_image(save(tmp_path / "a.tif", GREY, photometric="minisblack"))


def test_too_little_memory_is_said_and_a_disk_fault_is_passed_on(tmp_path, monkeypatch):
    save(tmp_path / "a.png", GREY)
    for error, expected in (
        (MemoryError(), ValueError),
        (PermissionError(13, "no", "a.png"), PermissionError),
        (OSError(5, "Input/output error"), OSError),
        (OSError(22, "Invalid argument"), ValueError),  # a damaged file asks for a place before 0
    ):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr("nuclei.images.reading.read_picture", fail)
        with pytest.raises(expected):
            read_image(tmp_path / "a.png")


def test_an_image_without_pixels_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="zero-size"):
        save(tmp_path / "a.tif", np.zeros((0, 80), np.uint8), photometric="minisblack")
    for read in (read_image, read_truth):
        with pytest.raises(ValueError, match="a.tif .*again"):
            read(tmp_path / "a.tif")


def test_the_head_of_a_file_says_how_large_its_image_is(tmp_path):
    for name in ("a.png", "a.jpg", "a.tif", "a.bmp"):
        Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(tmp_path / name)
        assert declared_pixels(tmp_path / name) == 1500
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 30, 50), np.float16))  # Pillow cannot
    assert declared_pixels(tmp_path / "b.tif") == 1500
    whole = (tmp_path / "a.png").read_bytes()
    for damaged in (b"", b"no image", whole[:20], b"II*\0", (tmp_path / "b.tif").read_bytes()[:9]):
        (tmp_path / "damaged.png").write_bytes(damaged)
        assert declared_pixels(tmp_path / "damaged.png") == 0
    assert declared_pixels(tmp_path / "missing.png") == 0
