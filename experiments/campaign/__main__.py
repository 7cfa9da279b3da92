"""Try to break the programs: damaged inputs, kills at any moment, a full disk, two at once.

    python -m experiments.campaign --inputs 20000 --kills 200 --out campaign
    python -m experiments.campaign --out campaign --replay 1234     # one input again

OUT/results.jsonl has a line for each input and each kill, OUT/table.md the sums. OUT/failed keeps
what failed, each in the folder in which the program ran. A second call goes on where the first one
was stopped. The exit status is 1 where anything failed.

    read        the program took the file
    refused     one line that names the file, exit status 1
    traceback, hang, crash, unclear, noise, status
                the program fell over, stood still, was ended by the system, did not say which file,
                let a library speak, or ended with a strange status
    lost        a file of the user was changed, or the other files of the folder were not done
    litter      temporary files were left behind

It needs forks, so it runs on Linux and macOS. Memory is limited on Linux only.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from experiments.campaign.cases import make_case
from experiments.campaign.imports import import_all
from experiments.campaign.judge import FAULTS, GOOD
from experiments.campaign.kills import run_kills
from experiments.campaign.originals import make_originals
from experiments.campaign.plays import PLAYS
from experiments.campaign.stage import make_templates, replace_network
from experiments.campaign.table import write_table
from experiments.campaign.workers import FORK, Limits, call_program, feed
from nuclei.cli import command_line, positive, user_errors_in_one_line
from nuclei.progress import Progress


def parse_arguments(argv):
    """Read the command line."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--inputs", type=int, default=1000, metavar="N", help="damaged inputs (default 1000)")
    add("--kills", type=int, default=0, metavar="K", help="kills, full disks and races (default 0)")
    add("--seed", type=int, default=0, metavar="S", help="random seed (default 0)")
    add(
        "--out",
        type=Path,
        default=Path("campaign"),
        help="folder of the results (default campaign)",
    )
    text = "inputs at once (default: the cores that are free)"
    add("--workers", type=positive, default=os.cpu_count() or 1, metavar="N", help=text)
    text = "seconds after which an input counts as a hang (default 60)"
    add("--seconds", type=positive, default=60, metavar="S", help=text)
    text = f"programs to kill (default all: {' '.join(PLAYS)})"
    add(
        "--programs", nargs="+", default=list(PLAYS), choices=list(PLAYS), metavar="NAME", help=text
    )
    add("--replay", type=int, metavar="NUMBER", help="run one input again and show all it prints")
    return parser.parse_args(argv)


def prepare(out: Path) -> Path:
    """Import everything that workers need, and make the templates. Returns: their folder."""
    templates = out.resolve() / "templates"
    maker = FORK.Process(target=make_templates, args=(templates,))  # it starts threads
    maker.start()
    maker.join()
    if maker.exitcode:
        raise ValueError(f"{templates} could not be made; the lines above say why")
    import_all()
    replace_network()
    return templates


def finished(results: Path) -> list[dict]:
    """The lines of an earlier call; one that was cut off is left out."""
    if not results.is_file():
        return []
    rows = []
    for line in results.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def run_inputs(args, templates, rows, keep):
    """Run the damaged inputs that no earlier call has run."""
    originals = make_originals()

    def make(number, room):
        return make_case(number, args.seed, originals, templates, room)

    done = {row["number"] for row in rows if "number" in row}
    todo = [number for number in range(args.inputs) if number not in done]
    limits = Limits(args.seconds, workers=args.workers)
    with Progress("Inputs", args.inputs, "inputs", log=True, done=args.inputs - len(todo)) as bar:
        for result in feed(todo, make, args.out.resolve() / "work", limits):
            keep(result)
            bar.add(1)
            if result["outcome"] not in GOOD:
                room = args.out.resolve() / "failed" / f"{result['number']:06d}"
                shutil.rmtree(room, ignore_errors=True)
                room.mkdir(parents=True)
                case = make(result["number"], room)
                (room / "what.json").write_text(json.dumps(result | {"argv": case.argv}, indent=1))


def replay(args, templates) -> int:
    """Run one input again in OUT/replay, and show all that the program prints."""
    room = args.out.resolve() / "replay"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    case = make_case(args.replay, args.seed, make_originals(), templates, room)
    call = call_program(case.argv, room)
    print(f"{case.kind}, {case.damage}: {room}\n{' '.join(case.argv)}\n{call.stdout}{call.stderr}")
    print(call.error or f"exit status {call.status}")
    return 0


@user_errors_in_one_line
def main(argv=None):
    """Run the campaign and return 1 where anything failed."""
    args = parse_arguments(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    templates = prepare(args.out)
    if args.replay is not None:
        return replay(args, templates)
    results = args.out / "results.jsonl"
    rows = finished(results)
    with open(results, "a", encoding="utf-8") as file:

        def keep(row):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()

        run_inputs(args, templates, rows, keep)
        run_kills(args, templates, rows, keep)
    text = write_table(args, rows)
    print(text)
    return int(any(row["outcome"] in FAULTS for row in rows))


if __name__ == "__main__":
    sys.exit(main())
