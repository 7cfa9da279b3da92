"""Colab: one file that stands alone, is never stale, and trains in a notebook that is cut off and run again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import sync_colab
from PIL import Image
from synthetic import draw

import google_colab
import train
import unet

ROOT = Path(__file__).resolve().parent.parent
TINY = "--depth 1 --stem-stride 1 --normalisation none --crop 32 --crops-per-image 10"
STUB = {  # what google_colab.py calls of Colab; no google/__init__.py, which would hide google.protobuf
    "__init__.py": "",
    "drive.py": "import os\nfrom pathlib import Path\ndef mount(mountpoint):\n"
    "    Path(mountpoint).mkdir(parents=True, exist_ok=True)\n"
    "    if not (Path(mountpoint) / 'MyDrive').exists():\n"
    "        (Path(mountpoint) / 'MyDrive').symlink_to(os.environ['TEST_DRIVE'])\n",
    "files.py": "import os, shutil\ndef download(path):\n    shutil.copy(path, os.environ['TEST_DOWNLOADS'])\n",
}


def write_pairs(folder, num_pairs=6):
    for part in ("raw", "gt"):
        (folder / part).mkdir(parents=True)
    for number in range(num_pairs):
        kind = ("fluorescence", "tissue")[number % 2]
        image, labels = draw(kind, 48, 56, num_nuclei=5, diameter=14, seed=number, touching=0.5)
        Image.fromarray(image).save(folder / "raw" / f"{kind}_{number}.png")
        Image.fromarray(labels.astype(np.uint16)).save(folder / "gt" / f"{kind}_{number}.png")


def edited(source, **values):
    """The source of the cell with settings changed as a user changes them: by typing over their values."""
    for name, value in values.items():
        source, count = re.subn(rf"(?m)^{name} = [^#\n]*?(?=  #|$)", lambda _, n=name, v=value: f"{n} = {v!r}", source)
        assert count == 1, name
    return source


# --- The generated parts --------------------------------------------------------------------------------------------


def test_the_generated_files_are_as_their_sources_are(capsys):
    assert sync_colab.main(["--check"]) == 0, capsys.readouterr().out


def test_the_notebook_is_the_script_without_outputs():
    notebook = nbformat.read(ROOT / "google_colab.ipynb", as_version=4)
    nbformat.validate(notebook)
    text, code = notebook.cells
    assert code.source == (ROOT / "google_colab.py").read_text(encoding="utf-8").rstrip("\n")
    assert code.outputs == [] and code.execution_count is None and "accelerator" in notebook.metadata
    assert "4. `trained_model.h5`" in text.source and "sync_colab.py" in text.source


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the scripts that sync_colab.py works on."""
    for path in [*ROOT.glob("*.py"), ROOT / "google_colab.ipynb"]:
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(sync_colab, "FOLDER", tmp_path)
    return tmp_path


