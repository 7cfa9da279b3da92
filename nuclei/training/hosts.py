"""nuclei.training.hosts"""

import atexit
import importlib.util
import os
import pickle
import socket
import sys
import time

import numpy as np

from nuclei.machine import set_up_backend

MEETING_SECONDS = 300  # that the processes of a training on several hosts wait for one another at its start
SILENT_SECONDS = 30  # after which a process that gives no sign of life is taken for dead, and the others end


def join_processes(coordinator, num_processes, process_id):
    """Meet the other processes of a training on several hosts; with one process, or a second time, nothing happens.

    Args:
        coordinator: "HOST:PORT" at which process 0 can be reached by all.

    Raises:
        ValueError: JAX is not there or not Keras's backend, or the others did not come.
    """
    if num_processes == 1:
        return
    set_up_backend()
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if importlib.util.find_spec("jax") is None:
        raise ValueError('several processes train on JAX: pip install jax (for NVIDIA GPUs: pip install "jax[cuda13]")')
    import jax
    import keras

    if keras.backend.backend() != "jax":
        raise ValueError(f"several processes train on JAX, not on {keras.backend.backend()}: set KERAS_BACKEND=jax")
    if jax.distributed.is_initialized():
        return
    if process_id == 0:
        print(f"Process 0 waits up to {MEETING_SECONDS} s for the {num_processes - 1} others at {coordinator}", flush=True)
    else:
        await_port(coordinator, process_id)  # since JAX would end this process without a word of ours
    try:
        # What keras.distribution.initialize calls; that one has no word on how long a silent process counts as alive.
        jax.distributed.initialize(
            coordinator, num_processes, process_id,
            initialization_timeout=MEETING_SECONDS, heartbeat_timeout_seconds=SILENT_SECONDS,
        )  # fmt: skip
    except RuntimeError as error:
        raise ValueError(
            f"process {process_id} of {num_processes} could not join at {coordinator} ({str(error).splitlines()[0]}); is each "
            "started once, with a --process-id of its own, and is the port free?"
        ) from None
    atexit.register(end_at_once)


def await_port(coordinator, process_id):
    """Wait until process 0 can be reached. Raises: ValueError, after MEETING_SECONDS."""
    host, port = coordinator.rsplit(":", 1)
    end = time.monotonic() + MEETING_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ValueError(
                    f"process {process_id} did not reach process 0 at {coordinator} within {MEETING_SECONDS} s ({error}); is "
                    "it running, and is the port open between the machines?"
                ) from None
            time.sleep(0.5)


def end_at_once():
    """End a process that has failed: left alone, JAX would wait here for the others, which are dead or wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def leave_processes(num_processes):
    """Part from the other processes, once all of them have come this far."""
    if num_processes > 1:
        import jax

        jax.distributed.shutdown()
        atexit.unregister(end_at_once)


def broadcast(make, num_processes, process_id):
    """What `make()` gives in process 0, in all processes: only that one is sure to have the files of a training."""
    if num_processes == 1:
        return make()
    from jax.experimental.multihost_utils import broadcast_one_to_all

    told = np.frombuffer(pickle.dumps(make() if process_id == 0 else None), np.uint8)
    size = int(broadcast_one_to_all(np.array(len(told), np.int32)))
    return pickle.loads(broadcast_one_to_all(np.resize(told, size)).tobytes())
