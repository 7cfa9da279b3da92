"""Tables are read by pandas."""

import os

import numpy as np
import pandas as pd
import pyarrow.parquet
from formats_tools import draw_examples, nuclei_of, run
from results_tools import write_predictions

from nuclei.formats.registry import Nuclei
from nuclei.formats.tables import WHOLE_NUMBERS, write_csv, write_parquet
from nuclei.inference.find import Found
from nuclei.instances.measure import measure


def test_a_file_holds_the_columns_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")  # as on Windows
    columns = {"image": ["=ü", "=ü"], "id": [3, 5], "diameter_px": [0.25, 7.0]}
    table = pd.DataFrame(columns, index=[2, 4])  # rows of a larger table
    nuclei = Nuclei("=ü", "=ü.png", np.zeros((2, 2), int), table)
    write_csv(tmp_path / "a.csv", nuclei)
    text = "image,id,diameter_px\n'=ü,3,0.25\n'=ü,5,7.0\n"
    assert (tmp_path / "a.csv").read_bytes() == text.encode("utf-8")
    write_parquet(tmp_path / "a.parquet", nuclei)
    stored = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert stored == columns | {"diameter_um": [None, None]}  # empty without a pixel size
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


def kinds_of_images():
    """{stem: `Nuclei`}: without nuclei, with one, H&E, immunostained, fluorescence."""
    blank, one = np.zeros((30, 30), np.int32), np.zeros((30, 30), np.int32)
    one[5:12, 5:9] = 1
    grey = np.full((30, 30, 3), 90, np.uint8)
    samples = {"a_empty": (grey, blank), "one": (grey, one), **draw_examples()}
    found = {stem: nuclei_of(stem, *sample) for stem, sample in samples.items()}
    found["cells_in_um"] = nuclei_of("cells_in_um", *samples["cells"], mpp=0.5)
    table = pd.DataFrame(measure(samples["tissue"][1], samples["tissue"][0], None, True, dab=True))
    found["dab"] = found["tissue"]._replace(stem="dab", table=table)
    for stem, nuclei in found.items():
        nuclei.table.insert(0, "image", stem)
    return found


def test_all_files_of_parquet_have_the_same_columns_and_types(tmp_path):
    """A folder is one table, whatever its first image holds."""
    images = kinds_of_images()
    for stem, nuclei in images.items():
        write_parquet(tmp_path / f"{stem}.parquet", nuclei)
    everything = pd.read_parquet(tmp_path)
    assert len(everything) == sum(len(nuclei.table) for nuclei in images.values())
    schemas = {stem: pyarrow.parquet.read_schema(tmp_path / f"{stem}.parquet") for stem in images}
    first = schemas["a_empty"]
    assert all(schema.equals(first) for schema in schemas.values())
    assert set(first.types) == {pyarrow.string(), pyarrow.int64(), pyarrow.float64()}
    values = images["one"].table.dtypes.items()
    whole = {name for name, kind in values if kind.kind == "i"}
    assert whole | {"slide_id"} == set(WHOLE_NUMBERS)  # that of fields


def test_measurements_have_the_same_types_without_nuclei():
    images = kinds_of_images()
    expected = images["one"].table.dtypes.drop("image")
    assert images["a_empty"].table.dtypes.drop("image").equals(expected)


def test_a_folder_of_images_without_nuclei_has_the_types_of_others(tmp_path):
    """No cell of its nuclei.csv tells them."""
    blank = np.zeros((30, 30), np.int32)
    found = Found(np.full((30, 30, 3), 90, np.uint8), (0, 255), blank, blank[..., None], 1.0)
    write_predictions(tmp_path, found, "a", formats=("labels", "csv"))
    assert run(tmp_path, "--formats", "parquet") == 0
    schema = pyarrow.parquet.read_schema(tmp_path / "parquet" / "a.parquet")
    images = kinds_of_images()
    write_parquet(tmp_path / "one.parquet", images["one"])
    others = pyarrow.parquet.read_schema(tmp_path / "one.parquet")
    assert {field.name: field.type for field in others}.items() <= {
        field.name: field.type for field in schema
    }.items()


def test_a_folder_is_one_table_also_where_some_images_state_no_pixel_size(tmp_path):
    plain = pd.DataFrame({"image": ["a"], "id": [1], "area_px": [8.0], "diameter_px": [3.0]})
    known = plain.assign(image="b", area_um2=2.0, diameter_um=1.5)
    for stem, table in (("a", plain), ("b", known)):
        write_parquet(tmp_path / f"{stem}.parquet", Nuclei(stem, "", np.zeros((2, 2), int), table))
    everything = pd.read_parquet(tmp_path).set_index("image")
    assert np.isnan(everything.loc["a", "area_um2"]) and everything.loc["b", "area_um2"] == 2


def test_columns_of_a_user_and_of_fields_go_into_parquet(tmp_path):
    columns = {"image": ["a", "a"], "id": [1, 2], "slide_id": [7, 9], "diameter_px": [1.0, 2.0]}
    table = pd.DataFrame(columns | {"checked": [True, np.nan], "note": ["x", None]})
    write_parquet(tmp_path / "a.parquet", Nuclei("a", "a.png", np.zeros((2, 2), int), table))
    stored = pd.read_parquet(tmp_path / "a.parquet")
    assert stored["slide_id"].dtype == np.int64 and stored["slide_id"].tolist() == [7, 9]
    assert stored["checked"][0] == "True" and stored[["checked", "note"]].loc[1].isna().all()
