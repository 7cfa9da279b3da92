"""Measurements in the page: few digits, and what has no room is named."""

import numpy as np
from report_tools import data_of, make, page_of

from nuclei.report.measures import shorten


def test_numbers_are_shortened_to_five_digits():
    values = [0.0, 12.0, -3.14159265, 123456.0, 1e-7 / 3, 0.1 + 0.2, 99999.6, np.nan, np.inf]
    short = shorten(values)
    assert short == [0, 12, -3.1416, 123460, 3.3333e-08, 0.3, 100000, None, None]
    assert [type(value) for value in short[:4]] == [int, int, float, int]
    random = np.random.default_rng(0).normal(size=2000) * 10.0 ** np.arange(-10, 10).repeat(100)
    assert shorten(random) == [float(f"{value:.5g}") for value in random]


def test_columns_without_room_are_named(folder, monkeypatch):
    monkeypatch.setattr("nuclei.report.measures.MEASURES_MB", 0)
    make(folder)
    page = page_of(folder)
    assert (
        set(data_of(page)["measures"])
        == set(data_of(page)["first_measures"])
        >= {"diameter_px", "circularity"}
    )
    assert "columns of nuclei.csv for which there was no space: centroid_row_px" in page
