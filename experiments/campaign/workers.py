"""Feed inputs to the programs in forked processes, so that a hang or a crash has a name.

    for result in feed(numbers, make, limits):
        ...

A worker imports nothing: it is a fork of a process that has imported everything. It says which
input it begins, and what came of it. One that says nothing for too long is killed.
"""

import contextlib
import gc
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from experiments.campaign.judge import Call, files_of, judge
from experiments.campaign.stage import Reached, program, without_training

BATCH = 150  # inputs of one worker; a new one begins with fresh memory
FORK = multiprocessing.get_context("fork")


class Limits(NamedTuple):
    """What one input may take.

    Attributes:
        seconds: without an answer, after which an input counts as a hang.
        megabytes: of memory, beyond what the worker has at its start.
        workers: processes at once.
    """

    seconds: float = 60
    megabytes: int = 4000
    workers: int = 1


def feed(numbers, make, folder: Path, limits: Limits):
    """Run the inputs.

    Args:
        numbers: of the inputs.
        make: from a number and an empty folder to a `Case`.
        folder: for the inputs at work, and for failed ones.
        limits: a `Limits`.

    Yields:
        Dicts with number, kind, damage, reader, outcome, detail and seconds.
    """
    todo, active = list(numbers)[::-1], {}
    try:
        while todo or active:
            while todo and len(active) < limits.workers:
                batch = [todo.pop() for _ in range(min(BATCH, len(todo)))]
                connection, worker = start(batch, make, folder, limits)
                active[connection] = {"worker": worker, "left": batch, "since": time.monotonic()}
            yield from answers(active, todo, limits.seconds)
    finally:
        for state in active.values():  # the campaign is stopped
            state["worker"].kill()


def answers(active, todo, seconds):
    """Wait a second for answers of the workers at work, and end those that give none.

    Args:
        active: {connection: what is known of its worker}.
        todo: numbers that wait; those of a worker that has ended go back there.
        seconds: without an answer, after which a worker is killed.

    Yields:
        As `feed`.
    """
    for connection in wait(list(active), timeout=1):
        state = active[connection]
        try:
            state["begun"] = connection.recv()
        except (EOFError, OSError):
            yield from end(active.pop(connection), "crash", todo)
            connection.close()
            continue
        state["since"] = time.monotonic()
        if "outcome" in state["begun"]:
            state["left"].remove(state["begun"]["number"])
            yield state["begun"]
    for connection, state in list(active.items()):
        if time.monotonic() - state["since"] > seconds:
            state["worker"].kill()
            yield from end(active.pop(connection), "hang", todo)
            connection.close()


def end(state, outcome, todo):
    """A worker has ended: name the input that it had begun, and give the others back."""
    state["worker"].join()
    left, begun = state["left"], state.get("begun")
    if left and (begun is None or begun["number"] not in left):  # it could not make the next one
        begun = {"number": left[0], "kind": "(not made)", "damage": "", "reader": ""}
    if left:
        left.remove(begun["number"])
        yield {**begun, "outcome": outcome, "detail": f"exit {state['worker'].exitcode}"}
    todo += left[::-1]


def start(batch, make, folder, limits):
    """Start a worker. Returns: its connection and the process."""
    ours, theirs = FORK.Pipe(duplex=False)
    sys.stdout.flush()
    gc.freeze()  # what is imported is not looked through again and again
    worker = FORK.Process(target=work, args=(batch, make, folder, limits, theirs))
    worker.start()
    theirs.close()
    return ours, worker


def work(batch, make, folder, limits, connection):
    """Run inputs one after the other, in a worker."""
    limit_memory(limits.megabytes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    place = folder / f"work_{os.getpid()}"
    place.mkdir(parents=True)
    tempfile.tempdir = str(place / "tmp")
    os.environ["TMPDIR"] = tempfile.tempdir
    for number in batch:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(place)
        (place / "tmp").mkdir(parents=True)
        (place / "room").mkdir()
        connection.send(run_one(number, make, place, connection))
    shutil.rmtree(place, ignore_errors=True)
    connection.close()


def limit_memory(megabytes: int) -> None:
    """Let a worker have so much more memory than now: what wants more gets a MemoryError."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(
            line
            for line in status.read_text(encoding="utf-8").splitlines()
            if line.startswith("VmData")
        )
        limit = int(line.split()[1]) * 1024 + megabytes * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def run_one(number, make, place, connection):
    """Make an input, run its program, judge the call, and keep what failed."""
    room = place / "room"
    case = make(number, room)
    result = {
        "number": number,
        "kind": case.kind,
        "damage": case.damage,
        "reader": case.reader,
    }
    connection.send(result)
    before, started = files_of(room), time.monotonic()
    call = call_program(case.argv, room)
    outcome, detail = judge(case, room, before, call)
    if outcome == "read" and os.listdir(place / "tmp"):
        outcome, detail = "litter", f"{os.listdir(place / 'tmp')[:3]} in the temporary folder"
    seconds = round(time.monotonic() - started, 3)
    return {**result, "outcome": outcome, "detail": detail, "seconds": seconds}


def text_stream(descriptor: int):
    """A stream of text to a file descriptor, like those that Python starts with."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)


def call_program(argv, room) -> Call:
    """Call the `main` of a script in a folder, with its output in files."""
    saved = os.dup(1), os.dup(2)
    status, error = None, ""
    with tempfile.TemporaryFile(dir="/tmp") as out, tempfile.TemporaryFile(dir="/tmp") as err:
        streams = sys.stdout, sys.stderr
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = text_stream(1), text_stream(2)
        try:
            with contextlib.chdir(room), without_training():
                status = program(argv[0])(argv[1:])
        except Reached:
            status = 0
        except SystemExit as stop:
            status = stop.code
        except BaseException:  # what nobody caught is what is looked for
            error = traceback.format_exc()[-3000:]
        finally:
            with contextlib.suppress(OSError, ValueError):  # the program may have closed them
                sys.stdout.flush()
                sys.stderr.flush()
            sys.stdout, sys.stderr = streams
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
    return Call(status, *texts, error)