def replace_in(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_tool_runs_on_a_bare_python():
    """-S: without the folder of installed packages."""
    command = [sys.executable, "-S", str(Path(sync_colab.__file__)), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "nothing to do" in done.stdout, done.stderr


def test_a_change_anywhere_makes_it_stale_and_a_run_makes_it_fresh(checkout, capsys):
    script, notebook = checkout / "google_colab.py", checkout / "google_colab.ipynb"
    replace_in(checkout / "losses.py", "SMOOTH = 1.0", "SMOOTH = 2.5")
    before = script.read_text()
    assert sync_colab.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("stale: google_colab.py, google_colab.ipynb")
    assert script.read_text() == before
    assert sync_colab.main([]) == 0
    assert sync_colab.main(["--check"]) == 0
    changed = [line for line in script.read_text().splitlines() if line not in before.splitlines()]
    assert len(changed) == 1 and "SMOOTH = 2.5" in changed[0]  # and the hand-written part is as it was
    notebook.unlink()
    capsys.readouterr()
    assert sync_colab.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("stale: google_colab.ipynb;")
    replace_in(script, "# >>> program", "# >> program")
    assert sync_colab.main([]) == 1
    assert "expected the regions" in capsys.readouterr().err


FILES = {
    "shapes": '''"""Areas of shapes."""
import math
from fractions import Fraction as share

SIDE = 2  # of the square,
# in metres
UNIT = "m"
RATIO = 1.5


# Used by nobody.
def unused():
    return math.tau


# A circle
# of radius r.
def area(r, side=SIDE):
    """Of a circle."""
    return half(math.pi * r**2) * 2 + side - side


def half(x):
    return float(x * share(1, 2))


def cut(x):
    return f"{x:.1f} {UNIT}"
''',
    "late": '''"""Needs something heavy."""
import keras
from keras import ops

UNIT = "late"


class Box(keras.Box):
    """A box
    with a docstring."""

    unit = UNIT

    def add(self):
        return ops.add(self.unit, shown())


def shown():
    return UNIT.upper()
''',
    "job": '''"""The job."""
import shapes
from shapes import cut as shapes_of, half
import math as share

RATIO = 2.5
UNIT = "m"
STEPS = 3
TEXT = """two
lines"""


def run(cut=1):
    import late

    def inner():
        from shapes import area as circle

        return circle(1)

    def other():
        import shapes as again

        return again.half(8)

    def empty():
        import late

    cut = cut + 1
    words = f"{shapes.cut(cut)}" f" {half(RATIO)} {shapes.RATIO} {shapes.UNIT}{UNIT}"
    total = sum(shapes.half(k) for k in range(STEPS))
    return words, shapes_of(total), inner(), other(), empty(), share.floor(2.5), TEXT, late.Box().add(), late.Box.__doc__[:5]
''',
}
BY_HAND = '''"""A script."""

STEPS = 5

# >>> imports (here)
import os

# <<<

# >>> program (here)
# <<<


def half():
    return os.sep
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Three small files with every difficulty; a function that makes the script of them."""
    (tmp_path / "keras.py").write_text("class Box: pass\nclass ops:\n    add = staticmethod(lambda a, b: a + b)\n")
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "keras.py").rename(tmp_path / "keras.txt")  # it is no file of ours
    monkeypatch.setattr(sync_colab, "TAKEN", {"job": ("run",)})

    def make(by_hand=BY_HAND, **changed):
        for name, text in changed.items():
            (tmp_path / f"{name}.py").write_text(text)
        return sync_colab.make_script(by_hand, tmp_path)

    return make


def result_of(folder, code):
    """What a program prints, where the `keras` of the toy can be imported."""
    path = folder / "path"
    path.mkdir(exist_ok=True)
    shutil.copy(folder / "keras.txt", path / "keras.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(folder)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_many_files_become_one_that_does_the_same(toy, tmp_path):
    script = toy()
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "script.py").write_text(script)
    expected = result_of(tmp_path, "import job\njob.STEPS = 5\nprint(job.run())")
    code = f"import sys; sys.path = [p for p in sys.path if p != {str(tmp_path)!r}]; sys.path.insert(0, 'alone')\n"
    assert result_of(tmp_path, code + "import script\nprint(script.run())\nassert 'job' not in sys.modules") == expected
    assert "2.0 m 1.25 1.5 mm" in expected and "lateLATE" in expected
    assert "STEPS = 3" not in script  # the setting of the hand-written part stands in its place
    assert "unused" not in script and "SIDE = 2  # of the square,\n# in metres\n" in script and "# A circle\n# of rad" in script
    assert "RATIO = 1.5\n" in script and "\njob_RATIO = 2.5\n" in script  # two meanings
    assert script.count('UNIT = "m"') == 1  # one meaning
    assert "shapes_half(" in script and "def half():" in script  # the hand-written part has that name
    assert "shapes_cut(cut)" in script  # where it is called there is a variable `cut`
    assert toy(script) == script
    assert "def other" in script and "shapes.py" in script and "import shapes" not in script and "shapes.half" not in script


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        ("job", "shapes.cut(cut)", "shapes.no_such(cut)", "shapes.py defines no no_such"),
        ("job", "{shapes.UNIT}", "{shapes}", "line 30: shapes as a value"),
        ("job", "        import late\n\n    cut", "        import late, os\n\n    cut", "statement of their own"),
        ("shapes", "{UNIT}", "{__file__}", "__file__ (line"),
        ("late", "return UNIT", 'return """a\nb""" + UNIT', "string of several lines"),
    ],
)
def test_what_cannot_be_taken_along_is_said(toy, name, old, new, message):
    assert FILES[name].count(old) == 1
    with pytest.raises(ValueError, match=re.escape(message)):
        toy(**{name: FILES[name].replace(old, new)})


def test_a_name_that_the_script_calls_must_stay_free(toy):
    with pytest.raises(ValueError, match="no free name for job.run"):
        toy(BY_HAND + "\n\ndef run():\n    pass\n")


def test_imports_are_in_the_order_of_the_linter(toy):
    script = toy(BY_HAND.replace("import os\n", "import numpy as np\nimport os\nimport os.path\n").replace("os.sep", "os, np"))
    block = script.split("# >>> imports (here)\n")[1].split("# <<<")[0]
    assert block == (
        "import functools\nimport math\nimport math as job_share\nimport os\nimport os.path\nimport types\n"
        "from fractions import Fraction as share\n\nimport numpy as np\n\n"
    )


# --- As a module, at home -------------------------------------------------------------------------------------------


def test_reading_it_does_nothing_and_running_it_at_home_says_what_it_is_for(tmp_path):
    code = (
        "import sys, google_colab\n"
        "assert not {'tensorflow', 'keras', 'IPython'} & set(sys.modules)\n"
        "ours = {'import_data', 'augment', 'unet', 'losses', 'instances', 'tiling', 'train'}\n"
        "assert not ours & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    arguments = [sys.executable, str(ROOT / "google_colab.py"), "-f", "kernel.json"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and not list(tmp_path.iterdir())
    assert done.stderr.startswith("google_colab.py: this is not Google Colab") and done.stderr.count("\n") == 1


def test_its_defaults_are_settings_that_train_takes():
    arguments = google_colab.training_arguments(Path("d"), Path("o"), None)
    assert arguments["epochs"] == google_colab.EPOCHS and arguments["width"] == google_colab.WIDTH
    assert arguments["batch_size"] == google_colab.BATCH_SIZE and arguments["resume"] is False
    assert arguments["out"] == "o" and arguments["data_dir"] == "d"
    assert set(arguments) == set(vars(train.parse_arguments([])))


def test_options_and_a_checkpoint_of_another_version(monkeypatch, capsys):
    monkeypatch.setattr(google_colab, "OPTIONS", "--patience 3 --heads nucleus")
    arguments = google_colab.training_arguments(Path("d"), Path("o"), {"epochs": 9, "data_dir": "elsewhere"})
    assert arguments["patience"] == 3 and arguments["heads"] == ["nucleus"] and arguments["resume"] is True
    assert arguments["epochs"] == 9 and arguments["data_dir"] == "d"
    with pytest.raises(google_colab.Stop, match="another version .wings.*RESULTS"):
        google_colab.training_arguments(Path("d"), Path("o"), {"wings": 2})
    for options in ("--patience zero", "--no-such", "'"):
        monkeypatch.setattr(google_colab, "OPTIONS", options)
        with pytest.raises(google_colab.Stop, match="OPTIONS"):
            google_colab.training_arguments(Path("d"), Path("o"), None)


def test_no_data_says_what_is_there_instead(tmp_path, capsys, monkeypatch):
    with pytest.raises(google_colab.Stop, match="no folder Unet_Data; make it"):
        google_colab.find_data(tmp_path)
    (tmp_path / "unet data").mkdir()
    with pytest.raises(google_colab.Stop, match="there is unet data, which DRIVE_FOLDER may name.*shortcut"):
        google_colab.find_data(tmp_path)
    (tmp_path / "Unet_Data").mkdir()
    with pytest.raises(FileNotFoundError, match="raw does not exist"):
        google_colab.find_data(tmp_path)
    shutil.rmtree(tmp_path / "Unet_Data")
    write_pairs(tmp_path / "Unet_Data", 2)
    (tmp_path / "Unet_Data" / "gt" / "fluorescence_0.png").unlink()
    assert google_colab.find_data(tmp_path) == tmp_path / "Unet_Data"
    assert "2 images in raw, 1 masks in gt, 1 pairs" in capsys.readouterr().out


def test_drive_may_fail_twice_and_not_three_times(capsys, monkeypatch):
    monkeypatch.setattr(google_colab, "PAUSE_SECONDS", 0)
    errors = [OSError(5, "Input/output error"), OSError(5, "Input/output error")]

    def act(value):
        if errors:
            raise errors.pop()
        return value

    assert google_colab.patiently(act, 7) == 7
    assert capsys.readouterr().out.count("trying again") == 2
    errors += [OSError(5, "Input/output error")] * 3
    with pytest.raises(OSError, match="Input/output"):
        google_colab.patiently(act, 7)
    errors[:] = [FileNotFoundError("gone"), OSError("not reached")]
    errors.reverse()
    with pytest.raises(FileNotFoundError):
        google_colab.patiently(act, 7)
    assert len(errors) == 1


def test_data_is_copied_once_and_follows_changes(tmp_path, capsys):
    source, target, shown = tmp_path / "Unet_Data", tmp_path / "local", []
    write_pairs(source, 4)
    (source / "raw" / ".hidden.png").write_text("x")
    google_colab.copy_data(source, target, shown.append)
    assert "Copied 8 files" in capsys.readouterr().out
    assert "8 of 8 files" in shown[-1] and 'value="8"' in shown[-1]
    contents = lambda folder: {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}
    assert contents(target) == {path: data for path, data in contents(source).items() if not path.name.startswith(".")}
    stamps = {path: path.stat().st_ctime_ns for path in target.rglob("*.png")}
    google_colab.copy_data(source, target, shown.append)
    assert "already" in capsys.readouterr().out
    assert {path: path.stat().st_ctime_ns for path in target.rglob("*.png")} == stamps
    changed, gone = source / "gt" / "tissue_1.png", source / "raw" / "tissue_3.png"
    text = changed.read_bytes()
    changed.write_bytes(text[::-1])  # as long as before
    os.utime(changed, (1, 1))
    gone.unlink()
    google_colab.copy_data(source, target, shown.append)
    assert "Copied 1 files" in capsys.readouterr().out
    assert (target / "gt" / "tissue_1.png").read_bytes() == text[::-1] and not (target / "raw" / "tissue_3.png").exists()


def test_drive_holds_a_whole_version_at_any_time_and_its_bin_stays_empty(tmp_path, monkeypatch):
    source, target = tmp_path / "a.h5", tmp_path / "drive" / "checkpoint.h5"
    binned = []  # sizes of what Drive would move to its bin
    replace, unlink = os.replace, Path.unlink

    def replaced(old, new):
        binned.append(Path(new).stat().st_size if Path(new).exists() else 0)
        replace(old, new)

    def unlinked(path, missing_ok=False):
        binned.append(path.stat().st_size)
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(Path, "unlink", unlinked)
    for text in ("first", "second"):
        source.write_text(text)
        google_colab.put_on_drive(source, target)
        assert target.read_text() == text and [path.name for path in target.parent.iterdir()] == ["checkpoint.h5"]
    part = target.with_name("checkpoint.h5.part")
    part.write_text("thi")  # cut off while the third was written: the second counts
    google_colab.mend_drive(target.parent)
    assert target.read_text() == "second" and not part.exists()
    part.write_text("third")  # cut off after the second was emptied: the third counts
    target.write_text("")
    google_colab.mend_drive(target.parent)
    assert target.read_text() == "third" and not part.exists()
    google_colab.remove_from_drive(target)
    google_colab.remove_from_drive(target)
    assert not target.exists() and set(binned) == {0}


def test_too_little_space_is_said_before_training(tmp_path, monkeypatch):
    usage = lambda total, free: monkeypatch.setattr(
        google_colab.shutil, "disk_usage", lambda folder: type("usage", (), {"total": total, "free": free})
    )
    usage(15e9, 100e6)
    google_colab.require_space(tmp_path / "not_yet" / "there", 1_000_000)  # 50 MB
    with pytest.raises(google_colab.Stop, match="has 100 MB left, and model and checkpoint need 410 MB.*WIDTH"):
        google_colab.require_space(tmp_path, 10_000_000)
    (tmp_path / "checkpoint.h5").write_bytes(bytes(1_000_000))  # will be replaced, not added to
    with pytest.raises(google_colab.Stop, match="need 409 MB"):
        google_colab.require_space(tmp_path, 10_000_000)
    usage(0, 0)  # a file system that does not know
    google_colab.require_space(tmp_path, 10_000_000)


def test_the_checkpoint_that_went_furthest_counts(tmp_path, capsys):
    import h5py

    out, drive = tmp_path / "out", tmp_path / "drive"
    assert google_colab.find_checkpoint(out, drive) is None

    def write(folder, num_rows, seed):
        folder.mkdir(exist_ok=True)
        with h5py.File(folder / "checkpoint.h5", "w") as file:
            file.attrs["state"] = json.dumps({"rows": [{}] * num_rows, "arguments": {"epochs": 9, "seed": seed}})

    write(drive, 3, seed=1)
    assert google_colab.find_checkpoint(out, drive)["seed"] == 1
    assert (out / "checkpoint.h5").read_bytes() == (drive / "checkpoint.h5").read_bytes()
    write(out, 4, seed=2)
    assert google_colab.find_checkpoint(out, drive)["seed"] == 2
    assert "after epoch 4 of 9" in capsys.readouterr().out
    (drive / "checkpoint.h5").write_text("cut")
    (out / "checkpoint.h5").unlink()
    assert google_colab.find_checkpoint(out, drive) is None
    assert "Passed over" in capsys.readouterr().out


def test_without_a_gpu_it_warns_and_with_one_it_names_it(capsys, monkeypatch):
    google_colab.report_device()
    assert "WARNING: no GPU" in capsys.readouterr().out
    monkeypatch.setattr(google_colab, "find_device", lambda: ("GPU Tesla T4 with tensorflow", "mixed_float16"))
    google_colab.report_device()
    assert capsys.readouterr().out == "GPU Tesla T4 with tensorflow; arithmetic in mixed_float16\n"


def test_an_epoch_is_saved_and_shown_and_a_full_drive_stops_nothing(tmp_path, monkeypatch, capsys):
    out, drive, shown, sent = tmp_path / "out", tmp_path / "drive", [], []
    out.mkdir()
    monkeypatch.setattr(google_colab, "panel", lambda: shown.append)
    put = google_colab.put_on_drive
    faults = [OSError(28, "No space left on device")]

    def put_or_fail(source, target):
        if faults:
            raise faults.pop()
        sent.append(target.name)
        put(source, target)

    class Model:
        predict_on_batch = staticmethod(lambda images: np.zeros((*images.shape[:3], 2), np.float32))
        count_params = staticmethod(lambda: 1000)

    make_callbacks, _ = google_colab.callbacks_for(out, drive, is_new=False)
    (callback,) = make_callbacks(np.zeros((3, 8, 8, 3), np.float32), np.zeros((3, 8, 8, 2), np.float32))
    callback.set_model(Model())
    callback.set_params({"epochs": 2, "steps": 2})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(0)
    callback.on_train_batch_end(1)
    assert "the 2 epochs to come 0 min" in capsys.readouterr().out
    callback.on_epoch_end(0)  # no history yet: the loss was no number
    assert shown == sent == []

    def finish_epoch(number):
        columns = {"epoch": range(1, number + 1), **dict.fromkeys(("loss", "val_loss", "dice", "val_dice"), [0.5] * number)}
        pd.DataFrame(columns).to_csv(out / "history.csv", index=False)
        (out / "checkpoint.h5").write_text(str(number))
        callback.on_epoch_end(number - 1)

    (out / "trained_model.h5").write_text("best")
    monkeypatch.setattr(google_colab, "put_on_drive", put_or_fail)
    finish_epoch(1)
    assert "WARNING: epoch 1 was NOT saved to Drive ([Errno 28] No space" in capsys.readouterr().out
    assert "NOT saved" in shown[-1] and "data:image/jpeg" in shown[-1] and sent == []
    finish_epoch(2)
    assert sent == ["trained_model.h5", "history.csv", "checkpoint.h5"]  # the model of epoch 1, too
    assert "Epoch 2 of 2, saved" in shown[-1] and (drive / "checkpoint.h5").read_text() == "2"
    callback.on_epoch_end(1)
    assert len(sent) == 3  # nothing has changed


@pytest.mark.parametrize(
    "error, words",
    [
        (google_colab.Stop("so it is"), "so it is"),
        (KeyboardInterrupt(), "run the cell again to go on"),
        (ValueError("a\n  b"), "a b"),
        (OSError(28, "No space left on device"), "No space left"),
        (MemoryError(), "MemoryError"),
        (type("ResourceExhaustedError", (Exception,), {})("OOM when allocating"), "lower BATCH_SIZE"),
    ],
)
def test_what_the_user_can_mend_ends_in_one_line(error, words, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(google_colab, "train_on_colab", fail)
    monkeypatch.setattr(google_colab, "is_notebook", lambda: True)
    with pytest.raises(google_colab.Stop) as stopped:
        google_colab.main()
    (line,) = stopped.value._render_traceback_()
    assert words in line and line.startswith("STOPPED: ") and "\n" not in line


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(google_colab, "train_on_colab", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        google_colab.main()


def test_access_to_drive_refused(monkeypatch, tmp_path):
    def refuse(mountpoint):
        raise ValueError("mount failed")

    colab = type(sys)("google.colab")
    colab.drive = type("drive", (), {"mount": staticmethod(refuse)})
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    with pytest.raises(google_colab.Stop, match="could not be opened .mount failed.; run the cell again"):
        google_colab.mount_drive()


def test_pictures_show_outlines_where_the_maps_say():
    from io import BytesIO

    images = np.full((2, 32, 32, 3), 0.5, np.float32)
    truths, maps = np.zeros((2, 32, 32, 2), np.float32), np.zeros((2, 32, 32, 2), np.float32)
    truths[0, 8:24, 8:24, 0] = maps[1, 8:24, 8:24, 0] = 1
    picture = np.array(Image.open(BytesIO(google_colab.pictures(images, truths, maps)))).astype(int)
    assert picture.shape == (72, 72, 3)
    green, cyan = picture[:36, :36], picture[36:, 36:]
    assert green[8, 16, 1] - green[8, 16, 0] > 60 and abs(green[16, 16] - 127).max() < 20
    assert cyan[8, 16, 2] - cyan[8, 16, 0] > 60
    assert abs(picture[:32, 36:68] - 127).max() < 20  # nothing there


def test_the_curve_is_drawn_from_the_first_epoch_on():
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2, 1], "val_loss": [4.0, 3, 2]})
    for num_epochs in (1, 3):
        drawn = google_colab.curve(history[:num_epochs], "loss", "Loss")
        lines = re.findall(r'points="([^"]+)"', drawn)
        assert [len(line.split()) for line in lines] == [num_epochs] * 2 and "nan" not in drawn
    points = [tuple(map(float, point.split(","))) for point in lines[0].split()]
    assert points == sorted(points) and points[0][1] < points[-1][1]  # SVG counts downwards: the loss falls


# --- As it is used: a cell of a notebook ----------------------------------------------------------------------------


# In a process of its own: the client leaves sockets open, which would be errors here.
CLIENT = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", allow_errors=True).execute()
nbformat.write(notebook, sys.argv[1])
"""


class Runtime:
    """A machine of Colab: a kernel and a local disk, both gone when it is cut off; and a Drive, which stays."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.drive, self.downloads = folder, folder / "drive", folder / "downloads"
        stub = folder / "stub" / "google" / "colab"
        stub.mkdir(parents=True)
        for name, text in STUB.items():
            (stub / name).write_text(text)
        for path in (self.drive, self.downloads):
            path.mkdir()
        for name, path in {
            "PYTHONPATH": folder / "stub", "TEST_DRIVE": self.drive, "TEST_DOWNLOADS": self.downloads,
            "IPYTHONDIR": folder / "ipython", "JUPYTER_RUNTIME_DIR": folder / "jupyter",
            "JUPYTER_CONFIG_DIR": folder / "jupyter",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, str(path))

    def run(self, number, cut_off_when=None, **settings):
        """Run the notebook's cell on a new machine; `cut_off_when` () says when to kill it. Returns the executed cell."""
        machine = self.folder / f"machine_{number}"
        machine.mkdir()
        notebook = nbformat.read(ROOT / "google_colab.ipynb", as_version=4)
        settings = {"MOUNT_POINT": str(machine / "drive"), "LOCAL_DIR": str(machine / "unet"), **settings}
        notebook.cells[1].source = edited(notebook.cells[1].source, **settings)
        pid, path = machine / "pid", machine / "notebook.ipynb"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(f"import os; open({str(pid)!r}, 'w').write(str(os.getpid()))"))
        nbformat.write(notebook, path)
        client = subprocess.Popen([sys.executable, "-c", CLIENT, path], cwd=machine, stderr=subprocess.PIPE, text=True)
        while cut_off_when and client.poll() is None:
            if cut_off_when():
                os.kill(int(pid.read_text()), signal.SIGKILL)
                break
            time.sleep(0.01)
        errors = client.communicate(timeout=600)[1]
        if cut_off_when:
            assert client.returncode == 1 and "DeadKernelError" in errors, errors
            return shutil.rmtree(machine)
        assert client.returncode == 0, errors
        return nbformat.read(path, as_version=4).cells[2]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_cut_off_and_run_again_it_ends_as_train_does_at_home(tmp_path, monkeypatch):
    runtime = Runtime(tmp_path, monkeypatch)
    data, saved = runtime.drive / "Unet_Data", runtime.drive / "Unet_Data" / "Saved_Model"
    write_pairs(data)
    saved.mkdir()
    for name in ("trained_model.h5", "history.csv"):
        (saved / name).write_text("of an earlier training")
    settings = {"EPOCHS": 6, "BATCH_SIZE": 2, "WIDTH": 4, "OPTIONS": TINY}

    runtime.run(1, cut_off_when=(saved / "checkpoint.h5").exists, **settings)
    num_done = len(train.read_checkpoint(saved / "checkpoint.h5")[1]["rows"])
    assert 1 <= num_done < 6
    assert list(runtime.downloads.iterdir()) == []
    assert [path.read_text() for path in saved.glob("previous/*/*")] == ["of an earlier training"] * 2

    cell = runtime.run(2, **settings)
    said = printed(cell)
    assert not [output.evalue for output in cell.outputs if output.output_type == "error"]
    assert "6 images in raw, 6 masks in gt, 6 pairs" in said and "Copied 12 files" in said and "WARNING: no GPU" in said
    assert f"goes on after epoch {num_done} of 6" in said and re.search(
        "An epoch takes about .* the [1-5] epochs to come", said
    )
    shown = [output.data["text/html"] for output in cell.outputs if output.output_type == "display_data"]
    assert "12 of 12 files" in shown[0]
    assert "Epoch 6 of 6, saved to Unet_Data/Saved_Model on Drive" in shown[1]
    assert shown[1].count("<svg") == 2 and "data:image/jpeg;base64," in shown[1]

    names = sorted(path.name for path in saved.iterdir())
    assert names == ["history.csv", "previous", "trained_model.h5"]  # no checkpoint, nothing half-written
    for name in ("trained_model.h5", "history.csv"):
        assert (runtime.downloads / name).read_bytes() == (saved / name).read_bytes()

    # The same program at home, without a break, makes the same model.
    home = tmp_path / "home"
    assert train.main(["--data-dir", str(data), "--out", str(home), "--epochs", "6", "--batch-size", "2", "--width", "4",
                       *TINY.split()]) == 0  # fmt: skip
    ours, theirs = (pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (home, saved))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    models = [unet.load_model(folder / "trained_model.h5") for folder in (home, saved)]
    for one, other in zip(*(model.get_weights() for model, _ in models), strict=True):
        np.testing.assert_array_equal(one, other)
    assert models[0][1]["thresholds"] == models[1][1]["thresholds"] and models[0][1]["data"] == models[1][1]["data"]


def test_data_that_has_changed_says_how_to_begin_anew(tmp_path, monkeypatch):
    """The rest of the way is that of the test above; `train` is what refuses."""
    write_pairs(tmp_path / "MyDrive" / "Unet_Data", 2)
    monkeypatch.setattr(google_colab, "LOCAL_DIR", str(tmp_path / "local"))
    monkeypatch.setattr(google_colab, "mount_drive", lambda: tmp_path / "MyDrive")

    def refuse(**arguments):
        raise ValueError("the data has changed since the interrupted training")

    monkeypatch.setattr(google_colab, "train", refuse)
    monkeypatch.setattr(google_colab, "find_checkpoint", lambda *folders: {"epochs": 3})
    with pytest.raises(google_colab.Stop, match="data has changed.* another name in RESULTS"):
        google_colab.train_on_colab()
    monkeypatch.setattr(google_colab, "find_checkpoint", lambda *folders: None)
    with pytest.raises(ValueError, match="training$"):
        google_colab.train_on_colab()


def test_a_mistake_is_one_line_in_the_cell(tmp_path, monkeypatch):
    runtime = Runtime(tmp_path, monkeypatch)
    cell = runtime.run(1)
    (error,) = [output for output in cell.outputs if output.output_type == "error"]
    assert error.traceback == ["STOPPED: " + error.evalue] and "My Drive has no folder Unet_Data" in error.evalue
