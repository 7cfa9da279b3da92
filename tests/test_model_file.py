"""The model file: it comes back as it was saved, and files of others are refused."""

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from engine_tools import random_images

from nuclei.model_file import (
    MODELS,
    PROJECT,
    SCHEMA,
    SETTINGS,
    as_model,
    describe_model,
    find_model,
    load_network,
    read_settings,
    save_model,
)
from unet import HEADS, build_unet, receptive_radius, size_multiple


def test_a_file_comes_back_as_it_went_and_plain_keras_reads_it(tmp_path):
    network = build_unet(width=8, depth=2)
    path = tmp_path / "deep" / "model.h5"
    architecture = {"heads": list(HEADS), "width": 8, "depth": 2}
    thresholds = {"nucleus_threshold": 0.4}
    save_model(path, network, {"architecture": architecture, "thresholds": thresholds})
    again, settings = load_network(path)
    images = random_images(1, 32, 48, 3)
    expected = network.predict_on_batch(images)
    np.testing.assert_allclose(again.predict_on_batch(images), expected, atol=1e-6)
    plain = keras.models.load_model(path, compile=False)
    np.testing.assert_allclose(plain.predict_on_batch(images), expected, atol=1e-6)
    assert settings["thresholds"] == thresholds
    assert [p.name for p in path.parent.iterdir()] == ["model.h5"]


