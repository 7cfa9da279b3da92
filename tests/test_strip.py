"""The README's picture strip is drawn from what lies on disk, whatever model made it."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from experiments import strip

ROOT = Path(__file__).resolve().parent.parent


def test_the_strip_shows_image_outlines_found_and_true_nuclei(tmp_path, capsys):
    labels = tmp_path / "predictions" / "labels"
    # A perfect prediction: the two lowest rows are then equal.
    shutil.copytree(ROOT / "data" / "test_gt", labels)
    out = tmp_path / "strip.png"
    assert strip.main(["--predictions", str(labels.parent), "--out", str(out)]) == 0
    picture = np.array(Image.open(out))
    side, gap = strip.SIDE_PX, strip.GAP_PX
    assert picture.shape == (4 * side + 3 * gap, len(strip.STEMS) * (side + gap) - gap, 3)
    rows = [picture[k * (side + gap) : k * (side + gap) + side] for k in range(4)]
    np.testing.assert_array_equal(rows[2], rows[3])
    assert (rows[0] != rows[1]).any()
    assert "Wrote" in capsys.readouterr().out


def test_without_predictions_it_says_what_is_missing(tmp_path, capsys):
    assert strip.main(["--predictions", str(tmp_path), "--out", str(tmp_path / "strip.png")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "strip.png").exists()


def test_neighbouring_ids_differ_in_colour():
    colours = strip.colour_labels(np.arange(10)[None])[0].astype(int)
    assert (colours[0] == 0).all()
    assert (np.abs(np.diff(colours[1:], axis=0)).sum(-1) > 60).all()
