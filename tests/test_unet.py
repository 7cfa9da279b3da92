"""The network: shapes, the figure, the file it lives in, and one step of training."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import keras
import numpy as np
import pytest

from nuclei.inference.engines import COARSE_ENGINES, COARSE_TOLERANCE, ENGINES, cache_folder, start_engine
from nuclei.inference.runtimes import RUNTIMES, by_shape, for_engines
from nuclei.inference.threads import share_network
from nuclei.machine import find_device
from nuclei.model_file import SCHEMA, SETTINGS, load_network, read_settings, save_model
from nuclei.training.losses import SegmentationLoss, pixel_metrics
from nuclei.training.normalisation import fuse_normalisation
from unet import HEADS, build_unet, receptive_radius, size_multiple


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("normalisation", ["batch", "group", "none"])
def test_any_size_that_is_a_multiple_keeps_its_size(stem_stride, normalisation):
    model = build_unet(width=8, depth=2, stem_stride=stem_stride, normalisation=normalisation, heads=("nucleus",))
    multiple = size_multiple(depth=2, stem_stride=stem_stride)
    maps = model.predict_on_batch(random_images(2, multiple * 3, multiple * 5, 3))
    assert maps.shape == (2, multiple * 3, multiple * 5, 1)
    assert maps.min() >= 0 and maps.max() <= 1


def test_the_classic_network_is_one_call():
    model = build_unet(width=64, depth=4, stem_stride=1)
    filters = [
        layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3)
    ]
    assert filters == [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2 + [1024] * 2 + [512] * 2 + [256] * 2 + [128] * 2 + [64] * 2
    assert sum(isinstance(layer, keras.layers.Conv2DTranspose) for layer in model.layers) == 4
    assert sum(isinstance(layer, keras.layers.Concatenate) for layer in model.layers) == 4


def test_equal_layers_do_not_start_equal():
    keras.utils.set_random_seed(1)
    model = build_unet(width=8, depth=1)
    kernels = [w for w in model.get_weights() if w.ndim == 4]
    same_shape = [(a, b) for i, a in enumerate(kernels) for b in kernels[i + 1 :] if a.shape == b.shape]
    assert same_shape
    assert all(np.abs(a - b).max() > 1e-3 for a, b in same_shape)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the kernel is TensorFlow's")
@pytest.mark.parametrize("frozen", [False, True])
def test_normalising_by_one_kernel_trains_the_same_network(frozen):
    trained = []
    for fused in (False, True):
        keras.utils.set_random_seed(2)
        model = build_unet(width=8, depth=2, heads=("nucleus",))
        for layer in model.layers:
            layer.trainable = not (frozen and isinstance(layer, keras.layers.BatchNormalization))
        if fused:
            fuse_normalisation(model)
        model.compile(keras.optimizers.SGD(0.1), SegmentationLoss(("nucleus",)))
        began = model.get_weights()
        for seed in range(3):
            truth = (random_images(2, 64, 64, 1, seed=10 + seed) > 0.7).astype(np.float32)
            model.train_on_batch(random_images(2, 64, 64, 3, seed=seed), truth)
        trained.append([*model.get_weights(), model.predict_on_batch(random_images(2, 64, 64, 3))])
    assert sum(np.abs(a - b).max() > 1e-3 for a, b in zip(began, trained[0], strict=False)) > 10
    for ours, kerass in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, kerass, atol=1e-4)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"depth": 0}, {"stem_stride": 3}, {"heads": ()}])
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        build_unet(**arguments)


def test_normalisations_are_checked():
    with pytest.raises(ValueError, match="layer"):
        build_unet(normalisation="layer")
    with pytest.raises(ValueError, match="width is 12"):
        build_unet(width=12, normalisation="group")


@pytest.mark.parametrize(("depth", "stem_stride"), [(2, 2), (2, 1), (3, 2)])
def test_nothing_beyond_the_receptive_radius_matters(depth, stem_stride):
    model = build_unet(width=8, depth=depth, stem_stride=stem_stride)
    radius = receptive_radius(depth, stem_stride)
    size = 2 * 128
    image = random_images(1, size, 64, 3)
    before = model.predict_on_batch(image)
    row = size // 2 + 3
    image[0, row] = 1 - image[0, row]
    change = np.abs(model.predict_on_batch(image) - before)[0].max((1, 2))
    touched = np.flatnonzero(change > 0)
    assert touched.size and row - touched.min() <= radius and touched.max() - row <= radius
    assert max(row - touched.min(), touched.max() - row) >= radius - size_multiple(depth, stem_stride)  # and it is tight


def test_a_step_of_training_lowers_the_loss_on_its_batch():
    keras.utils.set_random_seed(0)
    model = build_unet(width=8, depth=1)
    model.compile(keras.optimizers.AdamW(1e-2), loss=SegmentationLoss(HEADS), metrics=pixel_metrics())
    images = random_images(4, 32, 32, 3)
    truth = np.repeat((images[..., :1] > 0.5).astype(np.float32), len(HEADS), -1)
    first = model.train_on_batch(images, truth, return_dict=True)
    for _ in range(15):
        last = model.train_on_batch(images, truth, return_dict=True)
    assert last["loss"] < first["loss"]
    assert set(last) == {"loss", "accuracy", "dice", "iou"}


def test_a_file_comes_back_as_it_went_and_plain_keras_reads_it(tmp_path):
    model = build_unet(width=8, depth=2)
    path = tmp_path / "deep" / "model.h5"
    architecture = {"heads": list(HEADS), "width": 8, "depth": 2}
    save_model(path, model, {"architecture": architecture, "thresholds": {"nucleus_threshold": 0.4}})
    again, settings = load_network(path)
    images = random_images(1, 32, 48, 3)
    expected = model.predict_on_batch(images)
    np.testing.assert_allclose(again.predict_on_batch(images), expected, atol=1e-6)
    np.testing.assert_allclose(keras.models.load_model(path, compile=False).predict_on_batch(images), expected, atol=1e-6)
    assert settings["thresholds"] == {"nucleus_threshold": 0.4}
    assert [p.name for p in path.parent.iterdir()] == ["model.h5"]


def test_files_that_are_not_ours_are_refused(tmp_path):
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
    model = build_unet(width=8, depth=1)
    path = tmp_path / "wrong.h5"
    save_model(path, model, {"architecture": {"width": 16, "depth": 1}})
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


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    model = build_unet(width=8, depth=1)
    with pytest.raises(TypeError):
        save_model(path, model, {"architecture": object()})
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.h5"]


def test_the_device_is_named():
    words, precision = find_device()
    assert words.startswith(("CPU", "GPU"))
    assert precision in ("float32", "mixed_float16", "mixed_bfloat16")


def test_a_gpu_that_the_backend_does_not_see_is_reported(monkeypatch):
    words, _ = find_device()
    if words.startswith("GPU"):
        pytest.skip("the backend sees a GPU here")
    monkeypatch.setattr(unet.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "does not see" in find_device()[0]


def test_heads_can_be_added_to_and_taken_from_a_file(tmp_path):
    architecture = {"heads": ["nucleus", "distance"], "width": 4, "depth": 1}
    model = build_unet(**architecture)
    save_model(tmp_path / "two.h5", model, {"architecture": architecture})
    image = np.random.default_rng(0).random((1, 16, 16, 3)).astype(np.float32)
    maps = np.asarray(model(image))
    for heads in (["nucleus"], ["nucleus", "distance"], list(HEADS)):
        changed, settings = load_network(tmp_path / "two.h5", heads)
        assert settings["architecture"]["heads"] == heads
        painted = np.asarray(changed(image))
        assert painted.shape[-1] == len(heads)
        shared = min(2, len(heads))
        np.testing.assert_allclose(painted[..., :shared], maps[..., :shared], atol=1e-6)
    assert read_settings(tmp_path / "two.h5")["architecture"] == architecture


@pytest.mark.parametrize("heads", [["distance"], ["nucleus", "contact"], ["contact", "nucleus"]])
def test_heads_come_in_their_order(heads):
    with pytest.raises(ValueError, match="must be the first one, two or three"):
        build_unet(heads=heads, width=4, depth=1)


# --- Engines --------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A function that saves a network with batch statistics as after a training; the engines' cache is empty at first."""
    monkeypatch.setattr("nuclei.inference.engines.cache_folder", lambda: tmp_path / "cache")

    def save(seed=0, **architecture):
        keras.utils.set_random_seed(seed)
        architecture = {"heads": ["nucleus", "distance"], "width": 8, "depth": 1, **architecture}
        model, random = build_unet(**architecture), np.random.default_rng(seed)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        save_model(tmp_path / "model.h5", model, {"architecture": architecture})
        return tmp_path / "model.h5", model

    return save


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("normalisation", ["batch", "group", "none"])
def test_the_network_for_engines_is_the_same_function(saved, stem_stride, normalisation):
    architecture = {"depth": 2, "stem_stride": stem_stride, "normalisation": normalisation}
    _, model = saved(**architecture)
    simple = for_engines(model, {"heads": ["nucleus", "distance"], "width": 8, **architecture})
    images = random_images(2, 40, 24, 3)
    np.testing.assert_allclose(simple.predict_on_batch(images), model.predict_on_batch(images), atol=1e-5)
    assert not any(isinstance(layer, keras.layers.BatchNormalization | keras.layers.Conv2DTranspose) for layer in simple.layers)


