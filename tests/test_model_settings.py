"""Whatever became of the settings of a model file, they are read or refused in one line."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
from blob_model import write_blob_model

import predict
from experiments.campaign.damage import mutated_bytes, mutated_texts
from nuclei.formats.bioimageio import package_text
from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import SETTINGS, as_model, describe_model, find_model, read_settings
from nuclei.model_settings import Thresholds
from nuclei.report.model_card import model_section
from nuclei.stored_model import parse_settings

ROW = {"image": "a", "part": "", "modality": "tissue", "scale": 1.0, "median_diameter_px": 8.0}


def use(settings):
    """Do with settings what the programs do with them."""
    path = Path("model.h5")
    as_model(lambda batch: batch, settings)
    describe_model(path, settings)
    predictions = SimpleNamespace(rows=[ROW])
    inputs = SimpleNamespace(settings=settings, model_path=path, predictions=predictions)
    model_section(inputs)
    package_text(settings, "name")


def test_the_names_of_the_thresholds_are_those_of_separate():
    assert set(Thresholds.__annotations__) == set(THRESHOLDS)


def test_damaged_settings_are_refused_in_one_line_or_can_be_used():
    with h5py.File(find_model("shipped"), "r") as file:
        shipped = json.loads(file.attrs[SETTINGS])
    use(parse_settings("model.h5", json.dumps(shipped)))
    num_refused, number = 0, 300
    for text in mutated_texts(shipped, number, seed=1):
        try:
            settings = parse_settings("model.h5", text)
        except ValueError as error:
            assert "\n" not in str(error) and str(error).startswith("model.h5: ")
            num_refused += 1
        else:
            use(settings)
    assert number / 4 < num_refused < number


def test_a_damaged_file_is_refused_in_one_line_or_read(tmp_path):
    content = write_blob_model(tmp_path / "model.h5").read_bytes()
    path, generator, num_refused, number = tmp_path / "damaged.h5", random.Random(2), 0, 200
    for _ in range(number):
        path.write_bytes(mutated_bytes(content, generator))
        try:
            read_settings(path)
        except ValueError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            num_refused += 1
    assert number / 4 < num_refused < number


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"depth": 10**30}, "architecture.depth is 1000"),
        ({"depth": 8, "width": 1024}, "they need 2,473,901,162,496 bytes or more, and the file"),
        ({"stem_stride": [None]}, "architecture.stem_stride is [None]"),
        ({"odd": 1}, "architecture.odd is 1"),
        ({"heads": ["distance"]}, "they must be the first one, two or three"),
    ],
)
def test_predict_ends_in_one_line(architecture, message, tmp_path, capsys):
    path = write_blob_model(tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        settings = json.loads(file.attrs[SETTINGS])
        settings["architecture"] |= architecture
        file.attrs[SETTINGS] = json.dumps(settings)
    words = ["test_raw", "--model", str(path), "--out", str(tmp_path / "out"), "--tile", "6144"]
    assert predict.main(words) == 1
    error = capsys.readouterr().err
    assert message in error and str(path) in error and error.count("\n") == 1, error


@pytest.mark.parametrize(
    "usual",
    [
        {"limits": {"uncertainty": float("nan")}},
        {"limits": {"mood": 0.5}},
        {"limits": [0.5]},
        {"rare_modalities": "tissue"},
        {"uncertainty_above": float("nan")},
    ],
)
def test_nonsense_about_what_is_usual_is_refused(usual):
    text = {"architecture": {"heads": ["nucleus"]}, "out_of_distribution": usual}
    with pytest.raises(ValueError, match="out_of_distribution"):
        parse_settings("model.h5", json.dumps(text))
