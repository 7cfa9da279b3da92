"""A model leaves as ONNX and as a bioimage.io package and does the same there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from formats_tools import run, without

import exports
from nuclei.formats.bioimageio import package_text
from nuclei.formats.bioimageio_spec import MAPS, NAME, name_of_package
from nuclei.model_file import TRAINED_DIAMETER_PX, load_network, save_model
from unet import HEADS, build_unet

ROOT = Path(exports.__file__).parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network with batch statistics of its own, so that an export that forgets them would
    differ.
    """
    network = build_unet(width=8, depth=1, stem_stride=2)
    random = np.random.default_rng(0)
    network.set_weights([w + random.normal(0, 0.1, w.shape) ** 2 for w in network.get_weights()])
    path = tmp_path_factory.mktemp("model") / "small.h5"
    architecture = {"heads": list(HEADS), "width": 8, "depth": 1, "stem_stride": 2}
    scores = {"validation": {"all": {"images": 3, "dice": 0.9, "ap50": 0.8, "map": 0.5}}}
    save_model(
        path,
        network,
        {
            "architecture": architecture,
            "scores": scores,
            "trained_diameter_px": 21,
            "nucleus_diameter_px": {"median": 19.0},  # of the images, before they are resized
        },
    )
    return path


def in_a_process(*words, folder):
    """Run a command as a user does: bioimageio.core leaves files open and tf2onnx is older than
    NumPy 2, whose warnings would be errors of whatever test runs next. The package's cache goes
    into `folder`.
    """
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "default",
        "BIOIMAGEIO_CACHE_PATH": str(folder / "cache"),
    }
    words = [sys.executable, *(str(word) for word in words)]
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def test_a_model_leaves_as_onnx_and_bioimageio_and_does_the_same_there(model, tmp_path, capsys):
    import onnxruntime

    out = tmp_path / "out"
    kinds = ("--model-out", "onnx,bioimageio")
    arguments = (*kinds, "--model", model, "--out", out, "--author", "A Student")
    done = in_a_process("exports.py", *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "run by onnxruntime" in done.stdout and "run by bioimageio.core" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["small.bioimageio.zip", "small.onnx"]

    network, _ = load_network(model)
    session = onnxruntime.InferenceSession(
        str(out / "small.onnx"), providers=["CPUExecutionProvider"]
    )
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    assert [output.name for output in session.get_outputs()] == ["maps"]
    batch = np.random.default_rng(1).random((3, 24, 40, 3), np.float32)
    maps = session.run(None, {session.get_inputs()[0].name: batch})[0]
    np.testing.assert_allclose(maps, network.predict_on_batch(batch), atol=1e-5)

    # bioimage.io's own test: format, files, and Keras's stored maps, at several sizes.
    code = (
        "import sys, bioimageio.core as core\n"
        "model = core.load_description(sys.argv[1])\n"
        "summary = core.test_model(model)\n"
        "print(summary.status, model.authors[0].name, model.license, model.description, "
        "model.documentation.get_reader().read().decode())\n"
        "assert summary.status == 'passed', summary.format()\n"
    )
    done = in_a_process("-c", code, out / "small.bioimageio.zip", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        "passed A Student MIT" in done.stdout
        and '"dice": 0.9' in done.stdout
        and "about 21 px" in done.stdout
    )
    assert "nucleus probability, distance map and contact map" in done.stdout

    before = (out / "small.onnx").read_bytes()
    assert run(*arguments) == 1
    assert "is there already" in capsys.readouterr().err
    assert (out / "small.onnx").read_bytes() == before


def test_the_package_says_what_this_network_sees_and_predicts():
    settings = {"architecture": {"heads": ["nucleus"]}, "nucleus_diameter_px": {"median": 9.0}}
    assert f"about {TRAINED_DIAMETER_PX} px" in package_text(settings, "a")
    assert set(MAPS) == set(HEADS)


@pytest.mark.parametrize("stem", ["modell_ä", "a.b", "模型", "x" * 99, "(1)+-"])
def test_any_name_of_a_model_file_becomes_a_name_of_a_package(stem):
    assert NAME.fullmatch(name_of_package(stem)) and len(name_of_package(stem)) <= 64


@pytest.mark.parametrize(
    ("flag", "value", "example"),
    [
        ("--name", "Kerne ü 1.0", "nuclei 1"),
        ("--author", "A/B", "without slashes"),
        ("--licence", "CC BY 4.0", "CC-BY-4.0"),
    ],
)
def test_credits_are_checked_before_the_work(model, tmp_path, flag, value, example):
    arguments = ("--model-out", "bioimageio", "--model", model, "--out", tmp_path / "out")
    done = in_a_process("exports.py", *arguments, flag, value, folder=tmp_path)
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and not done.stdout and not (tmp_path / "out").exists()
    assert line.startswith(f'exports.py: {flag} "{value}" came; expected ') and example in line


@pytest.mark.filterwarnings(
    "ignore:In the future `np.object`:FutureWarning"
)  # Keras asks for it on behalf of tf2onnx
def test_a_model_that_comes_out_different_is_not_written(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nuclei.formats.onnx.MODEL_TOLERANCE", -1.0)
    assert run("--model-out", "onnx", "--model", model, "--out", tmp_path) == 1
    assert "differs from Keras" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_export_says_what_it_lacks(model, tmp_path, monkeypatch, capsys):
    assert run("--model-out", "onnx", "--model", tmp_path / "none.h5") == 1
    assert "no such model file" in capsys.readouterr().err
    without(monkeypatch, "bioimageio")
    assert run("--model-out", "bioimageio", "--model", model, "--out", tmp_path) == 1
    assert capsys.readouterr().err.endswith("python -m pip install bioimageio.core\n")
    without(monkeypatch, "tf2onnx")
    assert run("--model-out", "onnx", "--model", model, "--out", tmp_path) == 1
    assert capsys.readouterr().err.endswith("python -m pip install tf2onnx\n")
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert run("--model-out", "onnx", "--model", model, "--out", tmp_path) == 1
    assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err