@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")  # Keras asks for it on behalf of tf2onnx
@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_paints_what_keras_paints_at_any_size(saved, name, monkeypatch):
    path, model = saved()
    said = []
    network, words = start_engine(path, name, said.append)
    assert len(said) == (name != "keras") and (name == "keras" or name in words)

    def compare(network):
        for shape in ((1, 32, 64, 3), (3, 16, 48, 3), (1, 32, 64, 3)):
            images = random_images(*shape)
            np.testing.assert_allclose(network(images), model.predict_on_batch(images), atol=1e-5)

    compare(network)
    if name != "keras":  # the second time it starts without Keras, and says nothing
        monkeypatch.setattr("nuclei.model_file.load_network", None)
        compare(start_engine(path, name, said.append)[0])
        assert len(said) == 1


@pytest.mark.parametrize("name", COARSE_ENGINES)
def test_an_engine_of_fewer_bits_is_taken_only_where_asked_for_and_is_near(saved, monkeypatch, name):
    assert name not in ENGINES
    path, model = saved(width=16, depth=2)
    said = []
    network, words = start_engine(path, name, said.append, callers=2)
    images = random_images(2, 32, 48, 3)
    assert words.endswith(name)
    painted = network(images)
    np.testing.assert_allclose(painted, model.predict_on_batch(images), atol=COARSE_TOLERANCE)
    # What an image becomes depends neither on those beside it nor on the cores.
    np.testing.assert_array_equal(network(images[1:]), painted[1:])
    np.testing.assert_array_equal(start_engine(path, name, said.append)[0](images), painted)
    monkeypatch.setattr("nuclei.inference.engines.COARSE_TOLERANCE", -1)
    with pytest.raises(ValueError, match=f"{name} differs from Keras by"):
        start_engine(path, name, lambda line: None)


