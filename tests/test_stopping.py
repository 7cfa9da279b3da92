"""Ctrl-C and SIGTERM, at any time, in any script."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nuclei.cli import user_errors_in_one_line

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [path for path in sorted(ROOT.glob("*.py")) if "stop_while" in path.read_text("utf-8")]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_program_in_one_line_and_its_cleaning_up_runs(capsys, number, status):
    before, cleaned = signal.getsignal(number), []

    @user_errors_in_one_line
    def main(argv=None):
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(signal.getsignal(number))

    assert main([]) == status
    line = f"stopped by {'SIGTERM' if number == signal.SIGTERM else 'Ctrl-C'}"
    assert line in (stderr := capsys.readouterr().err) and stderr.count("\n") == 1
    assert cleaned == [signal.SIG_DFL]  # a second signal ends it on the spot
    assert signal.getsignal(number) is before


DROPPING = """
import signal, sys, time
from nuclei.stopping import stop_while_importing
stop_while_importing()
from nuclei.cli import user_errors_in_one_line

class Deleted:
    def __del__(self):
        {deleting}

@user_errors_in_one_line
def main(argv=None):
    held = Deleted()
    {working}
    print("it goes on", flush=True)
    return 0

sys.exit(main())
"""
RAISING = "signal.raise_signal({number}); time.sleep(1)"  # the handler runs here at the latest


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("deleting", "working"), [(RAISING, "del held"), ("1 / 0", RAISING)])
def test_a_stop_while_python_drops_exceptions_is_one_line(number, status, deleting, working):
    code = DROPPING.format(deleting=deleting, working=working).replace("{number}", str(int(number)))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status and not done.stdout
    assert "stopped by" in done.stderr and done.stderr.count("\n") == 1


def test_what_else_python_drops_is_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Deleted:
        def __del__(self):
            raise ValueError

    @user_errors_in_one_line
    def main(argv=None):
        deleted = Deleted()
        del deleted
        return 0

    assert main([]) == 0 and len(told) == 1 and told[0].exc_type is ValueError
    assert sys.unraisablehook == told.append


@pytest.mark.parametrize("error", [RuntimeError, ValueError, OSError])
def test_a_stop_of_which_a_library_makes_an_error_is_a_stop(capsys, error):
    @user_errors_in_one_line
    def main(argv=None):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise error("Terminated") from None

    assert main([]) == 143
    assert "stopped by SIGTERM" in (text := capsys.readouterr().err) and text.count("\n") == 1


def test_handlers_of_others_stay():
    def theirs(*_):
        pass

    @user_errors_in_one_line
    def main(argv=None):
        assert signal.getsignal(signal.SIGTERM) is theirs
        return 0

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        assert main([]) == 0 and signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


def test_each_script_can_be_stopped_from_its_first_import_on():
    names = {path.stem for path in SCRIPTS}
    assert names >= {"train", "predict", "evaluate", "report", "graph", "exports", "import_data"}
    for path in SCRIPTS:
        imports = path.read_text("utf-8").partition("stop_while_importing()")[0]
        assert imports.count("\nfrom ") + imports.count("\nimport ") == 1, path.name


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_among_the_imports_leaves_no_traceback(tmp_path, number, status):
    # A module that lies before NumPy on the path holds the script where the library would be.
    (tmp_path / "numpy.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(30)\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    running = subprocess.Popen(
        [sys.executable, ROOT / "import_data.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert running.stdout.readline() == "here\n"
    began = time.monotonic()
    running.send_signal(number)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == status and time.monotonic() - began < 10
    assert errors.startswith("import_data.py: stopped by ") and errors.count("\n") == 1
