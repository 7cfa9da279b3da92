"""Images and truths are found and paired by stem, whatever their suffix."""

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from images_tools import GREY, LABELS, is_without_gaps, save
from PIL import Image

import import_data
from nuclei.datasets.pairs import find_pairs, read_pair
from nuclei.images.modality import modality
from nuclei.truth.masks import read_truth

PROJECT = Path(import_data.__file__).parent
# Where --download puts the public set.
REAL_DATA = Path(os.environ.get("DSB2018_DIR", PROJECT / import_data.PUBLIC_DATA_DIR))


def test_pairs_share_a_stem_and_unpaired_files_are_left_out(tmp_path):
    for name in ("raw/a.jpg", "raw/b.png", "gt/b.tif", "gt/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert find_pairs(tmp_path / "raw", tmp_path / "gt") == {
        "b": (tmp_path / "raw/b.png", tmp_path / "gt/b.tif")
    }
    (tmp_path / "gt/b.tif").unlink()
    with pytest.raises(ValueError, match="no pair between .*a.jpg.*c.png.*same name"):
        find_pairs(tmp_path / "raw", tmp_path / "gt")


def test_a_user_of_other_folders_is_told_how_to_bring_them_in(tmp_path):
    for part in ("images", "masks"):
        for stem in ("a", "b"):
            save(tmp_path / "my set" / part / f"{stem}.png", LABELS.astype(np.uint8))
    with pytest.raises(FileNotFoundError) as caught:
        find_pairs(tmp_path / "my set" / "raw", tmp_path / "my set" / "gt")
    command = str(caught.value).rpartition("python import_data.py ")[2]
    arguments = shlex.split(command.replace("NEW_FOLDER", str(tmp_path / "new")))
    assert import_data.main(arguments) == 0
    assert [*find_pairs(tmp_path / "new/raw", tmp_path / "new/gt")] == ["a", "b"]


def test_a_pair_must_agree_in_size(tmp_path):
    image, truth = save(tmp_path / "a.png", GREY), save(tmp_path / "b.png", LABELS.astype(np.uint8))
    assert read_pair(image, truth)[1].labels.max() == 9
    with pytest.raises(ValueError, match="90 x 112 px.*96 x 112; expected equal sizes"):
        read_pair(image, save(tmp_path / "b.png", LABELS[:90].astype(np.uint8)))


@pytest.mark.skipif(
    not REAL_DATA.is_dir(),
    reason="no real data: python import_data.py --download, or set DSB2018_DIR",
)
def test_real_pairs_are_understood():
    pairs = find_pairs(REAL_DATA / "raw", REAL_DATA / "gt")
    for stem, (image_path, truth_path) in list(pairs.items())[::100]:
        image, truth = read_pair(image_path, truth_path)
        assert modality(image) in ("fluorescence", "tissue", "brightfield") and is_without_gaps(
            truth.labels
        )
        if truth_path.suffix == ".jpg":
            assert truth.form == "binary (lossy JPEG)" and 0 < truth.repaired < 0.3
            assert (
                np.mean(
                    (truth.labels > 0) != (np.asarray(Image.open(truth_path).convert("L")) > 127)
                )
                < 0.002
            )
            truth_path = REAL_DATA / "instances" / f"{stem}.png"
        if truth_path.exists():
            ids = np.asarray(Image.open(truth_path))
            assert read_truth(truth_path).labels.max() == len(np.unique(ids[ids > 0]))
