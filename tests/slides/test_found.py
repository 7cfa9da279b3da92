"""The files of a slide hold the same nuclei in every format."""

import gzip
import json
import zipfile

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import tifffile
import zarr
from slides_tools import FORMATS, find, write_pyramid

from nuclei.images.intensity import normalise
from nuclei.images.reading import read_image
from nuclei.slides.formats import open_slide
from nuclei.slides.found import write_parquet_parts
from nuclei.slides.overview import draw_nuclei
from nuclei.truth.masks import read_truth


@pytest.fixture(scope="module")
def out(readable, tmp_path_factory):
    """A folder with all formats of a slide."""
    folder = tmp_path_factory.mktemp("out")
    find(open_slide(readable["ome"]), folder, mpp=0.5).write(folder, FORMATS)
    return folder


@pytest.fixture(scope="module")
def areas(readable, tmp_path_factory):
    found = find(open_slide(readable["ome"]), tmp_path_factory.mktemp("areas"))
    return np.concatenate([table["area_px"] for table, _ in found.parts()])


@pytest.fixture(scope="module")
def labels(out):
    """The label image, from the OME-Zarr."""
    return zarr.open_group(out / "omezarr" / "s.zarr", mode="r")["0"][:]


def test_an_omezarr_is_a_pyramid_of_labels(out, tissue, labels, areas):
    group = zarr.open_group(out / "omezarr" / "s.zarr", mode="r")
    assert labels.shape == tissue.shape[:2] and labels.max() == len(areas)
    np.testing.assert_array_equal(np.bincount(labels.ravel())[1:], areas)
    np.testing.assert_array_equal(group["1"][:], labels[::2, ::2])
    level = group.attrs["multiscales"][0]["datasets"][1]
    assert level["coordinateTransformations"][0]["scale"] == [1.0, 1.0]


def test_an_ometiff_holds_the_same_labels(out, labels):
    with tifffile.TiffFile(out / "ometiff" / "s.ome.tif") as tiff:
        np.testing.assert_array_equal(tiff.series[0].asarray(), labels)
        assert len(tiff.series[0].levels) == 2 and 'PhysicalSizeX="0.5"' in tiff.ome_metadata


def test_geojson_is_the_same_packed_or_not(out, tissue, labels, areas):
    plain = (out / "geojson" / "s.geojson").read_bytes()
    assert gzip.decompress((out / "geojson" / "s.geojson.gz").read_bytes()) == plain
    with zipfile.ZipFile(out / "geojson" / "s.geojson.zip") as archive:
        assert archive.read("s.geojson") == plain
    features = json.loads(plain)["features"]
    areas_of_features = [one["properties"]["measurements"]["Area µm^2"] for one in features]
    assert areas_of_features == (areas / 4).tolist()  # 0.5 µm per pixel
    assert len({feature["id"] for feature in features}) == len(areas)
    read = read_truth(out / "geojson" / "s.geojson", tissue.shape[:2]).labels
    np.testing.assert_array_equal(read > 0, labels > 0)


def test_parquet_holds_the_table(out, labels, areas):
    table = pd.read_parquet(out / "parquet" / "s.parquet")
    assert table["id"].tolist() == list(range(1, len(areas) + 1))
    assert table["area_px"].tolist() == areas.tolist()
    rows, columns = (table[f"centroid_{axis}_px"].astype(int) for axis in ("row", "column"))
    assert (labels[rows, columns] == table["id"]).mean() > 0.95


def test_the_types_of_parquet_do_not_hang_on_an_empty_first_tile(tmp_path):
    """The first tile may own no nucleus, and a column of no strings has no type."""
    full = pd.DataFrame({"image": ["s", "s"], "id": [1, 2], "positive": [0.0, np.nan]})
    empty = pd.DataFrame({"image": pd.Series([], dtype=object), "id": [], "positive": []})
    schemas = []
    for tables, expected in (([empty, full, empty, full], 4), ([full], 2), ([empty], 0)):
        write_parquet_parts(tmp_path / "s.parquet", iter(tables))
        table = pd.read_parquet(tmp_path / "s.parquet")
        assert len(table) == expected and list(table) == list(full)
        schemas.append(pyarrow.parquet.read_schema(tmp_path / "s.parquet"))
    assert schemas[0].equals(schemas[1]) and schemas[0].equals(schemas[2])


def test_an_overlay_has_the_size_of_a_small_slide(out, tissue):
    assert read_image(out / "overlays" / "s.jpg").shape == tissue.shape


def test_a_small_overview_shows_how_many_nuclei_there_are(readable, tmp_path, monkeypatch):
    monkeypatch.setattr("nuclei.slides.search.OVERVIEW_PX", 120)
    found = find(open_slide(readable["ome"]), tmp_path)
    before = (normalise(found.overview, found.setup.intensity) * 255).round()
    picture = draw_nuclei(found.overview, found.setup, found.parts())
    changed = (picture != before).any(axis=-1)
    assert changed[:, :60].mean() > 0.4 and changed.shape[1] <= 120


def test_a_slide_without_nuclei_has_empty_files(tmp_path):
    background = np.full((300, 400, 3), 241, np.uint8)
    slide = open_slide(write_pyramid(tmp_path / "empty.ome.tif", background, mpp=None))
    find(slide, tmp_path, stem="g", scale=None).write(tmp_path, FORMATS)
    assert json.loads((tmp_path / "geojson" / "g.geojson").read_text())["features"] == []
    assert not zarr.open_group(tmp_path / "omezarr" / "g.zarr")["0"][:].any()
