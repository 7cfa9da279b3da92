"""few_images: it holds out a modality, compares two trainings, and goes on where it stopped."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import few_images


@pytest.fixture
def data(tmp_path):
    """raw, instances, split.csv of eight images, half of them tissue, a quarter for validation."""
    rows = []
    arrays = {"raw": np.zeros((8, 8, 3), np.uint8), "instances": np.ones((8, 8), np.uint8)}
    for number in range(8):
        for folder, array in arrays.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"image{number}.png")
        modality = "histology" if number % 2 else "fluorescence"
        split = "validation" if number > 5 else "train"
        rows.append({"stem": f"image{number}", "split": split, "modality": modality})
    pd.DataFrame(rows).to_csv(tmp_path / "split.csv", index=False)
    return [str(tmp_path / name) for name in ("raw", "instances", "split.csv")]


def test_it_holds_out_a_modality_and_goes_on_where_it_stopped(data, tmp_path, monkeypatch, capsys):
    commands, out = [], tmp_path / "few"

    def run(*command):
        commands.append([str(word) for word in command])
        return 60.0

    monkeypatch.setattr(few_images, "run", run)
    monkeypatch.setattr(few_images, "score", lambda *_: {"held out": 0.4, "others": 0.8})
    command = [*data, "--without", "histology", "--sizes", "1", "2", "--out", str(out)]
    few_images.main(command)
    assert set(pd.read_csv(out / "base.csv")["modality"]) == {"fluorescence"}
    table = pd.read_csv(out / "few_images.csv")
    assert list(table["model"]) == ["base", "tuned_1", "scratch_1", "tuned_2", "scratch_2"]
    assert list(table["images"]) == [3, 1, 1, 2, 2] and set(table["minutes"]) == {1.0}
    links = sorted(path.name for path in (out / "images_2" / "gt").iterdir())
    assert links == ["image1.png", "image3.png"]
    groups = pd.read_csv(out / "groups.csv").set_index("stem")["modality"]
    assert groups["image1"] == "held out" and groups["image2"] == "others"
    assert ["--init" in command for command in commands] == [False, True, False, True, False]
    few_images.main(command)
    assert len(commands) == 5 and "tuned_2" in capsys.readouterr().out


def test_scores_are_read_from_the_evaluation(tmp_path, monkeypatch):
    group = {"pooled": {"ap_50": {"value": 0.7}}, "mean_of_images": {"mean_ap": {"value": 0.5}}}
    text = pd.Series({"groups": {"held out": group, "others": group}}).to_json()
    monkeypatch.setattr(
        few_images, "run", lambda *_: (tmp_path / "evaluation.json").write_text(text)
    )
    scores = few_images.score("m.h5", tmp_path, tmp_path / "groups.csv", tmp_path)
    assert scores == {"held out": 0.7, "others": 0.7, "held out mAP": 0.5, "others mAP": 0.5}