def test_files_of_others_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        load_network(tmp_path / "none.h5")
    text = tmp_path / "text.h5"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"text\.h5: not a model file"):
        load_network(text)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="without a Keras model"):
        load_network(tmp_path / "other.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(ValueError, match="another program"):
        load_network(tmp_path / "foreign.h5")


def test_damaged_settings_and_weights_are_named(tmp_path):
    path = tmp_path / "wrong.h5"
    architecture = {"heads": list(HEADS), "width": 16, "depth": 1}
    save_model(path, build_unet(width=8, depth=1), {"architecture": architecture})
    with pytest.raises(ValueError, match="do not fit"):
        load_network(path)
    for damaged in ("{", json.dumps({"schema": SCHEMA})):
        with h5py.File(path, "r+") as file:
            file.attrs[SETTINGS] = damaged
        with pytest.raises(ValueError, match=r"wrong\.h5: its settings"):
            load_network(path)
    with h5py.File(path, "r+") as file:
        file.attrs[SETTINGS] = json.dumps({"schema": SCHEMA + 1, "architecture": {}})
    with pytest.raises(ValueError, match="later version"):
        load_network(path)


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        save_model(path, build_unet(width=8, depth=1), {"architecture": object()})
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.h5"]


def test_heads_can_be_added_to_and_taken_from_a_file(tmp_path):
    architecture = {"heads": ["nucleus", "distance"], "width": 4, "depth": 1}
    network = build_unet(**architecture)
    save_model(tmp_path / "two.h5", network, {"architecture": architecture})
    image = random_images(1, 16, 16, 3)
    maps = np.asarray(network(image))
    for heads in (["nucleus"], ["nucleus", "distance"], list(HEADS)):
        changed, settings = load_network(tmp_path / "two.h5", heads)
        assert settings["architecture"]["heads"] == heads
        changed_maps = np.asarray(changed(image))
        assert changed_maps.shape[-1] == len(heads)
        num_shared = min(2, len(heads))
        np.testing.assert_allclose(
            changed_maps[..., :num_shared], maps[..., :num_shared], atol=1e-6
        )
    assert read_settings(tmp_path / "two.h5")["architecture"] == architecture


def test_a_model_carries_what_its_settings_say():
    settings = {"architecture": {"heads": ["nucleus", "distance"], "depth": 2, "stem_stride": 1}}
    model = as_model(lambda batch: batch + 1, settings, "CPU")
    assert (model.num_maps, model.device, model(1)) == (2, "CPU", 2)
    assert model.margin_px >= receptive_radius(2, 1) and model.multiple_px == size_multiple(2, 1)
    assert (
        model.calibration is None and model.exceeds_limits({"uncertainty": 0.9}, "tissue") is None
    )
    settings |= {
        "trained_diameter_px": 30,
        "thresholds": {"nucleus_threshold": 0.4},
        "calibration": {"weights": [1.0]},
        "out_of_distribution": {
            "limits": {"low_confidence": 0.2},
            "rare_modalities": ["brightfield"],
        },
    }
    model = as_model(None, settings)
    assert model.diameter_px == 30 and model.thresholds == {"nucleus_threshold": 0.4}
    assert model.calibration == [1.0]
    assert model.exceeds_limits({"uncertainty": 0.9, "low_confidence": 0.3}, "tissue") is True
    assert model.exceeds_limits({"uncertainty": 0.9, "low_confidence": 0.1}, "tissue") is False
    assert model.exceeds_limits({"uncertainty": 0.9}, "brightfield") is True
    older = as_model(None, settings | {"out_of_distribution": {"uncertainty_above": 0.2}})
    assert older.exceeds_limits({"uncertainty": 0.3, "low_confidence": 0.9}, "brightfield") is True
    assert older.exceeds_limits({"uncertainty": 0.1, "low_confidence": 0.9}, "brightfield") is False


def test_the_users_model_comes_before_the_shipped_one_and_the_folder_before_the_project(
    tmp_path, monkeypatch
):
    here, project = tmp_path / "here", tmp_path / "project"
    monkeypatch.setattr("nuclei.model_file.PROJECT", project)
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(FileNotFoundError, match=r"python train\.py"):
        find_model()
    own, shipped = MODELS
    for folder, name in ((project, shipped), (project, own), (here, shipped), (here, own)):
        (folder / "Saved_Model").mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        assert find_model().resolve() == folder / name
    assert find_model("mine.h5").name == "mine.h5"


def test_the_shipped_model_and_the_folder_of_a_training_can_be_named(tmp_path, monkeypatch):
    assert find_model("shipped").samefile(PROJECT / MODELS[1])
    monkeypatch.chdir(PROJECT)
    assert find_model(Path("shipped")) == Path(MODELS[1])  # short where it can be
    (tmp_path / "trained_model.h5").touch()
    assert find_model(tmp_path) == tmp_path / "trained_model.h5"
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no trained_model.h5"):
        find_model(tmp_path / "empty")


def test_a_model_is_described_in_one_line(tmp_path):
    scores = {"validation": {"all": {"ap50": 0.834, "map": 0.61}}}
    settings = {"data": {"train": {"tissue": 20, "fluorescence": 4}}, "scores": scores}
    settings["data"]["sets"] = ["Data Science Bowl 2018", "my_data"]
    own = describe_model(tmp_path / "a.h5", settings)
    facts = "24 images of my_data, after Data Science Bowl 2018; validation AP@0.5 0.83, mAP 0.61"
    assert own == f"Model: yours, {tmp_path / 'a.h5'} ({facts}); the shipped one: --model shipped"
    settings["arguments"] = {"data_dir": ["b", "c"]}  # a training on two sets has no earlier one
    settings["data"]["sets"] = ["a", "b", "c"]
    assert "24 images of b and c, after a;" in describe_model(tmp_path / "a.h5", settings)
    settings["data"]["sets"] = ["b", "c"]
    assert "24 images of b and c;" in describe_model(tmp_path / "a.h5", settings)
    unfinished = {"scores": {"validation_crops": {}}, "epoch": 3}
    assert "not finished, epoch 3" in describe_model(tmp_path / "a.h5", unfinished)
    assert "does not say more" in describe_model(tmp_path / "a.h5", {})
    shipped = find_model("shipped")
    line = describe_model(shipped, read_settings(shipped))
    assert line.startswith("Model: shipped, ") and "--model" not in line
    assert "1119 images of dsb2018, nuinsseg_divided and tnbc;" in line
