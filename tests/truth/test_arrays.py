"""Arrays of Cellpose, HoVer-Net, PanNuke and CoNIC, and pickles that are never run."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest
from images_tools import discs, fluorescence, save
from scipy import io, ndimage

import import_data
from nuclei.datasets.pairs import find_pairs, read_pair
from nuclei.images.reading import read_stored
from nuclei.truth.arrays import read_array
from nuclei.truth.inert_pickle import plain_data
from nuclei.truth.masks import read_truth

LABELS = discs()


def cellpose(masks):
    """The dictionary that Cellpose saves as _seg.npy."""
    return {
        "outlines": masks > 3,
        "masks": masks,
        "chan_choose": [0, 0],
        "ismanual": np.zeros(3, bool),
        "filename": Path("a.png"),
        "names": np.array(["a", "b"]),
        "colours": OrderedDict(a=1),
        "flows": [np.zeros((1, 4), np.float32), [np.float32(3)], None],
        "est_diam": np.float64(12.5),
    }


@pytest.mark.parametrize("dtype", ["uint16", "int32", ">u2", "float64", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_cellpose_masks_are_read_from_seg_npy(tmp_path, dtype, order):
    masks = np.asarray(LABELS, dtype, order=order)
    np.save(tmp_path / "a_seg.npy", cellpose(masks), allow_pickle=True)
    np.testing.assert_array_equal(read_array(tmp_path / "a_seg.npy"), masks)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols_give_the_same_arrays(protocol):
    data = plain_data(pickle.dumps(cellpose(LABELS), protocol=protocol))
    np.testing.assert_array_equal(data["masks"], LABELS)
    assert data["masks"].dtype == LABELS.dtype and data["chan_choose"] == [0, 0]


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_nothing_that_a_pickle_names_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a_seg.npy", {"masks": LABELS, "x": Harmful()}, allow_pickle=True)
    np.testing.assert_array_equal(read_array("a_seg.npy"), LABELS)
    np.save("b_seg.npy", {"masks": Harmful()}, allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects without ids.*Save masks as PNG"):
        read_array("b_seg.npy")
    assert not (tmp_path / "harm").exists()
    (tmp_path / "c_seg.npy").write_bytes((tmp_path / "a_seg.npy").read_bytes()[:-400])
    with pytest.raises(ValueError, match="c_seg.npy is damaged"):
        read_array("c_seg.npy")


def test_hostile_pickles_neither_fill_the_memory_nor_run_for_ever():
    huge_index = b"\x80\x02Nr\xff\xff\xff\xff."  # an entry far behind the end of a list
    assert plain_data(huge_index) is None
    shared = {}
    for _ in range(60):
        shared = {"a": shared, "b": shared}  # 2 ** 60 entries if each were visited
    assert set(plain_data(pickle.dumps(shared))) == {"a", "b"}


def test_the_outputs_of_cellpose_pair_with_their_image(tmp_path):
    raw, gt = tmp_path / "raw", tmp_path / "gt"
    for stem in ("a", "b", "c_img", "d", "e_seg"):
        save(raw / f"{stem}.png", fluorescence(LABELS))
    gt.mkdir()
    np.save(gt / "a_seg.npy", cellpose(LABELS), allow_pickle=True)
    for name in ("b_cp_masks.png", "c_masks.png", "d_masks.tif", "e_seg.png"):
        save(gt / name, LABELS.astype(np.uint16))
    pairs = find_pairs(raw, gt)
    assert {stem: truth.name for stem, (_, truth) in pairs.items()} == {
        "a": "a_seg.npy",
        "b": "b_cp_masks.png",
        "c_img": "c_masks.png",
        "d": "d_masks.tif",
        "e_seg": "e_seg.png",
    }
    for pair in pairs.values():
        np.testing.assert_array_equal(read_pair(*pair)[1].labels, LABELS)


def test_maps_of_hover_net_in_old_and_new_files_of_matlab(tmp_path):
    values = {"inst_map": LABELS.astype(float), "inst_type": np.ones((9, 1)), "id": np.eye(3)}
    io.savemat(tmp_path / "a.mat", values, do_compression=True)
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:
        file["inst_map"] = LABELS.T
    (tmp_path / "b.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(512) + (tmp_path / "b.mat").read_bytes()[512:]
    )
    io.savemat(tmp_path / "c.mat", {"anything": LABELS, "note": "text"})
    for name in "abc":
        truth = read_truth(tmp_path / f"{name}.mat")
        assert truth.labels.flags.c_contiguous  # as all others that training reads
        np.testing.assert_array_equal(truth.labels, LABELS)
        assert truth.form == "instances"
    io.savemat(tmp_path / "d.mat", {"x": np.eye(3), "y": np.eye(4)})
    with pytest.raises(ValueError, match="variables x, y and no inst_map"):
        read_truth(tmp_path / "d.mat")


def pannuke(labels):
    """(H, W, 6) float64: ids by class, each class from 1 on, and the background."""
    result = np.zeros((*labels.shape, 6))
    for number in range(1, labels.max() + 1):
        result[labels == number, number % 5] = (number + 4) // 5
    result[..., 5] = labels == 0
    return result


def test_channels_of_known_sets(tmp_path):
    layers = np.dstack([LABELS] * 3)
    for array in (
        LABELS,
        LABELS[None],
        LABELS[..., None],
        np.dstack([LABELS, LABELS > 0]),  # CoNIC
        np.dstack([layers * 7, LABELS]),  # patches of HoVer-Net
        pannuke(LABELS),
    ):
        np.save(tmp_path / "a.npy", array)
        assert read_truth(tmp_path / "a.npy").labels.max() == 9
    for array, words in (
        (np.zeros((4, 20, 20, 6)), "4 x 20 x 20 x 6, a stack or a whole set.*--from FOLDER"),
        (np.zeros((4, 20, 20)), "a stack or a whole set"),
        (layers, "has the shape"),
        (np.zeros(5), "has the shape"),
        (np.array(["a"]), "dtype"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match=words):
            read_truth(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.mat"])
def test_damaged_arrays_end_in_one_line(tmp_path, name):
    path = tmp_path / name
    for content in (b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'", b"\x89HDF\r\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is damaged or no file of ids"):
            read_array(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_array(path)
    with open(tmp_path / "bomb.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**7)}
        )
    with pytest.raises(ValueError, match="declares 10000000 x 10000000 px"):
        read_array(tmp_path / "bomb.npy")


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_one_mask_for_each_nucleus_is_known_whatever_their_number(tmp_path, count, axis, dtype):
    labels = discs(64, 66, count=count, seed=1)
    masks = [(labels == number).astype(dtype) for number in range(1, count + 1)]
    np.save(tmp_path / "a.npy", np.stack(masks, axis))
    for shape in (labels.shape, None):
        found = read_truth(tmp_path / "a.npy", shape).labels
        assert found.max() == count
        np.testing.assert_array_equal(found > 0, labels > 0)


def test_interiors_and_their_borders_are_no_masks_of_single_nuclei(tmp_path):
    for count in (1, 4):
        labels = discs(64, 66, count=count, seed=1)
        inside = ndimage.binary_erosion(labels > 0, iterations=2)
        planes = np.stack([inside, (labels > 0) & ~inside], -1).astype(np.uint8)
        np.save(tmp_path / "a.npy", planes)
        found = read_truth(tmp_path / "a.npy", labels.shape).labels
        np.testing.assert_array_equal(found > 0, inside)


def test_floats_up_to_one_are_imported_bright(tmp_path):
    truths = [discs(64, 64, count=4, seed=seed) for seed in range(2)]
    images = np.stack([np.dstack([fluorescence(labels)] * 3) for labels in truths])
    np.save(tmp_path / "images.npy", (images / 255).astype(np.float32))
    np.save(tmp_path / "labels.npy", np.stack([np.dstack([one, one]) for one in truths]))
    assert import_data.main(["--from", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    for path, image in zip(sorted((tmp_path / "out/raw").iterdir()), images, strict=True):
        np.testing.assert_array_equal(read_stored(path).pixels, image)


@pytest.mark.parametrize("conic", [False, True])
def test_sets_of_pannuke_and_conic_are_imported(tmp_path, capsys, conic):
    truths = [discs(64, 64, count=4, seed=seed) for seed in range(3)]
    images = np.stack([np.dstack([fluorescence(labels)] * 3) for labels in truths])
    first, second = tmp_path / "Fold 1/images/fold1", tmp_path / "Fold 1/masks/fold1"
    if conic:
        first = second = tmp_path / "Fold 1"
    for folder in (first, second):
        folder.mkdir(parents=True, exist_ok=True)
    np.save(first / "images.npy", images.astype(float))
    masks = [np.dstack([labels, labels]) if conic else pannuke(labels) for labels in truths]
    np.save(second / ("labels.npy" if conic else "masks.npy"), np.stack(masks))
    arguments = ["--from", str(tmp_path / "Fold 1"), "--out", str(tmp_path / "out")]
    assert import_data.main(arguments) == 0
    text = capsys.readouterr().out
    assert "3 imported, 0 already there" in text and "12 nuclei" in text
    pairs = find_pairs(tmp_path / "out/raw", tmp_path / "out/gt")
    assert [stem[-6:] for stem in pairs] == ["_00000", "_00001", "_00002"]
    for pair, image, labels in zip(pairs.values(), images, truths, strict=True):
        read_image, truth = read_pair(*pair)
        np.testing.assert_array_equal(read_image, image)
        np.testing.assert_array_equal(truth.labels > 0, labels > 0)
    assert import_data.main(arguments) == 0 and "0 imported, 3 already" in capsys.readouterr().out
    np.save(first / "images.npy", images[:2] * 3.0)
    assert import_data.main([*arguments, "--overwrite"]) == 1
    assert "of the same N, H and W" in capsys.readouterr().err
    np.save(first / "images.npy", images * 3.0)
    assert import_data.main([*arguments, "--overwrite"]) == 1
    assert "Not imported: 3 images" in capsys.readouterr().err
    content = (first / "images.npy").read_bytes()
    shape = content[content.index(b"'shape': (") + 10 :].split(b",")[0]
    endless = content.replace(b"(" + shape, b"(" + b"9" * 19).replace(b" " * 18 + b"\n", b"\n", 1)
    for damaged in (
        b"no array",
        b"",
        content[:40],
        content.replace(b"'shape'", b"shaped "),
        content.replace(b"False", b"Fals("),
        content.replace(b"False", b"alsoF"),
        endless,
    ):
        (first / "images.npy").write_bytes(damaged)
        assert import_data.main(arguments) == 1
        error = capsys.readouterr().err
        assert "images.npy is no array of numbers" in error
        assert "object at" not in error and error.count("\n") == 1


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 4, 5)])
def test_arrays_without_a_pixel_are_named(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.int32))
    with pytest.raises(ValueError, match=r"a\.npy has the shape .* no pixel"):
        read_array(tmp_path / "a.npy")
