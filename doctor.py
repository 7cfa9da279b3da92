"""Say what this machine has and lacks, and try the program on one image.

    python doctor.py                        # Python, packages, GPU, engines, model, cache, a trial
    python doctor.py --image mine.png       # the trial on an image of yours
    python doctor.py --engine keras --model runs/a

A line that starts with -> says what makes the line above better. The last line says what to do
next. The exit status is 0 where predict.py works, and 1 where it does not. No package is needed.
"""

import sys
from pathlib import Path

from nuclei.cli import (
    COARSE_ENGINES,
    ENGINES,
    MODEL_HELP,
    SHIPPED,
    add_quiet_flag,
    command_line,
    user_errors_in_one_line,
)
from nuclei.progress import quietly

PYTHONS = ((3, 11), (3, 13))  # the first and the last version that all packages run on
NAME_CHARACTERS = 10  # the width of the first column


def parse_arguments(argv):
    """Read the command line. A usage error ends the program with status 2."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--model", metavar="MODEL", help=f"{MODEL_HELP} (default: the one that predict.py takes)")
    add("--image", metavar="FILE", help="image to try (default: one of the shipped ones)")
    text = "engine to try, as of predict.py (default auto)"
    add("--engine", choices=("auto", *ENGINES, *COARSE_ENGINES), default="auto", help=text)
    add_quiet_flag(parser)
    args = parser.parse_args(argv)
    if args.image is not None and not Path(args.image).is_file():
        parser.error(f"argument --image: {args.image} is no file; give an image that is there")
    if args.model not in (None, SHIPPED) and not Path(args.model).exists():
        parser.error(f"argument --model: {args.model} is not there; expected a {MODEL_HELP}")
    return args


def show(finding):
    """Print a finding and, below it, its advice."""
    print(f"{finding.name:{NAME_CHARACTERS}}{finding.text}", flush=True)
    if finding.advice:
        print(f"{'':{NAME_CHARACTERS}}-> {finding.advice}", flush=True)


def last_line(findings):
    """What to do next."""
    faults = [finding for finding in findings if finding.is_fault]
    if faults:
        return f"predict.py cannot work yet ({faults[0].name}): {faults[0].advice}"
    if any(finding.advice for finding in findings):
        return "predict.py works: python predict.py. The lines with -> would make it better"
    return "All is well: python predict.py"


@user_errors_in_one_line
def main(argv=None):
    """Print the findings. Returns: the exit status."""
    first, last = (".".join(map(str, version)) for version in PYTHONS)
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        came = ".".join(map(str, sys.version_info[:3]))
        print(f"Python {came} cannot run this program: install Python {first} to {last}")
        return 1
    args = parse_arguments(argv)
    from nuclei.checkup.findings import examine  # late: it needs the Python of the check above

    findings = []
    with quietly(args.quiet):
        for finding in examine(args.model, args.image, args.engine):
            show(finding)
            findings.append(finding)
        print(last_line(findings))
    return int(any(finding.is_fault for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
