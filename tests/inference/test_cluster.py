"""A cluster gives the results of one machine, also where workers die, and tells what is missing."""

import signal
import time
from dataclasses import replace

import pandas as pd
import pytest
from blob_model import write_blob_model
from cluster_tools import MAX_SECONDS, Farm, results_in, wait_for
from inference_tools import run_predict, write_blobs
from slides_tools import draw_fluorescence, write_pyramid

import predict
from nuclei.inference.workers import WorkerSource, load_worker_model, missing_in_worker

SLIDE_OPTIONS = ("--diameter", "16", "--tile", "420")
TILES = ".*.work/tile_*.npz"  # files of finished tiles in the folder of the results


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture(scope="module")
def fluorescence():
    return draw_fluorescence()


@pytest.fixture
def farm(tmp_path_factory):
    farm = Farm(tmp_path_factory.mktemp("farm"))
    yield farm
    farm.close()


def test_local_workers_give_what_one_process_gives(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nuclei.progress.LOG_SECONDS", 0)
    inputs = write_blobs(tmp_path / "in", 4)
    (inputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    assert run_predict(model, tmp_path / "one", inputs) == 1
    assert run_predict(model, tmp_path / "many", inputs, "--workers", "2") == 1
    printed = capsys.readouterr()
    assert "2 workers with 4 threads" in printed.out and "5 of 5 images" in printed.out
    assert printed.err.count("skipped:") == 2 and printed.err.count("broken.png") >= 2
    assert results_in(tmp_path / "many") == results_in(tmp_path / "one")
    (inputs / "broken.png").unlink()
    assert run_predict(model, tmp_path / "many", inputs, "--workers", "2") == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_a_worker_killed_among_images_changes_nothing(model, farm, tmp_path):
    inputs, out = write_blobs(tmp_path / "in", 12), tmp_path / "many"
    workers = [farm.add_worker("--no-nanny"), farm.add_worker("--no-nanny")]
    running = farm.start_predict(model, out, inputs)

    def num_done():
        return len(list((out / "masks").glob("[!.]*.png")))

    wait_for(lambda: running.poll() is not None or num_done() >= 3)
    workers[0].send_signal(signal.SIGKILL)
    num_done_before = num_done()
    _, errors = running.communicate(timeout=MAX_SECONDS)
    assert running.returncode == 0, errors
    assert num_done_before < 12 and workers[0].wait() == -signal.SIGKILL
    assert run_predict(model, tmp_path / "one", inputs) == 0
    assert results_in(out) == results_in(tmp_path / "one")


def test_a_worker_killed_in_a_slide_changes_nothing(model, farm, fluorescence, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "many"
    folder.mkdir()
    slides = [write_pyramid(folder / f"s{k}.ome.tif", fluorescence, mpp=None) for k in (1, 2)]
    workers = [farm.add_worker("--no-nanny"), farm.add_worker("--no-nanny")]
    arguments = [*slides, *SLIDE_OPTIONS, "--formats", "csv,geojson,omezarr"]
    running = farm.start_predict(model, out, *arguments)
    wait_for(lambda: running.poll() is not None or len(list(out.glob(TILES))) >= 3)
    workers[1].send_signal(signal.SIGKILL)
    assert not (out / "summary.csv").exists()  # in the middle
    output, errors = running.communicate(timeout=MAX_SECONDS)
    assert running.returncode == 0, errors + output
    assert run_predict(model, tmp_path / "one", *arguments) == 0
    assert results_in(out) == results_in(tmp_path / "one")
    assert len(pd.read_csv(out / "nuclei.csv")) > 20 and not list(out.glob(".*"))


def test_what_kills_every_worker_is_left_out_and_named(model, farm, tmp_path):
    inputs = write_blobs(tmp_path / "in", 4)
    (inputs / "image1.png").rename(inputs / "deadly.png")
    farm.add_worker()  # with a nanny, which starts it again
    running = farm.start_predict(model, tmp_path / "out", inputs)
    output, errors = running.communicate(timeout=MAX_SECONDS)
    assert running.returncode == 1, errors + output
    assert "deadly.png" in errors and "worker after worker died" in errors
    # None of the images that were in the same worker is missing.
    images = pd.read_csv(tmp_path / "out" / "summary.csv")["image"]
    assert sorted(images) == ["image0", "image2", "image3"]


def test_a_scheduler_that_goes_ends_in_one_line_and_the_same_command_goes_on(
    model, farm, tmp_path, capsys
):
    inputs, out = write_blobs(tmp_path / "in", 10), tmp_path / "out"
    farm.add_worker("--no-nanny")
    running = farm.start_predict(model, out, inputs)
    wait_for(lambda: running.poll() is not None or (out / "summary.csv").exists())
    farm.scheduler.kill()
    _, errors = running.communicate(timeout=MAX_SECONDS)
    assert running.returncode == 1 and "Traceback" not in errors, errors
    assert "the Dask scheduler has gone" in errors
    assert run_predict(model, out, inputs) == 0  # on one machine, since it is the same work
    assert "Finished already" in capsys.readouterr().out
    assert run_predict(model, tmp_path / "one", inputs) == 0
    assert results_in(out) == results_in(tmp_path / "one")


def test_what_cannot_help_is_named_before_any_work(model, farm, tmp_path, capsys, monkeypatch):
    inputs = write_blobs(tmp_path / "in", 1)
    arguments = (model, tmp_path / "out", inputs, "--scheduler")
    monkeypatch.setattr("nuclei.inference.cluster.ANSWER_SECONDS", 1)
    assert run_predict(*arguments, "tcp://127.0.0.1:9") == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.setattr("nuclei.inference.cluster.ANSWER_SECONDS", 10)
    monkeypatch.setattr("nuclei.inference.cluster.WORKER_SECONDS", 1)
    assert run_predict(*arguments, farm.address) == 1
    assert f"dask worker {farm.address}" in capsys.readouterr().err
    monkeypatch.setattr("nuclei.inference.cluster.WORKER_SECONDS", 60)
    farm.add_worker("--no-nanny")
    monkeypatch.setattr("nuclei.inference.workers.program_hash", lambda: "another")
    assert run_predict(*arguments, farm.address) == 1
    error = capsys.readouterr().err
    assert "1 workers cannot help" in error and "another version of the program" in error
    with pytest.raises(SystemExit):
        run_predict(*arguments, farm.address, "--workers", "2")
    assert "leave out --workers" in capsys.readouterr().err


def test_what_a_worker_may_lack(model, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    mark.touch()
    source = WorkerSource.from_file(model, "auto", False)
    assert missing_in_worker(source, mark) is None
    other_program, other_file = replace(source, program="other"), replace(source, digest="other")
    assert "another version" in missing_in_worker(other_program, mark)
    assert "this model" in missing_in_worker(other_file, mark)
    no_file = replace(source, path=str(tmp_path / "none.h5"))
    assert "this model" in missing_in_worker(no_file, mark)
    assert "--out must be" in missing_in_worker(source, tmp_path / "none")
    monkeypatch.setattr("nuclei.inference.workers.missing_packages", lambda engine: "openvino")
    other_engine = replace(source, engine="openvino-half")
    assert "pip install openvino" in missing_in_worker(other_engine, mark)
    with pytest.raises(OSError, match="another version"):  # of workers that came later
        load_worker_model(other_program)
    with pytest.raises(OSError, match="not the model that this run began with"):
        load_worker_model(other_file)


def test_without_dask_the_command_that_installs_it_is_named(model, tmp_path, capsys, monkeypatch):
    inputs = write_blobs(tmp_path / "in", 1)
    monkeypatch.setattr("nuclei.machine.is_installed", lambda name: name != "distributed")
    assert run_predict(model, tmp_path / "out", inputs, "--workers", "2") == 1
    assert "--workers needs distributed" in capsys.readouterr().err


def test_ctrl_c_among_slides_does_not_wait_for_their_end(model, farm, fluorescence, tmp_path):
    slides = [write_pyramid(tmp_path / f"s{k}.ome.tif", fluorescence, mpp=None) for k in range(3)]
    out = tmp_path / "out"
    farm.add_worker("--no-nanny")
    running = farm.start_predict(model, out, *slides, *SLIDE_OPTIONS)
    wait_for(lambda: running.poll() is not None or list(out.glob(TILES)))
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = running.communicate(timeout=MAX_SECONDS)
    assert running.returncode == 130 and "Traceback" not in errors, errors
    assert "stopped by Ctrl-C" in errors
    assert time.monotonic() - began < 8  # one slide takes 5 s in the one slow worker, all take 15
    assert not (out / "summary.csv").exists()


def test_paths_may_be_relative(model, farm, tmp_path, monkeypatch):
    write_blobs(tmp_path / "in", 2)
    farm.add_worker("--no-nanny")
    monkeypatch.chdir(tmp_path)
    arguments = ["in", "--model", str(model), "--out", "out", "--scheduler", farm.address]
    assert predict.main(arguments) == 0
    assert len(pd.read_csv(tmp_path / "out" / "summary.csv")) == 2
