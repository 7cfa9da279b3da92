"""Large plain images: the same nuclei, files and rows as of an image that is done at once."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from blob_model import write_blob_model
from inference_tools import blobs
from PIL import Image
from slides_tools import MODEL, in_order_of_place

import predict
from nuclei.images.intensity import intensity_range
from nuclei.images.labels import read_labels
from nuclei.inference.find import Options, find_nuclei
from nuclei.inference.folder import find_and_measure, predict_images
from nuclei.inference.zooms import with_zooms
from nuclei.results.image import DEFAULT_FORMATS
from nuclei.results.jobs import Job, Run
from nuclei.slides import bands, large_image
from nuclei.slides.large_image import find_in_bands, is_large


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(bands, "CORE_PX", 130)
    monkeypatch.setattr(large_image, "TILE_PX", 136)


def renumbered(labels, table):
    """Labels whose ids are the ranks of the nuclei by place, as `in_order_of_place` sorts them."""
    order = table.sort_values(["centroid_row_px", "centroid_column_px"], kind="stable")["id"]
    new_ids = np.zeros(len(order) + 1, int)
    new_ids[order] = np.arange(1, len(order) + 1)
    return new_ids[labels]


@pytest.mark.parametrize(
    ("scale", "model"),
    [(1.0, MODEL), (0.8, MODEL), (1.37, MODEL), (1.0, replace(with_zooms(MODEL), margin_px=28))],
)
def test_nuclei_equal_those_of_the_image_at_once(tissue, scale, model):
    options = Options(scale=scale, mpp=0.5)
    expected, expected_table, _ = find_and_measure(tissue, model, options)
    found, table, lines = find_in_bands(tissue, model, options)
    assert not lines and len(table) > 100 and found.labels.dtype == np.uint16
    assert (found.kind, found.scale, found.intensity) == ("tissue", scale, expected.intensity)
    assert found.uncertainty == pytest.approx(expected.uncertainty, abs=1e-6)
    np.testing.assert_array_equal(
        renumbered(found.labels, table), renumbered(expected.labels, expected_table)
    )
    drop = ["id", "nearest_id"]
    pd.testing.assert_frame_equal(
        in_order_of_place(table.drop(columns=drop)),
        in_order_of_place(expected_table.drop(columns=drop)),
    )
    ids, areas = np.unique(found.labels[found.labels > 0], return_counts=True)
    np.testing.assert_array_equal(ids, table["id"])
    np.testing.assert_array_equal(areas, table["area_px"])


def test_white_holes_are_counted_as_in_the_image_at_once(tissue):
    def network(batch):  # that takes white background for nuclei, too
        maps = MODEL(batch)
        maps[..., 0] = np.maximum(maps[..., 0], batch[..., 0] > 0.9)
        return maps

    model, options = replace(MODEL, network=network), Options(scale=1)
    expected, found = find_nuclei(tissue, model, options), find_in_bands(tissue, model, options)[0]
    assert 0.3 < expected.hole_share < 0.9
    assert found.hole_share == pytest.approx(expected.hole_share, abs=1e-9)
    assert find_nuclei(tissue, MODEL, options).hole_share == 0


def test_the_scale_is_estimated_and_a_border_left_out(tissue):
    image = np.concatenate([np.zeros((400, 200, 3), np.uint8), tissue], axis=1)
    image[:, :195] = 0
    expected = find_nuclei(image, MODEL)
    found, table, _ = find_in_bands(image, MODEL, Options())
    assert found.scale == expected.scale and found.intensity == intensity_range(image)
    assert not found.labels[:, :190].any() and len(table) == expected.labels.max()
    # What is mirrored deep inside of the border may differ, nothing else.
    assert (found.labels > 0)[:, 240:].sum() == (expected.labels > 0)[:, 240:].sum()


def test_more_nuclei_than_16_bits_can_number_and_none_at_all(tissue, monkeypatch):
    monkeypatch.setattr(large_image, "MAX_PNG_LABELS", 50)
    found, table, _ = find_in_bands(tissue, MODEL, Options(scale=1.0))
    assert found.labels.dtype == np.int32 and found.labels.max() == len(table) > 50
    background = np.full_like(tissue, 243)
    empty, table, _ = find_in_bands(background, MODEL, Options(scale=1.0))
    assert not len(table) and not empty.labels.any()
    assert empty.uncertainty == pytest.approx(find_nuclei(background, MODEL).uncertainty)
    assert {"area_px", "nearest_id", "mean_intensity"} <= set(table)


def test_nuclei_that_are_larger_than_tiles_overlap_are_named(tissue):
    image = tissue.copy()
    image[100:300, 100:300] = 0
    _, _, lines = find_in_bands(image, MODEL, Options(scale=1.0))
    assert len(lines) == 1 and "larger than tiles overlap" in lines[0]


def test_files_and_rows_are_those_of_any_image(tissue, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(tissue).save(path)
    job = Job("a", path, (*DEFAULT_FORMATS, "geojson"))
    files, summaries = {}, {}
    for name, find in (("once", None), ("bands", find_in_bands)):
        run = Run(tmp_path / name, MODEL, Options(scale=1.0), "model 1")
        tally = predict_images([job, replace(job, path=tmp_path / "none.png")], run, find=find)
        assert tally.num_images == 1 and len(tally.failures) == 1
        files[name] = {file.relative_to(run.out) for file in run.out.rglob("*.*")}
        summaries[name] = pd.read_csv(run.out / "summary.csv").drop(columns=["seconds", "folder"])
    assert files["once"] == files["bands"]
    pd.testing.assert_frame_equal(summaries["bands"], summaries["once"])
    masks = [read_labels(tmp_path / name / "labels" / "a.png") > 0 for name in files]
    np.testing.assert_array_equal(*masks)
    overlays = [np.asarray(Image.open(tmp_path / name / "overlays" / "a.jpg")) for name in files]
    np.testing.assert_array_equal(*overlays)


def test_predict_does_large_images_in_bands(tmp_path, monkeypatch):
    folder, model = tmp_path / "in", write_blob_model(tmp_path / "model.h5")
    folder.mkdir()
    for name, shape in (("small", (60, 80)), ("large", (300, 200))):
        Image.fromarray(blobs(size=shape)[0]).save(folder / f"{name}.png")
    monkeypatch.setattr(large_image, "LARGE_PX", 50_000)
    assert [is_large(folder / f"{name}.png") for name in ("small", "large")] == [False, True]
    seen = []
    monkeypatch.setattr(
        predict, "find_in_bands", lambda *args: (seen.append(1), find_in_bands(*args))[1]
    )
    out = tmp_path / "out"
    arguments = [str(folder), "--model", str(model), "--engine", "keras", "--out", str(out)]
    assert predict.main(arguments) == 0
    assert len(seen) == 1 and set(pd.read_csv(out / "summary.csv")["image"]) == {"small", "large"}
    assert sorted(file.name for file in (out / "labels").iterdir()) == ["large.png", "small.png"]
