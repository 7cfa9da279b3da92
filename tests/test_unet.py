"""The network: shapes, the figure, the file it lives in, and one step of training."""

import json

import h5py
import keras
import numpy as np
import pytest

import losses
import unet


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("normalisation", ["batch", "group", "none"])
def test_any_size_that_is_a_multiple_keeps_its_size(stem_stride, normalisation):
    model = unet.build_unet(width=8, depth=2, stem_stride=stem_stride, normalisation=normalisation, heads=("nucleus",))
    multiple = unet.size_multiple(depth=2, stem_stride=stem_stride)
    maps = model.predict_on_batch(random_images(2, multiple * 3, multiple * 5, 3))
    assert maps.shape == (2, multiple * 3, multiple * 5, 1)
    assert maps.min() >= 0 and maps.max() <= 1


def test_the_classic_network_is_one_call():
    model = unet.build_unet(width=64, depth=4, stem_stride=1)
    filters = [
        layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3)
    ]
    assert filters == [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2 + [1024] * 2 + [512] * 2 + [256] * 2 + [128] * 2 + [64] * 2
    assert sum(isinstance(layer, keras.layers.Conv2DTranspose) for layer in model.layers) == 4
    assert sum(isinstance(layer, keras.layers.Concatenate) for layer in model.layers) == 4


def test_equal_layers_do_not_start_equal():
    keras.utils.set_random_seed(1)
    model = unet.build_unet(width=8, depth=1)
    kernels = [w for w in model.get_weights() if w.ndim == 4]
    same_shape = [(a, b) for i, a in enumerate(kernels) for b in kernels[i + 1 :] if a.shape == b.shape]
    assert same_shape
    assert all(np.abs(a - b).max() > 1e-3 for a, b in same_shape)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"depth": 0}, {"stem_stride": 3}, {"heads": ()}])
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        unet.build_unet(**arguments)


def test_normalisations_are_checked():
    with pytest.raises(ValueError, match="layer"):
        unet.build_unet(normalisation="layer")
    with pytest.raises(ValueError, match="width is 12"):
        unet.build_unet(width=12, normalisation="group")


@pytest.mark.parametrize(("depth", "stem_stride"), [(2, 2), (2, 1), (3, 2)])
def test_nothing_beyond_the_receptive_radius_matters(depth, stem_stride):
    model = unet.build_unet(width=8, depth=depth, stem_stride=stem_stride)
    radius = unet.receptive_radius(depth, stem_stride)
    size = 2 * 128
    image = random_images(1, size, 64, 3)
    before = model.predict_on_batch(image)
    row = size // 2 + 3
    image[0, row] = 1 - image[0, row]
    change = np.abs(model.predict_on_batch(image) - before)[0].max((1, 2))
    touched = np.flatnonzero(change > 0)
    assert touched.size and row - touched.min() <= radius and touched.max() - row <= radius
    assert max(row - touched.min(), touched.max() - row) >= radius - unet.size_multiple(depth, stem_stride)  # and it is tight


def test_a_step_of_training_lowers_the_loss_on_its_batch():
    keras.utils.set_random_seed(0)
    model = unet.build_unet(width=8, depth=1)
    model.compile(keras.optimizers.AdamW(1e-2), loss=losses.SegmentationLoss(unet.HEADS), metrics=losses.pixel_metrics())
    images = random_images(4, 32, 32, 3)
    truth = np.repeat((images[..., :1] > 0.5).astype(np.float32), len(unet.HEADS), -1)
    first = model.train_on_batch(images, truth, return_dict=True)
    for _ in range(15):
        last = model.train_on_batch(images, truth, return_dict=True)
    assert last["loss"] < first["loss"]
    assert set(last) == {"loss", "accuracy", "dice", "iou"}


def test_a_file_comes_back_as_it_went_and_plain_keras_reads_it(tmp_path):
    model = unet.build_unet(width=8, depth=2)
    path = tmp_path / "deep" / "model.h5"
    architecture = {"heads": list(unet.HEADS), "width": 8, "depth": 2}
    unet.save_model(path, model, {"architecture": architecture, "thresholds": {"nucleus_threshold": 0.4}})
    again, settings = unet.load_model(path)
    images = random_images(1, 32, 48, 3)
    expected = model.predict_on_batch(images)
    np.testing.assert_allclose(again.predict_on_batch(images), expected, atol=1e-6)
    np.testing.assert_allclose(keras.models.load_model(path, compile=False).predict_on_batch(images), expected, atol=1e-6)
    assert settings["thresholds"] == {"nucleus_threshold": 0.4}
    assert [p.name for p in path.parent.iterdir()] == ["model.h5"]


def test_files_that_are_not_ours_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        unet.load_model(tmp_path / "none.h5")
    text = tmp_path / "text.h5"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"text\.h5: not a model file"):
        unet.load_model(text)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="without a Keras model"):
        unet.load_model(tmp_path / "other.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(ValueError, match="another program"):
        unet.load_model(tmp_path / "foreign.h5")
    model = unet.build_unet(width=8, depth=1)
    path = tmp_path / "wrong.h5"
    unet.save_model(path, model, {"architecture": {"width": 16, "depth": 1}})
    with pytest.raises(ValueError, match="do not fit"):
        unet.load_model(path)
    for damaged in ("{", json.dumps({"schema": unet.SCHEMA})):
        with h5py.File(path, "r+") as file:
            file.attrs[unet.SETTINGS] = damaged
        with pytest.raises(ValueError, match=r"wrong\.h5: its settings"):
            unet.load_model(path)
    with h5py.File(path, "r+") as file:
        file.attrs[unet.SETTINGS] = json.dumps({"schema": unet.SCHEMA + 1, "architecture": {}})
    with pytest.raises(ValueError, match="later version"):
        unet.load_model(path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    model = unet.build_unet(width=8, depth=1)
    with pytest.raises(TypeError):
        unet.save_model(path, model, {"architecture": object()})
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.h5"]


def test_the_device_is_named():
    words, precision = unet.find_device()
    assert words.startswith(("CPU", "GPU"))
    assert precision in ("float32", "mixed_float16", "mixed_bfloat16")


def test_a_gpu_that_the_backend_does_not_see_is_reported(monkeypatch):
    words, _ = unet.find_device()
    if words.startswith("GPU"):
        pytest.skip("the backend sees a GPU here")
    monkeypatch.setattr(unet.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "does not see" in unet.find_device()[0]


def test_heads_can_be_added_to_and_taken_from_a_file(tmp_path):
    architecture = {"heads": ["nucleus", "distance"], "width": 4, "depth": 1}
    model = unet.build_unet(**architecture)
    unet.save_model(tmp_path / "two.h5", model, {"architecture": architecture})
    image = np.random.default_rng(0).random((1, 16, 16, 3)).astype(np.float32)
    maps = np.asarray(model(image))
    for heads in (["nucleus"], ["nucleus", "distance"], list(unet.HEADS)):
        changed, settings = unet.load_model(tmp_path / "two.h5", heads)
        assert settings["architecture"]["heads"] == heads
        painted = np.asarray(changed(image))
        assert painted.shape[-1] == len(heads)
        shared = min(2, len(heads))
        np.testing.assert_allclose(painted[..., :shared], maps[..., :shared], atol=1e-6)
    assert unet.read_settings(tmp_path / "two.h5")["architecture"] == architecture


@pytest.mark.parametrize("heads", [["distance"], ["nucleus", "contact"], ["contact", "nucleus"]])
def test_heads_come_in_their_order(heads):
    with pytest.raises(ValueError, match="must be the first one, two or three"):
        unet.build_unet(heads=heads, width=4, depth=1)
