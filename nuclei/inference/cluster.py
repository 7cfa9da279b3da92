"""A connection to the workers of a Dask cluster, which do jobs and return the results in order.

Before any work each worker is checked: it needs the same program, the same model and the folder of
the results. Where a worker dies, others do its jobs; nuclei.inference.workers runs in them.
"""

import contextlib
import itertools
import logging
import os
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

from nuclei.files import first_line
from nuclei.inference.encryption import TlsFiles, security_for
from nuclei.inference.workers import WorkerSource, check_workers, process_image_in_worker
from nuclei.machine import require
from nuclei.results.image import result_files
from nuclei.results.jobs import Job, Run
from nuclei.written import record_of

JOBS_AHEAD = 3  # jobs handed out for each thread of the workers; two of them wait
ANSWER_SECONDS = 10  # until a scheduler must answer
WORKER_SECONDS = 60  # until the first worker must be there
SILENT_SECONDS = 60  # without a result, after which the states of the workers are looked at
GONE = (
    "the Dask scheduler has gone; what is finished stays, and the same command goes on from there"
)
STOPPED = "stopped; what is finished stays, and the same command goes on from there"


class Cluster:
    """A connection to the workers of a Dask cluster. A context manager.

    Args:
        address: "tls://HOST:PORT" of a running scheduler; None starts one on this machine.
        num_workers: processes to start on this machine, where there is no address.
        source: from what the workers load their model.
        out: the folder of the results, which workers must see, too.
        tls: files for an encrypted connection to `address`; None takes Dask's configuration.

    Attributes:
        stopped: a `threading.Event`; once it is set, waiting for jobs ends.

    Raises:
        ValueError: Dask is not installed, no scheduler or worker answers, or a worker lacks
            something that it needs.
    """

    def __init__(
        self, address, num_workers, source: WorkerSource, out, tls: TlsFiles | None = None
    ):
        packages = ["distributed"] if address else ["distributed", "cryptography"]
        require(packages, "--scheduler" if address else "--workers")
        quiet_dask()
        self.source, self.out = source, Path(out).absolute()
        self.stopped, self.retrying = threading.Event(), threading.Lock()
        with contextlib.ExitStack() as opened:
            if address is None:
                local = opened.enter_context(start_workers(num_workers))
                connection = connect(local.scheduler_address, local.security)
            else:
                connection = connect(address, security_for(address, tls))
            self.client = opened.enter_context(connection)
            wait_for_workers(self.client, address, num_workers)
            check_workers(self.client, source, self.out)
            self.opened = opened.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened.close()

    @property
    def description(self) -> str:
        """Words for the user on the workers."""
        threads = self.client.nthreads()
        address = self.client.scheduler.address
        return f"{len(threads)} workers with {sum(threads.values())} threads at {address}"

    def ask(self, call: Callable, *arguments):
        """Ask the scheduler something. Raises: ConnectionError where it does not answer."""
        try:
            return call(*arguments)
        except Exception as error:  # Dask raises many kinds of exception here
            raise ConnectionError(GONE) from error

    def submit(self, work: Callable, job: Sequence):
        """Hand out the call `work(*job)`, where `work` is a function of one of the rooms.

        Returns:
            A future of Dask.
        """

        # The call is sent as code and the job as bytes: the scheduler looks into what it gets,
        # but it lacks this program.
        def call(packed):
            import pickle

            work, job = pickle.loads(packed)
            return work(*job)

        packed = pickle.dumps((work, job))
        return self.ask(lambda: self.client.submit(call, packed, pure=False))

    def wait(self, future) -> BaseException | None:
        """Wait for the end of a job: the exception that it ended with, or None.

        Raises:
            ConnectionError: the scheduler has gone, or `stopped` was set.
        """
        import distributed

        last_look = time.monotonic()
        while not self.stopped.is_set():
            try:
                return future.exception(timeout=1)
            except TimeoutError:
                if time.monotonic() - last_look >= SILENT_SECONDS:
                    last_look = time.monotonic()
                    self.report_idle_workers()
            except (CancelledError, distributed.comm.CommClosedError) as error:
                raise ConnectionError(GONE) from error
        raise ConnectionAbortedError(STOPPED)

    def report_idle_workers(self) -> None:
        """Tell the user where no worker takes work."""
        states = self.ask(self.client.run_on_scheduler, states_of_workers)
        if "running" not in states:
            print(
                f"No worker takes work ({len(states)} are there; one that is paused lacks memory: "
                "--memory-limit 0). Waiting for one",
                file=sys.stderr,
            )

    def map_in_order(self, work: Callable, jobs: Iterable[Sequence]):
        """Do `work(*job)` for each job on the workers.

        Yields:
            The results in the order of the jobs. Where a job could not be done, its ValueError or
            MemoryError; any other exception of a job is raised.
        """
        import distributed

        waiting, jobs = deque(), iter(jobs)  # waiting: (future, job)
        try:
            while True:
                threads = sum(self.ask(self.client.nthreads).values())
                ahead = JOBS_AHEAD * max(1, threads)
                for job in itertools.islice(jobs, max(0, ahead - len(waiting))):
                    waiting.append((self.submit(work, job), job))
                if not waiting:
                    return
                error = self.wait(waiting[0][0])
                if isinstance(error, distributed.KilledWorker):
                    error = self.retry_alone(work, waiting)
                future, _ = waiting.popleft()
                if error is None:
                    yield self.ask(future.result)
                elif isinstance(error, (ValueError, MemoryError)):
                    yield error
                else:
                    raise error
        finally:
            for future, _ in waiting:
                with contextlib.suppress(Exception):  # the scheduler may have gone
                    future.cancel()

    def retry_alone(self, work: Callable, waiting: deque) -> BaseException | None:
        """Do the first waiting job again, without any other beside it.

        Dask blames all jobs of a worker that died. Only a job that is blamed alone, too, did it.

        Args:
            work: the function.
            waiting: (future, job) of all jobs handed out; the first future is replaced.

        Returns:
            The exception that the job ended with, or None.
        """
        import distributed

        for other, _ in waiting:
            self.wait(other)
        with self.retrying:
            _, job = waiting[0]
            waiting[0] = (self.submit(work, job), job)
            error = self.wait(waiting[0][0])
        if isinstance(error, distributed.KilledWorker):
            return ValueError(
                f"worker after worker died over it, {error.last_worker.address} last; they may "
                "have too little memory"
            )
        return error

    def predict_images(self, jobs: Sequence[Job], run: Run):
        """Do `process_image` for each job on the workers, with their own models; yields results."""
        run, record = replace(run, model=None, out=self.out), record_of(self.out / "masks")

        def call(job):
            files = [path for name in job.formats for path in result_files(run.out, job.stem, name)]
            part = record.part(files) if record else None
            return self.source, replace(job, path=Path(job.path).absolute()), run, part

        return self.map_in_order(process_image_in_worker, map(call, jobs))


