"""The folder that a training writes to: no other training writes there, and what a stop leaves.

with writing_results(run), explain_stop(run):
    ...
"""

import contextlib
import os

from nuclei.folder_lock import only_run
from nuclei.written import recording


@contextlib.contextmanager
def writing_results(run):
    """Around the training: its folder can be written to, and no other training writes there."""
    if not run.processes.is_first:
        yield
        return
    if os.path.lexists(run.previous) and not run.previous.is_dir():
        raise NotADirectoryError(
            f"{run.previous} is no folder, and earlier results move to one of this name; move it "
            "away, or give another --out"
        )
    # Earlier results have moved aside when the first file is written: nothing is lost.
    with only_run(run.out), recording(run.out, overwrite=True):
        yield


@contextlib.contextmanager
def explain_stop(run):
    """Where the user stops the training, say how to go on from there, if that is possible."""
    try:
        yield
    except KeyboardInterrupt:
        if run.checkpoint.exists():
            run.say(f"\n`python train.py --resume --out {run.out}` goes on after the last epoch")
        else:
            run.say("\nNo epoch was finished: there is nothing to resume, start again")
        raise
