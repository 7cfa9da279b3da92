"""What is written can be read again, and keeps its values and colours."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei.images.writing import (
    MAX_JPEG_PX,
    encode,
    find_labels,
    in_16_bits,
    write_jpeg,
    write_labels,
    write_picture,
    write_png,
)


def test_more_nuclei_than_sixteen_bits_hold_become_a_tiff(tmp_path):
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    write_labels(tmp_path, "many", labels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "many.tif"), labels)
    assert not (tmp_path / "many.png").exists()
    assert find_labels(tmp_path, "many").name == "many.tif"
    with pytest.raises(ValueError, match="89,999 nuclei, more than the 65,535"):
        in_16_bits(labels)  # they would wrap round and become others
    assert in_16_bits(labels % 100).dtype == np.uint16
    write_labels(tmp_path, "many", labels % 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.png"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_every_value(tmp_path, dtype):
    random = np.random.default_rng(0)
    for shape in ((20, 30), (20, 30, 3)):
        picture = random.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
        for write in (write_png, write_picture):
            write(tmp_path / "x.png", picture)
            read = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(read[..., ::-1] if read.ndim == 3 else read, picture)


def test_colours_stay_in_order(tmp_path):
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[..., 0] = 200  # red
    write_jpeg(tmp_path / "x.jpg", picture)
    (tmp_path / "x.webp").write_bytes(encode(picture, ".webp"))
    for name in ("x.jpg", "x.webp"):
        red, _, blue = np.array(Image.open(tmp_path / name).convert("RGB")).mean((0, 1))
        assert red > 180 and blue < 20


def test_what_cannot_be_encoded_is_named_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"x\.png.*shape \(2, 2, 7\)"):
        write_png(tmp_path / "x.png", np.zeros((2, 2, 7), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(MAX_JPEG_PX + 1, 2), (3, 2 * MAX_JPEG_PX, 3)])
def test_a_picture_too_long_for_jpeg_is_made_smaller(tmp_path, capfd, shape):
    write_jpeg(tmp_path / "long.jpg", np.full(shape, 77, np.uint8))
    read = cv2.imread(str(tmp_path / "long.jpg"), cv2.IMREAD_UNCHANGED)
    assert max(read.shape[:2]) == MAX_JPEG_PX and abs(int(read.mean()) - 77) <= 1
    assert capfd.readouterr().err == ""  # OpenCV would print a line
