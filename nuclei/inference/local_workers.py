"""Dask workers on this machine, which nobody else can use.

    with local_workers(4) as cluster:
        client = distributed.Client(cluster.scheduler_address, security=cluster.security)

Dask runs the code that it is sent. Its processes listen on the loopback address only, they start no
HTTP server, and they talk by TLS with a certificate that this run makes for itself: neither other
machines nor other users of this machine get in. Import this room late, since it imports Dask.
"""

import logging
import os

import distributed

from nuclei.machine import num_cores, num_gpus

LOOPBACK = "127.0.0.1"
THREADS_OF_WORKER = 2  # of a local worker: one image in the network, the other before or after it


class QuietScheduler(distributed.Scheduler):
    """A scheduler without an HTTP server; `dashboard=False` alone would still start one."""

    def start_http_server(self, *_, **__):
        """Start none."""


class QuietWorker(distributed.Worker):
    """A worker without an HTTP server."""

    def start_http_server(self, *_, **__):
        """Start none."""


def local_workers(num_workers: int) -> distributed.SpecCluster:
    """Start processes on this machine that share its cores and its GPUs: a Dask cluster."""
    cores, visible, options = num_cores(), os.environ.get("CUDA_VISIBLE_DEVICES"), {}
    if visible is None:
        gpus = [str(number) for number in range(num_gpus())]
    else:
        gpus = [name for name in visible.split(",") if name]
    core_limits = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    # The key stays in the memory of these processes.
    common = {
        "host": LOOPBACK,
        "protocol": "tls",
        "security": distributed.Security.temporary(),
    }
    for number in range(num_workers):
        environment = dict.fromkeys(core_limits, str(max(1, cores // num_workers)))
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        settings = {
            **common,
            "nthreads": THREADS_OF_WORKER,
            "worker_class": QuietWorker,
            "env": environment,
            "memory_limit": 0,
            "silence_logs": logging.CRITICAL,
        }
        options[number] = {"cls": distributed.Nanny, "options": settings}
    return distributed.SpecCluster(
        workers=options,
        scheduler={"cls": QuietScheduler, "options": {**common, "dashboard": False}},
        name="predict",
        security=common["security"],
        silence_logs=False,
    )
