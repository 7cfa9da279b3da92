"""Public sets of two folders come in as they are, as a folder and as a zip."""

import gzip
import json

import numpy as np
import pytest
from images_tools import discs, save, tissue, zipped
from scipy.io import savemat

import import_data
from nuclei.datasets.folder_pairs import folder_pairs
from nuclei.datasets.pairs import find_pairs, read_pair

TRUTHS = [discs(seed=seed, count=4 + seed) for seed in range(4)]


def outlines(squares):
    """Aperio's XML of square nuclei."""
    regions = []
    for index in range(1, squares.max() + 1):
        rows, columns = np.nonzero(squares == index)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        corners = [(box[x], box[y]) for x, y in ((0, 1), (2, 1), (2, 3), (0, 3))]
        vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
        regions.append(f"<Region><Vertices>{vertices}</Vertices></Region>")
    return (
        f"<Annotations><Annotation><Regions>{''.join(regions)}</Regions></Annotation></Annotations>"
    )


def binary(labels):
    return (labels > 0) * np.uint8(255)


def nuinsseg(folder, kinds=("label masks modify", "label masks", "mask binary")):
    """Organs with their images and several kinds of truth, of which the first is the best."""
    for index, labels in enumerate(TRUTHS):
        organ, stem = ("human bladder", "mouse fat")[index // 2], f"organ_{index:02d}"
        save(folder / organ / "tissue images" / f"{stem}.png", tissue(labels))
        for place, kind in enumerate(kinds):
            if kind.startswith("mask"):
                save(folder / organ / kind / f"{stem}.png", binary(labels))
            else:  # another numbering of the overlaps: 1 nucleus more
                more = np.where(np.cumsum(labels > 0).reshape(labels.shape) <= 20, labels, 0) > 0
                ids = labels + (place > 0) * more * 100
                save(folder / organ / kind / f"{stem}.tif", ids.astype(np.uint16))
        save(folder / organ / "vague areas" / "mask binary" / f"{stem}.png", binary(labels[::-1]))
        save(folder / organ / "overlay" / f"{stem}.png", tissue(labels))
    return {f"organ_{index:02d}": labels for index, labels in enumerate(TRUTHS)}


def tnbc(folder):
    """Patients with their images and masks of two values."""
    truth = {}
    for index, labels in enumerate(TRUTHS):
        patient, stem = f"{1 + index // 3:02d}", f"{1 + index // 3:02d}_{1 + index % 3}"
        save(folder / f"Slide_{patient}" / f"{stem}.png", tissue(labels))
        save(folder / f"GT_{patient}" / f"{stem}.png", binary(labels))
        truth[stem] = labels
    return truth


def monuseg(folder):
    squares = np.kron(np.arange(12).reshape(3, 4), np.pad(np.ones((20, 20), np.int32), 6))
    (folder / "Annotations").mkdir(parents=True)
    for stem in ("TCGA-1", "TCGA-2"):
        save(folder / "Tissue Images" / f"{stem}.tif", tissue(squares))
        (folder / "Annotations" / f"{stem}.xml").write_text(outlines(squares))
    return {"TCGA-1": squares, "TCGA-2": squares}


def consep(folder):
    for part, labels in zip(("Train", "Test"), TRUTHS, strict=False):
        save(folder / part / "Images" / f"{part}_1.png", tissue(labels))
        (folder / part / "Labels").mkdir()
        savemat(folder / part / "Labels" / f"{part}_1.mat", {"inst_map": labels})
    return {"Train_1": TRUTHS[0], "Test_1": TRUTHS[1]}


def stardist(folder):
    for index, labels in enumerate(TRUTHS):
        part = folder / ("train", "test")[index // 2]
        save(part / "images" / f"{index}.tif", tissue(labels))
        save(part / "masks" / f"{index}_mask.tif", labels.astype(np.uint16))
    return {str(index): labels for index, labels in enumerate(TRUTHS)}


def bring_in(source, out, *flags):
    return import_data.main(["--from", str(source), "--out", str(out), *flags])


@pytest.mark.parametrize("is_zip", [False, True])
@pytest.mark.parametrize("layout", [nuinsseg, tnbc, monuseg, consep, stardist])
def test_a_public_set_becomes_pairs_as_they_are(tmp_path, capsys, layout, is_zip):
    source, out = tmp_path / "set", tmp_path / "data"
    truth = layout(source)
    given = zipped(source, tmp_path / "set.zip") if is_zip else source
    assert bring_in(given, out) == 0
    text = capsys.readouterr().out
    num_nuclei = sum(int(labels.max()) for labels in truth.values())
    assert f"{len(truth)} imported, 0 already there, {num_nuclei} nuclei\n" in text
    assert "without" not in text and "several folders" not in text
    contents = {path.read_bytes() for path in source.rglob("*.*")}
    pairs = find_pairs(out / "raw", out / "gt")
    assert [*pairs] == sorted(truth)
    for stem, paths in pairs.items():
        image, found = read_pair(*paths)
        assert found.labels.max() == truth[stem].max(), found.form
        np.testing.assert_array_equal(found.labels > 0, truth[stem] > 0)
        np.testing.assert_array_equal(image, tissue(truth[stem]))
        assert {path.read_bytes() for path in paths} <= contents
    assert bring_in(given, out) == 0
    assert f"0 imported, {len(truth)} already there" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["gt", "raw"]


@pytest.mark.parametrize("kinds", [("label masks",), ("mask binary",)])
def test_the_best_truth_at_hand_is_taken(tmp_path, kinds):
    truth = nuinsseg(tmp_path / "set", kinds)
    assert bring_in(tmp_path / "set", tmp_path / "out") == 0
    for stem, paths in find_pairs(tmp_path / "out/raw", tmp_path / "out/gt").items():
        assert read_pair(*paths)[1].labels.max() == truth[stem].max()


def test_each_image_has_the_best_truth_that_there_is_of_it(tmp_path, capsys):
    truth = nuinsseg(tmp_path / "set")
    for folder, kept in (("label masks modify", 1), ("label masks", 2)):
        for path in sorted((tmp_path / "set").rglob(f"{folder}/*"))[kept:]:
            path.unlink()
    assert bring_in(tmp_path / "set", tmp_path / "out") == 0
    kinds = "mask binary (2), label masks modify (1), label masks (1)"
    assert f"Their truth comes from several folders: {kinds}" in capsys.readouterr().out
    pairs = find_pairs(tmp_path / "out/raw", tmp_path / "out/gt")
    assert [*pairs] == [*truth]
    assert [path.suffix for _, path in pairs.values()] == [".tif", ".tif", ".png", ".png"]


def test_bad_files_are_named_and_the_others_are_done(tmp_path, capsys):
    source = tmp_path / "set"
    tnbc(source)
    save(source / "GT_01" / "01_1.png", binary(TRUTHS[0])[1:])
    (source / "GT_01" / "01_2.png").write_bytes(b"no image")
    save(source / "Slide_01" / "01_3.jpg", tissue(TRUTHS[2]))
    save(source / "GT_02" / "02_1.tif", binary(TRUTHS[3]))
    for place in ("03", "04"):
        save(source / f"Slide_{place}" / "03_1.png", tissue(TRUTHS[3]))
        save(source / f"GT_{place}" / "03_1.png", binary(TRUTHS[3]))
    for index in range(4):
        (source / "Slide_04" / f"bad {index}.png").write_bytes(b"")
        (source / "GT_04" / f"bad {index}.png").write_bytes(b"")
    (source / "Slide_04" / "a\nb.png").write_bytes(b"")
    (source / "GT_04" / "a\nb.png").write_bytes(b"")
    (source / "Slide_01" / "Thumbs.db").write_bytes(b"x")
    assert bring_in(source, tmp_path / "data", "--quiet") == 1
    out, error = capsys.readouterr()
    assert out == "" and "Not imported: 10 images" in error and "    and 5 more\n" in error
    assert error.count("\n") == 7
    for part in (
        "Slide_01/01_1: set/GT_01/01_1.png has 95 x 112 px (height x width), its image "
        "set/Slide_01/01_1.png 96 x 112",
        "01_2.png is no image",
        "Slide_01/01_3: 2 files of one name (01_3.jpg, 01_3.png); keep one of them",
        "Slide_02/02_1: 2 files of one name (02_1.png, 02_1.tif); keep one of them",
    ):
        assert part in error
    assert [path.name for path in (tmp_path / "data/raw").iterdir()] == ["03_1.png"]
    (source / "Slide_04" / "a\nb.png").unlink()
    for path in source.glob("*/bad*"):
        path.unlink()
    assert bring_in(source, tmp_path / "data") == 1
    twice = "Slide_04/03_1: it is there twice; rename one, or import each folder into an --out of"
    assert twice in capsys.readouterr().err


def test_halves_of_pairs_are_named(tmp_path, capsys):
    source = tmp_path / "set"
    tnbc(source)
    for path in (source / "Slide_01").glob("01_[23].png"):
        path.unlink()  # one image is left, and three truths
    for index in (1, 2):
        save(source / "Slide_05" / f"05_{index}.png", tissue(TRUTHS[0]))  # no GT_05
    save(source / "Slide_02" / "02_2.png", tissue(TRUTHS[0]))
    save(source / "GT_02" / "02_1_b.png", binary(TRUTHS[0]))
    save(source / "GT_06" / "06_1.png", binary(TRUTHS[0]))  # no Slide_06
    assert bring_in(source, tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "2 imported" in text
    alone = "set/Slide_02/02_2.png, set/Slide_05/05_1.png, set/Slide_05/05_2.png"
    assert f"Left out: 3 images without truth: {alone}\n" in text
    truths = "set/GT_01/01_2.png, set/GT_01/01_3.png, set/GT_02/02_1_b.png, set/GT_06/06_1.png"
    assert f"Left out: 4 truths without image: {truths}\n" in text


def test_a_part_without_any_truth_is_named(tmp_path, capsys):
    for part, truth in (("train", "masks"), ("val", "labels"), ("test", None), ("more", "masks")):
        for index in range(2):
            if part != "more":
                save(tmp_path / "set/images" / part / f"{part}{index}.png", tissue(TRUTHS[0]))
            if truth:
                path = tmp_path / "set" / truth / part / f"{part}{index}.png"
                save(path, TRUTHS[0].astype(np.uint16))
    save(tmp_path / "set/other/images" / "a.png", tissue(TRUTHS[0]))
    save(tmp_path / "set/else/masks" / "b.png", binary(TRUTHS[0]))
    save(tmp_path / "set/third/labels" / "c.png", binary(TRUTHS[0]))
    assert bring_in(tmp_path / "set", tmp_path / "out") == 0
    text = capsys.readouterr().out
    images = "set/images/test/test0.png, set/images/test/test1.png, set/other/images/a.png"
    assert "4 imported" in text and f"Left out: 3 images without truth: {images}\n" in text
    assert (
        "Left out: 2 truths without image: set/third/labels/c.png, set/else/masks/b.png\n" in text
    )


NAMES = [  # of an image and its truth, as docs/formats.md has them
    ("a.png", "a.png"),
    ("a b.PNG", "a b_mask.TIF"),
    ("a.ome.tif", "a.png"),
    ("a_img.png", "a_masks.png"),
    ("a.png", "a_cp_masks.png"),
    ("a.png", "a_seg.npy"),
    ("u\u0308.png", "\u00fc.png"),
    ("a.jpg", "a.geojson.gz"),
]


@pytest.mark.parametrize(("image", "truth"), NAMES)
@pytest.mark.parametrize("folders", ["images masks", "Image MASK", "images/train labels/train"])
def test_names_pair_as_in_raw_and_gt(tmp_path, folders, image, truth):
    places = [tmp_path / "set" / folder for folder in folders.split()]
    for stem in ("", "2"):
        save(places[0] / f"{stem}{image}", tissue(TRUTHS[0]))
        path = places[1] / f"{stem}{truth}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if truth.endswith("npy"):
            np.save(path, TRUTHS[0])
        elif truth.endswith("gz"):
            path.write_bytes(gzip.compress(json.dumps(geojson(TRUTHS[0])).encode()))
        else:
            save(path.with_suffix(path.suffix.lower()), TRUTHS[0].astype(np.uint16)).rename(path)
    assert bring_in(tmp_path / "set", tmp_path / "out") == 0
    pairs = find_pairs(tmp_path / "out/raw", tmp_path / "out/gt")
    assert [read_pair(*paths)[1].labels.max() for paths in pairs.values()] == [4, 4]
    for path in (tmp_path / "out").rglob("*.*"):
        assert path.suffix == path.suffix.lower()


def geojson(labels):
    """QuPath's outlines of discs, as squares."""
    features = []
    for index in range(1, labels.max() + 1):
        rows, columns = np.nonzero(labels == index)
        left, right, top, bottom = columns.min(), columns.max(), rows.min(), rows.max()
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        ring = [[int(x), int(y)] for x, y in corners]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": {}})
    return {"type": "FeatureCollection", "features": features}


def test_folders_that_differ_in_capitals_keep_their_own_truth(tmp_path):
    for place, stem, labels in (("A", "x", TRUTHS[0]), ("a", "y", TRUTHS[3])):
        save(tmp_path / "set" / place / "images" / f"{stem}.png", tissue(labels))
        save(tmp_path / "set" / place / "masks" / f"{stem}.png", labels.astype(np.uint16))
    assert bring_in(tmp_path / "set", tmp_path / "out") == 0
    pairs = find_pairs(tmp_path / "out/raw", tmp_path / "out/gt")
    counts = {stem: read_pair(*paths)[1].labels.max() for stem, paths in pairs.items()}
    assert counts == {"x": 4, "y": 7}


def test_ids_that_tell_nuclei_apart_come_before_masks(tmp_path):
    for index, labels in enumerate(TRUTHS):
        save(tmp_path / "set" / "images" / f"{index}.png", tissue(labels))
        save(tmp_path / "set" / "masks" / f"{index}.png", binary(labels))
        save(tmp_path / "set" / "labels" / f"{index}.png", labels.astype(np.uint16))
    assert bring_in(tmp_path / "set", tmp_path / "out") == 0
    for paths in find_pairs(tmp_path / "out/raw", tmp_path / "out/gt").values():
        assert read_pair(*paths)[1].form == "instances"


def test_a_truth_of_another_form_is_replaced_when_asked(tmp_path, capsys):
    source, out = tmp_path / "set", tmp_path / "out"
    nuinsseg(source, ("mask binary",))
    assert bring_in(source, out) == 0
    nuinsseg(source)
    capsys.readouterr()
    assert bring_in(source, out) == 0
    assert "0 imported, 4 already there" in capsys.readouterr().out
    assert {path.suffix for path in (out / "gt").iterdir()} == {".png"}
    assert bring_in(source, out, "--overwrite") == 0
    assert "4 imported, 0 already there, 22 nuclei, 4 replaced" in capsys.readouterr().out
    assert {path.suffix for path in (out / "gt").iterdir()} == {".tif"}
    assert len(find_pairs(out / "raw", out / "gt")) == 4


def test_images_with_other_files_beside_them_are_no_pairs():
    names = ["s/images/a.png", "s/labels/a.txt", "s/masks/b.png", "s/Slide_1/a.png", "s/GT_2/a.png"]
    assert folder_pairs(names) == ({}, set())
    names = ["s/images/._a.png", "s/masks/._a.png", "__MACOSX/images/a.png", "__MACOSX/masks/a.png"]
    assert folder_pairs(names) == ({}, set())
    assert folder_pairs(["s/Slide_x/a.png", "s/GT_x/a.png"]) == ({}, set())
