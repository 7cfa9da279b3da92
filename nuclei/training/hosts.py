"""Training on several hosts: one process on each, which meet through JAX's coordination service.

    processes = Processes(num=2, index=1, coordinator="10.0.0.1:1234")
    join_processes(processes)
    content = broadcast(path.read_bytes, processes)     # process 0 reads, all have it

Each process trains on its part of every batch. Process 0 alone prints and writes files. If one
process dies, the others end too, and `--resume` goes on after the last finished epoch. With one
process, nothing here does anything.
"""

import atexit
import contextlib
import importlib.util
import json
import os
import re
import socket
import sys
import time
from dataclasses import dataclass

import numpy as np

from nuclei.files import named
from nuclei.machine import set_up_backend
from nuclei.quiet import hold_noise

# How long processes wait for each other at the start: people start them by hand.
MEETING_SECONDS = 300
SILENT_SECONDS = 30  # a process without a sign of life for this long counts as dead


@dataclass(frozen=True)
class Processes:
    """The processes of a training.

    Attributes:
        num: how many there are.
        index: which one this is, from 0.
        coordinator: "HOST:PORT" at which all can reach process 0; None with one process.
    """

    num: int = 1
    index: int = 0
    coordinator: str | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes the files."""
        return self.index == 0


def join_processes(processes):
    """Meet the other processes. With one process, or the second time, nothing happens.

    Raises:
        ValueError: JAX is not installed or not Keras's backend, or the others did not come.
    """
    if processes.num == 1:
        return
    set_up_backend()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if importlib.util.find_spec("jax") is None:
        raise ValueError(
            "training with several processes needs JAX: pip install jax "
            '(for NVIDIA GPUs: pip install "jax[cuda13]")'
        )
    with hold_noise():
        import jax
        import keras

    backend = keras.backend.backend()
    if backend != "jax":
        raise ValueError(
            f"training with several processes needs JAX, and the backend is {backend}: "
            "set KERAS_BACKEND=jax"
        )
    if not jax.distributed.is_initialized():
        meet(processes)
    print(
        f"Process {processes.index} of {processes.num} has joined. If one process ends early, all "
        "do; then start all of them again with --resume",
        flush=True,
    )


def meet(processes):
    """Start JAX's coordination service, or connect to it. Raises: ValueError, if that fails.

    The service asks nobody for a password. Process 0 binds it to the address of the user and to no
    other; JAX would take all networks of the machine.
    """
    import jax

    if processes.is_first:
        print(
            f"Process 0 waits up to {MEETING_SECONDS} s for {processes.num - 1} others at "
            f"{processes.coordinator}",
            flush=True,
        )
    else:
        await_port(processes)  # JAX would end this process without a message for the user
    try:
        # keras.distribution.initialize calls the same, but has no argument for the heartbeat.
        jax.distributed.initialize(
            processes.coordinator,
            processes.num,
            processes.index,
            initialization_timeout=MEETING_SECONDS,
            heartbeat_timeout_seconds=SILENT_SECONDS,
            coordinator_bind_address=processes.coordinator,
        )
    except RuntimeError as error:
        raise ValueError(
            f"process {processes.index} of {processes.num} could not join at "
            f"{processes.coordinator} ({str(error).splitlines()[0]}). Start each process once, "
            "with a --process-id of its own, on process 0's machine at one of its own addresses, "
            "and check that the port is free"
        ) from None
    atexit.register(end_at_once)


def await_port(processes):
    """Wait until process 0 can be reached. Raises: ValueError, after MEETING_SECONDS."""
    host, port = processes.coordinator.rsplit(":", 1)
    end = time.monotonic() + MEETING_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ValueError(
                    f"process {processes.index} did not reach process 0 at {processes.coordinator} "
                    f"within {MEETING_SECONDS} s ({error}). Check that it is running and that the "
                    "port is open between the machines"
                ) from None
            time.sleep(0.5)


def end_at_once():
    """End a failed process. JAX would wait here for the others, which may wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def leave_processes(processes):
    """Part from the other processes. Each waits here until all have come this far."""
    if processes.num > 1:
        import jax

        jax.distributed.shutdown()
        atexit.unregister(end_at_once)


def broadcast(make, processes) -> bytes:
    """Hand the bytes `make()` of process 0 to all processes; others may lack the files.

    Bytes, since a pickle from another machine could run any code here.

    Args:
        make: a function without arguments that gives bytes.
        processes: a `Processes`.
    """
    if processes.num == 1:
        return make()
    from jax.experimental.multihost_utils import broadcast_one_to_all

    content = np.frombuffer(make() if processes.is_first else b"", np.uint8)
    num_bytes = int(broadcast_one_to_all(np.array(len(content), np.int32)))
    return broadcast_one_to_all(np.resize(content, num_bytes)).tobytes()


def check_alike(settings, processes):
    """Refuse settings that differ from those of process 0.

    Args:
        settings: {name: value} for JSON, all that must be the same in every process.
        processes: a `Processes`.

    Raises:
        ValueError: a setting differs.
    """
    text = json.dumps(settings)
    first, own = json.loads(broadcast(text.encode, processes)), json.loads(text)
    different = [name for name in own if name not in first or own[name] != first[name]]
    if different:
        raise ValueError(
            f"process {processes.index} differs from process 0 in {named(different)}; give every "
            "process the same flags, except --process-id, and the same images and masks"
        )


@contextlib.contextmanager
def explain_lost_process(processes):
    """Turn JAX's error about a process that has died into a message for the user.

    Raises:
        ValueError: instead of that error. Other errors pass.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        # The type depends on the call of JAX that was interrupted.
        is_lost = isinstance(error, RuntimeError) or re.search(
            r"gloo|nccl|coordination service", str(error), re.IGNORECASE
        )
        if processes.num == 1 or not is_lost:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"process {processes.index} lost another process ({reason}); the last lines of that "
            "process say why. Start all of them again with --resume to go on after the last "
            "finished epoch"
        ) from None
