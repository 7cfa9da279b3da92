"""google_colab.py stands alone, trains as the rooms do, goes on after a cut, ends in few words."""

import ast
import re
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from training_tools import write_data

import google_colab
import graph
import predict
from nuclei.images.intensity import normalise
from nuclei.model_file import load_network
from nuclei.results.history import read_history
from nuclei.training.muon import Muon

ROOT = Path(google_colab.__file__).parent
BLOCKS = {
    "unet.py": ["build_unet"],
    "nuclei/training/targets.py": ["distance_map", "contact_map", "targets"],
    "nuclei/training/losses.py": ["SegmentationLoss"],
}
PRODUCTS = ["history.csv", "trained_model.h5"]


def code_of(path, name):
    """Lines of a definition without its docstrings, comment lines and empty lines."""
    text = (ROOT / path).read_text()
    node = next(n for n in ast.parse(text).body if getattr(n, "name", None) == name)
    left_out = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner):
            left_out |= set(range(inner.body[0].lineno, inner.body[0].end_lineno + 1))
    lines = enumerate(text.split("\n")[: node.end_lineno], start=1)
    lines = [line for number, line in lines if number >= node.lineno and number not in left_out]
    return [line for line in lines if line.strip() and not line.strip().startswith("#")]


def constants(path):
    tree = ast.parse((ROOT / path).read_text())
    nodes = [node for node in tree.body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in nodes}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A current folder with Unet_Data in it, and settings for seconds."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "Unet_Data", 3)
    values = {"EPOCHS": 3, "BATCH_SIZE": 2, "WIDTH": 4, "CROP_PX": 32, "DEPTH": 1}
    for name, value in values.items():
        monkeypatch.setattr(google_colab, name, value)
    return tmp_path / "Unet_Data" / "Saved_Model"


# --- The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path, name", [(path, name) for path in BLOCKS for name in BLOCKS[path]])
def test_targets_network_and_loss_are_word_for_word_those_of_their_rooms(path, name):
    assert code_of("google_colab.py", name) == code_of(path, name)


def test_constants_that_the_blocks_need_have_the_values_of_their_rooms():
    own = constants("google_colab.py")
    for path in BLOCKS:
        shared = own.keys() & constants(path).keys() - {"WIDTH"}  # a setting, larger for a GPU
        assert shared and {n: own[n] for n in shared} == {n: constants(path)[n] for n in shared}
    assert google_colab.DIAMETER_PX == 24


def test_it_stands_alone_in_at_most_400_lines():
    text = (ROOT / "google_colab.py").read_text()
    assert text.count("\n") <= 400
    imports = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
    modules = {getattr(n, "module", None) or n.names[0].name for n in imports}
    tops = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names)
    colab = {"numpy", "pandas", "PIL", "cv2", "skimage", "keras", "tensorflow", "h5py", "google"}
    assert tops <= colab


