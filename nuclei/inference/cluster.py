"""nuclei.inference.cluster"""

import contextlib
import functools
import hashlib
import itertools
import logging
import os
import pickle
import platform
import sys
import threading
import time
from collections import deque
from concurrent.futures import CancelledError
from pathlib import Path

from nuclei.files import LOCK, first_line
from nuclei.inference.engines import lacking, start_engine
from nuclei.inference.folder import PIXELS_AT_ONCE, process_image
from nuclei.inference.threads import PixelBudget
from nuclei.inference.tiling import dihedral
from nuclei.machine import num_cores, num_gpus, require

JOBS_AHEAD = 3  # handed out for each thread of the workers, of which two wait
THREADS_OF_WORKER = 2  # of a local worker: one image is in the network, the other before or after it
ANSWER_SECONDS, WORKER_SECONDS = 10, 60  # until a scheduler has to answer, and the first worker to be there
SILENT_SECONDS = 60  # without a result, after which it is looked whether there are workers at all
ROOT = Path(__file__).resolve().parents[2]  # the folder of the project
MAKING = threading.Lock()  # of a worker's network
GONE = "the Dask scheduler has gone; what is finished stays, and the same command goes on from there"


class Cluster:
    """The workers of a Dask cluster, doing images and windows of slides with one model.

    Args:
        scheduler: "tcp://HOST:PORT" of a running one; None starts one here with `workers` processes on this machine.
        model, engine, tta: as the flags; workers open the model file by its path.
        out: the folder of the results, which workers have to see, too.

    Raises:
        ValueError: Dask is not installed, no scheduler or worker answers, or a worker lacks something that it needs.
    """

    def __init__(self, scheduler, workers, model, engine, tta, out):
        require(["distributed"], "--scheduler" if scheduler else "--workers")
        import distributed

        for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]:
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what concerns the user is said here
        for name, value in (("TF_FORCE_GPU_ALLOW_GROWTH", "true"), ("XLA_PYTHON_CLIENT_PREALLOCATE", "false")):
            os.environ.setdefault(name, value)  # several processes may share a GPU: none takes all of its memory
        digest = hashlib.sha256(Path(model).read_bytes()).hexdigest()
        self.model = (str(Path(model).absolute()), digest, engine, tta, program())
        self.out, self.stopped, self.retrying = Path(out).absolute(), threading.Event(), threading.Lock()
        with contextlib.ExitStack() as opened:
            address = scheduler or opened.enter_context(local_workers(workers)).scheduler_address
            try:
                self.client = opened.enter_context(distributed.Client(address, timeout=ANSWER_SECONDS, set_as_default=False))
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"no Dask scheduler answers at {address} ({first_line(error)}); start one by `dask scheduler` and give its "
                    "tcp:// address to --scheduler"
                ) from None
            try:
                self.client.wait_for_workers(workers or 1, timeout=WORKER_SECONDS)
            except TimeoutError:
                raise ValueError(
                    f"{address} has no workers; start some in the project's folder: dask worker {address} --nthreads 2 "
                    "--memory-limit 0" if scheduler else f"the {workers} processes did not start within {WORKER_SECONDS} s; "
                    "give fewer --workers"
                ) from None  # fmt: skip
            self.check()
            self.opened = opened.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened.close()

    def check(self):
        """See that every worker has this program, this model and this folder. Raises: ValueError, naming the workers."""
        import distributed

        root, told = str(ROOT), (*self.model, self.out / LOCK)

        def look():  # sent as it is, since a worker that lacks this file could not find it by name
            import sys
            from pathlib import Path

            if Path(root).is_dir() and root not in sys.path:
                sys.path.insert(0, root)
            try:
                from nuclei.inference.cluster import missing_in_worker

                return missing_in_worker(*told)
            except (ImportError, AttributeError, TypeError) as error:
                return f"lacks the program ({error}): start it in the project's folder, with requirements.txt installed"

        class Finder(distributed.WorkerPlugin):  # for workers that come later; what they lack ends their first job
            name = "histology-segmentation"

            def setup(self, worker):
                look()

        self.client.register_plugin(Finder())
        said = {worker: line for worker, line in self.client.run(look).items() if line}
        if said:
            raise ValueError(
                f"{len(said)} workers cannot help: "
                + "; ".join(f"{worker} {line}" for worker, line in list(said.items())[:5])
                + (" ..." if len(said) > 5 else "")
            )

    @property
    def words(self):
        """Of the workers, for the user."""
        threads = self.client.nthreads()
        return f"{len(threads)} workers with {sum(threads.values())} threads at {self.client.scheduler.address}"

    def ask(self, what, *words):
        """What the scheduler answers. Raises: ConnectionError, whatever Dask runs into where it does not."""
        try:
            return what(*words)
        except Exception as error:
            raise ConnectionError(GONE) from error

    def submit(self, work, job):
        """Hand out a call of a function of one of the rooms: a future."""

        def call(packed):  # sent as it is, and the job as bytes: the scheduler looks into what it gets, but lacks this program
            import pickle

            work, job = pickle.loads(packed)
            return work(*job)

        packed = pickle.dumps((work, job))
        return self.ask(lambda: self.client.submit(call, packed, pure=False))

    def ended(self, future):
        """Wait for the end of a job: the exception that it ended with, or None. Raises: ConnectionError."""
        import distributed

        said = time.monotonic()
        while not self.stopped.is_set():
            try:
                return future.exception(timeout=1)
            except TimeoutError:
                if time.monotonic() - said < SILENT_SECONDS:
                    continue
                said = time.monotonic()
                states = self.ask(self.client.run_on_scheduler, states_of_workers)
                if "running" not in states:
                    print(f"No worker takes work ({len(states)} are there; one that is paused lacks memory: --memory-limit 0). "
                          "Waiting for one", file=sys.stderr)  # fmt: skip
            except (CancelledError, distributed.comm.CommClosedError) as error:
                raise ConnectionError(GONE) from error
        raise ConnectionAbortedError("stopped; what is finished stays, and the same command goes on from there")

    def in_order(self, work, jobs):
        """`work(*job)` for each job by the workers, yielded in their order: its result, or a ValueError or
        MemoryError where it could not be done. Any other error ends it all."""
        import distributed

        waiting, jobs = deque(), iter(jobs)  # of (future, job, whether no other of these jobs runs beside it)
        try:
            while True:
                if not (waiting and waiting[0][2]):
                    ahead = JOBS_AHEAD * max(1, sum(self.ask(self.client.nthreads).values()))
                    for job in itertools.islice(jobs, max(0, ahead - len(waiting))):
                        waiting.append((self.submit(work, job), job, False))
                if not waiting:
                    return
                future, job, alone = waiting[0]
                error = self.ended(future)
                if isinstance(error, distributed.KilledWorker) and not alone:
                    # Dask blames all that a dead worker had: only who is blamed alone, too, is to blame.
                    for other, _, _ in waiting:
                        self.ended(other)
                    with self.retrying:
                        waiting[0] = (self.submit(work, job), job, True)
                        self.ended(waiting[0][0])
                    continue
                waiting.popleft()
                if isinstance(error, distributed.KilledWorker):
                    error = ValueError(
                        f"worker after worker died over it, {error.last_worker.address} last; they may have too little memory"
                    )
                if error is None:
                    yield self.ask(future.result)
                elif isinstance(error, (ValueError, MemoryError)):
                    yield error
                else:
                    raise error
        finally:
            for future, _, _ in waiting:
                with contextlib.suppress(Exception):  # the scheduler may have gone
                    future.cancel()

    def do_images(self, jobs):
        """`process_image` of each job, without network and room, which workers have of their own."""
        jobs = ((self.model, self.out, stem, Path(path).absolute(), *more) for _, stem, path, *more in jobs)
        return self.in_order(process_image_in_worker, jobs)


