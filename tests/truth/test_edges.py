"""Sets that leave out the nuclei at the edges of their images are known, and others are not."""

import numpy as np
import pytest
from images_tools import discs, fluorescence, save, tissue

import import_data
from nuclei.images.modality import nuclear_light
from nuclei.training.samples import load_samples
from nuclei.truth.edges import MIN_IMAGES, Edges, edge_depth_px, edge_void

SIDE = 160


def scene(seed):
    """Labels of an image whose edges cut nuclei: (SIDE, SIDE) int32."""
    return discs(SIDE + 40, SIDE + 40, count=64, radius=9, seed=seed)[20:-20, 20:-20]


def without_cut(labels):
    """The same without the nuclei that an edge cuts."""
    edges = np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    return np.where(np.isin(labels, edges), 0, labels)


def leave_out(picture, truth_of, num=MIN_IMAGES, **options):
    """What `Edges` says of a set of drawn images."""
    edges = Edges()
    for seed in range(num):
        labels = scene(seed)
        edges.add(nuclear_light(picture(labels, seed=seed)), truth_of(labels), **options)
    return edges.leave_out_nuclei()


def glowing(labels, seed):
    return np.dstack([fluorescence(labels, seed=seed)] * 3)


@pytest.mark.parametrize("picture", [glowing, tissue])
def test_nuclei_that_are_there_and_not_in_the_truth_are_noticed(picture):
    assert leave_out(picture, without_cut)
    assert not leave_out(picture, lambda labels: labels)
    half = lambda labels: np.where(labels % 2, labels, without_cut(labels))
    assert leave_out(picture, half)  # as in NuInsSeg


def test_images_without_nuclei_at_their_edges_leave_nothing_out():
    picture = lambda labels, seed: glowing(without_cut(labels), seed)
    assert not leave_out(picture, without_cut)


def test_few_images_small_ones_and_empty_ones_say_nothing():
    assert not leave_out(glowing, without_cut, num=MIN_IMAGES - 1)
    assert not leave_out(glowing, np.zeros_like)
    assert not leave_out(lambda labels, seed: glowing(labels[:80], seed), lambda _: scene(0)[:80])
    assert not leave_out(glowing, without_cut, void=edge_void((SIDE, SIDE), 4))


def test_the_void_is_half_a_nucleus_wide():
    assert edge_depth_px([20, 21, 90]) == 11
    void = edge_void((50, 70), 11)
    assert not void[11:-11, 11:-11].any() and void.sum() == 50 * 70 - 28 * 48


def test_training_leaves_such_edges_out_and_the_check_says_so(tmp_path, capsys):
    for seed in range(MIN_IMAGES):
        labels = scene(seed)
        save(tmp_path / "raw" / f"{seed}.png", fluorescence(labels, seed=seed))
        save(tmp_path / "gt" / f"{seed}.png", without_cut(labels).astype(np.uint16))
    lines = []
    samples, _ = load_samples(tmp_path / "raw", tmp_path / "gt", lines.append, tmp_path)
    depth_px = edge_depth_px([samples["0"].diameter_px])
    for sample in samples.values():
        assert np.array_equal(sample.void, edge_void((SIDE, SIDE), depth_px))
        assert np.array_equal(sample.unscored, sample.void)
    assert sum(line.startswith("Nuclei that the edge of an image cuts") for line in lines) == 1
    assert import_data.main([str(tmp_path)]) == 0
    assert "Nuclei that the edge of an image cuts" in capsys.readouterr().out
