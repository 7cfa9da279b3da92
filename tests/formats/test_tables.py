"""Tables are read by pandas."""

import os

import numpy as np
import pandas as pd
import pyarrow.parquet
from formats_tools import run

from nuclei.formats.registry import Nuclei
from nuclei.formats.tables import write_csv, write_parquet


def test_a_file_holds_the_columns_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")  # as on Windows
    columns = {"image": ["=ü", "=ü"], "id": [3, 5], "area_px": [0.25, 7.0]}
    table = pd.DataFrame(columns, index=[2, 4])  # rows of a larger table
    nuclei = Nuclei("=ü", "=ü.png", np.zeros((2, 2), int), table)
    write_csv(tmp_path / "a.csv", nuclei)
    text = "image,id,area_px\n'=ü,3,0.25\n'=ü,5,7.0\n"
    assert (tmp_path / "a.csv").read_bytes() == text.encode("utf-8")
    write_parquet(tmp_path / "a.parquet", nuclei)
    stored = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert stored == columns | {"area_um2": [None, None]}  # empty without a pixel size
    assert len(list(tmp_path.iterdir())) == 2


def test_tables_are_read_by_pandas_one_by_one_and_as_a_folder(examples, predictions, tmp_path):
    assert run(predictions, "--formats", "csv,parquet", "--out", tmp_path, "--mpp", "0.5") == 0
    for stem, (_, labels) in examples.items():
        frames = [
            pd.read_csv(tmp_path / "csv" / f"{stem}.csv"),
            pd.read_parquet(tmp_path / "parquet" / f"{stem}.parquet"),
        ]
        for frame in frames:
            assert frame["id"].tolist() == list(range(1, labels.max() + 1)) and set(
                frame["image"]
            ) == {stem}
            np.testing.assert_allclose(frame["area_um2"], np.bincount(labels.ravel())[1:] / 4)
        assert list(frames[0]) == list(frames[1])
    everything = pd.read_parquet(tmp_path / "parquet")
    assert len(everything) == sum(labels.max() for _, labels in examples.values())


def test_a_folder_is_one_table_also_where_some_images_state_no_pixel_size(tmp_path):
    plain = pd.DataFrame({"image": ["a"], "id": [1], "area_px": [8.0], "diameter_px": [3.0]})
    known = plain.assign(image="b", area_um2=2.0, diameter_um=1.5)
    for stem, table in (("a", plain), ("b", known)):
        write_parquet(tmp_path / f"{stem}.parquet", Nuclei(stem, "", np.zeros((2, 2), int), table))
    everything = pd.read_parquet(tmp_path).set_index("image")
    assert np.isnan(everything.loc["a", "area_um2"]) and everything.loc["b", "area_um2"] == 2
