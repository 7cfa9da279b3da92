"""Public sets of two folders come in as they are, as a folder and as a zip."""

import numpy as np
import pytest
from images_tools import discs, dsb2018, save, tissue, zipped
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


@pytest.mark.parametrize("is_zip", [False, True])
@pytest.mark.parametrize("layout", [nuinsseg, tnbc, monuseg, consep, stardist])
def test_a_public_set_becomes_pairs_as_they_are(tmp_path, capsys, layout, is_zip):
    source, out = tmp_path / "set", tmp_path / "data"
    truth = layout(source)
    given = zipped(source, tmp_path / "set.zip") if is_zip else source
    arguments = ["--from", str(given), "--out", str(out)]
    assert import_data.main(arguments) == 0
    text = capsys.readouterr().out
    num_nuclei = sum(int(labels.max()) for labels in truth.values())
    assert f"{len(truth)} imported, 0 already there, 0 without image or masks" in text
    assert f"{num_nuclei} nuclei" in text
    contents = {path.read_bytes() for path in source.rglob("*.*")}
    pairs = find_pairs(out / "raw", out / "gt")
    assert [*pairs] == sorted(truth)
    for stem, paths in pairs.items():
        image, found = read_pair(*paths)
        assert found.labels.max() == truth[stem].max(), found.form
        np.testing.assert_array_equal(found.labels > 0, truth[stem] > 0)
        np.testing.assert_array_equal(image, tissue(truth[stem]))
        assert {path.read_bytes() for path in paths} <= contents
    assert import_data.main(arguments) == 0
    assert f"0 imported, {len(truth)} already there" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["gt", "raw"]


@pytest.mark.parametrize("kinds", [("label masks",), ("mask binary",)])
def test_the_best_truth_at_hand_is_taken(tmp_path, kinds):
    truth = nuinsseg(tmp_path / "set", kinds)
    assert import_data.main(["--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    for stem, paths in find_pairs(tmp_path / "out/raw", tmp_path / "out/gt").items():
        assert read_pair(*paths)[1].labels.max() == truth[stem].max()


def test_bad_files_are_named_and_the_others_are_done(tmp_path, capsys):
    source = tmp_path / "set"
    truth = tnbc(source)
    save(source / "Slide_01" / "01_9.png", tissue(TRUTHS[0]))  # no truth
    save(source / "GT_01" / "01_1.png", binary(TRUTHS[0])[1:])
    (source / "GT_01" / "01_2.png").write_bytes(b"no image")
    save(source / "Slide_01" / "01_3.jpg", tissue(TRUTHS[2]))
    (source / "Slide_01" / "Thumbs.db").write_bytes(b"x")
    save(source / "Slide_03" / "02_1.png", tissue(TRUTHS[3]))
    save(source / "GT_03" / "02_1.png", binary(TRUTHS[3]))
    assert import_data.main(["--from", str(source), "--out", str(tmp_path / "data")]) == 1
    text = capsys.readouterr().out
    assert "1 imported, 0 already there, 1 without image or masks" in text
    for part in (
        "Slide_01/01_1: set/GT_01/01_1.png has 95 x 112 px (height x width), its image "
        "set/Slide_01/01_1.png 96 x 112",
        "01_2.png is no image",
        "Slide_01/01_3: 2 images; expected one",
        "Slide_03/02_1: it is there twice; rename one, or import each folder into an --out of its",
    ):
        assert part in text
    assert [path.name for path in (tmp_path / "data/raw").iterdir()] == ["02_1.png"]
    assert "02_1" in truth


def test_a_truth_of_another_form_is_replaced_when_asked(tmp_path, capsys):
    source, out = tmp_path / "set", tmp_path / "out"
    nuinsseg(source, ("mask binary",))
    assert import_data.main(["--from", str(source), "--out", str(out)]) == 0
    nuinsseg(source)
    assert import_data.main(["--from", str(source), "--out", str(out)]) == 0
    assert "0 imported, 4 already there" in capsys.readouterr().out
    assert {path.suffix for path in (out / "gt").iterdir()} == {".png"}
    assert import_data.main(["--from", str(source), "--out", str(out), "--overwrite"]) == 0
    assert {path.suffix for path in (out / "gt").iterdir()} == {".tif"}
    assert len(find_pairs(out / "raw", out / "gt")) == 4


@pytest.mark.parametrize("num_masks", [2, 5])
def test_several_masks_of_one_image_are_nuclei_not_truths(tmp_path, capsys, num_masks):
    """DSB2018 as a user may copy it: the first mask has the name of the image."""
    dsb2018(tmp_path / "set", 2)
    for stem in ("id0", "id1"):
        masks = sorted((tmp_path / "set" / stem / "masks").iterdir())
        masks[0].rename(masks[0].with_name(f"{stem}.png"))
        for path in masks[num_masks:]:
            path.unlink()
    assert import_data.main(["--from", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    assert f"2 imported, 0 already there, 0 without image or masks, {2 * num_masks} nuclei" in (
        capsys.readouterr().out
    )


def test_images_with_other_files_beside_them_are_no_pairs():
    names = ["s/images/a.png", "s/labels/a.txt", "s/masks/b.png", "s/Slide_1/a.png", "s/GT_2/a.png"]
    assert folder_pairs(names) == {}
    names = ["s/images/._a.png", "s/masks/._a.png", "__MACOSX/images/a.png", "__MACOSX/masks/a.png"]
    assert folder_pairs(names) == {}
