"""Several images at once: threads that share one network, and a limit of the memory in use.

Results come in the order of the images. While one image is in the network, other threads read the
next ones and separate the nuclei of those before.
"""

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nuclei.inference.ready import READY_PIXELS, ReadyNetworks
from nuclei.machine import num_cores

WORKERS = min(8, (os.cpu_count() or 1) + 1)  # images worked on at once


def share_network(network: Callable, callers: int) -> Callable:
    """Make a network that several threads may call at the same time.

    Two cores finish two images sooner with one core each than with both cores on one image after
    the other, since no core waits for the other. So each call gets a share of the cores, where the
    engine can be told how many to use. A large batch gets all cores, and Keras does one call after
    the other.

    Args:
        network: `ReadyNetworks` of an engine, or a network for one thread at a time.
        callers: number of threads; with 1 the network comes back as it is.

    Returns:
        The network.
    """
    if callers == 1:
        return network
    whole, cores, num_shares = one_at_a_time(network), num_cores(), min(callers, num_cores())
    if not isinstance(network, ReadyNetworks) or num_shares == 1:
        return whole
    max_values = 3 * READY_PIXELS // num_shares
    free = queue.SimpleQueue()
    for place in range(num_shares):
        free.put(cores // num_shares + (place < cores % num_shares))

    def shared_network(batch):
        if batch.size > max_values:
            return whole(batch)
        share = free.get()
        try:
            return network(batch, share)
        finally:
            free.put(share)

    return shared_network


def one_at_a_time(network: Callable) -> Callable:
    """Let one thread after the other call a network."""
    lock = threading.Lock()

    def locked(batch):
        with lock:
            return network(batch)

    return locked


def map_in_order(work: Callable, items, num_threads=WORKERS, stop: Callable = lambda: None):
    """Do `work(item)` for each item on several threads. Close the generator to begin no more items.

    Args:
        work: called with one item.
        items: anything to iterate over.
        num_threads: items worked on at once.
        stop: called when the generator ends early, so that work in progress can end early, too.

    Yields:
        The results, in the order of the items.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # also GeneratorExit, when it is closed, and Ctrl-C
            stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


class PixelBudget:
    """Limits how many pixels are processed at once. A larger image runs alone.

    Args:
        pixels: the limit.
    """

    def __init__(self, pixels: int):
        self.free = self.size = pixels
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int):
        """Wait until so many pixels are free, and hold them within the `with` block."""
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
