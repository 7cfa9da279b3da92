"""Synthetic nuclei: their truth is clean, they look as they should, the shipped set is theirs."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic
from PIL import Image
from scipy import ndimage
from synthetic import Picture, draw, draw_picture

REPOSITORY = Path(__file__).resolve().parent.parent


def touching_pairs(labels):
    """Pairs of nuclei that share a pixel edge."""
    pairs = set()
    for first, second in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        differ = (first != second) & (first > 0) & (second > 0)
        pairs |= set(zip(first[differ].tolist(), second[differ].tolist(), strict=True))
    return {tuple(sorted(pair)) for pair in pairs}


@pytest.mark.parametrize("kind", synthetic.KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_labels_are_what_the_contract_says(kind, seed):
    image, labels = draw(kind, 128, 96, num_nuclei=14, diameter=14, seed=seed, touching=0.6)
    assert image.shape == (128, 96, 3) and image.dtype == np.uint8
    assert labels.shape == (128, 96) and labels.dtype == np.int32
    count = labels.max()
    assert 10 <= count <= 14
    assert np.array_equal(np.unique(labels), np.arange(count + 1))
    for label in range(1, count + 1):
        assert ndimage.label(labels == label)[1] == 1
        assert (labels == label).sum() >= synthetic.MIN_AREA_PX


@pytest.mark.parametrize("kind", ["fluorescence", "tissue"])
def test_touching_decides_whether_nuclei_touch(kind):
    corners = np.ones((3, 3))
    for seed in range(4):
        apart = draw(kind, 128, 128, num_nuclei=15, diameter=14, seed=seed, touching=0)[1]
        assert ndimage.label(apart > 0, structure=corners)[1] == apart.max() > 8
        close = draw(kind, 128, 128, num_nuclei=15, diameter=14, seed=seed, touching=1)[1]
        assert len(touching_pairs(close)) >= close.max() // 3


def test_one_seed_one_picture():
    first = draw("tissue", 64, 80, seed=5)
    again = draw("tissue", 64, 80, seed=5)
    other = draw("tissue", 64, 80, seed=6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0]) and not np.array_equal(first[1], other[1])


def test_the_global_generator_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    draw("fluorescence", 64, 64)
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("diameter", [10, 20, 40])
def test_diameter_is_kept(diameter):
    labels = draw("fluorescence", 320, 320, num_nuclei=25, diameter=diameter, touching=0.2)[1]
    inner = np.setdiff1d(
        labels, np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    )
    areas = np.bincount(labels.ravel())[inner[inner > 0]]
    assert 0.85 * diameter < np.median(np.sqrt(4 * areas / np.pi)) < 1.15 * diameter


def test_fluorescence_glows_on_a_dark_background():
    for seed in range(5):
        image, labels = draw("fluorescence", 128, 128, diameter=16, seed=seed)
        assert (image[..., 0] == image[..., 2]).all()
        light = image[..., 0].astype(float)
        assert np.median(light[labels > 0]) > 2 * np.median(light[labels == 0])


def test_tissue_has_haematoxylin_in_its_nuclei_and_eosin_around_them():
    color = pytest.importorskip("skimage.color")
    for seed in range(5):
        image, labels = draw("tissue", 128, 128, diameter=16, seed=seed)
        haematoxylin = color.rgb2hed(image)[..., 0]
        assert np.median(haematoxylin[labels > 0]) > 2 * np.median(haematoxylin[labels == 0])
        red, green, blue = np.median(image[labels == 0].astype(float), axis=0)
        assert red > green + 10 and blue > green + 10  # pink
        nucleus = np.median(image[labels > 0].astype(float), axis=0)
        assert nucleus[2] > nucleus[0] > nucleus[1]  # purple


def test_brightfield_is_grey_with_dark_nuclei():
    image, labels = draw("brightfield", 128, 128, diameter=20)
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    assert np.median(image[labels > 0]) < np.median(image[labels == 0]) - 30


def test_twelve_bits_in_sixteen():
    image, labels = draw_picture(Picture("fluorescence", 96, 96, seed=2, dtype="uint16"))
    coarse, same_labels = draw("fluorescence", 96, 96, seed=2)
    assert image.dtype == np.uint16 and 255 < image.max() <= 4095
    assert np.array_equal(labels, same_labels)
    assert np.abs(image / 4095 - coarse / 255).max() <= 0.5 / 4095 + 0.5 / 255


@pytest.mark.parametrize("kind", synthetic.KINDS)
@pytest.mark.parametrize("height, width", [(1, 1), (1, 40), (33, 2), (7, 9), (17, 130)])
def test_any_size(kind, height, width):
    image, labels = draw(kind, height, width, diameter=12)
    assert image.shape == (height, width, 3) and labels.shape == (height, width)


def test_no_nuclei_is_a_valid_negative():
    for kind in synthetic.KINDS:
        image, labels = draw(kind, 64, 64, num_nuclei=0)
        assert labels.max() == 0 and image.std() > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("xray", 64, 64),
        ("tissue", 0, 64),
        ("tissue", 64, 64, 5, 0),
        ("tissue", 64, 64, 5, 16, 0, 1.5),
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=str(arguments[0]) if arguments[0] == "xray" else "got"):
        draw(*arguments)


def test_wrong_dtype_is_named():
    with pytest.raises(ValueError, match="float32"):
        draw_picture(Picture("tissue", 8, 8, dtype="float32"))


def test_the_shipped_set_is_what_the_generator_draws():
    """Pixel by pixel, on this machine and this NumPy: the set can be made again anywhere."""
    present = [path for path in (REPOSITORY / "data" / "raw").iterdir() if path.name[0] != "."]
    if not all(synthetic.is_ours(path) for path in present):
        pytest.skip("data/raw holds images of another origin")
    expected = {folder: set() for folder in synthetic.FOLDERS}
    sizes, num_touching = set(), 0
    for raw, gt, stem, picture in synthetic.plan(synthetic.NUM_PAIRS, synthetic.SEED):
        image, labels = draw_picture(picture)
        with Image.open(REPOSITORY / raw / f"{stem}.png") as file:
            stored = np.asarray(file)
        if stored.ndim == 2:
            image = image[..., 0]
        assert stored.dtype == image.dtype and np.array_equal(stored, image), f"{raw}/{stem}.png"
        with Image.open(REPOSITORY / gt / f"{stem}.png") as file:
            assert np.array_equal(np.asarray(file), labels), f"{gt}/{stem}.png"
        expected[raw].add(f"{stem}.png")
        expected[gt].add(f"{stem}.png")
        sizes.add(labels.shape)
        num_touching += len(touching_pairs(labels))
    for folder, names in expected.items():
        assert {
            path.name for path in (REPOSITORY / folder).glob("*.*") if path.name[0] != "."
        } == names
    assert len(sizes) >= 5 and num_touching > 300
    files = [path for folder in synthetic.FOLDERS for path in (REPOSITORY / folder).iterdir()]
    assert sum(path.stat().st_size for path in files) < 3_000_000


def test_the_set_has_both_kinds_an_empty_image_and_sixteen_bits():
    entries = synthetic.plan(synthetic.NUM_PAIRS, synthetic.SEED)
    train = [stem for raw, _, stem, _ in entries if raw == "data/raw"]
    test = [stem for raw, _, stem, _ in entries if raw == "test_raw"]
    for kind, num_train, num_test in (("fluorescence", 18, 4), ("tissue", 14, 4)):
        assert sum(kind in stem for stem in train) == num_train
        assert sum(kind in stem for stem in test) == num_test
    assert set(train) >= synthetic.EMPTY | synthetic.SIXTEEN_BIT
    seeds = [entry.picture.seed for entry in entries]
    assert len(set(seeds)) == len(seeds)


def test_command_writes_a_set_and_writes_it_again(tmp_path, capsys):
    assert synthetic.main(["--out", str(tmp_path), "--num", "5", "--seed", "9"]) == 0
    assert "5 pairs" in capsys.readouterr().out
    files = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.png"))}
    assert len(files) == 14
    assert synthetic.main(["--out", str(tmp_path), "--num", "5", "--seed", "9"]) == 0
    assert files == {
        path: path.read_bytes() for path in sorted(tmp_path.rglob("*.*")) if path.is_file()
    }
    assert synthetic.main(["--out", str(tmp_path), "--num", "2", "--seed", "8"]) == 0
    assert len(list(tmp_path.rglob("*.png"))) == 6  # what the smaller set lacks is gone


def test_command_does_not_replace_files_of_other_origin(tmp_path, capsys):
    image_path = tmp_path / "data" / "raw" / "fluorescence_01.png"
    image_path.parent.mkdir(parents=True)
    Image.new("L", (4, 4)).save(image_path)
    note = image_path.with_name("note.txt")
    note.write_text("a list of the slides")
    (image_path.parent / ".DS_Store").write_bytes(b"\0")
    before = image_path.read_bytes()
    arguments = ["--out", str(tmp_path), "--num", "1"]
    assert synthetic.main(arguments) == 1
    error = capsys.readouterr().err
    assert all(word in error for word in (str(image_path), "note.txt", "--force"))
    assert error.count("\n") == 1
    assert image_path.read_bytes() == before and not (tmp_path / "data" / "gt").exists()
    assert synthetic.main([*arguments, "--force"]) == 0
    assert image_path.read_bytes() != before and note.exists()


def test_command_names_wrong_usage_and_a_folder_that_is_a_file(tmp_path, capsys):
    for wrong in (["--num", "0"], ["--seed", "-1"]):
        with pytest.raises(SystemExit) as stop:
            synthetic.main(wrong)
        assert stop.value.code == 2
    (tmp_path / "data").write_text("not a folder")
    assert synthetic.main(["--out", str(tmp_path), "--num", "1"]) == 1
    assert str(tmp_path / "data") in capsys.readouterr().err


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def full(self, file, **_):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        synthetic.write_png(tmp_path / "a.png", np.zeros((4, 4), dtype=np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_it_needs_nothing_of_the_project():
    tree = ast.parse(Path(synthetic.__file__).read_text(encoding="utf-8"))
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names) | {
        "numpy",
        "PIL",
        "scipy",
    }
