"""Exports: each format is read back by the library that its users have; corrected outlines come back as the same nuclei."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
import tracemalloc
import uuid
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import roifile
import shapely
import tifffile
from PIL import Image
from pycocotools.coco import COCO
from skimage.measure import regionprops
from synthetic import draw

import evaluate
import exports
import import_data
from nuclei.formats.coco import write_coco
from nuclei.formats.geojson import geojson_features, write_features
from nuclei.formats.imagej import write_imagej
from nuclei.formats.label_images import write_ometiff, write_omezarr
from nuclei.formats.registry import FORMATS, Nuclei
from nuclei.images.labels import without_gaps
from nuclei.images.masks import read_truth
from nuclei.images.pairs import find_pairs, find_truths, read_pair
from nuclei.instances.matching import match
from nuclei.instances.measure import measure
from nuclei.model_file import load_network, save_model
from nuclei.polygons import fill, outlines, pack_runs, unpack_runs
from nuclei.results.image import write_results
from nuclei.training.samples import load_samples
from unet import HEADS, build_unet

ROOT = Path(exports.__file__).parent


def odd_shapes():
    """What separation may hand on at worst: holes, pieces that touch by a corner, a lone pixel, a ring with a kernel."""
    labels = np.zeros((40, 50), np.int32)
    labels[2:9, 2:9] = 1
    labels[4:6, 4:6] = 0  # a hole
    labels[6, 6] = 0  # and one that touches it by a corner
    labels[12, 3] = labels[13, 4] = 2  # two pixels that share a corner
    labels[20, 20] = 3
    labels[25:34, 25:34] = 4
    labels[27:32, 27:32] = 0
    labels[28:31, 28:31] = 5  # in the ring
    labels[35:40, 40:50] = 6  # at the border
    labels[0, 0] = labels[0, 30] = 7  # two pieces far apart
    return labels


@pytest.fixture(scope="module")
def pictures():
    """{stem: (image, labels)}: both kinds, and the odd shapes."""
    made = {
        "tissue": draw("tissue", 120, 150, num_nuclei=14, diameter=20, seed=3, touching=0.6),
        "cells": draw("fluorescence", 90, 130, num_nuclei=9, diameter=16, seed=4, touching=0.4),
    }
    labels = odd_shapes()
    return {**made, "odd": (np.where(labels[..., None] > 0, 200, 30).repeat(3, axis=2).astype(np.uint8), labels)}


@pytest.fixture(scope="module")
def predictions(pictures, tmp_path_factory):
    """A folder as predict.py leaves it, with the images beside it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "raw").mkdir()
    for stem, (image, labels) in pictures.items():
        Image.fromarray(image).save(folder / "raw" / f"{stem}.png")
        maps = np.stack([np.where(labels > 0, 0.9, 0.1)] * 2, axis=-1).astype(np.float32)
        write_results(
            folder / "out", stem, Path(f"{stem}.png"), image, (0.0, 255.0), labels, maps, 1.0, {}, 1.0, "model",
            formats=("labels", "csv"),
        )  # fmt: skip
    return folder / "out"


def nuclei_of(pictures, stem, mpp=None):
    image, labels = pictures[stem]
    table = pd.DataFrame(measure(labels, image, stained=stem == "tissue", mpp=mpp))
    return Nuclei(stem, f"{stem}.png", labels, table, mpp)


def run(*arguments):
    return exports.main([str(argument) for argument in arguments])


def worst_overlap(truth, came):
    """IoU of each true nucleus with the one that has most of it; the smallest of all."""
    matching = match(truth, came)
    best = np.zeros(truth.max() + 1)
    np.maximum.at(best, matching.truth_ids, matching.iou)
    return best[1:].min()


# --- Outlines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["tissue", "cells", "odd"])
def test_outlines_enclose_exactly_the_pixels_of_each_nucleus(pictures, stem):
    labels = pictures[stem][1]
    seen = []
    for index, polygons in outlines(labels):
        seen.append(index)
        shape = shapely.MultiPolygon([(rings[0], rings[1:]) for rings in polygons])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == (labels == index).sum()
        np.testing.assert_array_equal(fill(polygons, labels.shape), np.flatnonzero(labels == index))
    assert seen == list(range(1, labels.max() + 1))


def test_any_outline_is_exact_and_has_no_needless_corner():
    random = np.random.default_rng(0)
    for share in np.linspace(0.2, 0.9, 30):
        labels = ((random.random((11, 12)) < share) * random.integers(1, 3, (11, 12))).astype(np.int32)
        for index, polygons in outlines(labels):
            np.testing.assert_array_equal(fill(polygons, labels.shape), np.flatnonzero(labels == index))
            assert shapely.MultiPolygon([(rings[0], rings[1:]) for rings in polygons]).is_valid
            for ring in (ring for rings in polygons for ring in rings):
                steps = np.roll(ring, -1, axis=0) - ring
                assert (np.count_nonzero(steps, axis=1) == 1).all()  # along the edges
                upright = steps[:, 0] != 0
                assert (upright != np.roll(upright, 1)).all()  # every corner turns


def test_an_id_without_pixels_has_no_outline():
    assert [index for index, _ in outlines(np.array([[0, 3], [0, 1]], np.int32))] == [1, 3]


# --- Measurements ---------------------------------------------------------------------------------------------------


