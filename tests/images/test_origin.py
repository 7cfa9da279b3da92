"""Where images come from is known by their content and their names, never by their folder."""

import shutil
from pathlib import Path

import synthetic
from PIL import Image

from nuclei.images.origin import BOWL, MARK, SYNTHETIC, find_origin, is_synthetic

ROOT = Path(synthetic.__file__).resolve().parents[1]


def test_the_shipped_images_are_known_wherever_they_lie(tmp_path):
    assert MARK == synthetic.MARK
    shipped = sorted((ROOT / "test_raw").iterdir())
    copies = [shutil.copy(path, tmp_path / f"my_{path.name}") for path in shipped]
    assert find_origin(shipped) == find_origin(copies) == SYNTHETIC


def test_one_other_image_is_enough_to_make_a_set_unknown(tmp_path):
    other = tmp_path / "other.png"
    Image.new("RGB", (8, 8)).save(other)
    (tmp_path / "slide.svs").write_bytes(b"no image that Pillow knows")
    assert find_origin([ROOT / "test_raw" / "test_tissue_01.png", other]) is None
    assert not is_synthetic(other) and not is_synthetic(tmp_path / "slide.svs")
    assert find_origin([]) is None


def test_the_data_science_bowl_is_known_by_its_names():
    assert find_origin([f"anywhere/{digit * 64}.png" for digit in "0a"]) == BOWL
    assert find_origin([f"anywhere/{'0' * 64}.png", "anywhere/mine.png"]) is None
