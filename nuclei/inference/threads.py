"""nuclei.inference.threads"""

import contextlib
import os
import queue
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from nuclei.inference.runtimes import READY_PIXELS, RUNTIMES
from nuclei.machine import num_cores

SHARED_ENGINES = ("litert", "litert-int8", "openvino", "openvino-half", "onnx")  # each caller has cores of its own
WORKERS = min(8, (os.cpu_count() or 1) + 1)  # images worked on at once: one is in the network, the others before or after it


def share_network(name, network, content, callers):
    """A network that several threads may call at the same time.

    Two cores paint two images sooner, each its own, than both together one after the other: neither waits for the other.
    Where an engine can be told how many cores to use, each call has a share of them, unless there is but one caller or the
    batch is large; else one call waits for the one before.

    Args:
        name: of the engine.
        network: with all cores, by one thread at a time.
        content: the bytes that the engine starts from.
        callers: threads; for one, `network` is all it takes.
    """
    if callers == 1:
        return network
    whole, cores, number = one_at_a_time(network), num_cores(), min(callers, num_cores())
    most = 3 * READY_PIXELS // number
    if name not in SHARED_ENGINES or number == 1:
        return whole
    free = queue.LifoQueue()  # the one used last has the shapes ready that are used now
    for place in range(number):
        free.put(RUNTIMES[name][1](content, cores // number + (place < cores % number)))

    def shared_network(batch):
        if batch.size > most:
            return whole(batch)
        one = free.get()
        try:
            return one(batch)
        finally:
            free.put(one)

    return shared_network


def one_at_a_time(network):
    """The network, called by one thread after the other."""
    lock = threading.Lock()

    def locked(batch):
        with lock:
            return network(batch)

    return locked


def in_order(work, items, workers=WORKERS, stop=lambda: None):
    """`work(item)` of each item on several threads, yielded in the order of the items; close it to begin no more of them.

    stop: called when it ends early, so that what is under way may end early, too.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # that it was closed is one, Ctrl-C another
            stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


class PixelBudget:
    """So many pixels that may be in work at once; whoever wants more has to wait until he is alone."""

    def __init__(self, pixels):
        self.free = self.size = pixels
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels):
        """Wait for so much room, and have it within the `with` block."""
        pixels = min(pixels, self.size)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()