def test_there_are_some_forty_measurements_and_those_of_a_known_shape_are_right():
    labels = np.zeros((60, 80), np.int32)
    labels[10:20, 20:60] = 1  # 10 x 40, along the rows
    labels[20:30, 20:30] = 2  # touches it
    labels[50:55, 5:10] = 3  # far from both
    image = np.full((60, 80, 3), 255, np.uint8)
    image[labels == 1] = (100, 60, 120)
    table = measure(labels, image, stained=True, mpp=0.5)
    in_px = [name for name in table if not name.endswith(("_um", "_um2"))]
    assert 38 <= len(in_px) <= 46
    assert len({len(np.atleast_1d(values)) for values in table.values()}) == 1
    first = {name: values[0] for name, values in table.items()}
    assert first["area_px"] == 400 and first["area_um2"] == 100
    assert first["convex_area_px"] == 400 and first["solidity"] == 1 and first["extent"] == 1
    assert first["narrowest_px"] == 10 and first["longest_px"] == pytest.approx(np.hypot(10, 40), abs=0.01)
    assert first["orientation_degrees"] in (0, 180) and first["aspect_ratio"] == pytest.approx(4, abs=0.1)
    assert (first["box_top_px"], first["box_left_px"], first["box_height_px"], first["box_width_px"]) == (10, 20, 10, 40)
    assert first["std_intensity"] == 0 and first["min_intensity"] == first["max_intensity"] == first["mean_intensity"]
    assert table["touching_nuclei"].tolist() == [1, 1, 0]
    assert table["nuclei_nearby"].tolist() == [2, 2, 2]
    assert table["nearest_id"].tolist() == [2, 1, 2]
    assert table["nearest_distance_um"] == pytest.approx(np.array(table["nearest_distance_px"]) / 2)
    assert table["touches_border"].tolist() == [0, 0, 0]


def test_shapes_agree_with_scikit_image(pictures):
    for _, labels in pictures.values():
        table = measure(labels)
        regions = regionprops(labels)
        for name, theirs in (
            ("perimeter_px", "perimeter"), ("major_axis_px", "axis_major_length"), ("minor_axis_px", "axis_minor_length"),
            ("eccentricity", "eccentricity"), ("extent", "extent"), ("area_px", "area"),
        ):  # fmt: skip
            np.testing.assert_allclose(table[name], [region[theirs] for region in regions], atol=0.006, err_msg=name)
        np.testing.assert_allclose(
            np.stack([table["centroid_row_px"], table["centroid_column_px"]], axis=1), [r.centroid for r in regions], atol=0.006
        )
        boxes = np.stack([table[f"box_{side}_px"] for side in ("top", "left", "height", "width")], axis=1)
        assert boxes.tolist() == [[*r.bbox[:2], r.bbox[2] - r.bbox[0], r.bbox[3] - r.bbox[1]] for r in regions]


def test_a_diagonal_leans_the_way_that_is_said():
    rising = np.fliplr(np.eye(30, dtype=np.int32))  # from the lower left to the upper right
    assert measure(rising)["orientation_degrees"][0] == pytest.approx(45, abs=1)
    assert measure(np.eye(30, dtype=np.int32))["orientation_degrees"][0] == pytest.approx(135, abs=1)


def test_stains_are_told_apart_by_their_colour():
    labels = np.zeros((9, 30), np.int32)
    for index in (1, 2, 3):
        labels[2:7, 10 * index - 8 : 10 * index - 3] = index
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])  # Ruifrok & Johnston 2001
    image = np.full((9, 30, 3), 255, np.uint8)
    for index, vector in enumerate(vectors, 1):
        image[labels == index] = np.round(256 * 10 ** (-0.6 * vector) - 1)
    table = measure(labels, image, stained=True)
    found = np.stack([table["haematoxylin_od"], table["eosin_od"], table["dab_od"]], axis=1)
    np.testing.assert_allclose(found, 0.6 * np.eye(3), atol=0.02)
    deep = measure(labels, image.astype(np.uint16) * 257, stained=True)  # the same light in 16 bits
    np.testing.assert_allclose(deep["haematoxylin_od"], table["haematoxylin_od"], atol=0.02)
    assert np.isnan(measure(labels, image)["haematoxylin_od"]).all()
    assert "mean_intensity" not in measure(labels)


def test_neighbours_agree_with_counting_them_one_by_one(pictures):
    labels = pictures["tissue"][1]
    table = measure(labels)
    grown = [np.pad(labels == index, 1) for index in table["id"]]
    for row, mine in enumerate(grown):
        around = np.zeros_like(mine)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                around |= np.roll(mine, (down, right), (0, 1))
        assert table["touching_nuclei"][row] == sum((around & other).any() for other in grown) - 1


