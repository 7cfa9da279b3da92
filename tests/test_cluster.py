"""A cluster: its results are those of one machine, whoever dies on the way; and what it says where it cannot help."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed
import pandas as pd
import pytest
import test_predict
import test_slides
from PIL import Image

import predict
from nuclei.inference.cluster import load_worker_network, local_workers, missing_in_worker, program
from nuclei.slides.folder import search_tiles_in_worker

ROOT = Path(__file__).resolve().parent.parent
model = test_predict.model  # a network that finds bright blobs
fluorescence = test_slides.fluorescence
SECONDS = 90  # that anything here may take; it takes a tenth of that
# What the workers of these tests are started with: work takes a while, so that one can be killed in it, and dies over "deadly".
PRELOAD = """
import os, time
import predict

if not hasattr(predict, "originals"):  # Dask runs this file twice
    predict.originals = predict.do_image, predict.slides.search_units
do_image, do_units = predict.originals

def slow_image(network, room, out, stem, *job):
    if stem == "deadly":
        os._exit(9)
    time.sleep(0.3)
    return do_image(network, room, out, stem, *job)

def slow_units(*told):
    for done in do_units(*told):
        time.sleep(0.15)
        yield done

predict.do_image, predict.slides.search_units = slow_image, slow_units
"""


def start(*words, **more):
    return subprocess.Popen([sys.executable, "-m", "dask", *map(str, words)], stdout=subprocess.DEVNULL, **more)


class Farm:
    """A scheduler and workers as a user starts them, in processes of their own; the workers in a folder of their own."""

    def __init__(self, folder):
        self.folder, self.file, self.processes = folder, folder / "scheduler.json", []
        (folder / "preload.py").write_text(PRELOAD)
        self.log = (folder / "log.txt").open("w")
        self.scheduler = self.start("scheduler", "--scheduler-file", self.file, "--port", 0, "--no-dashboard")
        end = time.monotonic() + SECONDS
        while not self.file.is_file():
            assert time.monotonic() < end, (folder / "log.txt").read_text()
            time.sleep(0.1)
        time.sleep(0.2)  # the file is there before it is whole
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, *words, path=""):
        environment = {**os.environ, "PYTHONPATH": path}
        process = start(*words, cwd=self.folder, env=environment, stderr=self.log)
        self.processes.append(process)
        return process

    def add_worker(self, *more):
        words = ("--nthreads", 1, "--no-dashboard", "--memory-limit", 0, "--preload", self.folder / "preload.py", *more)
        return self.start("worker", self.address, *words, path=str(ROOT))  # for the preload; the scheduler has no such path

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            with process:  # closes its pipes
                process.wait()
        self.log.close()


@pytest.fixture
def farm(tmp_path_factory):
    farm = Farm(tmp_path_factory.mktemp("farm"))
    yield farm
    farm.close()


def images_in(folder, number=6):
    folder.mkdir()
    for seed in range(number):
        Image.fromarray(test_predict.blobs(seed)[0]).save(folder / f"image{seed}.png")
    return folder


def results(out):
    """All files of a folder of results; the tables without the seconds."""
    files = test_predict.contents(out)
    table = pd.read_csv(out / "summary.csv").drop(columns="seconds").to_csv()
    return {**files, Path("summary.csv"): table}


def predicting(model, out, farm, *inputs):
    """predict.py in a process of its own, which ends with the farm at the latest."""
    words = [sys.executable, ROOT / "predict.py", *inputs, "--model", model, "--out", out, "--scheduler", farm.address]
    farm.processes.append(subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return farm.processes[-1]


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_local_workers_give_what_one_process_gives(model, tmp_path, capsys):
    inputs = images_in(tmp_path / "in", 4)
    (inputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert test_predict.run(model, tmp_path / "one", inputs) == 1
    arguments = [str(inputs), "--model", str(model), "--out", str(tmp_path / "many"), "--workers", "2"]
    assert predict.main(arguments) == 1
    said = capsys.readouterr()
    assert "2 workers with 4 threads" in said.out and "5/5 images" in said.out
    assert said.err.count("skipped:") == 2 and said.err.count("broken.png") >= 2
    assert results(tmp_path / "many") == results(tmp_path / "one")
    (inputs / "broken.png").unlink()
    assert predict.main(arguments) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_a_worker_killed_among_images_changes_nothing(model, farm, tmp_path):
    inputs, out = images_in(tmp_path / "in", 12), tmp_path / "many"
    workers = [farm.add_worker("--no-nanny"), farm.add_worker("--no-nanny")]
    running = predicting(model, out, farm, inputs)
    wait_for(lambda: running.poll() is not None or len(list((out / "masks").glob("[!.]*.png"))) >= 3)
    workers[0].send_signal(signal.SIGKILL)
    done_before = len(list((out / "masks").glob("[!.]*.png")))
    said, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 0, errors
    assert done_before < 12 and workers[0].wait() == -signal.SIGKILL
    assert test_predict.run(model, tmp_path / "one", inputs) == 0
    assert results(out) == results(tmp_path / "one")


def test_a_worker_killed_in_a_slide_changes_nothing(model, farm, fluorescence, tmp_path):
    inputs, out = tmp_path / "in", tmp_path / "many"
    inputs.mkdir()
    slides = [test_slides.write_pyramid(inputs / f"s{k}.ome.tif", fluorescence, mpp=None) for k in (1, 2)]
    workers = [farm.add_worker("--no-nanny"), farm.add_worker("--no-nanny")]
    options = ["--diameter", "16", "--tile", "420", "--formats", "csv,geojson,omezarr"]
    running = predicting(model, out, farm, *slides, *options)
    wait_for(lambda: running.poll() is not None or len(list(out.glob(".*.work/unit_*.npz"))) >= 3)
    workers[1].send_signal(signal.SIGKILL)
    assert not (out / "summary.csv").exists()  # in the middle
    said, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 0, errors + said
    one = [*map(str, slides), "--model", str(model), "--out", str(tmp_path / "one"), *options]
    assert predict.main(one) == 0
    assert results(out) == results(tmp_path / "one")
    assert len(pd.read_csv(out / "nuclei.csv")) > 20 and not list(out.glob(".*"))


def test_what_kills_every_worker_is_left_out_and_told(model, farm, tmp_path):
    inputs = images_in(tmp_path / "in", 4)
    (inputs / "image1.png").rename(inputs / "deadly.png")
    farm.add_worker()  # with a nanny, which starts it again
    running = predicting(model, tmp_path / "out", farm, inputs)
    said, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 1, errors + said
    assert "deadly.png" in errors and "worker after worker died" in errors
    assert sorted(pd.read_csv(tmp_path / "out" / "summary.csv")["image"]) == [
        "image0",
        "image2",
        "image3",
    ]  # none of those that were in the same worker


def test_a_scheduler_that_goes_ends_in_one_line_and_the_same_command_goes_on(model, farm, tmp_path, capsys):
    inputs, out = images_in(tmp_path / "in", 10), tmp_path / "out"
    farm.add_worker("--no-nanny")
    running = predicting(model, out, farm, inputs)
    wait_for(lambda: running.poll() is not None or (out / "summary.csv").exists())
    farm.scheduler.kill()
    said, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 1 and "the Dask scheduler has gone" in errors and "Traceback" not in errors, errors
    assert test_predict.run(model, out, inputs) == 0  # on one machine, since it is the same work
    assert "finished already" in capsys.readouterr().out
    assert test_predict.run(model, tmp_path / "one", inputs) == 0
    assert results(out) == results(tmp_path / "one")


def test_who_cannot_help_is_told_before_any_work(model, farm, tmp_path, capsys, monkeypatch):
    inputs = images_in(tmp_path / "in", 1)
    arguments = [str(inputs), "--model", str(model), "--out", str(tmp_path / "out"), "--scheduler"]
    monkeypatch.setattr("nuclei.inference.cluster.ANSWER_SECONDS", 1)
    assert predict.main([*arguments, "tcp://127.0.0.1:9"]) == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.setattr("nuclei.inference.cluster.ANSWER_SECONDS", 10)
    monkeypatch.setattr("nuclei.inference.cluster.WORKER_SECONDS", 1)
    assert predict.main([*arguments, farm.address]) == 1
    assert f"dask worker {farm.address}" in capsys.readouterr().err
    monkeypatch.setattr("nuclei.inference.cluster.WORKER_SECONDS", 60)
    farm.add_worker("--no-nanny")
    monkeypatch.setattr("nuclei.inference.cluster.program", lambda: "another")
    assert predict.main([*arguments, farm.address]) == 1
    assert "1 workers cannot help" in (said := capsys.readouterr().err) and "another version of the program" in said
    with pytest.raises(SystemExit):
        predict.main([*arguments, farm.address, "--workers", "2"])
    assert "leave out --workers" in capsys.readouterr().err


def test_what_a_worker_may_lack(model, tmp_path, monkeypatch):
    digest, mark = hashlib.sha256(model.read_bytes()).hexdigest(), tmp_path / "mark"
    mark.touch()
    code = program()
    assert missing_in_worker(model, digest, "auto", False, code, mark) is None
    assert "another version" in missing_in_worker(model, digest, "auto", False, "other", mark)
    assert "this model" in missing_in_worker(model, "other", "auto", False, code, mark)
    assert "this model" in missing_in_worker(tmp_path / "none.h5", digest, "auto", False, code, mark)
    assert "--out must be" in missing_in_worker(model, digest, "auto", False, code, tmp_path / "none")
    monkeypatch.setattr(predict.unet, "lacking", lambda engine: "openvino")
    assert "pip install openvino" in missing_in_worker(model, digest, "openvino", False, code, mark)
    for told, words in (((digest, "other"), "another version"), (("other", code), "not the model that this run began with")):
        with pytest.raises(OSError, match=words):  # of workers that came later
            load_worker_network(str(model), told[0], "auto", False, told[1])
    with pytest.raises(ValueError, match="setup.json"):
        monkeypatch.setattr("nuclei.inference.cluster.network_of_worker", lambda model: None)
        search_tiles_in_worker(None, None, None, tmp_path, None, None, 1, [])


def test_without_dask_the_command_that_installs_it_is_named(model, tmp_path, capsys, monkeypatch):
    inputs = images_in(tmp_path / "in", 1)
    monkeypatch.setattr(predict.exports, "is_installed", lambda name: name != "distributed")
    assert predict.main([str(inputs), "--model", str(model), "--out", str(tmp_path / "out"), "--workers", "2"]) == 1
    assert "--workers needs distributed" in capsys.readouterr().err


@pytest.mark.parametrize("gpus, visible, expected", [
    (0, None, [None] * 4), (2, None, ["0", "1", "0", "1"]), (8, "5,7", ["5", "7", "5", "7"]), (8, "", [None] * 4)])  # fmt: skip
def test_local_workers_part_cores_and_gpus(monkeypatch, gpus, visible, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(predict.unet, "num_gpus", lambda: gpus)
    monkeypatch.setattr(predict.unet, "num_cores", lambda: 8)
    monkeypatch.setattr(distributed, "SpecCluster", lambda workers, **more: workers)
    environments = [worker["options"]["env"] for worker in local_workers(4).values()]
    assert [environment["OMP_NUM_THREADS"] for environment in environments] == ["2"] * 4
    assert [environment.get("CUDA_VISIBLE_DEVICES") for environment in environments] == expected


def test_ctrl_c_among_slides_does_not_wait_for_their_end(model, farm, fluorescence, tmp_path):
    inputs = [test_slides.write_pyramid(tmp_path / f"s{k}.ome.tif", fluorescence, mpp=None) for k in range(3)]
    farm.add_worker("--no-nanny")
    options = ["--diameter", "16", "--tile", "420"]
    running = predicting(model, tmp_path / "out", farm, *inputs, *options)
    wait_for(lambda: running.poll() is not None or list((tmp_path / "out").glob(".*.work/unit_*.npz")))
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    said, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 130 and "stopped by Ctrl-C" in errors and "Traceback" not in errors, errors
    assert time.monotonic() - began < 8  # a slide alone takes 5 s in the one slow worker, all of them 15
    assert not (tmp_path / "out" / "summary.csv").exists()


def test_paths_may_be_relative(model, farm, tmp_path, monkeypatch):
    images_in(tmp_path / "in", 2)
    farm.add_worker("--no-nanny")
    monkeypatch.chdir(tmp_path)
    assert predict.main(["in", "--model", str(model), "--out", "out", "--scheduler", farm.address]) == 0
    assert len(pd.read_csv(tmp_path / "out" / "summary.csv")) == 2
