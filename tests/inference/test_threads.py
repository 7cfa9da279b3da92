"""Threads: results come in order, networks are shared, and memory is limited."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from engine_tools import random_images, save_trained, silent

from nuclei.cli import ENGINES
from nuclei.inference.engines import load_model
from nuclei.inference.ready import ReadyNetworks
from nuclei.inference.threads import PixelBudget, map_in_order, share_network


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_may_be_called_by_several_threads(tmp_path, name, monkeypatch):
    path, network = save_trained(tmp_path / "model.h5")
    monkeypatch.setattr("nuclei.inference.threads.num_cores", lambda: 2)
    # The larger batches go through the network of all cores.
    monkeypatch.setattr("nuclei.inference.threads.READY_PIXELS", 40 * 40)
    monkeypatch.setattr("nuclei.inference.ready.READY_PIXELS", 40 * 40)
    model = load_model(path, name, callers=4, say=silent)
    sizes = [(rows, columns) for rows in (1, 2, 3) for columns in (1, 2, 3)] * 3
    batches = [random_images(1, 16 * rows, 16 * columns, 3) for rows, columns in sizes]
    with ThreadPoolExecutor(4) as pool:
        all_maps = list(pool.map(model, batches))
    for batch, maps in zip(batches, all_maps, strict=True):
        np.testing.assert_allclose(maps, network.predict_on_batch(batch), atol=1e-5)


@pytest.mark.parametrize("can_share", [True, False])
def test_callers_share_the_cores_where_the_engine_can(can_share, monkeypatch):
    running, most, shares = [], [], []

    def call(batch):
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return batch

    def start(shape, cores, reusable):
        shares.append(cores)
        return call, None

    monkeypatch.setattr("nuclei.inference.threads.num_cores", lambda: 5)
    engine = ReadyNetworks(start) if can_share else call
    network = share_network(engine, callers=2)
    batches = [np.full((1, 4, 4, 3), number, np.float32) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert [batch[0, 0, 0, 0] for batch in pool.map(network, batches)] == list(range(12))
    assert max(most) == 1 + can_share and sorted(shares) == [2, 3] * can_share
    assert share_network(engine, callers=1) is engine


def test_work_is_done_side_by_side_and_yielded_in_order():
    together = threading.Barrier(3, timeout=10)

    def work(item):
        if item < 3:
            together.wait()  # an error if the first three are not at work together
        time.sleep(0.01 * (3 - item % 3))
        return item

    assert list(map_in_order(work, range(10), num_threads=3)) == list(range(10))


def test_work_that_is_stopped_begins_nothing_more():
    begun, stopped = [], []

    def work(item):
        begun.append(item)
        if item == 2:
            raise OSError("disk")
        return item

    results = map_in_order(work, range(1000), num_threads=2, stop=lambda: stopped.append(1))
    with pytest.raises(OSError), contextlib.closing(results):
        for _ in results:
            pass
    assert len(begun) < 20 and stopped


def test_large_images_wait_until_they_are_alone():
    budget, running, snapshots = PixelBudget(10), [], []

    def work(size):
        with budget.taken(size):
            running.append(size)
            time.sleep(0.01)
            snapshots.append(list(running))
            running.remove(size)

    list(map_in_order(work, [4, 6, 5, 99, 3, 3, 3, 3, 10, 1], num_threads=5))
    assert all(sum(min(size, 10) for size in together) <= 10 for together in snapshots)
    assert budget.free == 10