def test_a_ring_and_its_kernel_are_each_others_nearest():
    labels = np.zeros((30, 30), np.int32)
    labels[5:16, 5:16], labels[7:14, 7:14], labels[9:12, 9:12] = 1, 0, 2
    labels[25:28, 25:28] = 3
    table = measure(labels)
    assert table["nearest_id"].tolist()[:2] == [2, 1] and table["nearest_distance_px"].tolist()[:2] == [0, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_nucleus_are_measured(count):
    labels = np.zeros((12, 12), np.int32)
    labels[3:6, 3:6] = count
    table = measure(labels, np.zeros((12, 12, 3), np.uint8), np.ones((12, 12, 2), np.float32), True, 0.25)
    assert all(len(values) == count for values in table.values())
    if count:
        assert table["nearest_id"][0] == 0 and np.isnan(table["nearest_distance_px"][0])


# --- Each format, read by what its users have -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["geojson", "geojson.gz", "geojson.zip"])
def test_geojson_has_what_qupath_reads(pictures, predictions, tmp_path, name):
    assert run(predictions, "--formats", name, "--out", tmp_path, "--mpp", "0.25") == 0
    for stem, (_, labels) in pictures.items():
        path = tmp_path / "geojson" / f"{stem}.{name}"
        if name.endswith("zip"):
            with zipfile.ZipFile(path) as archive:
                assert archive.namelist() == [f"{stem}.geojson"]
                text = archive.read(f"{stem}.geojson")
        else:
            text = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
        collection = json.loads(text)
        assert collection["type"] == "FeatureCollection" and len(collection["features"]) == labels.max()
        errors, seen = [], set()
        for index, feature in enumerate(collection["features"], 1):
            assert feature["type"] == "Feature"
            seen.add(str(uuid.UUID(feature["id"])))
            properties = feature["properties"]
            assert properties["objectType"] == "detection" and properties["name"] == f"Nucleus {index}"
            assert properties["classification"] == {"name": "Nucleus", "color": [255, 221, 0]}
            assert all(isinstance(value, float) for value in properties["measurements"].values())
            shape = shapely.from_geojson(json.dumps(feature["geometry"]))  # GEOS, the port of QuPath's own JTS
            assert shape.is_valid
            area = (labels == index).sum()
            errors.append(abs(shape.area - area) / area)
            assert properties["measurements"]["area_px"] == area
            assert properties["measurements"]["area_um2"] == pytest.approx(area / 16, abs=1e-3)
            assert properties["measurements"]["mean_probability"] == pytest.approx(0.9)
            rows, columns = np.nonzero(labels == index)
            assert shape.bounds == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)  # (x, y)
        assert len(seen) == labels.max()
        assert max(errors) == 0  # 0.005 would do


def test_a_uuid_belongs_to_a_nucleus_not_to_its_number(pictures):
    nuclei = nuclei_of(pictures, "cells")
    before = {feature["id"] for feature in geojson_features(nuclei)}
    fewer = without_gaps(np.where(nuclei.labels == 1, 0, nuclei.labels))
    table = pd.DataFrame(measure(fewer))
    after = {feature["id"] for feature in geojson_features(nuclei._replace(labels=fewer, table=table))}
    assert after < before and len(before - after) == 1
    assert not before & {feature["id"] for feature in geojson_features(nuclei._replace(stem="other"))}


@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz", ".geojson.zip"])
def test_features_are_streamed(tmp_path, suffix):
    """10,000 nuclei pass through without being held: the peak stays below what 500 of them take."""
    feature = next(geojson_features(Nuclei("x", "x", np.ones((6, 6), np.int32), pd.DataFrame({"id": [1]}))))
    tracemalloc.start()
    try:
        held = [json.loads(json.dumps(feature)) for _ in range(500)]
        enough = tracemalloc.get_traced_memory()[0]
        del held
        tracemalloc.reset_peak()
        write_features(tmp_path / f"many{suffix}", (dict(feature, id=str(n)) for n in range(10_000)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < enough
    if suffix == ".geojson":
        assert len(json.loads((tmp_path / "many.geojson").read_text())["features"]) == 10_000


def test_imagej_rois_are_read_by_roifile(pictures, predictions, tmp_path):
    assert run(predictions, "--formats", "imagej", "--out", tmp_path) == 0
    for stem, (_, labels) in pictures.items():
        rois = roifile.roiread(tmp_path / "imagej" / f"{stem}.zip")
        assert [roi.name for roi in rois] == [f"nucleus_{index:06d}" for index in range(1, labels.max() + 1)]
        for index, roi in enumerate(rois, 1):
            rows, columns = np.nonzero(labels == index)
            points = np.concatenate(roi.coordinates(multi=True))
            assert points.min(axis=0).tolist() == [columns.min(), rows.min()]
            assert points.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
            assert roi.composite == (stem == "odd" and index in (1, 2, 4, 7))


def test_an_image_too_wide_for_imagej_is_refused(tmp_path):
    labels = np.zeros((1, 60_536), np.int32)
    nuclei = Nuclei("wide", "wide.png", labels, pd.DataFrame(measure(labels)))
    with pytest.raises(ValueError, match="60535 px: export it as geojson"):
        write_imagej(tmp_path / "wide.zip", nuclei)
    assert not list(tmp_path.iterdir())


def test_coco_is_read_by_pycocotools(pictures, predictions, tmp_path, capsys):
    assert run(predictions, "--formats", "coco", "--out", tmp_path) == 0
    for stem, (_, labels) in pictures.items():
        coco = COCO(tmp_path / "coco" / f"{stem}.json")
        image = coco.loadImgs(coco.getImgIds())[0]
        assert (image["file_name"], image["height"], image["width"]) == (f"{stem}.png", *labels.shape)
        assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["Nucleus"]
        annotations = coco.loadAnns(coco.getAnnIds())
        assert len(annotations) == labels.max()
        for index, annotation in enumerate(annotations, 1):
            mask = coco.annToMask(annotation) > 0
            mine = labels == index
            assert annotation["area"] == mine.sum() and annotation["score"] == pytest.approx(0.9)
            assert (mask & mine).sum() / (mask | mine).sum() >= 0.98, (stem, index)
            rows, columns = np.nonzero(mine)
            assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def test_run_lengths_agree_with_pycocotools_both_ways():
    from pycocotools import mask as coco_mask

    random = np.random.default_rng(1)
    for share in (0, 0.02, 0.5, 0.98, 1):
        mask = random.random((37, 150)) < share
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        np.testing.assert_array_equal(unpack_runs(encoded["counts"].decode(), mask.shape), np.flatnonzero(mask))
        runs = pack_runs(mask)
        np.testing.assert_array_equal(unpack_runs(runs, mask.shape), np.flatnonzero(mask))
        packed = coco_mask.frPyObjects({"size": list(mask.shape), "counts": runs}, *mask.shape)
        np.testing.assert_array_equal(coco_mask.decode(packed) > 0, mask)


def test_holes_at_both_ends_of_the_picture_keep_their_runs(tmp_path):
    for labels in (np.ones((9, 9), np.int32), np.pad(np.ones((5, 5), np.int32), ((0, 4), (4, 0)))):
        labels[2, 6] = 0
        nuclei = Nuclei("x", "x.png", labels, pd.DataFrame(measure(labels)))
        write_coco(tmp_path / "x.json", nuclei)
        coco = COCO(tmp_path / "x.json")
        np.testing.assert_array_equal(coco.annToMask(coco.loadAnns(coco.getAnnIds())[0]), labels)


def test_ometiff_is_a_tiled_pyramid_of_ids_with_pixel_size(tmp_path):
    labels = np.zeros((700, 1300), np.int32)
    labels[100:180, 200:260], labels[650:, 1200:], labels[300, 300] = 1, 70_000, 3
    nuclei = Nuclei("slide", "slide.svs", labels, pd.DataFrame(), mpp=0.25)
    write_ometiff(tmp_path / "slide.ome.tif", nuclei)
    with tifffile.TiffFile(tmp_path / "slide.ome.tif") as tiff:
        assert tiff.is_ome and len(tiff.series) == 1
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(700, 1300), (350, 650), (175, 325)]
        for number, level in enumerate(levels):
            assert level.dtype == np.uint32 and level.pages[0].is_tiled
            np.testing.assert_array_equal(level.asarray(), labels[:: 1 << number, :: 1 << number])
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert pixels["PhysicalSizeX"] == pixels["PhysicalSizeY"] == 0.25 and pixels["PhysicalSizeXUnit"] == "µm"
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert numerator / denominator == 40_000  # per centimetre
    write_ometiff(tmp_path / "plain.ome.tif", nuclei._replace(mpp=None))
    with tifffile.TiffFile(tmp_path / "plain.ome.tif") as tiff:
        assert "PhysicalSizeX" not in tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]


