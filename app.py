"""Correct nuclei by clicking, learn from the corrections, and repeat: a page in your browser.

    python app.py                               # the images in test_raw/
    python app.py my_images                     # a folder of images, or a set with raw/ and gt/
    python app.py my_images --model runs/a      # begin with this model
    python app.py my_images --no-browser        # print the address of the page only

The server runs on this machine and answers this machine only. The printed address works once, for
one browser. Each correction is on disk before the page shows it:

    gt/STEM.png             the nuclei of an image that you accepted: ground truth for train.py
    gt/STEM.edits.jsonl     every correction of an image, from which the app goes on next time
    runs/                   models that were learned
    exports/                files for QuPath, ImageJ and others

They lie in FOLDER where it has raw/, else in FOLDER/corrected/, which is then such a set. Your
images are only read. Files that you drop on the page, and fields that you cut out of large images
and slides, are added beside them. Ctrl-C ends the server.
"""

from nuclei.stopping import stop_while_importing

if __name__ == "__main__":
    stop_while_importing()

import functools
import sys
import webbrowser

from nuclei.app.files import find_files
from nuclei.app.learning import model_used_before
from nuclei.app.model_in_use import ModelInUse
from nuclei.app.server import USUAL_PORT, serve
from nuclei.cli import (
    INPUT_DIR,
    MODEL_HELP,
    add_overwrite_flag,
    add_quiet_flag,
    command_line,
    user_errors_in_one_line,
    whole,
)
from nuclei.files import plural
from nuclei.folder_lock import only_run
from nuclei.leftovers import adding_to
from nuclei.machine import require
from nuclei.model_file import MODELS, describe_model, find_model
from nuclei.progress import quietly
from nuclei.written import recording

MAX_PORT = 65_535
ELSEWHERE = "copy the images to another folder and give that one"  # results lie beside them


def parse_arguments(argv):
    """Read the command line. A usage error ends the program with status 2."""
    parser = command_line(__doc__)
    add = parser.add_argument
    text = f"folder of images, or a set with raw/ and gt/ (default {INPUT_DIR})"
    add("folder", nargs="?", default=INPUT_DIR, metavar="FOLDER", help=text)
    text = f"{MODEL_HELP} (default: the one chosen on the page before; {MODELS[0]}; {MODELS[1]})"
    add("--model", metavar="MODEL", help=text)
    text = f"port of the server (default {USUAL_PORT}, or a free one where that is in use)"
    add("--port", type=whole, metavar="N", help=text)
    text = "print the address instead of opening a browser (default: open it)"
    add("--no-browser", action="store_true", help=text)
    add_overwrite_flag(add)
    add_quiet_flag(parser)
    args = parser.parse_args(argv)
    if args.port is not None and not 1 <= args.port <= MAX_PORT:
        parser.error(f"--port is {args.port}; it must lie between 1 and {MAX_PORT}")
    return args


def run(args, tell):
    """Serve the folder until the user stops the program; `tell` prints, also where it is quiet."""
    require(("starlette", "uvicorn"), "app.py")
    files = find_files(args.folder)
    chosen = None if args.model else model_used_before(files.cache)
    model_path = chosen or find_model(args.model)
    models = ModelInUse(model_path, print)
    inputs = list(files.known.values())
    with (
        only_run(files.home, ELSEWHERE),
        adding_to(files.source),
        adding_to(files.cache),
        recording(files.home, args.overwrite, inputs, ELSEWHERE),
    ):
        print(describe_model(model_path, models.settings))
        slides = f" and {plural(len(files.slides), 'slide')}" if files.slides else ""
        images = plural(len(files.images), "image") + slides
        print(f"{images} in {files.source}; results in {files.home}/")
        serve(files, models, args.port, tell, None if args.no_browser else webbrowser.open)


@user_errors_in_one_line
def main(argv=None):
    """Run the server and return the exit status."""
    args = parse_arguments(argv)
    tell = functools.partial(print, file=sys.stdout, flush=True)  # the address is no progress
    with quietly(args.quiet):
        run(args, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
