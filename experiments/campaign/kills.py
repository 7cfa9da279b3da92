"""Interrupt whole runs of the programs, run them to the end, and compare with undisturbed ones.

    run_kills(args, templates, rows, keep)

A run is killed by SIGKILL or SIGTERM at a random moment, once or several times; or its disk is
full; or a second run goes into the same folder at the same time. Then the command is given again.
Its results must be those of an undisturbed run, without temporary files or processes left over.
"""

import json
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

from experiments.campaign.judge import files_of, litter_in
from experiments.campaign.originals import make_originals
from experiments.campaign.plays import PLAYS, perform, results_of
from experiments.campaign.small_disk import full_disk
from experiments.campaign.stage import copy_template
from experiments.campaign.workers import FORK

WAYS = ("SIGKILL", "SIGTERM", "SIGKILL of all its processes", "full disk", "two at once")
WEIGHTS = (4, 4, 2, 1, 1)
MAX_KILLS = 3  # of one run
PATIENCE = 600  # seconds that a run may take
GONE_SECONDS = 10  # after which no process of a killed run may be left
LOOK_SECONDS = 0.003  # between two looks at how far a run is
PROC = Path("/proc")  # Linux tells there of its processes


class Ended(NamedTuple):
    """A run that has ended: its exit status (None: it stood still) and all that it printed."""

    status: int | None
    text: str


class Fault(Exception):
    """What went wrong: (outcome, detail)."""


def run_kills(args, templates, rows, keep):
    """Interrupt the programs as often as the command line says, less what `rows` has already."""
    done = {row["kill"] for row in rows if "play" in row}
    references = {}
    for index in range(args.kills):
        if index in done:
            continue
        generator = random.Random(f"{args.seed}/kill/{index}")
        name = args.programs[index % len(args.programs)]
        room = args.out.resolve() / "kills" / f"{index:04d}"
        if name not in references:
            references[name] = reference(name, templates, room.with_name(f"reference {name}"))
        how = generator.choices(WAYS, WEIGHTS)[0]
        started = time.monotonic()
        try:
            make_room(name, templates, room)
            detail = interrupt(name, how, room, references[name], generator)
            outcome = "equal"
            shutil.rmtree(room)
        except Fault as fault:
            outcome, detail = fault.args
        seconds = round(time.monotonic() - started, 1)
        row = {"kill": index, "play": name, "how": how, "outcome": outcome, "detail": detail}
        keep(row | {"seconds": seconds})
        print(f"{index} {name}, {how}: {outcome} {detail[:300]} ({seconds} s)", flush=True)


def make_room(name, templates, room: Path):
    """The folder of one run."""
    shutil.rmtree(room, ignore_errors=True)
    (room / "out").mkdir(parents=True)
    copy_template(templates, room, *PLAYS[name].parts.split())
    for original in make_originals():
        if original.name in PLAYS[name].files:
            (room / original.name).write_bytes(original.content)


def reference(name, templates, room: Path):
    """(results, seconds, bytes) of an undisturbed run.

    The second run counts: the first one also waits for the disk, and kills would come too late.
    The seconds are those of `seconds_worked`.
    """
    for _ in range(2):
        make_room(name, templates, room)
        started, used = time.monotonic(), seconds_of_ended()
        ended = finish(start(PLAYS[name].argv, room))
        if ended.status != 0:
            raise ValueError(f"{name} ends with {ended.status} undisturbed: {ended.text[-500:]}")
        seconds = seconds_of_ended() - used if PROC.exists() else time.monotonic() - started
    size = sum(path.stat().st_size for path in (room / "out").rglob("*") if path.is_file())
    return results_of(room / "out"), seconds, size


def start(argv, room: Path):
    """Start a run in a process group of its own. Returns: (process, file of what it prints)."""
    log = room.with_name(f"{room.name}.{time.monotonic_ns()}.log")
    process = FORK.Process(target=perform, args=(argv, room, log))
    process.start()
    return process, log


def finish(run, seconds=PATIENCE) -> Ended:
    """Wait for the end of a run, and kill it where it does not come."""
    process, log = run
    process.join(seconds)
    status = process.exitcode
    if status is None:
        process.kill()
        process.join()
    text = log.read_text(encoding="utf-8", errors="backslashreplace") if log.exists() else ""
    log.unlink(missing_ok=True)
    return Ended(status, text)


