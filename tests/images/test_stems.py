"""Names that look the same are one stem, and programs' endings tell a truth from its image."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from images_tools import GREY, LABELS, data_set, dsb2018, fluorescence, save

import import_data
from nuclei.datasets.pairs import find_pairs, read_pair
from nuclei.datasets.split import read_split
from nuclei.images.folder import find_images
from nuclei.images.stems import named_stem, stem_of, text_of, without_end

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Größe ü") for form in ("NFC", "NFD"))


def test_stems_of_files_and_of_names_in_other_files():
    suffixes = (".geojson.gz", ".gz", ".png")
    assert stem_of(Path("x/a.b.PNG"), suffixes) == "a.b"
    assert stem_of(Path("x/a.geojson.gz"), suffixes) == "a"
    assert stem_of(Path("x/a:b\\c.png"), suffixes) == "a:b\\c"  # Linux allows such names
    assert named_stem("C:\\x y\\a.png") == named_stem("x/a.png") == named_stem("a.png") == "a"
    assert without_end("a.ome") == without_end("a_img") == without_end("a") == "a"
    assert text_of("caf\udce9.png") == "café.png" and text_of(DECOMPOSED) == DECOMPOSED


def test_both_forms_of_unicode_are_one_stem(tmp_path):
    save(tmp_path / "raw" / f"{COMPOSED}.png", GREY)
    save(tmp_path / "gt" / f"{DECOMPOSED}.png", LABELS.astype(np.uint8))
    assert list(find_pairs(tmp_path / "raw", tmp_path / "gt")) == [COMPOSED]
    (tmp_path / "split.csv").write_text(f"stem,split\n{DECOMPOSED},test\n", encoding="utf-8")
    assert read_split(tmp_path / "split.csv") == {COMPOSED: "test"}
    save(tmp_path / "raw" / f"{DECOMPOSED}.png", GREY)
    if len(list((tmp_path / "raw").iterdir())) == 2:  # a Mac's disk knows one name only
        with pytest.raises(ValueError, match="more than once"):
            find_images(tmp_path / "raw")


def test_an_import_of_decomposed_names_is_not_repeated(tmp_path, capsys):
    dsb2018(tmp_path / "set", 2)
    (tmp_path / "set" / "id0").rename(tmp_path / "set" / DECOMPOSED)
    for count in ("2 imported, 0 already", "0 imported, 2 already"):
        arguments = ["--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]
        assert import_data.main(arguments) == 0
        assert count in capsys.readouterr().out


@pytest.mark.parametrize(
    ("image", "truth"),
    [
        ("a.ome.tif", "a.png"),
        ("a.png", "a.ome.tif"),
        ("a.ome.tif", "a_masks.png"),
        ("a_img.png", "a_cp_masks.png"),
        ("a b (1).png", "a b (1)_mask.png"),
        ("NA.png", "NA_label.png"),
    ],
)
def test_a_truth_is_found_whatever_programs_add_to_the_name(tmp_path, image, truth):
    save(tmp_path / "raw" / image, fluorescence(LABELS))
    save(tmp_path / "gt" / truth, LABELS.astype(np.uint16))
    (pair,) = find_pairs(tmp_path / "raw", tmp_path / "gt").values()
    assert [path.name for path in pair] == [image, truth]
    assert read_pair(*pair)[1].labels.max() == 9


def test_an_exact_name_is_stronger_than_an_ending(tmp_path):
    for name in ("a.png", "a_mask.png", "a.ome.tif"):
        save(tmp_path / "raw" / name, GREY)
    for name in ("a.png", "a_mask.png", "a_cp_masks.png"):
        save(tmp_path / "gt" / name, LABELS.astype(np.uint8))
    pairs = find_pairs(tmp_path / "raw", tmp_path / "gt")
    assert {stem: truth.name for stem, (_, truth) in pairs.items()} == {
        "a": "a.png",
        "a_mask": "a_mask.png",
    }  # a_cp_masks could belong to both other images, so it is left out


def test_hidden_images_are_named_and_companions_are_not(tmp_path, capsys):
    data_set(tmp_path, 2)
    for name in (".hidden.png", "._image0.png", ".DS_Store"):
        (tmp_path / "raw" / name).write_bytes(b"x")
    assert import_data.main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "1 other files (left out)" in text and ".hidden.png" in text and "._image0" not in text


@pytest.mark.skipif(os.name != "posix", reason="other systems allow no such names")
def test_bytes_that_are_no_utf8_cost_no_image(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(name)).write_bytes(b"x")
    except OSError:
        pytest.skip("this disk allows no such names")
    assert list(find_images(tmp_path)) == ["café"]
