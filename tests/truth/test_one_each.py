"""One mask for each nucleus, in the pages of a TIFF or the planes of an array."""

import numpy as np
import pytest
import tifffile
from images_tools import discs, same_partition

from nuclei.truth.masks import read_truth

LABELS = discs()
PLANES = np.stack([number == LABELS for number in range(1, 10)])


def write(path, planes):
    if path.suffix == ".npz":
        np.savez_compressed(path, planes)
    elif path.suffix == ".npy":
        np.save(path, planes)
    else:
        tifffile.imwrite(path, planes, photometric="minisblack")
    return path


@pytest.mark.parametrize("white", [True, np.uint8(1), np.uint8(255)])
@pytest.mark.parametrize("name", ["a.npy", "last.npy", "a.npz", "a.tif"])
def test_masks_become_nuclei(tmp_path, name, white):
    planes = PLANES if white is True else PLANES * white
    if name == "last.npy":
        planes = np.moveaxis(planes, 0, -1)
    if name == "a.tif":
        planes = planes.astype(np.uint8)
    truth = read_truth(write(tmp_path / name, planes), LABELS.shape)
    assert truth.form == "instances" and same_partition(truth.labels, LABELS)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("axis", [0, 2])
def test_few_masks_are_no_channels_of_a_known_set(tmp_path, number, axis):
    masks = np.moveaxis(PLANES[:number], 0, axis)
    labels = read_truth(write(tmp_path / "a.npy", masks), LABELS.shape).labels
    assert labels.max() == number and ((labels > 0) == PLANES[:number].any(axis=0)).all()
    assert same_partition(read_truth(tmp_path / "a.npy").labels, labels)


def test_the_smaller_of_two_masks_lies_on_top(tmp_path):
    planes = np.zeros((2, 40, 50), bool)
    planes[0, 10:14, 10:14] = True
    planes[1, 5:30, 5:30] = True
    assert np.bincount(read_truth(write(tmp_path / "a.npy", planes)).labels.ravel()).tolist()[
        1:
    ] == [16, 609]


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_other_stacks_are_refused_by_name(tmp_path, suffix):
    classes = np.stack([LABELS > 4, (LABELS > 0) & (LABELS < 5), LABELS == 0] * 3)
    grey = np.random.default_rng(0).integers(0, 255, (9, *LABELS.shape)).astype(np.uint8)
    empty = np.zeros((9, *LABELS.shape), np.uint8)
    for planes, words in ((classes, "several pieces"), (grey, "a"), (empty, "a")):
        path = write(tmp_path / f"a{suffix}", planes.astype(np.uint8))
        with pytest.raises(ValueError, match=f"a{suffix} .* stack .*{words}.*expected one"):
            read_truth(path, LABELS.shape)


def test_an_archive_of_arrays_is_read_by_the_names_in_it(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((5, 5)), labels=LABELS)
    assert same_partition(read_truth(tmp_path / "a.npz").labels, LABELS)
    np.savez(tmp_path / "a.npz", one=LABELS, two=LABELS)
    with pytest.raises(ValueError, match="has the variables one, two and no inst_map"):
        read_truth(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="a.npz is damaged"):
        read_truth(tmp_path / "a.npz")
