"""The speed card: every part runs and says what it should; how fast this is does not matter."""

import csv
import json
import math
import sys

import numpy as np
import pytest
from PIL import Image
from synthetic import draw

import predict
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark.card import Card
from experiments.benchmark.network import count_flops, measure_network
from experiments.benchmark.pipeline import LAUNCHER, run_child
from nuclei.inference.engines import TOLERANCES
from nuclei.model_file import save_model
from unet import build_unet

NETWORK_ONLY = ("--parts", "network", "--engines", "keras", "--window", 32, "--no-classic")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two pairs of images and truth, and a small network that nobody has trained."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("raw", "gt"):
        (folder / name).mkdir()
    for number in range(2):
        image, labels = draw(
            "fluorescence", 80, 96, num_nuclei=6, diameter=16, seed=number, touching=0
        )
        Image.fromarray(image).save(folder / "raw" / f"x{number}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / "gt" / f"x{number}.png")
    architecture = {"heads": ["nucleus", "distance"], "width": 8, "depth": 1, "stem_stride": 1}
    save_model(
        folder / "model.h5",
        build_unet(**architecture),
        {"architecture": architecture, "thresholds": {}},
    )
    return folder


def run(work, out, *arguments):
    common = ["--model", work / "model.h5", "--truth", work / "gt", "--data-dir", work]
    common += ["--out", out, "--repeats", 1]
    return benchmark.main([str(argument) for argument in (work / "raw", *common, *arguments)])


def rows(out):
    return list(csv.DictReader((out / "benchmark.csv").read_text().splitlines()))


def test_the_card_holds_every_part(work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "MATRIX", 64)
    monkeypatch.setattr(benchmark, "CLASSIC", {**benchmark.CLASSIC, "width": 4})
    monkeypatch.setattr(benchmark, "CLASSIC_WINDOW_PX", 32)
    monkeypatch.setattr(benchmark, "TRAINING_CROPS", (2, 32))
    monkeypatch.setattr(benchmark, "CLASSIC_CROPS", (1, 32))
    started = []
    monkeypatch.setattr(
        "experiments.benchmark.pipeline.run_child",
        lambda arguments: started.append([str(argument) for argument in arguments]) or (1.0, 2.0),
    )
    options = ["--engines", "litert,keras", "--num-images", 3, "--window", 64, "--steps", 1]
    assert run(work, tmp_path, *options) == 0
    card = rows(tmp_path)
    assert {row["part"] for row in card} == set(benchmark.PARTS)
    assert all(math.isfinite(float(row["value"])) for row in card)
    assert {row["model"] for row in card if row["part"] in ("network", "training")} == {
        "model",
        "classic",
    }
    agreement = [float(row["value"]) for row in card if row["figure"] == "largest difference"]
    assert len(agreement) == 6 and max(agreement) < TOLERANCES["litert"]
    assert {row["unit"] for row in card if row["figure"] == "speed"} == {"MP/s", "GFLOP/s"}
    assert all(
        float(row["value"]) > 0
        for row in card
        if row["figure"].startswith(("speed", "share of", "bare", "whole"))
    )
    precisions = {row["value"] for row in card if row["figure"] == "average precision at 0.5"}
    assert len(precisions) == 1  # every engine finds the same
    saved = json.loads((tmp_path / "benchmark.json").read_text())
    assert (
        len(saved["rows"]) == len(card)
        and "python -m experiments.benchmark" in saved["command"]
        and saved["date"]
        and saved["cpu"]
    )
    page = (tmp_path / "benchmark.html").read_text()
    assert "Plotly.newPlot" in page and "litert, predict.py" in page and 'src="http' not in page
    output = capsys.readouterr().out
    assert "MP/s" in output and "images/s" in output and "GFLOP/s" in output
    # What the start-up part starts are commands that work.
    assert started[0][1:] == ["--help"] and len(started) == 1 + 2 * 2
    for script, *arguments in started[1:]:
        assert script.endswith("predict.py")
        assert predict.main([*arguments[:-1], str(tmp_path / "again")]) == 0


def test_parts_can_be_chosen(work, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "measure_startup", None)
    assert run(work, tmp_path, *NETWORK_ONLY) == 0
    assert {(row["part"], row["model"]) for row in rows(tmp_path)} == {("network", "model")}
    assert (tmp_path / "benchmark.html").exists()
    for wrong in (["--parts", "all"], ["--engines", "none"], ["--repeats", "0"]):
        with pytest.raises(SystemExit):
            benchmark.main(wrong)


def test_operations_are_counted():
    """Of a network with one level, by hand."""
    model = build_unet(heads=("nucleus",), width=4, depth=1, stem_stride=1, normalisation="none")
    pixels, quarter = 16 * 8, 8 * 4
    encoder = pixels * 9 * (3 * 4 + 4 * 4) + quarter * 9 * (4 * 8 + 8 * 8)
    decoder = quarter * 4 * 8 * 4 + pixels * (9 * (8 * 4 + 4 * 4) + 4)
    assert count_flops(model, 16, 8) == 2 * (encoder + decoder)


def test_an_engine_that_is_missing_ends_before_any_work(work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "nuclei.inference.engines.is_installed", lambda package: package != "openvino"
    )
    assert run(work, tmp_path, "--engines", "openvino-half") == 1
    assert "python -m pip install openvino" in capsys.readouterr().err
    assert not (tmp_path / "benchmark.csv").exists()


def test_numbers_of_fewer_bits_have_a_ceiling_of_their_own():
    card, model = Card(lambda line: None), build_unet(("nucleus",), width=4, depth=1)
    ceilings = (("litert", "", 100), ("openvino-half", "half ", 200), ("litert-int8", "int8 ", 300))
    for engine, kind, speed in ceilings:
        card.add("ceiling", "-", engine, (f"{kind}convolution speed", speed, "GFLOP/s"))
    architecture = {"heads": ["nucleus"], "width": 4, "depth": 1}
    engines = {engine: speed for engine, _, speed in ceilings}
    measure_network(card, "model", model, architecture, 32, list(engines), 1)
    for name, ceiling in engines.items():
        work = card.values("network", "work", name)[0]
        assert card.values("network", "share of ceiling", name)[0] == pytest.approx(work / ceiling)


def test_a_training_without_data_ends_before_any_work(work, tmp_path, capsys):
    assert run(work, tmp_path, "--data-dir", tmp_path / "none") == 1
    printed = capsys.readouterr()
    assert str(tmp_path / "none") in printed.err and "cpu:" not in printed.out


def test_a_script_is_timed_from_outside(monkeypatch):
    ballast = np.ones(40_000_000)  # 320 MB of this process, which are not the child's
    seconds, peak = run_child(["-c", "x = bytearray(60_000_000)"])
    assert seconds > 0 and 60 < peak < 250 and ballast.any()
    with pytest.raises(ValueError, match="status 3: no nuclei today"):
        run_child(["-c", "import sys; print('no nuclei today', file=sys.stderr); sys.exit(3)"])
    windows = LAUNCHER.replace("import resource", "import nothing_such")
    monkeypatch.setattr("experiments.benchmark.pipeline.LAUNCHER", windows)
    assert math.isnan(run_child(["-c", ""])[1])


@pytest.mark.parametrize("weights", ["fetched", "untrained", "trained"])
def test_stardist_is_timed_where_it_is_installed(work, tmp_path, monkeypatch, weights):
    """A stand-in for it: what is called, with which weights, also if they cannot be fetched."""
    for package in ("stardist", "csbdeep"):
        (tmp_path / "lib" / package).mkdir(parents=True)
        (tmp_path / "lib" / package / "__init__.py").touch()
    utils = tmp_path / "lib" / "csbdeep" / "utils.py"
    utils.write_text("def normalize(image, low, high): return image / 255")
    (tmp_path / "lib" / "stardist" / "models.py").write_text(
        "import numpy as np\n"
        "from types import SimpleNamespace\n"
        "class Config2D(SimpleNamespace): pass\n"
        "class StarDist2D:\n"
        "    def __init__(self, config, name, basedir):\n"
        "        assert config or (name and basedir)\n"
        "        self.config = config or SimpleNamespace(n_channel_in=3)\n"
        "    @classmethod\n"
        "    def from_pretrained(cls, name):\n"
        f"        if {weights != 'fetched'}: raise OSError('no network')\n"
        "        return cls(Config2D(n_channel_in=1), None, None)\n"
        "    def predict_instances(self, image): return np.ones(image.shape[:2], int), {}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    out = tmp_path / "out"
    options = ["--peer", "stardist", *NETWORK_ONLY]
    options += ["--peer-model", tmp_path / "own"] if weights == "trained" else []
    if weights == "trained":
        assert run(work, out, *options, "--peer-python", sys.executable) == 1  # no such model
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "config.json").touch()
    assert run(work, out, *options, "--peer-python", sys.executable) == 0
    peer = {row["figure"]: row for row in rows(out) if row["part"] == "peer"}
    words = {"fetched": "2D_versatile_fluo", "untrained": "untrained network", "trained": "own"}[
        weights
    ]
    assert float(peer["nuclei"]["value"]) == 2 and peer["speed"]["what"].startswith(words)


def test_without_stardist_it_says_how_to_get_it(work, tmp_path, capsys):
    options = ["--peer", "stardist", *NETWORK_ONLY]
    assert run(work, tmp_path, *options) == 1
    assert "python -m pip install stardist" in capsys.readouterr().err
