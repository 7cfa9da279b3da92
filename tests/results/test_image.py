"""The results of one image: the table in memory, the files, and its row of summary.csv."""

from dataclasses import replace

import numpy as np
import pytest
from inference_tools import blobs, read_rows
from results_tools import write_predictions
from stains_tools import immunostained

from nuclei.inference.find import Found, Options
from nuclei.model_file import Model
from nuclei.model_settings import SIGNS
from nuclei.results.image import flag, is_out_of_distribution, measure_nuclei, summarise
from nuclei.results.jobs import Job, Run, describe_plan, name_maker, plan_jobs
from nuclei.results.tables import SUMMARY
from nuclei.stored_model import StoredModel


@pytest.fixture
def found():
    image, labels = blobs()
    maps = np.stack([np.where(labels > 0, 0.9, 0.1)] * 2, axis=-1).astype(np.float32)
    return Found(image, (0.0, 255.0), labels, maps, 2.0)


def model_with(**settings):
    return Model(network=None, num_maps=2, margin_px=0, multiple_px=1, **settings)


def test_the_table_has_a_row_for_each_nucleus_without_any_file(found):
    table = measure_nuclei(found, model_with())
    assert list(table["id"]) == list(range(1, found.labels.max() + 1))
    assert list(table["area_px"]) == np.bincount(found.labels.ravel())[1:].tolist()
    assert "confidence" not in table and "image" not in table and "area_um2" not in table


def test_a_calibrated_model_adds_confidence_and_a_pixel_size_adds_microns(found):
    table = measure_nuclei(found, model_with(calibration=[0.5, 0.0, 0.0, 0.0, 0.3]), mpp=0.5)
    assert table["confidence"].between(0, 1).all()
    assert table.columns.get_loc("confidence") + 1 == table.columns.get_loc("mean_probability")
    np.testing.assert_allclose(table["area_um2"], table["area_px"] / 4)


def test_the_summary_has_its_columns_in_order(found, tmp_path):
    model = model_with(limits={"uncertainty": 0.05})
    run, job = Run(tmp_path, model, Options(), "model 1"), Job("a", tmp_path / "a.png", ("csv",))
    summary = summarise(found, measure_nuclei(found, model), job, run, 1.23456)
    assert tuple(summary) == SUMMARY
    assert summary["out_of_distribution"] == 1 and summary["uncertainty"] > 0.05
    assert summary["nuclei"] == found.labels.max() and summary["scale"] == 2.0
    assert summary["seconds"] == 1.235 and summary["mpp"] == ""
    assert [flag(value) for value in (None, True, False)] == ["", 1, 0]


def test_each_sign_and_a_rare_modality_put_an_image_out_of_distribution(found):
    calibration = [0.5, 0.0, 0.0, 0.0, 0.3]
    table = measure_nuclei(found, model_with(calibration=calibration))
    found = replace(found, scale_spread=1.5, hole_share=0.1)
    values = {
        "hole_share": 0.1,
        "uncertainty": found.uncertainty,
        "scale_spread": 1.5,
        "low_confidence": 1 - table["confidence"].mean(),
        "low_solidity": 1 - table["solidity"].median(),
    }
    assert set(values) == set(SIGNS)
    for name, value in values.items():
        for limit, expected in ((value - 1e-6, True), (value + 1e-6, False)):
            model = model_with(limits={name: limit})
            assert is_out_of_distribution(found, table, model) is expected, name
    usual = {"limits": {"uncertainty": 1.0}}
    half_holes = replace(found, hole_share=0.5)  # too many for any model
    assert is_out_of_distribution(half_holes, table, model_with(**usual))
    assert is_out_of_distribution(found, table, model_with(**usual, rare_modalities=(found.kind,)))
    assert not is_out_of_distribution(found, table, model_with(**usual, rare_modalities=("x",)))
    assert is_out_of_distribution(found, table, model_with()) is None
    assert is_out_of_distribution(found, table[:0], model_with(**usual)) is False


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_share_of_positive_nuclei_is_known_where_there_is_dab(share, tmp_path):
    image, labels, is_brown = immunostained(share)
    maps = (labels[..., None] > 0).astype(np.float32)
    model, job = model_with(), Job("a", tmp_path / "a.png", ("csv",))
    run = Run(tmp_path, model, Options(), "model 1")
    for pixels, expected in ((image, round(float(is_brown.mean()), 4)), (image[..., ::-1], "")):
        found = Found(np.ascontiguousarray(pixels), (0.0, 255.0), labels, maps, 1.0)
        table = measure_nuclei(found, model)
        assert summarise(found, table, job, run, 1.0)["positive_share"] == expected


def test_only_the_formats_of_the_job_are_written(found, tmp_path):
    write_predictions(tmp_path, found, "a", ("masks", "geojson"))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["geojson", "masks", "summary.csv"]
    assert read_rows(tmp_path / "summary.csv")[0]["formats"] == "masks geojson"


def test_only_what_is_missing_is_planned(tmp_path):
    files = {stem: tmp_path / f"{stem}.png" for stem in "abc"}
    formats = dict.fromkeys(files, ("masks", "csv"))
    finished = {"a": ["masks", "csv"], "b": ["masks", "geojson"]}
    jobs = plan_jobs(files, formats, finished, anew=())
    assert [(job.stem, job.formats) for job in jobs] == [("b", ("csv",)), ("c", ("masks", "csv"))]
    assert jobs[0].all_formats == "masks geojson csv"
    lines = describe_plan(jobs, 3, anew=())
    assert lines[0].startswith("Finished already: 1 image (") and "but for csv" in lines[1]
    jobs = plan_jobs(files, formats, finished, anew=files)
    assert [job.formats for job in jobs][1] == ("masks", "geojson", "csv")
    assert describe_plan(jobs, 3, anew=files) == []


def test_runs_with_other_results_have_other_makers(tmp_path):
    model = StoredModel(tmp_path / "model.h5", b"weights", {})
    name = name_maker(model, Options())
    assert name.startswith("model.h5 ") and name == name_maker(model, Options())
    assert name != name_maker(model, Options(threshold=0.4))
    assert name != name_maker(StoredModel(model.path, b"others", {}), Options())
