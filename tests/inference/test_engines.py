"""Engines: each agrees with Keras or is not used, and what they start from is cached."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from engine_tools import random_images, save_trained, silent

from nuclei.cli import COARSE_ENGINES, ENGINES
from nuclei.inference.engines import TOLERANCES, cache_folder, largest_difference, load_model
from nuclei.inference.runtimes import RUNTIMES, Runtime


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, empty at first."""
    monkeypatch.setattr("nuclei.inference.engines.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def saved(tmp_path, cache):
    """A model file and its network."""
    return save_trained(tmp_path / "model.h5")


@pytest.fixture
def quick_litert(monkeypatch):
    """In place of LiteRT, whose conversion takes a while: the simplified network in Keras."""
    networks = {}

    def write(model):
        content = f"network {len(networks)}".encode()
        networks[content] = model.predict_on_batch
        return content

    runtime = Runtime(write, networks.get)
    monkeypatch.setitem(RUNTIMES, "litert", runtime)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_predicts_what_keras_predicts_at_any_size(saved, name, monkeypatch):
    path, network = saved
    lines = []
    model = load_model(path, name, say=lines.append)
    assert len(lines) == (name != "keras") and (name == "keras" or name in model.device)

    def compare(model):
        for shape in ((1, 32, 64, 3), (3, 16, 48, 3), (1, 32, 64, 3)):
            images = random_images(*shape)
            expected = network.predict_on_batch(images)
            np.testing.assert_allclose(model(images), expected, atol=1e-5)

    compare(model)
    if name != "keras":  # the second time it starts without Keras, and says nothing
        monkeypatch.setattr("nuclei.inference.engines.load_network", None)
        compare(load_model(path, name, say=lines.append))
        assert len(lines) == 1


@pytest.mark.parametrize("name", COARSE_ENGINES)
def test_an_engine_of_fewer_bits_is_taken_only_on_request_and_is_near(
    tmp_path, cache, monkeypatch, name
):
    assert name not in ENGINES
    path, network = save_trained(tmp_path / "model.h5", width=16, depth=2)
    model = load_model(path, name, callers=2, say=silent)
    images = random_images(2, 32, 48, 3)
    assert model.device.endswith(name)
    maps = model(images)
    np.testing.assert_allclose(maps, network.predict_on_batch(images), atol=0.15)
    # What an image becomes depends neither on those beside it nor on the cores.
    np.testing.assert_array_equal(model(images[1:]), maps[1:])
    np.testing.assert_array_equal(load_model(path, name, say=silent)(images), maps)
    monkeypatch.setitem(TOLERANCES, name, -1)
    with pytest.raises(ValueError, match=f"{name} differs from Keras by"):
        load_model(path, name, say=silent)


def test_int8_is_a_quarter_of_the_file_and_needs_no_images(tmp_path, cache):
    path, _ = save_trained(tmp_path / "model.h5", width=32, depth=2)
    for name in ("litert", "litert-int8"):
        load_model(path, name, say=silent)
    sizes = {
        name: next(cache.glob(f"*.{name}")).stat().st_size for name in ("litert", "litert-int8")
    }
    assert sizes["litert-int8"] < 0.35 * sizes["litert"]


def test_test_time_augmentation_is_part_of_the_model(saved):
    path, network = saved
    model = load_model(path, "keras", tta=True)
    images = random_images(1, model.multiple_px, model.multiple_px, 3)
    maps, plain = model(images), network.predict_on_batch(images)
    assert maps.shape[-1] == model.num_maps == len(model.zooms) * plain.shape[-1]
    mirrored = model(np.ascontiguousarray(images[:, :, ::-1]))[:, :, ::-1]
    np.testing.assert_allclose(mirrored, maps, atol=1e-5)
    assert np.abs(maps[..., : plain.shape[-1]] - plain).max() > 1e-4


def test_an_engine_that_differs_is_not_used(saved, monkeypatch, quick_litert):
    path, network = saved
    write, start = RUNTIMES["litert"]

    def start_wrong(content):
        return lambda batch: start(content)(batch) + 0.01

    monkeypatch.setitem(RUNTIMES, "litert", Runtime(write, start_wrong))
    images = random_images(1, 16, 16, 3)
    for _ in range(2):  # the second time from what was cached
        lines = []
        model = load_model(path, say=lines.append)
        assert "litert differs from Keras by 0.01" in lines[-1]
        assert "going on without it" in lines[-1]
        assert "with litert" not in model.device
        np.testing.assert_array_equal(model(images), network.predict_on_batch(images))
    assert len(lines) == 1
    with pytest.raises(ValueError, match="differs from Keras"):
        load_model(path, "litert", say=lines.append)


def test_an_engine_that_fails_is_not_used(saved, monkeypatch):
    path, _ = saved
    failing = Runtime(lambda model: b"", lambda content: 1 / 0)
    monkeypatch.setitem(RUNTIMES, "litert", failing)
    lines = []
    load_model(path, say=lines.append)
    assert "litert cannot run this network (division by zero); going on without it" in lines


def test_a_damaged_cached_file_is_made_anew(saved, cache, quick_litert):
    path, _ = saved
    lines = []
    load_model(path, "litert", say=lines.append)
    file = next(cache.glob("*.litert"))
    file.write_bytes(b"damaged")
    model = load_model(path, "litert", say=lines.append)
    assert "cannot be used" in lines[1]
    assert model(random_images(1, 16, 16, 3)).shape == (1, 16, 16, 2)
    assert file.read_bytes() != b"damaged"
    file.unlink()
    load_model(path, "litert", say=lines.append)
    assert file.exists()


def test_other_weights_are_cached_anew_and_the_oldest_go(
    tmp_path, cache, monkeypatch, quick_litert
):
    monkeypatch.setattr("nuclei.inference.engines.MAX_CACHED_MODELS", 2)
    images = random_images(1, 16, 16, 3)
    for seed in range(3):
        path, network = save_trained(tmp_path / "model.h5", seed)
        model = load_model(path, "litert", say=silent)
        np.testing.assert_allclose(model(images), network.predict_on_batch(images), atol=1e-5)
    assert len(list(cache.glob("*.json"))) == len(list(cache.glob("*.litert"))) == 2


def test_a_cache_that_cannot_be_written_stops_nothing(saved, cache, quick_litert):
    path, _ = saved
    cache.write_text("no folder")
    model = load_model(path, "litert", say=silent)
    assert model(random_images(1, 16, 16, 3)).shape == (1, 16, 16, 2)


def test_the_engine_is_chosen_by_what_is_there(saved, monkeypatch, quick_litert):
    path, _ = saved
    installed = {"keras", "tensorflow"}
    is_installed = "nuclei.inference.engines.is_installed"
    monkeypatch.setattr(is_installed, lambda package: package in installed)
    assert "with litert" in load_model(path, say=silent).device  # it is a part of TensorFlow
    with pytest.raises(ValueError, match="python -m pip install openvino"):
        load_model(path, "openvino-half")
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # chosen by the user; Keras is imported already
    assert "with litert" not in load_model(path).device
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setattr("nuclei.inference.engines.has_nvidia", lambda: True)
    monkeypatch.setattr("nuclei.inference.engines.find_device", lambda backend: ("GPU", "float32"))
    assert load_model(path).device == "GPU"
    installed.clear()
    monkeypatch.setattr("nuclei.inference.engines.has_nvidia", lambda: False)
    with pytest.raises(ValueError, match=r"requirements\.txt"):
        load_model(path)


def test_engines_are_prepared_from_tensorflow_only(saved, monkeypatch):
    path, _ = saved
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        load_model(path, "litert", say=silent)


@pytest.mark.parametrize(
    ("system", "variable"),
    [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA"), ("darwin", None)],
)
def test_the_cache_lies_where_the_system_has_its_caches(system, variable, monkeypatch, tmp_path):
    monkeypatch.setattr("nuclei.inference.engines.sys.platform", system)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
        assert cache_folder().parent == tmp_path
        monkeypatch.delenv(variable)
    monkeypatch.setattr("nuclei.inference.engines.Path.home", lambda: tmp_path / "me")
    assert tmp_path / "me" in cache_folder().parents


@pytest.mark.parametrize(
    ("percent", "share", "expected"),
    [(100, 0.001, 0.5), (99, 0.001, 0.0), (99, 0.02, 0.5), (100, 0.0, 0.0)],
)
def test_the_difference_of_an_engine_leaves_out_the_share_that_is_allowed(percent, share, expected):
    architecture = {"heads": ["nucleus"], "depth": 2, "stem_stride": 1}
    exact = SimpleNamespace(predict_on_batch=lambda batch: batch * 0)

    def network(batch):
        maps = batch * 0
        maps.flat[: int(np.ceil(share * maps.size))] = 0.5
        return maps

    assert largest_difference(network, exact, architecture, percent) == expected
    assert largest_difference(lambda b: b[:, 1:] * 0, exact, architecture, percent) == np.inf
    assert np.isnan(largest_difference(lambda b: b * np.nan, exact, architecture, percent))
