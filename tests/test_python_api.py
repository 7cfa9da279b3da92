"""The Python API: arrays of any kind, without files; docs/python.md is executed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from blob_model import write_blob_model
from inference_tools import blobs

import nuclei
from nuclei import Options, find_nuclei, load_model, measure_nuclei

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "Saved_Model" / "pretrained.h5"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")
    return load_model(path, "keras")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64, np.float32, ">u2"])
@pytest.mark.parametrize("is_grey", [True, False])
def test_arrays_of_any_kind_have_the_same_nuclei(model, dtype, is_grey):
    image, truth = blobs()
    expected = find_nuclei(image, model, Options(scale=1)).labels
    pixels = image[..., 0] if is_grey else image
    labels = find_nuclei((pixels * np.int64(1)).astype(dtype), model, Options(scale=1)).labels
    assert labels.shape == truth.shape and labels.dtype == np.int32
    assert labels.max() > 0 and ((labels > 0) != (expected > 0)).mean() < 0.1


def test_masks_of_bool_are_images_too(model):
    _, truth = blobs()
    labels = find_nuclei(truth > 0, model, Options(scale=1)).labels
    assert ((labels > 0) == (truth > 0)).mean() > 0.9


@pytest.mark.parametrize("shape", [(5,), (4, 5, 2), (2, 4, 5, 3), (0, 5)])
def test_other_shapes_are_refused(model, shape):
    with pytest.raises(ValueError, match=r"expected \(H, W\) for grey or \(H, W, 3\) for RGB"):
        find_nuclei(np.zeros(shape, np.uint8), model)


def test_the_table_needs_no_files(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_nuclei(blobs()[0], model)
    table = measure_nuclei(found, model, mpp=0.5)
    assert list(table["id"]) == list(range(1, found.labels.max() + 1))
    assert found.kind == "fluorescence" and 0 < found.uncertainty < 1
    np.testing.assert_allclose(table["area_um2"], table["area_px"] / 4)
    assert not list(tmp_path.iterdir())


def test_names_are_listed_and_others_are_refused():
    assert all(hasattr(nuclei, name) for name in nuclei.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = nuclei.nothing_such


def test_a_notebook_elsewhere_finds_the_names_after_its_first_cell(tmp_path):
    """As in a kernel: another folder, and no path to the project but that of the page."""
    page = (ROOT / "docs" / "python.md").read_text()
    first_cell = re.search(r"```python\n(.*?)```", page, re.S)[1]
    assert "/home/me/nuclei" in first_cell
    cells = first_cell.replace("/home/me/nuclei", str(ROOT))
    cells += "import nuclei\nfrom nuclei import Options, find_nuclei, measure_nuclei\n"
    cells += "print(nuclei.__version__, nuclei.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", cells], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(ROOT / "nuclei" / "__init__.py") in done.stdout


@pytest.mark.skipif(not SHIPPED.is_file(), reason="no shipped weights in Saved_Model/")
def test_every_block_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """In another folder than the project's: the model is found all the same."""
    (tmp_path / "test_raw").symlink_to(ROOT / "test_raw")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
    assert len(blocks) >= 6
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    output = capsys.readouterr().out
    assert "nuclei on" in output and "µm²" in output
    assert len(list((tmp_path / "results").iterdir())) == 3
