"""Standard output and error that are closed, full, or left by their reader: the work goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import os, sys
from nuclei.cli import user_errors_in_one_line
from nuclei.progress import Progress

@user_errors_in_one_line
def main(argv=None):
    with open("opened", "w") as file:
        assert file.fileno() > 2  # no library prints into it
        for number in range(2000):
            print("a line for the user", number)
        print("a line of a warning", file=sys.stderr)
        with Progress("Work", 1, "files", log=True) as progress:
            progress.say("skipped: a file")
            progress.add(1)
        file.write("done")
    if argv:
        raise ValueError("wrong")
    return 0

sys.exit(main(sys.argv[1:]))
"""


def run(folder, ending, *arguments, unbuffered=False):
    """Run PROGRAM in a shell with an ending such as ">&-". Returns: status, stdout and stderr."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if unbuffered:
        environment["PYTHONUNBUFFERED"] = "1"
    command = f'"$0" -c "$1" {" ".join(arguments)} {ending}'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable, PROGRAM],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (folder / "opened").read_text() == "done"
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("ending", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_nothing(tmp_path, ending, unbuffered):
    status, _, errors = run(tmp_path, ending, unbuffered=unbuffered)
    assert status == 0 and "Traceback" not in errors and "ignored" not in errors


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("ending", ["| true", "| head -1", "2>&1 | head -1"])
def test_a_reader_that_leaves_stops_nothing(tmp_path, ending, unbuffered):
    status, _, errors = run(tmp_path, ending, unbuffered=unbuffered)
    assert status == 0 and set(errors.splitlines()) <= {"a line of a warning", "skipped: a file"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_behind_stdout_is_told_and_stops_nothing(tmp_path):
    status, _, errors = run(tmp_path, "> /dev/full")
    assert status == 1
    assert errors.splitlines()[-1] == (
        "-c: lines to stdout (No space left on device) were lost; files are whole"
    ).replace("-c", "script")


def test_a_mistake_is_told_on_what_is_left(tmp_path):
    assert run(tmp_path, ">&-", "1") == (
        1,
        "",
        "a line of a warning\nskipped: a file\nscript: wrong\n",
    )
    assert run(tmp_path, "2>&-", "1")[0] == 1
