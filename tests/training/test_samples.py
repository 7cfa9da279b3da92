"""Training images are read whole, divided, weighted, and what cannot be learned from is refused."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from outline_tools import write_json
from PIL import Image
from scipy import io
from training_samples import sample
from training_tools import write_data, write_pair

from nuclei.training.division import choose_split
from nuclei.training.samples import check_instances, fingerprint, load_samples, nucleus_size
from nuclei.training.shares import GROUP_POWER, sampling_shares


def load(data, say=lambda line: None, **options):
    return load_samples(data / "raw", data / "gt", say, **options)


def test_rare_groups_are_shown_more_often_than_their_number_says():
    samples = [sample(group="many") for _ in range(16)] + [sample(group="few")]
    shares = sampling_shares(samples, 128)
    assert shares.sum() == pytest.approx(1)
    assert shares[-1] == pytest.approx(1 / (1 + 16**GROUP_POWER)) and 1 / 17 < shares[-1] < 1 / 2
    assert np.ptp(shares[:-1]) == pytest.approx(0)


def test_larger_images_are_drawn_more_often():
    large = sample(labels=np.zeros((512, 512), np.int32), image=np.zeros((512, 512, 3), np.uint8))
    shares = sampling_shares([sample(), large], 64)
    assert shares[1] > shares[0]


def test_binary_truth_counts_as_components_unless_other_truth_has_instances(tmp_path):
    write_pair(tmp_path, "a", binary=True)
    lines = []
    samples, forms = load(tmp_path, lines.append)
    check_instances(samples, forms, lines.append)
    assert samples["a"].has_instances and forms["a"] == "binary" and "learned as one" in lines[0]
    write_pair(tmp_path, "b", seed=1)
    samples, forms = load(tmp_path)
    check_instances(samples, forms, lines.append)
    assert not samples["a"].has_instances and samples["b"].has_instances
    assert samples["b"].is_clump is None and samples["a"].is_clump is not None
    assert "1 masks are binary among instance labels" in lines[-1]


def test_unpaired_files_are_counted(tmp_path):
    write_pair(tmp_path, "a")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "raw" / "alone.png")
    lines = []
    load(tmp_path, lines.append)
    assert "1 files" in lines[0]


def test_one_file_of_truth_serves_all_images_and_what_it_leaves_out_is_said(tmp_path):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b", seed=1)
    regions = [{"shape_attributes": {"name": "circle", "cx": 20, "cy": 20, "r": 9}}]
    regions.append({"shape_attributes": {"name": "point", "cx": 20, "cy": 20}})
    for stem in "ab":
        (tmp_path / "gt" / f"{stem}.png").unlink()
    write_json(
        tmp_path / "gt" / "via.json",
        {stem: {"filename": f"{stem}.png", "regions": regions} for stem in "ab"},
    )
    lines = []
    samples, forms = load(tmp_path, lines.append)
    assert forms == {"a": "instances", "b": "instances"} and samples["b"].labels.max() == 1
    assert lines[0].startswith("Left out of 2 files of ground truth: via.json: points or lines 1")


def test_pairs_that_cannot_be_used_are_named(tmp_path):
    write_pair(tmp_path, "a")
    (tmp_path / "raw" / "b.png").write_text("text")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "gt" / "b.png")
    with pytest.raises(ValueError, match=r"1 of 2 pairs cannot be used: .*b\.png"):
        load(tmp_path)


def test_masks_without_any_nucleus_are_refused(tmp_path):
    write_pair(tmp_path, "a")
    Image.fromarray(np.zeros((48, 56), np.uint8)).save(tmp_path / "gt" / "a.png")
    with pytest.raises(ValueError, match="none of the 1 masks holds a nucleus"):
        load(tmp_path)


def test_more_images_than_memory_holds_lie_in_a_file_and_are_the_same(tmp_path, monkeypatch):
    for number in range(4):
        write_pair(tmp_path, f"f{number}", "fluorescence", number)
        write_pair(tmp_path, f"t{number}", "tissue", number)
    held, _ = load(tmp_path)
    monkeypatch.setattr("nuclei.training.store.HELD_BYTES", 40_000)  # two pairs of some 19,000
    lines, folder = [], tmp_path / "out"
    samples, _ = load(tmp_path, lines.append, folder=folder)
    is_mapped = [
        isinstance(sample.image, np.memmap) and isinstance(sample.labels, np.memmap)
        for sample in samples.values()
    ]
    assert is_mapped == [False] * 2 + [True] * 6
    assert "the rest lies in a temporary file" in lines[0] and not list(folder.iterdir())
    assert fingerprint(samples) == fingerprint(held)


def test_the_fingerprint_changes_with_one_pixel_of_image_or_labels():
    first = fingerprint({"a": sample()})
    assert fingerprint({"a": sample()}) == first and len(first) == 16
    for name in ("image", "labels"):
        changed = sample()
        getattr(changed, name)[0, 0] += 1
        assert fingerprint({"a": changed}) != first
    assert fingerprint({"b": sample()}) != first


def test_a_random_split_is_a_function_of_its_seed_and_has_all_groups():
    samples = {f"{group}{k}": sample(group=group) for group in ("x", "y") for k in range(10)}
    train, validation = choose_split(samples, None, seed=1)
    assert sorted(train + validation) == sorted(samples)
    assert {stem[0] for stem in validation} == {"x", "y"} and len(validation) < len(train)
    assert choose_split(samples, None, seed=1) == (train, validation)
    assert choose_split(samples, None, seed=2) != (train, validation)


def test_fields_of_one_image_stay_on_one_side_unless_there_is_no_other():
    group = SimpleNamespace(group="tissue")
    stems = [f"{image}_x{x}_y0" for image in "abcdefgh" for x in (0, 256, 512)] + ["i", "j"]
    for seed in range(5):
        train, validation = choose_split(dict.fromkeys(stems, group), None, seed)
        assert sorted(train + validation) == sorted(stems) and validation
        assert not {stem[0] for stem in train} & {stem[0] for stem in validation}
    one_slide = [f"a_x{x}_y0" for x in range(10)]
    train, validation = choose_split(dict.fromkeys(one_slide, group), None, 0)
    assert len(validation) == 2 and not set(train) & set(validation)


def test_a_split_file_decides_and_may_leave_images_out(tmp_path):
    samples = {stem: sample() for stem in "abcd"}
    path, lines = tmp_path / "split.csv", []
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("stem", "split"), ("a", "train"), ("b", "validation"), ("c", "test")]
        )
    assert choose_split(samples, path, 0, lines.append) == (["a"], ["b"])
    assert "2 images" in lines[0] and "c" in lines[0] and "d" in lines[0]
    with pytest.raises(ValueError, match="no stem of the data is marked train"):
        choose_split({"b": sample()}, path, 0)


def test_one_image_validates_itself():
    lines = []
    assert choose_split({"a": sample()}, None, 0, lines.append) == (["a"], ["a"])
    assert "No validation images" in lines[0]


def test_nucleus_sizes_are_those_of_circles():
    labels = np.zeros((100, 100), np.int32)
    y, x = np.mgrid[:100, :100]
    for k, (row, radius) in enumerate(((20, 8), (50, 10), (80, 14)), start=1):
        labels[(y - row) ** 2 + (x - 50) ** 2 <= radius**2] = k
    size = nucleus_size([sample(labels=labels)])
    assert size["median"] == pytest.approx(20, rel=0.03)
    assert size["percentile_5"] < 20 < size["percentile_95"]
    empty = nucleus_size([sample(labels=np.zeros((5, 5), np.int32))])
    assert set(empty.values()) == {0}


@pytest.mark.parametrize("suffix", [".npy", ".mat"])
def test_truth_with_columns_first_can_be_trained_on(tmp_path, suffix):
    data = write_data(tmp_path, num_pairs=2)
    expected, _ = load_samples(data / "raw", data / "gt", print, tmp_path)
    for path in list((data / "gt").iterdir()):
        labels = np.asarray(Image.open(path), order="F").astype(np.int32, order="F")
        path.unlink()
        if suffix == ".npy":
            np.save(path.with_suffix(".npy"), labels)
        else:
            io.savemat(path.with_suffix(".mat"), {"inst_map": labels})
    samples, _ = load_samples(data / "raw", data / "gt", print, tmp_path)
    assert fingerprint(samples) == fingerprint(expected)
