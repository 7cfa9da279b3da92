"""The layout of DSB2018 becomes pairs."""

import numpy as np
import pytest
from images_tools import GREY, dsb2018, save, zipped

import import_data
from nuclei.datasets.folder_sets import import_folders
from nuclei.datasets.pairs import find_pairs
from nuclei.truth.masks import read_truth


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
    assert "3 imported, 0 already there, 27 nuclei\n" in text
    assert f"1 image without truth: {given.stem}/" in text and "unlabelled.png\n" in text
    assert "instances 3" in text and "Training can run" in text
    for stem, (image, gt) in find_pairs(out / "raw", out / "gt").items():
        assert image.read_bytes() == (source / stem / "images" / f"{stem}.png").read_bytes()
        assert gt.read_bytes()[24] == 16  # bits
        np.testing.assert_array_equal(read_truth(gt).labels, truth[stem])
    assert sorted(path.name for path in out.rglob(".*")) == []


def test_one_image_folder_alone_can_be_imported(tmp_path):
    dsb2018(tmp_path, 1)
    result = import_folders(tmp_path / "id0", tmp_path / "out")
    assert result.images == 1 and not result.problems
    assert (tmp_path / "out/raw/id0.png").exists()


def test_images_that_cannot_be_brought_in_are_named_and_the_others_are_done(tmp_path, capsys):
    source = tmp_path / "stage1"
    dsb2018(source, 6)
    save(source / "id0" / "masks" / "zz.png", np.zeros((5, 5), np.uint8))
    (source / "id1" / "images" / "id1.png").write_bytes(b"no image")
    save(source / "id2" / "images" / "second.png", GREY)
    save(source / "more" / "id3" / "images" / "id3.png", GREY)
    save(source / "more" / "id3" / "masks" / "1.png", GREY)
    assert import_data.main(["--from", str(source), "--out", str(tmp_path / "data")]) == 1
    text = "".join(capsys.readouterr())
    assert "3 imported" in text and "Not imported: 4 images" in text
    for part in (
        "id0: a mask of (5, 5) px",
        "id1.png is no image",
        "id2: 2 images",
        "more/id3: it is there twice",
    ):
        assert part in text
