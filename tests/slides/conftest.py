"""The slides that the tests of this folder share."""

import pytest
from slides_tools import draw_tissue, write_pyramid, write_svs, write_zarr


@pytest.fixture(scope="session")
def tissue():
    """(400, 600, 3) uint8: touching nuclei, with background at the right."""
    return draw_tissue()


@pytest.fixture(scope="session")
def readable(tissue, tmp_path_factory):
    """{kind: path} of the same slide in each format."""
    folder = tmp_path_factory.mktemp("readable")
    return {
        "ome": write_pyramid(folder / "a.ome.tif", tissue),
        "plain": write_pyramid(folder / "b.tif", tissue, compression="zlib"),
        "zarr": write_zarr(folder / "c.zarr", tissue),
        "zarr 0.5": write_zarr(folder / "d.zarr", tissue, version="0.5"),
        "svs": write_svs(folder / "e.svs", tissue),
    }