def test_int8_is_a_quarter_of_the_file_and_needs_no_images(saved):
    path, _ = saved(width=32, depth=2)
    for name in ("litert", "litert-int8"):
        start_engine(path, name, lambda line: None)
    small, large = (next(cache_folder().glob(f"*.{name}")).stat().st_size for name in ("litert-int8", "litert"))
    assert small < 0.35 * large


def test_litert_runs_as_a_part_of_tensorflow_too(saved, monkeypatch):
    path, model = saved()
    monkeypatch.setattr("nuclei.machine.is_installed", lambda package: package != "ai_edge_litert")
    network, _ = start_engine(path, "litert", lambda line: None)
    images = random_images(2, 16, 48, 3)
    np.testing.assert_allclose(network(images), model.predict_on_batch(images), atol=1e-5)


def test_an_engine_that_differs_is_not_used(saved, monkeypatch):
    path, model = saved()
    monkeypatch.setattr("nuclei.inference.engines.ENGINES", ("tensorflow", "keras"))
    write, run = RUNTIMES["tensorflow"]
    monkeypatch.setitem(RUNTIMES, "tensorflow", (write, lambda file: lambda batch: run(file)(batch) + 0.01))
    for _ in range(2):  # the second time from what was written down
        said = []
        network, words = start_engine(path, say=said.append)
        assert "tensorflow differs from Keras by 0.01" in said[-1] and "going on without it" in said[-1]
        assert "with tensorflow" in words and network.__self__.name == "unet"  # Keras's words, and its model
    assert len(said) == 1
    with pytest.raises(ValueError, match="differs from Keras"):
        start_engine(path, "tensorflow", said.append)


def test_an_engine_that_fails_is_not_used(saved, monkeypatch):
    path, _ = saved()
    monkeypatch.setattr("nuclei.inference.engines.ENGINES", ("tensorflow", "keras"))
    monkeypatch.setitem(RUNTIMES, "tensorflow", (lambda model, file: file.write_bytes(b""), lambda file: 1 / 0))
    said = []
    start_engine(path, say=said.append)
    assert "tensorflow cannot run this network (division by zero); going on without it" in said


def test_a_damaged_prepared_file_is_made_anew(saved, tmp_path):
    path, _ = saved()
    said = []
    start_engine(path, "tensorflow", said.append)
    file = next((tmp_path / "cache").glob("*.tensorflow"))
    file.write_bytes(b"damaged")
    network, _ = start_engine(path, "tensorflow", said.append)
    assert "cannot be used" in said[1] and network(random_images(1, 16, 16, 3)).shape == (1, 16, 16, 2)
    assert file.read_bytes() != b"damaged"
    file.unlink()
    start_engine(path, "tensorflow", said.append)
    assert file.exists()


