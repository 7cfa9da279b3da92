"""Who draws the crops of a training: threads beside a CPU network, processes beside a GPU.

Python runs one thread at a time between the calls of NumPy and OpenCV, so threads alone draw far
fewer crops than a GPU can learn from. Processes draw on all cores, into memory that is shared.

    with ProcessDrawer(draw, (256, 3), num_processes=16, num_slots=200) as drawer:
        drawer.submit((step, place))
        image, truth = drawer.result((step, place))
        drawer.release_before(step + 1)
"""

import mmap
import multiprocessing
import queue
import signal
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

WAIT_S = 5.0  # between two looks whether all processes are alive


class ThreadDrawer:
    """Draws crops on threads of this process.

    Args:
        draw: called with step and place, gives (image, truth).
        num_threads: OpenCV and NumPy release Python's lock for most of the work.
    """

    def __init__(self, draw, num_threads):
        self.draw, self.futures = draw, {}
        self.pool = ThreadPoolExecutor(num_threads)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown(cancel_futures=True)

    def submit(self, key):
        """Begin to draw a crop, unless it is begun already."""
        if key not in self.futures:
            self.futures[key] = self.pool.submit(self.draw, *key)

    def result(self, key):
        """Wait for a crop: (image, truth)."""
        return self.futures[key].result()

    def release_before(self, step):
        """Forget the crops of earlier steps."""
        self.futures = {key: future for key, future in self.futures.items() if key[0] >= step}


class ProcessDrawer:
    """Draws crops in processes that share memory with this one.

    The processes are copies of this one, so they must start before Keras does: a backend has
    threads, which a copy lacks.

    Args:
        draw: called with step and place, gives (image, truth): (size, size, 3) and (size, size, K)
            float32.
        shape: (size, K).
        num_processes: how many to start.
        num_slots: crops that can be kept at a time.
    """

    def __init__(self, draw, shape, num_processes, num_slots):
        size, num_maps = shape
        self.slots = np.frombuffer(
            mmap.mmap(-1, 4 * num_slots * size * size * (3 + num_maps)), np.float32
        ).reshape(num_slots, size, size, 3 + num_maps)
        self.draw = draw
        self.free = list(range(num_slots))
        self.slot_of, self.done = {}, set()
        cv2.setNumThreads(1)  # OpenCV's own threads would be missing in the copies, and waited for
        context = multiprocessing.get_context("fork")
        self.tasks, self.answers = context.Queue(), context.Queue()
        self.processes = [
            context.Process(target=self.work, daemon=True) for _ in range(num_processes)
        ]
        for process in self.processes:
            process.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        self.tasks.cancel_join_thread()  # nobody reads the tasks that are left

    def work(self):
        """Draw what is asked for, in a process, as long as the training lives."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the training ends them
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while multiprocessing.parent_process().is_alive():
            try:
                key, slot = self.tasks.get(timeout=WAIT_S)
            except queue.Empty:
                continue
            try:
                image, truth = self.draw(*key)
                self.slots[slot, ..., :3], self.slots[slot, ..., 3:] = image, truth
                self.answers.put((key, None))
            except Exception as error:  # the process that waits must hear of it
                self.answers.put((key, f"{type(error).__name__}: {error}"))

    def submit(self, key):
        """Begin to draw a crop, unless it is begun already."""
        if key not in self.slot_of:
            self.slot_of[key] = self.free.pop()
            self.tasks.put((key, self.slot_of[key]))

    def result(self, key):
        """Wait for a crop: (image, truth)."""
        while key not in self.done:
            try:
                done, failure = self.answers.get(timeout=WAIT_S)
            except queue.Empty:
                if not all(process.is_alive() for process in self.processes):
                    raise RuntimeError("a process that draws crops has died") from None
                continue
            if failure:
                raise RuntimeError(f"a process that draws crops failed: {failure}")
            self.done.add(done)
        crop = self.slots[self.slot_of[key]]
        return crop[..., :3], crop[..., 3:]

    def release_before(self, step):
        """Forget the crops of earlier steps; their memory takes others."""
        for key in [key for key in self.done if key[0] < step]:
            self.done.remove(key)
            self.free.append(self.slot_of.pop(key))
