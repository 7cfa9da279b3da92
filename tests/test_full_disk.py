"""A full disk ends in one line that names the file, what it needs and the way out."""

import errno

import h5py
import numpy as np
import pandas as pd
import pytest
from disk_tools import LIMIT, short_files
from formats_tools import draw_examples

from nuclei.cli import describe_system_fault
from nuclei.files import append, replacing
from nuclei.formats.registry import FORMATS, Nuclei
from nuclei.full_disk import DiskFull, free_bytes, require_space
from nuclei.hdf5 import Content, hdf5_bytes
from nuclei.images.writing import write_jpeg, write_labels, write_png
from nuclei.instances.measure import measure
from nuclei.results.evaluation import write_evaluation
from nuclei.results.tables import append_table
from nuclei.slides.work import WorkFolder
from nuclei.written import recording

SINGLE_FILES = [name for name in FORMATS if name != "omezarr"]


def a_table():
    image, labels = draw_examples()["cells"]
    maps = np.full((*labels.shape, 1), 0.9, np.float32)
    return image, labels, pd.DataFrame(measure(labels, image, maps))


def writers(folder):
    """{name: (path, a function that writes more than LIMIT bytes there)}"""
    image, labels, table = a_table()
    nuclei = Nuclei("a", "a.png", labels, table, None, False)
    many = np.arange(70_000).reshape(200, 350)
    images = [{"stem": "a" * 100, "score": number} for number in range(20)]
    mask = np.ones((99, 99), bool)
    calls = {
        "png": (folder / "a.png", lambda path: write_png(path, image)),
        "jpeg": (folder / "a.jpg", lambda path: write_jpeg(path, image)),
        "labels": (folder / "a.tif", lambda path: write_labels(folder, "a", many)),
        "table": (folder / "nuclei.csv", lambda path: append_table(path, table)),
        "mask": (folder / "mask.npy", lambda path: WorkFolder(folder).write_mask(mask)),
        "evaluation": (
            folder / "evaluation.csv",
            lambda path: write_evaluation(folder, {"images": images}),
        ),
    }
    for name in FORMATS:
        path = FORMATS[name].path(folder, "a")
        calls[name] = (path, lambda path, name=name: FORMATS[name].write(path, nuclei))
    return calls


WRITERS = ["png", "jpeg", "labels", "table", "mask", "evaluation", *SINGLE_FILES]


@pytest.mark.parametrize("name", WRITERS)
def test_each_writer_names_its_file_and_leaves_the_old_one(tmp_path, name, capsys):
    path, write = writers(tmp_path)[name]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"old")
    if name == "table":
        path.unlink()
    with short_files(), pytest.raises(OSError) as caught:
        write(path)
    line = describe_system_fault(caught.value)
    assert str(path) in line and "ulimit -f" in line and "\n" not in line
    del caught
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == (
        [] if name == "table" else [path.name]
    )
    assert name == "table" or path.read_bytes() == b"old"
    assert not capsys.readouterr().err  # no traceback of a writer that is closed too late


def test_a_zarr_folder_leaves_nothing(tmp_path):
    path, write = writers(tmp_path)["omezarr"]
    with short_files(), pytest.raises(OSError) as caught:
        write(path)
    assert str(path) in describe_system_fault(caught.value)
    assert not list(path.parent.iterdir())


def test_a_disk_without_space_is_told_with_what_is_needed(tmp_path):
    path = tmp_path / "a.png"
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Unable to flush (errno = 28, error message = 'No space left on device')"),
    ):
        with pytest.raises(DiskFull) as caught, replacing(path) as temporary:
            temporary.write_bytes(bytes(1234))
            raise error
        line = describe_system_fault(caught.value)
        assert line.startswith(f"{path} cannot be written, the disk is full: ")
        assert "it needs more than 1,234" in line and "write to another disk" in line
        assert not list(tmp_path.iterdir())


def test_other_faults_of_the_disk_name_the_file_not_the_temporary_one(tmp_path):
    path = tmp_path / "a.png"
    for filename in (None, "temporary", "other.png"):
        with pytest.raises(OSError) as caught, replacing(path) as temporary:
            name = str(temporary) if filename == "temporary" else filename
            raise OSError(errno.EIO, "Input/output error", name)
        expected = "other.png" if filename == "other.png" else path
        assert describe_system_fault(caught.value) == f"Input/output error: {expected}"


def test_a_table_that_cannot_grow_keeps_its_whole_rows(tmp_path):
    path = tmp_path / "a.csv"
    with recording(tmp_path) as record:
        append(path, b"image\n")
        append(path, b"a\n")
        limit = 4 * LIMIT  # room for the record
        with short_files(limit), pytest.raises(DiskFull, match=r"a\.csv cannot be written"):
            append(path, b"b" * limit + b"\n")
        assert path.read_bytes() == b"image\na\n" and not record.fault(path)
    with recording(tmp_path) as record:
        assert not record.fault(path)  # the next run goes on


def test_space_is_looked_at_before_a_training(tmp_path):
    require_space(tmp_path / "not" / "there", 1, "the model")
    free = free_bytes(tmp_path)
    with pytest.raises(DiskFull, match=r"has [\d,]+ bytes free, and the model need"):
        require_space(tmp_path, 10 * free, "the model")


def test_hdf5_files_are_made_in_memory(tmp_path):
    def fill(file):
        file.create_dataset("a", data=np.arange(10_000))

    content = hdf5_bytes(fill)
    with pytest.raises(DiskFull), short_files(), replacing(tmp_path / "a.h5") as temporary:
        temporary.write_bytes(content)
    assert not list(tmp_path.iterdir())
    with h5py.File(Content(content), "r") as file:
        assert file["a"][9] == 9
