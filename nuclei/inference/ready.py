"""Networks that are ready for one shape of image each, for several threads.

An engine such as LiteRT prepares itself anew for each shape, which costs up to half as much as the
image. So what is prepared is kept, and any thread takes what another one has prepared.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nuclei.machine import num_cores

READY_PIXELS = 2_500_000  # px of all image shapes that are kept ready, about 200 bytes each
# An engine that changes to a smaller shape keeps its memory. One that has more than this many times
# the memory it needs is dropped instead.
MAX_SPARE = 2


@dataclass
class Ready:
    """A network for one shape.

    Attributes:
        key: (shape, number of cores); the shape is None where it serves any.
        network: from a batch of this shape to its maps, for one thread at a time.
        reusable: from which a network for another shape can be made sooner, or None.
        size: values of the largest batch that it served, which its memory follows.
    """

    key: tuple
    network: Callable
    reusable: object
    size: int


class ReadyNetworks:
    """A network for batches of any shape, which several threads may call at the same time.

    Args:
        start: from (shape, cores, reusable) to (network for this shape on so many cores, a value
            from which a network for another shape can be made sooner, or None). `reusable` is such
            a value of a network no longer needed, or None.
        any_shape: whether one network serves all shapes.
    """

    def __init__(self, start: Callable, any_shape: bool = False):
        self.start, self.any_shape = start, any_shape
        self.idle: list[Ready] = []  # last used at the end
        self.total = 0  # sizes of all, also of those in use
        self.lock = threading.Lock()

    def __call__(self, batch, cores=None):
        """Maps (B, h, w, K) float32 of a batch (B, h, w, C) float32; `cores` None uses all."""
        shape = None if self.any_shape else batch.shape
        ready = self.take((shape, cores or num_cores()), 0 if self.any_shape else batch.size)
        try:
            return ready.network(np.ascontiguousarray(batch))
        finally:
            with self.lock:
                self.idle.append(ready)

    def take(self, key: tuple, size: int) -> Ready:
        """A network that is ready for a key, or else a new one; nobody else has it meanwhile."""
        with self.lock:
            for place in reversed(range(len(self.idle))):
                if self.idle[place].key == key:
                    return self.idle.pop(place)
            spare = None
            while self.idle and self.total + size > 3 * READY_PIXELS:
                spare = self.idle.pop(0)
                self.total -= spare.size
            if spare and (spare.key[1] != key[1] or spare.size > MAX_SPARE * size):
                spare = None
            size = max(size, spare.size) if spare else size
            self.total += size
        try:
            return Ready(key, *self.start(*key, spare and spare.reusable), size)
        except BaseException:
            with self.lock:
                self.total -= size
            raise

    def drop_idle(self) -> None:
        """Give back the memory of all networks that nobody uses now."""
        with self.lock:
            self.total -= sum(ready.size for ready in self.idle)
            self.idle.clear()