def test_its_optimiser_steps_as_muon_of_the_room_does():
    rng = np.random.default_rng(0)
    shapes = [(3, 3, 4, 8), (2, 2, 8, 4), (1, 1, 8, 3), (8,)]
    start = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    steps = [[rng.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(3)]
    ends = []
    for make in (Muon, google_colab.KernelMuon):
        more = {} if make is Muon else {"adam_weight_decay": 1e-4, "rms_rate": None}
        optimizer = make(0.01, global_clipnorm=1, weight_decay=1e-4, **more)
        variables = [keras.Variable(value) for value in start]
        for gradients in steps:
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
        ends.append([keras.ops.convert_to_numpy(variable) for variable in variables])
    for before, one, other in zip(start, *ends, strict=True):
        np.testing.assert_allclose(other - before, one - before, rtol=0.02, atol=2e-4)


# --- The data -------------------------------------------------------------------------------------


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.mark.parametrize("dtype, top", [(np.uint8, 180), (np.uint16, 3000)])
def test_images_are_stretched_as_prediction_stretches_them(tmp_path, dtype, top):
    grey = np.random.default_rng(1).integers(10, top, (60, 70)).astype(dtype)
    write(tmp_path / "a.png", grey)
    write(tmp_path / "m.png", np.zeros((60, 70), np.uint8))
    image = google_colab.read_sample(tmp_path / "a.png", tmp_path / "m.png").image
    np.testing.assert_allclose(image / 255, normalise(np.dstack([grey] * 3)), atol=1.5 / 255)


def test_a_crop_shows_image_and_truth_alike_at_the_trained_size():
    labels = np.zeros((200, 240), np.uint16)
    for number, (x, y) in enumerate(((60, 60), (120, 70), (180, 140)), start=1):
        cv2.circle(labels, (x, y), 24, number, -1)
    image = np.dstack([(labels > 0).astype(np.uint8) * 255] * 3)
    sample = google_colab.Sample(image, labels, "ids", "fluorescence", 24 / 49)
    middle, truth = google_colab.crop(sample)
    assert middle.shape == truth.shape == (256, 256, 3) and middle.dtype == np.float32
    areas = np.bincount(cv2.connectedComponents((truth[..., 0] > 0).astype(np.uint8))[1].ravel())
    assert abs(np.median(2 * np.sqrt(areas[1:] / np.pi)) - 24) < 1
    overlaps = []
    for seed in range(12):
        crop, truth = google_colab.crop(sample, np.random.default_rng(seed))
        assert crop.min() >= 0 and crop.max() <= 1
        bright = crop[..., 0] > (crop.min() + crop.max()) / 2
        if truth[..., 0].any():
            both = np.count_nonzero(bright & (truth[..., 0] > 0))
            overlaps.append(both / np.count_nonzero(bright | (truth[..., 0] > 0)))
    assert len(overlaps) > 6 and np.median(overlaps) > 0.9


def test_batches_are_a_function_of_seed_epoch_and_step_and_balance_the_kinds():
    blank = np.zeros((40, 40), np.uint16)
    image = np.zeros((40, 40, 3), np.uint8)
    kinds = ["fluorescence"] * 40 + ["tissue"] * 4
    crops = google_colab.Crops([google_colab.Sample(image, blank, "ids", k, 1) for k in kinds])
    assert 0.25 < crops.shares[40:].sum() < 0.35
    np.testing.assert_array_equal(crops[3][0], crops[3][0])
    before, crops.epoch = crops[3][0], 1
    assert (crops[3][0] != before).any()


# --- The training ---------------------------------------------------------------------------------


def test_the_files_open_in_predict_and_graph(tiny, tmp_path, capsys):
    google_colab.main()
    assert {path.name for path in tiny.iterdir()} == {*PRODUCTS, "preview.png", "prediction_1.png"}
    printed = capsys.readouterr().out
    for text in ("6 pairs", "WARNING: no GPU", " holds predictions"):
        assert text in printed
    model = str(tiny / "trained_model.h5")
    network, settings = load_network(model)
    assert settings["thresholds"] == google_colab.THRESHOLDS and network.count_params() > 0
    images = str(tmp_path / "Unet_Data" / "raw")
    assert predict.main([images, "--model", model, "--engine", "keras", "--out", "out"]) == 0
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 6
    assert graph.main([str(tiny / "history.csv"), "--out", "graph"]) == 0
    assert len(read_history(tiny / "history.csv")["val_loss"]) == 3


# The log stays open where Python itself goes on after the cut; here that would be an error.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_cut_off_and_run_again_it_ends_as_without_a_break(tiny, tmp_path, monkeypatch, capsys):
    google_colab.main()
    whole, weights = (read_history(tiny / "history.csv"), load_network(tiny / PRODUCTS[1])[0])
    copy, num_copies = google_colab.shutil.copyfile, []

    def cut_off(source, target):
        num_copies.append(target)
        copy(source, target)
        if len(num_copies) == 2:  # after the row of epoch 2 and before its backup
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("google_colab.shutil.copyfile", cut_off)
        with pytest.raises(KeyboardInterrupt):
            google_colab.main()
    assert (tiny / "backup" / "run.json").exists()
    monkeypatch.setattr(google_colab, "EPOCHS", 4)
    with pytest.raises(SystemExit, match="unfinished, with other data or settings"):
        google_colab.main()
    monkeypatch.setattr(google_colab, "EPOCHS", 3)
    google_colab.main()
    assert "An unfinished training goes on" in capsys.readouterr().out
    resumed = read_history(tiny / "history.csv")
    for name, values in whole.items():
        np.testing.assert_allclose(resumed[name], values, rtol=1e-3)
    again = load_network(tiny / PRODUCTS[1])[0].get_weights()
    for one, other in zip(weights.get_weights(), again, strict=True):
        np.testing.assert_allclose(other, one, rtol=0.01, atol=1e-3)
    assert {path.name for path in tiny.iterdir()} == {
        *PRODUCTS,
        "preview.png",
        "prediction_1.png",
        "previous",
    }
    (earlier,) = (tiny / "previous").iterdir()  # the training before is kept
    assert read_history(earlier / "history.csv") == whole


def test_what_the_user_can_repair_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def words():
        with pytest.raises(SystemExit) as stopped:
            google_colab.main()
        assert "\n" not in str(stopped.value)
        return str(stopped.value)

    assert words().startswith("Unet_Data: 0 images in raw, 0 masks in gt, 0 pairs; expected pairs")
    write(tmp_path / "Unet_Data" / "raw" / "a.png", np.zeros((9, 9), np.uint8))
    write(tmp_path / "Unet_Data" / "gt" / "b.png", np.zeros((9, 9), np.uint8))
    assert "1 images in raw, 1 masks in gt, 0 pairs" in words()
    write(tmp_path / "Unet_Data" / "gt" / "a.png", np.zeros((9, 8), np.uint8))
    assert re.search("a.png cannot be read, or differs from its image in height", words())
    (tmp_path / "Unet_Data" / "raw" / "a.png").write_text("no image")
    assert "a.png is no image of 8 or 16 bits" in words()
