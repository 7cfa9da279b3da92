"""ROIs are read by roifile as ImageJ reads them."""

import numpy as np
import pandas as pd
import pytest
import roifile
from formats_tools import run

from nuclei.formats.imagej import write_imagej
from nuclei.formats.registry import Nuclei
from nuclei.instances.measure import measure


def test_imagej_rois_are_read_by_roifile(examples, predictions, tmp_path):
    assert run(predictions, "--formats", "imagej", "--out", tmp_path) == 0
    for stem, (_, labels) in examples.items():
        rois = roifile.roiread(tmp_path / "imagej" / f"{stem}.zip")
        assert [roi.name for roi in rois] == [
            f"nucleus_{index:06d}" for index in range(1, labels.max() + 1)
        ]
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
