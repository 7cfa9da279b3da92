"""Sets in two arrays, in whatever folders: no image is lost, and none is taken for another one."""

import numpy as np
import pytest
from images_tools import GREY, discs, dsb2018, fluorescence, save

import import_data
from nuclei.images.reading import read_stored

TRUTHS = [discs(64, 64, count=4, seed=seed) for seed in range(4)]


def write_set(images_dir, truth_dir, truths, names=("images.npy", "masks.npy")):
    """Write arrays of an image for each truth. Returns the images (N, 64, 64, 3) uint8."""
    images = np.stack([np.dstack([fluorescence(labels)] * 3) for labels in truths])
    arrays = images, np.stack([np.dstack([labels, labels]) for labels in truths])
    for folder, name, array in zip((images_dir, truth_dir), names, arrays, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, array)
    return images


def bring_in(source, out, *flags):
    return import_data.main(["--from", str(source), "--out", str(out), *flags])


LAYOUTS = [  # of images and truth in a fold, as PanNuke's copies have them
    ("images", "masks"),
    ("Images", "Masks"),
    ("images/fold", "masks/fold"),
    ("IMAGES", "masks"),
    ("", ""),
]


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("at_once", [True, False])
def test_every_image_of_two_folds_comes_in(tmp_path, capsys, layout, at_once, flags):
    images = []
    for number in (1, 2):
        places = [part.replace("fold", f"fold{number}") for part in layout]
        folders = [tmp_path / "set" / f"fold {number}" / place for place in places]
        images += [*write_set(*folders, TRUTHS[2 * number - 2 : 2 * number])]
    sources = [tmp_path / "set"] if at_once else sorted((tmp_path / "set").iterdir())
    for source in sources:
        assert bring_in(source, tmp_path / "out", *flags) == 0
        assert f"{4 // len(sources)} imported, 0 already there" in capsys.readouterr().out
    paths = sorted((tmp_path / "out/raw").iterdir())
    assert [path.name[-10:-4] for path in paths] == ["_00000", "_00001"] * 2
    for path, image in zip(paths, images, strict=True):
        assert path.name.startswith("fold")
        np.testing.assert_array_equal(read_stored(path).pixels, image)
    assert bring_in(tmp_path / "set", tmp_path / "out") == 0
    assert "0 imported, 4 already there" in capsys.readouterr().out


@pytest.mark.parametrize("names", [("a/fold", "b/fold"), ("a/fold", "b/Fold"), ("f", "f/images")])
def test_two_sets_of_one_name_are_refused_before_the_work(tmp_path, capsys, names):
    for name in names:
        write_set(tmp_path / "set" / name, tmp_path / "set" / name, TRUTHS[:1])
    assert bring_in(tmp_path / "set", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "_00000; expected folders of different names" in error
    assert all(f"{name}/images.npy" in error for name in names) and "import each into" in error
    assert not list((tmp_path / "out").rglob("*.png"))


def test_another_image_of_a_name_that_is_there_is_named_in_arrays_and_folders(tmp_path, capsys):
    for name, truths in (("a", TRUTHS[:2]), ("b", TRUTHS[1:3])):
        write_set(tmp_path / name / "fold", tmp_path / name / "fold", truths)
    assert bring_in(tmp_path / "a", tmp_path / "out") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    capsys.readouterr()
    assert bring_in(tmp_path / "b", tmp_path / "out") == 1
    text = "".join(capsys.readouterr())
    assert "0 imported, 0 already there" in text and "Not imported: 2 images" in text
    assert "fold_00000.png is another image of this name" in text
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")} == before

    dsb2018(tmp_path / "c", 2)
    assert bring_in(tmp_path / "c", tmp_path / "other") == 0
    save(tmp_path / "c" / "id1" / "images" / "id1.png", GREY[::-1])
    (tmp_path / "c" / "id0" / "images").rename(tmp_path / "c" / "id0" / "Images")
    save(tmp_path / "c" / "more" / "id0" / "images" / "id0.png", GREY)
    save(tmp_path / "c" / "more" / "id0" / "masks" / "1.png", GREY)
    capsys.readouterr()
    assert bring_in(tmp_path / "c", tmp_path / "other") == 1
    text = "".join(capsys.readouterr())
    assert "0 imported, 1 already there, 0 nuclei" in text and "Not imported: 2 images" in text
    assert "id1.png is another image of this name" in text and "id0: it is there twice" in text


def test_images_without_a_truth_are_named(tmp_path, capsys):
    write_set(tmp_path / "set" / "a", tmp_path / "set" / "a", TRUTHS[:2])
    write_set(tmp_path / "set" / "b", tmp_path / "set" / "b" / "elsewhere", TRUTHS[1:])
    (tmp_path / "set" / "c").mkdir()
    (tmp_path / "set" / "c" / "images.npy").write_bytes(b"no array")  # nobody needs to read it
    assert bring_in(tmp_path / "set", tmp_path / "out") == 0
    text = capsys.readouterr().out
    images = tmp_path / "set" / "b" / "images.npy"
    assert "2 imported, 0 already there, 8 nuclei\n" in text
    assert f"Left out: 3 images without truth: {images}[0], {images}[1], {images}[2]\n" in text
