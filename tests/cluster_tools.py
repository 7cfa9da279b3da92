"""Dask schedulers and workers for tests, as a user starts them, in processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import distributed
import pandas as pd
from inference_tools import read_files

ROOT = Path(__file__).resolve().parent.parent
MAX_SECONDS = 90  # that anything here may take; it takes a tenth of this
HOST = ("--host", "127.0.0.1")
# Workers start with this: work takes a while, so that they can be killed in it, and an image of
# the name "deadly" kills them.
PRELOAD = """
import os
import time

from nuclei.inference import workers
from nuclei.slides import folder

if not hasattr(workers, "originals"):  # Dask runs this file twice
    workers.originals = workers.process_image, folder.search_tiles
process_image, search_tiles = workers.originals


def slow_image(job, run, budget):
    if job.stem == "deadly":
        os._exit(9)
    time.sleep(0.3)
    return process_image(job, run, budget)


def slow_tiles(*arguments):
    for result in search_tiles(*arguments):
        time.sleep(0.15)
        yield result


workers.process_image, folder.search_tiles = slow_image, slow_tiles
"""


class Farm:
    """A scheduler and workers; the workers run in a folder of their own.

    `tls` holds flags with certificates, see `write_certificates`.
    """

    def __init__(self, folder, tls=()):
        self.folder, self.processes, self.tls = folder, [], tls
        (folder / "preload.py").write_text(PRELOAD)
        self.log = (folder / "log.txt").open("w")
        file = folder / "scheduler.json"
        self.scheduler = self.start(
            "scheduler", "--scheduler-file", file, "--port", 0, "--no-dashboard", *tls, *HOST
        )
        wait_for(file.is_file)
        time.sleep(0.2)  # the file exists before it is whole
        self.address = json.loads(file.read_text())["address"]

    def start(self, *words, path=""):
        """Start `dask WORDS` in a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.processes.append(process)
        return process

    def add_worker(self, *more):
        """Start a worker of one thread."""
        words = ["worker", self.address, "--nthreads", 1, "--no-dashboard", "--memory-limit", 0]
        words += ["--preload", self.folder / "preload.py", *self.tls, *HOST, *more]
        return self.start(*words, path=str(ROOT))  # the preload needs it; the scheduler lacks it

    def start_predict(self, model, out, *inputs):
        """Start predict.py in a process of its own, which ends with the farm at the latest."""
        words = [sys.executable, ROOT / "predict.py", *inputs, "--model", model, "--out", out]
        words += ["--scheduler", self.address, *self.tls]
        process = subprocess.Popen(
            list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process

    def close(self):
        """End all processes."""
        for process in reversed(self.processes):
            process.kill()
            with process:  # closes its pipes
                process.wait()
        self.log.close()


def write_certificates(folder):
    """Write a certificate that is its own authority. Returns: the flags for Dask and predict.py."""
    security = distributed.Security.temporary()
    files = {
        "--tls-ca-file": security.tls_ca_file,
        "--tls-cert": security.tls_client_cert,
        "--tls-key": security.tls_client_key,
    }
    flags = []
    for flag, text in files.items():
        path = folder / f"{flag.strip('-')}.pem"
        path.write_text(text)
        flags += [flag, str(path)]
    return flags


def wait_for(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + MAX_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def results_in(out):
    """All files of a folder of results; the table of images without the seconds."""
    files = read_files(out)
    table = pd.read_csv(out / "summary.csv").drop(columns="seconds").to_csv()
    return {**files, Path("summary.csv"): table}
