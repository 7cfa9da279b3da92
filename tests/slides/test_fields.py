"""Fields of a slide: its own pixels, its own nuclei, and tables as for images."""

import numpy as np
import pandas as pd
import pytest
from slides_tools import draw_tissue, find, write_pyramid

from nuclei.images.labels import read_labels
from nuclei.report.predictions import read_predictions
from nuclei.results.tables import SUMMARY
from nuclei.slides import fields as room
from nuclei.slides.fields import sample_fields, write_fields
from nuclei.slides.formats import open_slide


@pytest.fixture
def sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "FIELD_PX", 128)
    slide = open_slide(write_pyramid(tmp_path / "s.ome.tif", draw_tissue()))
    found = find(slide, tmp_path / "out")
    return slide, found, sample_fields(slide, found)


def summary_of(found):
    return {name: "" for name in SUMMARY} | found.summary() | {"image": "s", "file": "s.ome.tif"}


def test_fields_hold_the_pixels_and_the_nuclei_of_the_slide(sampled):
    slide, found, fields = sampled
    assert 1 < len(fields) <= room.NUM_FIELDS
    table = pd.concat([part for part, _ in found.parts()]).set_index("id")
    counts = [len(field.table) for field in fields]
    assert counts[0] > counts[-1] > 0
    for field in fields:
        assert field.labels.max() == len(field.table) == len(np.unique(field.labels)) - 1
        whole = table.loc[field.table["slide_id"]]
        assert (field.table["area_px"].to_numpy() == whole["area_px"].to_numpy()).all()
        shift = whole[["centroid_row_px", "centroid_column_px"]].to_numpy(copy=True)
        shift -= field.table[["centroid_row_px", "centroid_column_px"]].to_numpy()
        top, left = np.round(shift[0]).astype(int)
        np.testing.assert_allclose(shift, np.broadcast_to([top, left], shift.shape), atol=1e-3)
        place = np.s_[top : top + 128, left : left + 128]
        np.testing.assert_array_equal(field.image, slide[place])
        row_um = field.table["centroid_row_um"] / field.table["centroid_row_px"]
        assert row_um.between(0.4, 0.6).all()
        for row in field.table.itertuples():  # a nucleus inside has all its pixels
            pixels = int((field.labels == row.id).sum())
            bottom, right = row.box_top_px + row.box_height_px, row.box_left_px + row.box_width_px
            if min(row.box_top_px, row.box_left_px) >= 0 and max(bottom, right) <= 128:
                assert pixels == row.area_px
            assert 0 < pixels <= row.area_px


def test_written_fields_are_a_folder_of_predictions(sampled, tmp_path):
    _, found, fields = sampled
    for round_of_fields in (fields, fields, fields[:2]):  # a run that is repeated leaves no rest
        write_fields(tmp_path, round_of_fields, summary_of(found))
        predictions = read_predictions(tmp_path / "fields")
        names = [field.name for field in round_of_fields]
        assert [row["image"] for row in predictions.rows] == names
        for part in ("raw", "labels"):
            files = (tmp_path / "fields" / part).iterdir()
            assert sorted(path.stem for path in files) == sorted(names)
    labels = read_labels(tmp_path / "fields" / "labels" / "s_field_1.png")
    np.testing.assert_array_equal(labels, fields[0].labels)


def test_a_row_of_a_field_tells_of_the_field_and_not_of_the_slide(sampled):
    _, found, fields = sampled
    of_slide = {name: f"slide's {name}" for name in SUMMARY}
    for field, positive in zip(fields, ([1, 0], [0], [np.nan, 1], [np.nan]), strict=False):
        table = field.table.assign(positive=np.resize(np.array(positive, float), len(field.table)))
        row = room.field_summary(field._replace(table=table), of_slide)
        shared = {name for name, cell in row.items() if cell == of_slide[name]}
        assert list(row) == list(SUMMARY) and shared == set(room.SHARED)
        known = table["positive"].dropna()
        assert row["positive_share"] == (round(known.mean(), 4) if len(known) else "")
        assert row["nuclei"] == len(table) and row["height_px"] == row["width_px"] == 128
        assert row["nucleus_share"] == round((field.labels > 0).mean(), 4)
        for name in ("uncertainty", "out_of_distribution", "seconds", "channel", "scale_spread"):
            assert row[name] == ""


def test_a_slide_without_nuclei_has_no_fields(tmp_path):
    image = np.full((300, 300, 3), 243, np.uint8)
    slide = open_slide(write_pyramid(tmp_path / "s.ome.tif", image))
    found = find(slide, tmp_path / "out", tissue_mask=False)
    assert not len(found) and sample_fields(slide, found) == []
