"""The script: pairs in memory, flags, and a start without Keras."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from images_tools import data_set, discs, fluorescence, is_without_gaps

import import_data
from import_data import load_pairs

SCRIPT = Path(import_data.__file__)


def test_pairs_are_loaded_by_stem_with_one_id_per_nucleus(tmp_path):
    data_set(tmp_path, 3)
    (tmp_path / "raw" / "image2.png").rename(tmp_path / "raw" / "alone.png")
    pairs = load_pairs(tmp_path)
    assert list(pairs) == ["image0", "image1"]
    for seed, (image, truth) in enumerate(pairs.values()):
        np.testing.assert_array_equal(image, np.dstack([fluorescence(discs(seed=seed))] * 3))
        np.testing.assert_array_equal(truth.labels, discs(seed=seed))
        assert truth.form == "instances" and is_without_gaps(truth.labels)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_pairs(tmp_path / "nowhere")


def test_the_script_runs_by_itself_and_needs_no_keras(tmp_path):
    data_set(tmp_path / "data")
    run = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0 and "fluorescence" in run.stdout and run.stderr == ""
    heavy = ("keras", "tensorflow", "cv2", "pandas", "skimage", "pooch", "requests")
    code = f"import sys, import_data; print(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=SCRIPT.parent
    )
    assert run.returncode == 0 and run.stdout == "\n"
    run = subprocess.run(
        [sys.executable, SCRIPT, "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 1 and run.stderr.count("\n") == 1
    assert "nowhere/raw does not exist" in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--download", "--from", "x"],
        ["--out", "x"],
        ["--overwrite"],
        ["data2", "--from", "x"],
        ["data2", "--url", "https://x/a.zip"],
        ["--from", "x", "--sha256", "00"],
        ["data2", "--model", "a.h5"],
        ["data2", "--divide-by", "found", "--ignore", "7"],
        ["data2", "--divide-by", "found", "--plane", "2"],
        ["data2", "--divide-by", "found", "--overwrite"],
        ["data2", "--divide-by", "found", "--from", "x"],
    ],
)
def test_flags_that_do_not_go_together_are_a_usage_error(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        import_data.main(arguments)
    assert end.value.code == 2 and "usage:" in capsys.readouterr().err
