"""The nuclei of a tile survive being kept as a file."""

import numpy as np
import pytest

from nuclei.polygons import outlines, pack, unpack
from nuclei.slides.tile_nuclei import TileNuclei


def as_lists(nuclei):
    """Polygons of nuclei as plain lists, which compare."""
    return [[[ring.tolist() for ring in rings] for rings in polygons] for polygons in nuclei]


def worst_outlines():
    """Polygons with holes and pieces, worse than those of nuclei."""
    labels = np.random.default_rng(0).integers(0, 6, (40, 50)).astype(np.int32)
    return [polygons for _, polygons in outlines(labels)]


def test_outlines_survive_packing():
    polygons = worst_outlines()
    packed = unpack(**pack(polygons))
    assert len(packed) == len(polygons)
    assert as_lists(packed) == as_lists(polygons)
    assert unpack(**pack([])) == []


def test_nuclei_survive_their_file(tmp_path):
    polygons = worst_outlines()
    nuclei = TileNuclei(
        columns={"area_px": np.arange(5), "centroids": np.linspace(0, 1, 5)},  # a name used twice
        centroids=np.random.default_rng(0).normal(size=(5, 2)),
        **pack(polygons),
        undecided=0.1,
        probability=1 / 3,
        num_cut=2,
    )
    nuclei.save(tmp_path / "tile.npz")
    with np.load(tmp_path / "tile.npz") as arrays:
        assert len(arrays.files) == 7  # however many columns the table has: opening each costs time
    loaded = TileNuclei.load(tmp_path / "tile.npz")
    assert list(loaded.columns) == list(nuclei.columns) and len(loaded) == 5
    for name, values in nuclei.columns.items():
        np.testing.assert_array_equal(loaded.columns[name], values)
    np.testing.assert_array_equal(loaded.centroids, nuclei.centroids)
    assert as_lists(loaded.polygons) == as_lists(polygons)
    assert (loaded.undecided, loaded.probability, loaded.num_cut) == (0.1, 1 / 3, 2)


def test_a_file_of_another_version_counts_as_damaged(tmp_path):
    np.savez(tmp_path / "tile.npz", column_area_px=np.arange(5), centroids=np.zeros((5, 2)))
    with pytest.raises(KeyError):
        TileNuclei.load(tmp_path / "tile.npz")
