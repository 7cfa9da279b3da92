"""Tables are read by pandas."""

import numpy as np
import pandas as pd
from formats_tools import run


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