def quiet_dask() -> None:
    """Silence Dask's logs, since what concerns the user is told here; let processes share a GPU."""
    import distributed  # its loggers exist from here on

    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == distributed.__name__:
            logging.getLogger(name).setLevel(logging.CRITICAL)
    # Several processes may share a GPU: none of them takes all of its memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def start_workers(num_workers):
    """`local_workers`, whose room imports Dask."""
    from nuclei.inference.local_workers import local_workers

    return local_workers(num_workers)


def connect(address, security):
    """Connect to a scheduler, as a context manager. Raises: ValueError where none answers."""
    import distributed

    try:
        return distributed.Client(
            address, timeout=ANSWER_SECONDS, set_as_default=False, security=security
        )
    except (OSError, ValueError, TypeError) as error:  # TypeError: encryption does not fit
        raise ValueError(
            f"no Dask scheduler answers at {address} ({first_line(error)}); start one by "
            "`dask scheduler` and give the address that it prints to --scheduler"
        ) from None


def wait_for_workers(client, address, num_workers) -> None:
    """Wait until workers are there. Raises: ValueError after WORKER_SECONDS."""
    try:
        client.wait_for_workers(num_workers or 1, timeout=WORKER_SECONDS)
    except TimeoutError:
        if address is None:
            message = (
                f"the {num_workers} processes did not start within {WORKER_SECONDS} s; give fewer "
                "--workers"
            )
        else:
            message = (
                f"{address} has no workers; start some in the project's folder: "
                f"dask worker {address} --nthreads 2 --memory-limit 0"
            )
        raise ValueError(message) from None


def states_of_workers(dask_scheduler) -> list[str]:
    """The states of a scheduler's workers. It runs there, and Dask wants this argument's name."""
    return [worker.status.name for worker in dask_scheduler.workers.values()]
