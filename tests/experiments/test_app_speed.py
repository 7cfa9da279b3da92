"""app_speed serves a drawn image as app.py does, and prints how long each kind of request takes."""

import re

import pytest

pytest.importorskip("uvicorn")
from experiments import app_speed


def test_it_measures_every_kind_of_edit(capsys):
    assert app_speed.main(["--size", "600", "--nuclei", "60", "--repeats", "3"]) == 0
    printed = capsys.readouterr().out
    assert re.match(r"600 x 600 px, \d+ nuclei", printed)
    rows = dict(re.findall(r"^\| ([\w ]+) \| (\d+) \|", printed, re.MULTILINE))
    assert {"grow", "shrink", "brush", "split", "delete", "undo", "redo", "accept"} <= set(rows)
    assert rows["delete"] == "3" and rows["undo"] == "6"


def test_the_drawn_image_has_the_size_and_about_the_nuclei_asked():
    image, labels = app_speed.draw_large(1100, 300)
    assert image.shape == (1100, 1100, 3) and labels.shape == (1100, 1100)
    assert 150 <= len(set(labels.ravel().tolist())) - 1 <= 450