def interrupt(name, how, room, undisturbed, generator) -> str:
    """Interrupt a run, give the command again, and compare. Returns: words on what was done.

    Raises:
        Fault: something went wrong.
    """
    results, seconds, size = undisturbed
    before = {key: value for key, value in files_of(room).items() if not key.startswith("out/")}
    play = PLAYS[name]
    if how == "full disk":
        with full_disk(room / "out", int(size * generator.uniform(0, 0.95))) as grow:
            ended = finish(start(play.argv, room))
            require_plain(ended, (0, 1), "with a full disk")
            grow()
            run_again(play, room, results)
        detail = ended.text.strip().splitlines()[-1:] or [""]
        return detail[0][:200]
    if how == "two at once":
        runs = [start(play.argv, room) for _ in range(2)]
        ends = [finish(run) for run in runs]
        for ended in ends:
            require_plain(ended, (0, 1), "beside another run")
        detail = f"exit statuses {[ended.status for ended in ends]}"
    else:
        moments = [generator.uniform(0, 1.05) for _ in range(generator.randint(1, MAX_KILLS))]
        words = []
        for moment in moments:
            is_hit = kill(play.next(room), room, moment * seconds, how)
            words.append(f"{moment:.0%}" if is_hit else f"{moment:.0%} (it had ended)")
        detail = f"killed at {', '.join(words)}"
    run_again(play, room, results)
    changed = [key for key, value in before.items() if files_of(room).get(key) != value]
    if changed:
        raise Fault("lost", f"{changed[:3]} changed")
    return detail


def seconds_of_ended() -> float:
    """Seconds of processor time of all runs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_worked(pid: int, started: float) -> float:
    """How long a run has worked, in seconds.

    This is processor time where the system tells it: other programs on a busy machine then do not
    shift the moment of a kill. Elsewhere it is the time since the start.
    """
    try:
        _, _, rest = (PROC / str(pid) / "stat").read_text().rpartition(")")
    except OSError:
        return time.monotonic() - started
    return sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def kill(argv, room, seconds, how) -> bool:
    """Start a run and kill it after so many seconds. Returns: whether it was still at work."""
    started, run = time.monotonic(), start(argv, room)
    pid = run[0].pid
    while run[0].is_alive() and seconds_worked(pid, started) < seconds:
        if time.monotonic() - started > PATIENCE:
            break
        run[0].join(LOOK_SECONDS)
    is_at_work = run[0].is_alive()
    if is_at_work:
        if how == "SIGKILL of all its processes":
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    ended = finish(run, 60)
    good = {"SIGTERM": (0, 143, -signal.SIGTERM)}.get(how, (0, -signal.SIGKILL))
    require_plain(ended, good, f"after {how}")
    deadline = time.monotonic() + GONE_SECONDS
    while left := processes_of(pid):
        if time.monotonic() > deadline:
            for other in left:
                os.kill(other, signal.SIGKILL)
            raise Fault("litter", f"{len(left)} processes are left {GONE_SECONDS} s after {how}")
        time.sleep(0.1)
    return is_at_work


def processes_of(group: int) -> list[int]:
    """The living processes of a process group; none where the system has no /proc."""
    found = []
    for path in PROC.glob("[0-9]*/stat"):
        try:
            _, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, _, its_group = rest.split()[:3]
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def require_plain(ended: Ended, good, when: str):
    """Check how a run ended. Raises: Fault."""
    if ended.status is None:
        raise Fault("hang", f"{when}: {ended.text[-500:]}")
    if "Traceback (most recent call last)" in ended.text:
        raise Fault("traceback", f"{when}: {ended.text[-1500:]}")
    if ended.status not in good:
        outcome = "crash" if ended.status < 0 else "status"
        raise Fault(outcome, f"{ended.status} {when}: {ended.text[-500:]}")


def run_again(play, room, results):
    """Give the command again and compare with an undisturbed run. Raises: Fault."""
    ended = finish(start(play.next(room), room))
    require_plain(ended, (0,), "when it was run again")
    found = results_of(room / "out")
    if found != results:
        names = [key for key in found.keys() | results.keys() if found.get(key) != results.get(key)]
        raise Fault("lost", f"other results than undisturbed: {json.dumps(sorted(names)[:5])}")
    if left := litter_in(room):
        raise Fault("litter", str(left[:5]))