def test_omezarr_is_a_pyramid_of_labels_and_replaces_whole(tmp_path):
    import zarr

    labels = np.zeros((600, 1100), np.int32)
    labels[100:180, 200:260], labels[550:, 1000:] = 1, 70_000
    nuclei = Nuclei("slide", "slide.svs", labels, pd.DataFrame(), mpp=0.25)
    for mpp in (0.25, None):
        write_omezarr(tmp_path / "slide.zarr", nuclei._replace(mpp=mpp))
        group = zarr.open_group(tmp_path / "slide.zarr", mode="r")
        assert group.attrs["image-label"] == {"version": "0.4"}
        (multiscale,) = group.attrs["multiscales"]
        assert multiscale["version"] == "0.4" and [axis["name"] for axis in multiscale["axes"]] == ["y", "x"]
        assert {axis.get("unit") for axis in multiscale["axes"]} == {"micrometer" if mpp else None}
        for number, level in enumerate(multiscale["datasets"]):
            assert level["coordinateTransformations"][0]["scale"] == [(mpp or 1) * 2**number] * 2
            assert group[level["path"]].dtype == np.uint32
            np.testing.assert_array_equal(group[level["path"]][:], labels[:: 1 << number, :: 1 << number])
        assert len(multiscale["datasets"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["slide.zarr"]


def test_tables_are_read_by_pandas_one_by_one_and_as_a_folder(pictures, predictions, tmp_path):
    assert run(predictions, "--formats", "csv,parquet", "--out", tmp_path, "--mpp", "0.5") == 0
    for stem, (_, labels) in pictures.items():
        frames = [pd.read_csv(tmp_path / "csv" / f"{stem}.csv"), pd.read_parquet(tmp_path / "parquet" / f"{stem}.parquet")]
        for frame in frames:
            assert frame["id"].tolist() == list(range(1, labels.max() + 1)) and set(frame["image"]) == {stem}
            np.testing.assert_allclose(frame["area_um2"], np.bincount(labels.ravel())[1:] / 4)
        assert list(frames[0]) == list(frames[1])
    everything = pd.read_parquet(tmp_path / "parquet")
    assert len(everything) == sum(labels.max() for _, labels in pictures.values())


# --- The script -----------------------------------------------------------------------------------------------------


def test_what_is_written_twice_is_equal_to_the_byte_and_nothing_is_overwritten_unasked(predictions, tmp_path, capsys):
    formats = ",".join(FORMATS)
    for out in ("one", "two"):
        assert run(predictions, "--formats", formats, "--out", tmp_path / out) == 0

    def contents(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two") and len(one) > 27
    mine = tmp_path / "one" / "geojson" / "cells.geojson"
    mine.write_text("corrected by hand")
    capsys.readouterr()
    assert run(predictions, "--formats", formats, "--out", tmp_path / "one") == 0
    said = capsys.readouterr().out
    assert "0 files written" in said and "27 files were there already and are kept" in said
    assert mine.read_text() == "corrected by hand"
    assert run(predictions, "--formats", formats, "--out", tmp_path / "one", "--overwrite") == 0
    assert contents(tmp_path / "one") == one


def test_without_arguments_the_standard_folder_becomes_geojson(predictions, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "predictions").symlink_to(predictions)
    assert run() == 0
    assert sorted(path.name for path in (predictions / "geojson").iterdir()) == [
        "cells.geojson",
        "odd.geojson",
        "tissue.geojson",
    ]
    assert "3 files written to predictions/" in capsys.readouterr().out


def test_the_pixel_size_that_predict_was_told_is_kept(pictures, tmp_path):
    image, labels = pictures["cells"]
    maps = np.full((*labels.shape, 2), 0.9, np.float32)
    for stem, mpp in (("known", 0.25), ("unknown", None)):
        write_results(
            tmp_path, stem, Path(f"{stem}.png"), image, (0.0, 255.0), labels, maps, 1.0, {}, 1.0, "model", mpp=mpp,
            formats=("labels", "csv", "geojson"),
        )  # fmt: skip
    before = (tmp_path / "geojson" / "known.geojson").read_bytes()
    assert run(tmp_path, "--formats", "ometiff,geojson", "--overwrite") == 0
    for stem, known in (("known", True), ("unknown", False)):
        with tifffile.TiffFile(tmp_path / "ometiff" / f"{stem}.ome.tif") as tiff:
            assert ('PhysicalSizeX="0.25"' in tiff.ome_metadata) is known
        assert ("area_um2" in (tmp_path / "geojson" / f"{stem}.geojson").read_text()) is known
    assert (tmp_path / "geojson" / "known.geojson").read_bytes() == before  # the same from predict.py and from here


def test_label_images_alone_are_measured_by_their_images(pictures, predictions, tmp_path):
    raw = predictions.parent / "raw"
    assert run(predictions / "labels", "--formats", "csv", "--out", tmp_path / "shape") == 0
    assert run(predictions / "labels", "--formats", "csv", "--out", tmp_path / "light", "--images", raw) == 0
    shape, light = (pd.read_csv(tmp_path / name / "csv" / "tissue.csv") for name in ("shape", "light"))
    assert "mean_intensity" not in shape and light["haematoxylin_od"].notna().all()
    # Measured anew, what only the network knew is kept.
    assert run(predictions, "--formats", "csv", "--out", tmp_path / "anew", "--images", raw) == 0
    anew = pd.read_csv(tmp_path / "anew" / "csv" / "tissue.csv")
    assert anew["mean_probability"].tolist() == pytest.approx([0.9] * len(anew))
    pd.testing.assert_frame_equal(anew[list(light)], light)


def test_an_image_without_nuclei_is_exported_too(tmp_path):
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(tmp_path / "labels" / "none.png")
    pd.DataFrame({"image": [], "id": [], "area_px": []}).to_csv(tmp_path / "nuclei.csv", index=False)
    assert run(tmp_path, "--formats", ",".join(FORMATS)) == 0
    assert json.loads((tmp_path / "geojson" / "none.geojson").read_text())["features"] == []
    assert not read_truth(tmp_path / "geojson" / "none.geojson", (20, 30)).labels.any()
    assert not read_truth(tmp_path / "coco" / "none.json", (20, 30)).labels.any()
    assert not read_truth(tmp_path / "imagej" / "none.zip", (20, 30)).labels.any()


def test_what_does_not_fit_together_ends_in_one_line(predictions, tmp_path, capsys):
    def fails(*arguments, word):
        assert run(*arguments, "--out", tmp_path / "out") == 1
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1, error

    fails(tmp_path / "nowhere", word="does not exist")
    folder = tmp_path / "labels"
    folder.mkdir()
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(folder / "a.png")
    fails(tmp_path, word="a mask of 0 and 255")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "a.png")
    fails(tmp_path, word="no label image")
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(folder / "a.png")
    (tmp_path / "nuclei.csv").write_text("image,id\na,1\n")
    fails(tmp_path, word="nuclei.csv 1 rows")
    (tmp_path / "nuclei.csv").unlink()
    fails(tmp_path, "--images", predictions.parent / "raw", word="lacks the images of 1 label images: a")
    (tmp_path / "raw").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "raw" / "a.png")
    fails(tmp_path, "--images", tmp_path / "raw", word="expected equal sizes")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--formats", "geojson,svg"], ["--formats", ""], ["--mpp", "0"], ["--mpp", "nan"], ["--model-out", "tflite"],
        ["--model-out", "onnx", "--formats", "csv"],
    ],
)  # fmt: skip
def test_flags_that_make_no_sense_are_usage_errors(arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2


def without(monkeypatch, *packages):
    """Make packages look as if they were not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in packages else find_spec(name, *rest))


@pytest.mark.parametrize("name, package", [("imagej", "roifile"), ("omezarr", "zarr"), ("parquet", "pyarrow")])
def test_a_missing_package_is_named_before_any_work(predictions, tmp_path, monkeypatch, capsys, name, package):
    without(monkeypatch, package)
    assert run(predictions, "--formats", f"geojson,{name}", "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.endswith(f"not installed: python -m pip install {package}\n")
    assert not (tmp_path / "out").exists()


# --- The way back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["geojson", "geojson.gz", "geojson.zip", "imagej", "coco", "ometiff"])
def test_what_was_exported_comes_back_as_truth(pictures, predictions, tmp_path, name):
    """As a training reads it: the export is put into gt beside the images."""
    form = FORMATS[name]
    assert run(predictions, "--formats", name, "--out", tmp_path) == 0
    raw = predictions.parent / "raw"
    pairs = find_pairs(raw, tmp_path / form.folder)
    assert set(pairs) == set(pictures)
    for stem, (_, labels) in pictures.items():
        image, truth = read_pair(*pairs[stem])
        assert truth.form == "instances" and truth.labels.dtype == np.int32 and image.shape[:2] == truth.labels.shape
        np.testing.assert_array_equal(truth.labels, labels)
        assert worst_overlap(labels, truth.labels) == 1  # 0.98 would do


def as_qupath_saves(features):
    """A list of Features as `Export as GeoJSON` writes it: two decimals, pretty, unknown keys."""
    for feature in features:
        feature["properties"]["isLocked"] = False
    return json.dumps(features, indent=2)


def corrected(path, change):
    features = json.loads(path.read_text())["features"]
    path.write_text(as_qupath_saves(change(features)))


def feature(points, kind="annotation", name="Nucleus", **more):
    ring = [*points, points[0]]
    return {
        "type": "Feature", "id": str(uuid.uuid4()), "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": kind, "classification": {"name": name}}, **more,
    }  # fmt: skip


def circle(row, column, radius, corners=40):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.round(np.stack([column + radius * np.cos(angle), row + radius * np.sin(angle)], axis=1), 2).tolist()


def disc(shape, row, column, radius):
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def test_corrections_made_in_qupath_arrive(pictures, predictions, tmp_path):
    labels = pictures["cells"][1]
    assert run(predictions, "--formats", "geojson", "--out", tmp_path) == 0
    path = tmp_path / "geojson" / "cells.geojson"
    row, column = 14, 14
    assert not labels[row - 9 : row + 10, column - 9 : column + 10].any()

    def change(features):
        del features[0]  # a false nucleus deleted
        features.append(feature(circle(row, column, 7.3)))  # a missed one drawn, as an annotation
        height, width = labels.shape
        features.append(feature([[0, 0], [width, 0], [width, height], [0, height]], name="Tumour"))  # the working region
        features.append(feature(circle(40, 40, 9), name="Ignore*"))
        features.append(feature(circle(40, 40, 9), kind="tile"))
        features.append({**feature(circle(0, 0, 1)), "geometry": {"type": "Point", "coordinates": [5, 5]}})
        return features

    corrected(path, change)
    truth = read_truth(path, labels.shape)
    expected = np.where(labels > 1, labels - 1, 0)
    expected[disc(labels.shape, row, column, 7.3)] = labels.max()
    assert truth.labels.max() == labels.max() == expected.max()
    assert worst_overlap(expected, truth.labels) >= 0.98


def test_qupath_cells_count_by_their_nucleus_and_other_geometries_by_their_areas(tmp_path):
    cell = feature(circle(20, 20, 15), kind="cell")
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [circle(20, 20, 6)]}
    collection = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "Polygon", "coordinates": [circle(20, 50, 8), circle(20, 50, 4)]},
            {"type": "LineString", "coordinates": [[1, 1], [5, 5]]},
        ],
    }
    multi = {"type": "MultiPolygon", "coordinates": [[circle(50, 20, 5)], [circle(50, 35, 5)]]}
    objects = [cell, {"type": "Feature", "geometry": collection, "properties": None}, multi]
    (tmp_path / "x.json").write_text(json.dumps(objects))
    labels = read_truth(tmp_path / "x.json", (70, 70)).labels
    shape = labels.shape
    expected = disc(shape, 20, 20, 6) * 1
    expected += 2 * (disc(shape, 20, 50, 8) & ~disc(shape, 20, 50, 4))
    expected += 3 * (disc(shape, 50, 20, 5) | disc(shape, 50, 35, 5))
    assert labels.max() == 3 and worst_overlap(expected, labels) >= 0.95  # small discs of 40 corners
    # A single Feature and a bare geometry are read, too.
    for single in (cell, multi):
        (tmp_path / "one.geojson").write_text(json.dumps(single))
        assert read_truth(tmp_path / "one.geojson", shape).labels.max() == 1


def test_corrections_made_in_imagej_arrive(pictures, predictions, tmp_path):
    """Freehand with fractions, an oval, a box, and the composite of a hole; points and lines pass by."""
    labels = pictures["tissue"][1]
    kinds = roifile.ROI_TYPE
    free = roifile.ImagejRoi.frompoints(np.array(circle(30, 40, 8.4), np.float32), name="drawn")
    oval, box, point = roifile.ImagejRoi(), roifile.ImagejRoi(), roifile.ImagejRoi.frompoints(np.array([[3, 3]]), name="dot")
    oval.roitype, oval.name, oval.left, oval.top, oval.right, oval.bottom = kinds.OVAL, "oval", 80, 20, 100, 40
    box.roitype, box.name, box.left, box.top, box.right, box.bottom = kinds.RECT, "box", 10, 70, 30, 80
    point.roitype = kinds.POINT
    roifile.roiwrite(tmp_path / "x.zip", [free, oval, box, point])
    got = read_truth(tmp_path / "x.zip", labels.shape).labels
    expected = disc(labels.shape, 30, 40, 8.4) * 1 + disc(labels.shape, 30, 90, 10) * 2
    expected[70:80, 10:30] = 3
    assert got.max() == 3 and worst_overlap(expected, got) >= 0.97
    free.tofile(tmp_path / "one.roi")
    assert read_truth(tmp_path / "one.roi", labels.shape).labels.max() == 1
    roifile.roiwrite(tmp_path / "points.zip", [point])
    with pytest.raises(ValueError, match="1 ROIs and no area"):
        read_truth(tmp_path / "points.zip", labels.shape)


def test_coco_of_other_tools_is_read_by_the_name_of_the_image(tmp_path):
    from pycocotools import mask as coco_mask

    shape, other = (40, 60), disc((40, 60), 20, 45, 9)
    packed = coco_mask.encode(np.asfortranarray(other.astype(np.uint8)))["counts"].decode()
    data = {
        "images": [{"id": 7, "file_name": "folder/a.png", "height": 40, "width": 60}, {"id": 8, "file_name": "b.png"}],
        "annotations": [
            {"id": 1, "image_id": 7, "segmentation": [np.ravel(circle(20, 20, 8)).tolist()]},
            {"id": 2, "image_id": 7, "segmentation": {"size": [40, 60], "counts": packed}, "iscrowd": 0},
            {"id": 3, "image_id": 7, "segmentation": {"size": [40, 60], "counts": [0, 2400]}, "iscrowd": 1},
            {"id": 4, "image_id": 7, "segmentation": []},  # a box alone
            {"id": 5, "image_id": 8, "segmentation": [np.ravel(circle(20, 20, 3)).tolist()]},
        ],
    }
    for name, image in (("a.json", 1), ("b.json", 1), ("c.json", 0)):
        (tmp_path / name).write_text(json.dumps(data))
        if not image:
            with pytest.raises(ValueError, match="describes 2 images, 0 of which are called c"):
                read_truth(tmp_path / name, shape)
    labels = read_truth(tmp_path / "a.json", shape).labels
    expected = disc(shape, 20, 20, 8) * 1 + other * 2
    assert labels.max() == 2 and worst_overlap(expected, labels) >= 0.97
    assert read_truth(tmp_path / "b.json", shape).labels.max() == 1
    with pytest.raises(ValueError, match="drawn on an image of 40 x 60 px"):
        read_truth(tmp_path / "a.json", (40, 61))
    data["annotations"][1]["segmentation"]["counts"] = [5, 5]
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="runs of 10 px"):
        read_truth(tmp_path / "a.json", shape)


def test_overlapping_outlines_leave_the_smaller_on_top_and_what_lies_outside_is_cut(tmp_path):
    objects = [feature(circle(10, 10, 9), "detection"), feature(circle(10, 10, 3), "detection")]
    objects += [feature(circle(0, 30, 6), "detection"), feature(circle(500, 500, 6), "detection")]
    (tmp_path / "x.geojson").write_text(json.dumps(objects))
    labels = read_truth(tmp_path / "x.geojson", (40, 40)).labels
    assert labels.max() == 3 and labels[10, 10] == 2 and labels[10, 3] == 1 and labels[0, 30] == 3


@pytest.mark.parametrize(
    "name, content, word",
    [
        ("a.geojson", b'{"type": "Feature', "damaged or no file of outlines"),
        ("a.geojson", b"", "damaged or no file of outlines"),
        ("a.geojson", b"[1, 2]", "damaged or no file of outlines"),
        ("a.geojson", b'{"type": "Topology"}', "no geometry of GeoJSON"),
        ("a.geojson", b'[{"type": "Point", "coordinates": [1, 1]}]', "no area among them"),
        ("a.geojson", b'[{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 9], [9, 9]]]}]', "no finite number"),
        ("a.geojson", b'[{"type": "Polygon", "coordinates": [[[90, 90], [99, 90], [99, 99]]]}]', "none lies inside its image"),
        ("a.geojson.gz", b"\x1f\x8b\x08\x00abc", "damaged or no file of outlines"),
        ("a.json", b'{"annotations": []}', "damaged or no file of outlines"),
        ("a.zip", b"PK\x03\x04 and no more", "damaged or no file of outlines"),
        ("a.roi", b"Iout and no more", "damaged or no file of outlines"),
    ],
)
def test_damaged_outlines_are_named_with_the_way_out(tmp_path, name, content, word):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=word) as raised:
        read_truth(path, (20, 30))
    assert str(path) in str(raised.value)


def test_archives_are_checked_before_they_are_read(tmp_path, monkeypatch):
    for name, members, word in (
        ("two.zip", {"a.geojson": "[]", "b.geojson": "[]"}, "holds 2 .geojson files"),
        ("out.zip", {"../a.geojson": "[]"}, "points outside the archive"),
        ("roi.zip", {"../a.roi": "Iout"}, "points outside the archive"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        with pytest.raises(ValueError, match=word):
            read_truth(tmp_path / name, (5, 5))
    monkeypatch.setattr("nuclei.files.MAX_MEMBER_BYTES", 1000)
    (tmp_path / "bomb.geojson.gz").write_bytes(gzip.compress(b" " * 2000))
    with pytest.raises(ValueError, match="unpacks to more than 1,000 bytes"):
        read_truth(tmp_path / "bomb.geojson.gz", (5, 5))
    (tmp_path / "large.roi").write_bytes(b"Iout" + bytes(2000))
    with pytest.raises(ValueError, match="more than 1,000"):
        read_truth(tmp_path / "large.roi", (5, 5))


def test_outlines_need_their_image_and_roifile_is_asked_for_by_name(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_truth(tmp_path / "none.geojson", (5, 5))
    (tmp_path / "a.geojson").write_text("[]")
    with pytest.raises(ValueError, match="together with its image"):
        read_truth(tmp_path / "a.geojson")
    roifile.ImagejRoi.frompoints(np.array([[0, 0], [0, 4], [4, 4]]), name="a").tofile(tmp_path / "a.roi")
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(ValueError, match="python -m pip install roifile"):
        read_truth(tmp_path / "a.roi", (5, 5))


def test_truths_are_found_by_stem_whatever_their_suffix(tmp_path):
    raw, gt = tmp_path / "raw", tmp_path / "gt"
    for folder, names in (
        (raw, ["a.png", "b.png", "c.ome.tif", "d.png", "e.png"]),
        (gt, ["a.geojson.gz", "b.ome.tif", "c.ome.tif", "d.ZIP", "e.json", "f.ome.tif", "notes.txt"]),
    ):
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"x")
    pairs = find_pairs(raw, gt)
    assert {stem: truth.name for stem, (_, truth) in pairs.items()} == {
        "a": "a.geojson.gz", "b": "b.ome.tif", "c.ome": "c.ome.tif", "d": "d.ZIP", "e": "e.json",
    }  # fmt: skip
    (gt / "a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="more than once"):
        find_truths(gt)


def test_the_check_and_a_training_take_outlines(pictures, predictions, tmp_path, capsys):
    """predict, correct, train: a gt folder with the files of three tools is checked and loaded."""
    import shutil


    raw, gt = predictions.parent / "raw", tmp_path / "gt"
    gt.mkdir()
    assert run(predictions, "--formats", "geojson,imagej,coco", "--out", tmp_path) == 0
    shutil.copy(tmp_path / "geojson" / "tissue.geojson", gt)
    shutil.copy(tmp_path / "imagej" / "cells.zip", gt)
    shutil.copy(tmp_path / "coco" / "odd.json", gt)
    shutil.copytree(raw, tmp_path / "raw")
    assert import_data.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "3 sound pairs" in said and "instances 1" in said and "passed over" not in said
    samples, forms = load_samples(tmp_path / "raw", gt)
    assert set(forms.values()) == {"instances"}
    for stem, sample in samples.items():
        np.testing.assert_array_equal(sample.labels, pictures[stem][1])
        assert sample.has_instances
    assert capsys.readouterr().out == ""
    assert evaluate.main([str(predictions), str(gt), "--out", str(tmp_path / "scores")]) == 0
    assert "1.000" in capsys.readouterr().out


# --- The model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network with batch statistics of its own, so that an export that forgets them would differ."""
    network = build_unet(width=8, depth=1, stem_stride=2)
    random = np.random.default_rng(0)
    network.set_weights([w + random.normal(0, 0.1, w.shape) ** 2 for w in network.get_weights()])
    path = tmp_path_factory.mktemp("model") / "small.h5"
    architecture = {"heads": list(HEADS), "width": 8, "depth": 1, "stem_stride": 2}
    scores = {"validation": {"all": {"dice": 0.9}}}
    save_model(path, network, {"architecture": architecture, "scores": scores, "nucleus_diameter_px": {"median": 19.0}})
    return path


def in_a_process(*words, folder):
    """Run a command as a user does: bioimageio.core leaves files open and tf2onnx is older than NumPy 2, whose warnings
    would be errors of whatever test runs next. The package's cache goes into `folder`."""
    environment = {**os.environ, "PYTHONWARNINGS": "default", "BIOIMAGEIO_CACHE_PATH": str(folder / "cache")}
    words = [sys.executable, *(str(word) for word in words)]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_a_model_leaves_as_onnx_and_bioimageio_and_does_the_same_there(model, tmp_path, capsys):
    import onnxruntime

    out = tmp_path / "out"
    arguments = ["--model-out", "onnx,bioimageio", "--model", model, "--out", out, "--author", "A Student"]
    done = in_a_process("exports.py", *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "run by onnxruntime" in done.stdout and "run by bioimageio.core" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["small.bioimageio.zip", "small.onnx"]

    network, _ = load_network(model)
    session = onnxruntime.InferenceSession(str(out / "small.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    assert [output.name for output in session.get_outputs()] == ["maps"]
    batch = np.random.default_rng(1).random((3, 24, 40, 3), np.float32)
    maps = session.run(None, {session.get_inputs()[0].name: batch})[0]
    np.testing.assert_allclose(maps, network.predict_on_batch(batch), atol=1e-5)

    # The test of bioimage.io itself: format, files, and the stored output, which is Keras's, at several sizes.
    code = (
        "import sys, bioimageio.core as core\n"
        "found = core.load_description(sys.argv[1])\n"
        "summary = core.test_model(found)\n"
        "print(summary.status, found.authors[0].name, found.license, found.documentation.get_reader().read().decode())\n"
        "assert summary.status == 'passed', summary.format()\n"
    )
    done = in_a_process("-c", code, out / "small.bioimageio.zip", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "passed A Student MIT" in done.stdout and '"dice": 0.9' in done.stdout and "about 19.0 px" in done.stdout

    before = (out / "small.onnx").read_bytes()
    assert run(*arguments) == 1
    assert "is there already" in capsys.readouterr().err
    assert (out / "small.onnx").read_bytes() == before


@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")  # Keras asks for it on behalf of tf2onnx
def test_a_model_that_comes_out_different_is_not_written(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nuclei.formats.onnx.MODEL_TOLERANCE", -1.0)
    assert run("--model-out", "onnx", "--model", model, "--out", tmp_path) == 1
    assert "differs from Keras" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_export_says_what_it_lacks(model, tmp_path, monkeypatch, capsys):
    assert run("--model-out", "onnx", "--model", tmp_path / "none.h5") == 1
    assert "no such model file" in capsys.readouterr().err
    without(monkeypatch, "bioimageio")
    assert run("--model-out", "bioimageio", "--model", model, "--out", tmp_path) == 1
    assert capsys.readouterr().err.endswith("python -m pip install bioimageio.core\n")
    without(monkeypatch, "tf2onnx")
    assert run("--model-out", "onnx", "--model", model, "--out", tmp_path) == 1
    assert capsys.readouterr().err.endswith("python -m pip install tf2onnx\n")
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert run("--model-out", "onnx", "--model", model, "--out", tmp_path) == 1
    assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err
