"""What runs in the workers of a Dask cluster: their model, and the images that they process.

A worker opens the model file by its path and keeps the model. It refuses to work where its program
or the file is another one, since the results would differ.
"""

import functools
import hashlib
import platform
import threading
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from nuclei.files import named
from nuclei.folder_lock import LOCK
from nuclei.inference.engines import load_model, missing_packages
from nuclei.inference.folder import PIXELS_AT_ONCE, process_image
from nuclei.inference.threads import PixelBudget
from nuclei.model_file import PROJECT, Model
from nuclei.results.jobs import Job, Run
from nuclei.written import join

LOADING = threading.Lock()  # one thread of a worker loads the model, the others wait for it


@dataclass(frozen=True)
class WorkerSource:
    """From what a worker loads its model.

    Attributes:
        path: the model file, absolute: a copy in the folder of the results.
        digest: SHA-256 of the file.
        engine, tta: as of `load_model`.
        program: hash of the program, see `program_hash`.
    """

    path: str
    digest: str
    engine: str
    tta: bool
    program: str

    @classmethod
    def from_file(cls, path, engine: str, tta: bool) -> "WorkerSource":
        """The source of this machine's model file and program."""
        return cls(str(Path(path).absolute()), sha256(path), engine, tta, program_hash())


def sha256(path) -> str:
    """Hash of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@functools.cache
def program_hash() -> str:
    """Hash of this program's files, as they were when the process first asked.

    A worker with other files would give other results.
    """
    digest = hashlib.sha256()
    for path in sorted([PROJECT / "unet.py", *(PROJECT / "nuclei").rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check_workers(client, source: WorkerSource, out: Path) -> None:
    """Check that each worker has this program, this model and the folder of the results.

    Raises:
        ValueError: with the workers that lack something, and what.
    """
    import distributed

    root, mark = str(PROJECT), out / LOCK
    source_values = astuple(source)  # the class itself is unknown there until the import below

    def look():  # sent as code: a worker that lacks this file could not find it by name
        import sys
        from pathlib import Path

        if Path(root).is_dir() and root not in sys.path:
            sys.path.insert(0, root)
        try:
            from nuclei.inference.workers import WorkerSource, missing_in_worker

            return missing_in_worker(WorkerSource(*source_values), mark)
        except (ImportError, AttributeError, TypeError) as error:
            return (
                f"lacks the program ({error}): start it in the project's folder, with "
                "requirements.txt installed"
            )

    class Finder(distributed.WorkerPlugin):  # for workers that come later
        name = "histology-segmentation"

        def setup(self, worker):
            look()

    client.register_plugin(Finder())
    lines = [f"{worker} {line}" for worker, line in client.run(look).items() if line]
    if lines:
        raise ValueError(f"{len(lines)} workers cannot help: {named(lines)}")


def missing_in_worker(source: WorkerSource, mark) -> str | None:
    """What this worker lacks: None, or a line with the way out.

    Args:
        source: from what it is to load its model.
        mark: a file in the folder of the results.
    """
    if program_hash() != source.program:
        return (
            f"has another version of the program in {PROJECT}: give it this one, and start it again"
        )
    if not Path(mark).is_file():
        return (
            f"does not see {Path(mark).parent}: --out must be where all machines see it by one path"
        )
    if not Path(source.path).is_file() or sha256(source.path) != source.digest:
        return (
            f"does not see this model at {source.path}: put it where all machines see it by one "
            "path"
        )
    if source.engine != "auto" and (packages := missing_packages(source.engine)):
        return f"lacks what --engine {source.engine} needs: python -m pip install {packages}"
    return None


def num_threads_here() -> int:
    """How many threads of this worker may call its model at the same time."""
    from distributed import get_worker

    try:
        return get_worker().state.nthreads
    except ValueError:  # this process is no worker
        return 1


def model_of_worker(source: WorkerSource) -> Model:
    """The model of a worker, loaded once.

    Raises:
        OSError: it cannot be loaded; this ends the run, since no image is to blame.
    """
    with LOADING:
        return load_worker_model(source)


@functools.lru_cache(maxsize=1)
def load_worker_model(source: WorkerSource) -> Model:
    """Load the model of a worker after another look at program and file; see `model_of_worker`."""
    if program_hash() != source.program:
        raise OSError(
            f"a worker in {PROJECT} has another version of the program: start it with this one"
        )
    try:
        if sha256(source.path) != source.digest:
            raise ValueError(
                f"{source.path} is not the model that this run began with; leave it as it is "
                "while a cluster works"
            )
        return load_model(source.path, source.engine, num_threads_here(), tta=source.tta)
    except ValueError as error:
        raise OSError(f"a worker on {platform.node()}: {error}") from error


@functools.lru_cache(maxsize=1)
def worker_budget() -> PixelBudget:
    """The pixel budget of a worker, which its threads share."""
    return PixelBudget(PIXELS_AT_ONCE)


def process_image_in_worker(source: WorkerSource, job: Job, run: Run, part=None):
    """Do `process_image` in a worker, with its own model; `part` of a record, for `join`."""
    if part is not None:
        join(*part)
    return process_image(job, replace(run, model=model_of_worker(source)), worker_budget())