def test_other_weights_are_prepared_anew_and_the_oldest_go(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("nuclei.inference.engines.PREPARED_MODELS", 2)
    for seed in range(3):
        path, model = saved(seed)
        network, _ = start_engine(path, "tensorflow", lambda line: None)
        images = random_images(1, 16, 16, 3)
        np.testing.assert_allclose(network(images), model.predict_on_batch(images), atol=1e-5)
    assert len(list((tmp_path / "cache").glob("*.json"))) == len(list((tmp_path / "cache").glob("*.tensorflow"))) == 2


def test_a_cache_that_cannot_be_written_stops_nothing(saved, tmp_path):
    path, _ = saved()
    (tmp_path / "cache").write_text("no folder")
    network, _ = start_engine(path, "tensorflow", lambda line: None)
    assert network(random_images(1, 16, 16, 3)).shape == (1, 16, 16, 2)


def test_the_engine_is_chosen_by_what_is_there(saved, monkeypatch):
    path, _ = saved()
    there = {"keras", "tensorflow"}
    monkeypatch.setattr("nuclei.machine.is_installed", lambda package: package in there)
    monkeypatch.setattr("nuclei.inference.engines.ENGINES", ("openvino", "tensorflow", "keras"))
    assert "with tensorflow" in start_engine(path, say=lambda line: None)[1]
    with pytest.raises(ValueError, match="python -m pip install openvino"):
        start_engine(path, "openvino")
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # as for a user who wants it; Keras itself is imported already
    assert start_engine(path)[0].__self__.name == "unet"
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setattr("nuclei.machine.has_nvidia", lambda: True)
    monkeypatch.setattr("nuclei.machine.find_device", lambda: ("GPU", "float32"))
    assert start_engine(path)[1] == "GPU"
    there.clear()
    monkeypatch.setattr("nuclei.machine.has_nvidia", lambda: False)
    with pytest.raises(ValueError, match=r"requirements\.txt"):
        start_engine(path)


def test_engines_are_prepared_from_tensorflow_only(saved, monkeypatch):
    path, model = saved()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        for_engines(model, {"width": 8, "depth": 1})


@pytest.mark.parametrize(("system", "variable"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA"), ("darwin", None)])
def test_prepared_networks_lie_where_the_system_keeps_such_things(system, variable, monkeypatch, tmp_path):
    monkeypatch.setattr(unet.sys, "platform", system)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
        assert cache_folder().parent == tmp_path
        monkeypatch.delenv(variable)
    monkeypatch.setattr(unet.Path, "home", lambda: tmp_path / "me")
    assert tmp_path / "me" in cache_folder().parents


def test_few_shapes_are_kept_ready_and_the_oldest_becomes_the_next(monkeypatch):
    monkeypatch.setattr("nuclei.inference.runtimes.READY_PIXELS", 100)
    started = []

    def start(shape, old=None):
        started.append((shape, old))
        return lambda batch: batch, shape

    network = by_shape(start)
    small, other, large = (np.zeros(shape, np.float32) for shape in ((1, 4, 4, 3), (1, 4, 8, 3), (1, 16, 16, 3)))
    for batch in (small, other, small, large, small):
        network(batch)
    assert started == [(small.shape, None), (other.shape, None), (large.shape, small.shape), (small.shape, large.shape)]


@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_may_be_called_by_several_threads(saved, name, monkeypatch):
    path, model = saved()
    monkeypatch.setattr("nuclei.machine.num_cores", lambda: 2)
    monkeypatch.setattr("nuclei.inference.runtimes.READY_PIXELS", 40 * 40)  # the larger batches go through the network of all cores
    network, _ = start_engine(path, name, lambda line: None, callers=4)
    batches = [random_images(1, 16 * rows, 16 * columns, 3) for rows in (1, 2, 3) for columns in (1, 2, 3)] * 3
    with ThreadPoolExecutor(4) as pool:
        painted = list(pool.map(network, batches))
    for batch, maps in zip(batches, painted, strict=True):
        np.testing.assert_allclose(maps, model.predict_on_batch(batch), atol=1e-5)


@pytest.mark.parametrize(("name", "at_once"), [("keras", 1), ("litert", 2)])
def test_callers_share_the_cores_where_the_engine_can(name, at_once, monkeypatch):
    inside, most, cores_given = [], [], []

    def call(batch):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return batch

    monkeypatch.setattr("nuclei.machine.num_cores", lambda: 5)
    monkeypatch.setitem(RUNTIMES, "litert", (None, lambda content, cores: cores_given.append(cores) or call))
    network = share_network(name, call, b"", callers=2)
    batches = [np.full((1, 4, 4, 3), number, np.float32) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert [batch[0, 0, 0, 0] for batch in pool.map(network, batches)] == list(range(12))
    assert max(most) == at_once and cores_given == [3, 2] * (name == "litert")
    assert share_network(name, call, b"", callers=1) is call