def states_of_workers(dask_scheduler):
    """The states of a scheduler's workers, asked there; the argument has to have this name."""
    return [worker.status.name for worker in dask_scheduler.workers.values()]


def local_workers(number):
    """A Dask cluster of so many processes on this machine, which part its cores among them, and the GPUs that it may use."""
    import distributed

    cores, visible, options = num_cores(), os.environ.get("CUDA_VISIBLE_DEVICES"), {}
    gpus = [str(k) for k in range(num_gpus())] if visible is None else [name for name in visible.split(",") if name]
    for k in range(number):
        environment = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(max(1, cores // number)))
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[k % len(gpus)]
        settings = {"nthreads": THREADS_OF_WORKER, "env": environment, "memory_limit": 0, "silence_logs": logging.CRITICAL}
        options[k] = {"cls": distributed.Nanny, "options": settings}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False}}
    return distributed.SpecCluster(workers=options, scheduler=scheduler, name="predict", silence_logs=False)


@functools.cache
def program():
    """A hash of the files of this program, as they are when a process first asks: no worker is to find nuclei by older ones."""
    digest = hashlib.sha256()
    for path in sorted([ROOT / "unet.py", *(ROOT / "nuclei").rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def missing_in_worker(model, digest, engine, tta, code, mark):
    """What the process of a worker lacks to help with: None, or a line that says it and the way out.

    Args:
        model, digest, engine, tta, code: of `Cluster`. mark: a file in the folder of the results.
    """
    if program() != code:
        return f"has another version of the program in {ROOT}: give it this one, and start it again"
    if not Path(model).is_file() or hashlib.sha256(Path(model).read_bytes()).hexdigest() != digest:
        return f"does not see this model at {model}: put it where all machines see it by one path"
    if not Path(mark).is_file():
        return f"does not see {Path(mark).parent}: --out must be where all machines see it by one path"
    if engine != "auto" and (packages := lacking(engine)):
        return f"lacks what --engine {engine} needs: python -m pip install {packages}"
    return None


def threads_here():
    """How many threads of this worker may call its network at the same time."""
    from distributed import get_worker

    try:
        return get_worker().state.nthreads
    except ValueError:  # it is none
        return 1


@functools.lru_cache(maxsize=1)
def load_worker_network(path, digest, engine, tta, code):
    """The network of a worker, made once. Raises: OSError, which ends the run, since no image is to blame."""
    if program() != code:
        raise OSError(f"a worker in {ROOT} has another version of the program: start it again with this one")
    try:
        if hashlib.sha256(Path(path).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{path} is not the model that this run began with; leave it as it is while a cluster works")
        network, _ = start_engine(path, engine, callers=threads_here())
    except ValueError as error:
        raise OSError(f"a worker on {platform.node()}: {error}") from error
    return dihedral(network) if tta else network


@functools.lru_cache(maxsize=1)
def worker_budget():
    """The room of a worker."""
    return PixelBudget(PIXELS_AT_ONCE)


def network_of_worker(model):
    """`load_worker_network`, by one thread after the other: the second finds what the first has made."""
    with MAKING:
        return load_worker_network(*model)


def process_image_in_worker(model, out, *job):
    """`process_image` in a worker."""
    return process_image(network_of_worker(model), worker_budget(), out, *job)
