"""The programs behind the tables of the README and the model card: ablation, few_images, stardist_baseline, average_models."""

import ablation
import average_models
import few_images
import numpy as np
import pandas as pd
import pytest
import stardist_baseline
from PIL import Image
from synthetic import draw

from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.instances.separate import THRESHOLDS, separate
from nuclei.model_file import load_network, save_model
from unet import build_unet

TOUCHING = np.zeros((40, 60), np.int32)  # two nuclei side by side, and one alone
TOUCHING[5:25, 5:20], TOUCHING[5:25, 20:38], TOUCHING[30:38, 45:58] = 1, 2, 3


@pytest.fixture
def data(tmp_path):
    """raw, instances, split.csv of eight images, half of them tissue, a quarter for validation."""
    rows = []
    for number in range(8):
        for folder, array in (("raw", np.zeros((8, 8, 3), np.uint8)), ("instances", np.ones((8, 8), np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"image{number}.png")
        modality = "histology" if number % 2 else "fluorescence"
        rows.append({"stem": f"image{number}", "split": "validation" if number > 5 else "train", "modality": modality})
    pd.DataFrame(rows).to_csv(tmp_path / "split.csv", index=False)
    return [str(tmp_path / name) for name in ("raw", "instances", "split.csv")]


def test_what_is_left_out_is_there_to_be_left_out():
    for variant, constants in ablation.LEFT_OUT.items():
        assert all(getattr(augment, name) != value for name, value in constants.items()), variant


def test_offsets_rise_from_end_to_end_of_each_nucleus():
    across, down = ablation.offsets(TOUCHING, 1), ablation.offsets(TOUCHING, 0)
    assert (across[TOUCHING == 0] == -1).all() and (down[TOUCHING == 0] == -1).all()
    for row, left, right in ((10, 5, 20), (10, 20, 38), (33, 45, 58)):
        np.testing.assert_allclose(across[row, left:right], np.linspace(0, 1, right - left), atol=1e-6)
    np.testing.assert_allclose(down[5:25, 10], np.linspace(0, 1, 20), atol=1e-6)
    assert ablation.boundary(TOUCHING)[10, 19] == ablation.boundary(TOUCHING)[10, 20] == 1


@pytest.mark.parametrize("variant", ["maps: boundary", "maps: horizontal, vertical"])
def test_other_maps_part_what_touches_where_they_are_perfect(variant):
    names = ablation.MAPS[variant]
    painters = {
        "boundary": ablation.boundary,
        "horizontal": lambda labels: ablation.offsets(labels, 1),
        "vertical": lambda labels: ablation.offsets(labels, 0),
    }
    maps = np.stack([TOUCHING > 0, *(np.maximum(painters[name](TOUCHING), 0) for name in names)], -1, dtype=np.float32)
    assert separate(maps[..., :1]).max() == 2
    found = separate(ablation.parting(names, maps, scale=1), contact_weight=1.0)
    assert found.max() == 3 and average_precision(count_matches(match(TOUCHING, found))[0]) == 1
    assert ablation.parting(("distance",), maps, scale=1) is maps


def test_an_ablation_goes_on_where_it_stopped(data, tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(ablation.subprocess, "run", lambda command, check: trained.append(command[-1]))
    monkeypatch.setattr(ablation, "row_of", lambda variant, args, out: {"variant": variant, "ap50 all": 0.5})
    command = [*data, "--out", str(tmp_path / "out"), "--only", "as it is", "no stain"]
    assert ablation.main(command) == 0
    assert trained == ["as it is", "no stain"]
    assert ablation.main([*command, "maps: none"]) == 0
    assert trained == ["as it is", "no stain", "maps: none"]
    assert list(pd.read_csv(tmp_path / "out" / "ablation.csv")["variant"]) == trained
    assert "no stain" in capsys.readouterr().out
    stressed = pd.read_csv(tmp_path / "out" / "stressed.csv")
    assert set(stressed["split"]) == {"validation"} and "histology" in set(stressed["modality"])


def test_few_images_hold_out_a_modality_and_go_on_where_they_stopped(data, tmp_path, monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(few_images, "run", lambda *command: commands.append([str(word) for word in command]) or 60.0)
    monkeypatch.setattr(few_images, "score", lambda *arguments: {"held out": 0.4, "others": 0.8})
    command = [*data, "--without", "histology", "--sizes", "1", "2", "--out", str(tmp_path / "few")]
    few_images.main(command)
    assert set(pd.read_csv(tmp_path / "few" / "base.csv")["modality"]) == {"fluorescence"}
    table = pd.read_csv(tmp_path / "few" / "few_images.csv")
    assert list(table["model"]) == ["base", "tuned_1", "scratch_1", "tuned_2", "scratch_2"]
    assert list(table["images"]) == [3, 1, 1, 2, 2] and set(table["minutes"]) == {1.0}
    assert sorted(path.name for path in (tmp_path / "few" / "images_2" / "gt").iterdir()) == ["image1.png", "image3.png"]
    assert ["--init" in command for command in commands] == [False, True, False, True, False]
    few_images.main(command)
    assert len(commands) == 5 and "tuned_2" in capsys.readouterr().out


def test_labels_follow_the_image_where_stardist_is_trained():
    labels = np.arange(30, dtype=np.uint16).reshape(5, 6)
    for _ in range(20):
        image, turned = stardist_baseline.augment(labels[..., None].repeat(3, -1).astype(np.float32), labels)
        gain, offset = np.polyfit(turned.ravel().astype(float), image[..., 0].ravel(), 1)
        np.testing.assert_allclose(image[..., 1], gain * turned + offset, atol=1e-3)
        assert 0.59 < gain < 2.01 and -0.21 < offset < 0.21


def test_the_mean_of_models_is_one_with_thresholds_of_its_own(tmp_path, capsys):
    for number in range(4):
        image, labels = draw("fluorescence", 48, 56, num_nuclei=5, diameter=14, seed=number, touching=0.5)
        for part, array in (("raw", image), ("gt", labels.astype(np.uint16))):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / part / f"image{number}.png")
    shape, weights = {"heads": ["nucleus"], "width": 8, "depth": 1}, []
    for number in range(3):
        model = build_unet(**{**shape, "width": 8 * (1 + (number == 2))})
        save_model(tmp_path / f"{number}.h5", model, {"architecture": {**shape, "width": 8 * (1 + (number == 2))}})
        weights.append(model.get_weights())
    out = tmp_path / "mean.h5"
    command = ["--data-dir", str(tmp_path), "--out", str(out)]
    assert average_models.main([str(tmp_path / "0.h5"), str(tmp_path / "1.h5"), *command]) == 0
    model, settings = load_network(out)
    for mean, first, second in zip(model.get_weights(), weights[0], weights[1], strict=True):
        np.testing.assert_allclose(mean, (first + second) / 2, atol=1e-6)
    assert settings["mean_of"] == ["0.h5", "1.h5"] and set(settings["thresholds"]) == set(THRESHOLDS)
    assert average_models.main([str(tmp_path / "0.h5"), str(tmp_path / "1.h5"), *command]) == 1
    assert "is there already" in capsys.readouterr().err
    out.unlink()
    assert average_models.main([str(tmp_path / "0.h5"), str(tmp_path / "2.h5"), *command]) == 1
    assert "another architecture" in capsys.readouterr().err
