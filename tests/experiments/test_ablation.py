"""The ablation changes what it says, separates by other maps, and goes on where it stopped."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import ablation
from nuclei.instances.matching import average_precision, count_matches, match
from nuclei.instances.separate import separate
from nuclei.training.targets import UNKNOWN

TOUCHING = np.zeros((40, 60), np.int32)  # two nuclei side by side, and one alone
TOUCHING[5:25, 5:20], TOUCHING[5:25, 20:38], TOUCHING[30:38, 45:58] = 1, 2, 3


@pytest.fixture
def data(tmp_path):
    """raw, instances, split.csv of eight images, half of them tissue, a quarter for validation."""
    rows, image, labels = [], np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8)
    for number in range(8):
        for folder, array in (("raw", image), ("instances", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"image{number}.png")
        rows.append(
            {
                "stem": f"image{number}",
                "split": "validation" if number > 5 else "train",
                "modality": "histology" if number % 2 else "fluorescence",
            }
        )
    pd.DataFrame(rows).to_csv(tmp_path / "split.csv", index=False)
    return [str(tmp_path / name) for name in ("raw", "instances", "split.csv")]


@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_every_change_is_of_something_that_is_there_and_different(name):
    for module, attribute, value in ablation.VARIANTS[name].changes:
        assert getattr(module, attribute) != value


def test_a_variant_is_trained_with_its_changes_and_flags(data, tmp_path, monkeypatch):
    name, commands = "maps_border", []
    for module, attribute, _ in ablation.VARIANTS[name].changes:
        monkeypatch.setattr(module, attribute, getattr(module, attribute))  # restored at the end
    monkeypatch.setattr(ablation.train, "main", lambda argv: commands.append(argv) or 0)
    command = [*data, "--out", str(tmp_path / "out"), "--variant", name]
    assert ablation.main(command) == 0
    for module, attribute, value in ablation.VARIANTS[name].changes:
        assert getattr(module, attribute) == value
    assert commands[0][-3:] == ["--heads", "nucleus", "distance"]
    assert (tmp_path / "out" / "data" / "raw" / "image0.png").is_file()


def test_offsets_rise_from_end_to_end_of_each_nucleus():
    across, down = ablation.offset_map(TOUCHING, 1), ablation.offset_map(TOUCHING, 0)
    assert (across[TOUCHING == 0] == UNKNOWN).all() and (down[TOUCHING == 0] == UNKNOWN).all()
    for row, left, right in ((10, 5, 20), (10, 20, 38), (33, 45, 58)):
        expected = np.linspace(0, 1, right - left)
        np.testing.assert_allclose(across[row, left:right], expected, atol=1e-6)
    np.testing.assert_allclose(down[5:25, 10], np.linspace(0, 1, 20), atol=1e-6)
    border = ablation.border_map(TOUCHING)
    assert border[10, 19] == border[10, 20] == 1


@pytest.mark.parametrize(
    ("compute_targets", "separate_maps"),
    [
        (ablation.border_targets, ablation.separate_borders),
        (ablation.offset_targets, ablation.separate_offsets),
    ],
)
def test_other_maps_separate_what_touches_where_they_are_perfect(compute_targets, separate_maps):
    truth = compute_targets(TOUCHING, ())
    maps = np.maximum(truth, 0)
    assert separate(maps[..., :1]).max() == 2
    labels = separate_maps(maps, contact_weight=1.0)
    assert labels.max() == 3
    assert average_precision(count_matches(match(TOUCHING, labels))[0]) == 1


def test_an_ablation_goes_on_where_it_stopped(data, tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(
        ablation.subprocess, "run", lambda command, check, cwd: trained.append(command[-1])
    )
    monkeypatch.setattr(
        ablation, "row_of", lambda name, args, stems: {"variant": name, "ap50_all": 0.5}
    )
    command = [*data, "--out", str(tmp_path / "out"), "--only", "unchanged", "no_stain_jitter"]
    assert ablation.main(command) == 0
    assert trained == ["unchanged", "no_stain_jitter"]
    assert ablation.main([*command, "maps_none"]) == 0
    assert trained == ["unchanged", "no_stain_jitter", "maps_none"]
    assert list(pd.read_csv(tmp_path / "out" / "ablation.csv")["variant"]) == trained
    assert "no_stain_jitter" in capsys.readouterr().out


def test_all_tissue_and_a_part_of_the_rest_is_stressed(tmp_path):
    rows = [{"stem": f"f{k}", "split": "validation", "modality": "fluorescence"} for k in range(8)]
    rows += [{"stem": f"t{k}", "split": "validation", "modality": "histology"} for k in range(2)]
    rows += [{"stem": "x", "split": "train", "modality": "histology"}]
    pd.DataFrame(rows).to_csv(tmp_path / "split.csv", index=False)
    assert ablation.stems_to_stress(tmp_path / "split.csv") == {"t0", "t1", "f0", "f4"}


def test_the_row_of_a_variant_has_its_scores_and_its_robustness(data, tmp_path, monkeypatch):
    args = ablation.parse_arguments([*data, "--out", str(tmp_path / "out")])
    scores = {"all": {"ap50": 0.8, "map": 0.6, "dice": 0.9}, "tissue": {"ap50": 0.7}}
    rows = [
        {"change": "unchanged", "images": 2, "ap_50": 0.8, "loss": 0.0},
        {"change": "noise", "images": 2, "ap_50": 0.6, "loss": 0.2},
        {"change": "gamma_2", "images": 2, "ap_50": 0.7, "loss": 0.1},
    ]
    monkeypatch.setattr(ablation, "read_settings", lambda path: {"scores": {"validation": scores}})
    monkeypatch.setattr(ablation, "load_model", lambda path: None)
    monkeypatch.setattr(ablation, "measure_robustness", lambda *arguments: rows)
    row = ablation.row_of("unchanged", args, {"image6"})
    assert row["ap50_all"] == 0.8 and row["ap50_tissue"] == 0.7 and row["dice"] == 0.9
    assert row["stressed_ap50"] == 0.65 and row["mean_loss"] == pytest.approx(0.15)
    assert (row["worst_loss"], row["worst_change"]) == (0.2, "noise")
    assert (tmp_path / "out" / "unchanged" / "stress.csv").is_file()
    assert "worst_loss" not in ablation.row_of("maps_border", args, {"image6"})
