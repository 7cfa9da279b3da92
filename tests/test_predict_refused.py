"""predict.py: what is wrong ends in one line, before any work where that is possible."""

import pytest
from blob_model import write_blob_model
from inference_tools import blobs, read_rows, run_predict, write_blobs
from PIL import Image

import predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_blob_model(tmp_path_factory.mktemp("model") / "model.h5")


@pytest.fixture
def images(tmp_path):
    return write_blobs(tmp_path / "in", 3)


def test_unknown_formats_and_missing_packages_end_before_any_work(
    model, images, tmp_path, capsys, monkeypatch
):
    with pytest.raises(SystemExit) as stopped:
        run_predict(model, tmp_path / "out", images, "--formats", "masks,bmp")
    assert stopped.value.code == 2
    monkeypatch.setattr("nuclei.machine.is_installed", lambda package: package != "roifile")
    assert run_predict(model, tmp_path / "out", images, "--formats", "masks,imagej") == 1
    assert "python -m pip install roifile" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_tile_without_core_is_refused_before_any_work(model, images, tmp_path, capsys):
    assert run_predict(model, tmp_path / "out", images, "--tile", "8") == 1
    assert "--tile" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_files_that_cannot_be_read_are_named_and_the_others_done(model, images, tmp_path, capsys):
    (images / "broken.png").write_text("no image")
    (images / "zero.tif").write_bytes(b"")
    out = tmp_path / "out"
    assert run_predict(model, out, images) == 1
    error = capsys.readouterr().err
    assert (
        "broken.png" in error
        and "zero.tif" in error
        and "2 of 5 images" in error
        and "Traceback" not in error
    )
    assert len(read_rows(out / "summary.csv")) == 3
    (images / "broken.png").unlink()
    (images / "zero.tif").unlink()
    assert run_predict(model, out, images) == 0


def test_inputs_that_make_no_sense(model, images, tmp_path, capsys):
    def fails(*inputs, word):
        assert run_predict(model, tmp_path / "out", *inputs) == 1
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1, error

    fails(tmp_path / "nowhere", word="does not exist")
    (tmp_path / "notes.txt").write_text("x")
    fails(tmp_path / "notes.txt", word="no image by its name")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", word="holds no image")
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(blobs()[0]).save(other / "image0.png")
    fails(images, other, word="two --out folders")
    assert run_predict(tmp_path / "none.h5", tmp_path / "out", images) == 1
    assert "none.h5" in capsys.readouterr().err
    assert run_predict(images / "image0.png", tmp_path / "out", images) == 1
    assert "not a model file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_table_of_somebody_elses_is_left_alone(model, images, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for text in ("name,size\na,1\n", 'image,made_by\n"a,b\n1,2,3\n'):
        (out / "summary.csv").write_text(text)
        assert run_predict(model, out, images) == 1
        assert "summary.csv is no table of predict.py" in capsys.readouterr().err
        assert (out / "summary.csv").read_text() == text


@pytest.mark.parametrize("flag", ["--tile", "--batch-size", "--min-area"])
def test_numbers_below_one_are_usage_errors(flag):
    with pytest.raises(SystemExit) as stopped:
        predict.main([flag, "0"])
    assert stopped.value.code == 2


def test_without_any_model_it_says_how_to_get_one(images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nuclei.model_file.PROJECT", tmp_path)
    assert predict.main([str(images)]) == 1
    assert "python train.py" in capsys.readouterr().err
