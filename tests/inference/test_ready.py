"""Networks that are kept ready: shared by threads, few in memory, and equal in what they return."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nuclei.inference import ready
from nuclei.inference.ready import ReadyNetworks


def zeros(rows, columns):
    return np.zeros((1, rows, columns, 3), np.float32)


@pytest.fixture
def started():
    """(shape, cores, reusable) of each network that was started."""
    return []


@pytest.fixture
def networks(started):
    def start(shape, cores, reusable):
        started.append((shape, cores, reusable))
        return lambda batch: batch, shape

    return ReadyNetworks(start)


def test_a_shape_is_prepared_once_for_threads_that_follow_each_other(networks, started):
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for pool in (one, other, one):
            pool.submit(networks, zeros(4, 4), 2).result()
    networks(zeros(4, 4), cores=1)
    assert [cores for _, cores, _ in started] == [2, 1]


def test_threads_at_the_same_time_get_networks_of_their_own():
    together = threading.Barrier(2, timeout=10)
    busy = set()

    def start(shape, cores, reusable):
        own = object()

        def network(batch):
            assert own not in busy
            busy.add(own)
            together.wait()
            busy.remove(own)
            return batch

        return network, None

    networks = ReadyNetworks(start)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(networks, [zeros(4, 4)] * 6))
    assert len(networks.idle) == 2


def test_the_memory_of_those_kept_is_limited_and_the_oldest_becomes_the_next(
    networks, started, monkeypatch
):
    monkeypatch.setattr(ready, "READY_PIXELS", 100)
    small, other, third, huge = zeros(4, 8), zeros(6, 8), zeros(4, 9), zeros(16, 16)
    for batch in (small, other, small, third, huge, small):
        networks(batch, cores=1)
        assert networks.total == sum(one.size for one in networks.idle)
        assert networks.total <= max(3 * ready.READY_PIXELS, batch.size)
    assert started == [
        (small.shape, 1, None),
        (other.shape, 1, None),
        (third.shape, 1, other.shape),  # small was used since
        (huge.shape, 1, third.shape),
        (small.shape, 1, None),  # the memory of the huge one is freed, not kept for a small one
    ]


def test_a_network_for_any_shape_is_started_once(started):
    def start(shape, cores, reusable):
        started.append(shape)
        return lambda batch: batch, None

    networks = ReadyNetworks(start, any_shape=True)
    for batch in (zeros(4, 4), zeros(8, 4), zeros(4, 4)):
        assert networks(batch) is batch
    assert started == [None] and networks.total == 0


def test_a_network_that_cannot_be_prepared_takes_no_room():
    def start(shape, cores, reusable):
        raise MemoryError

    networks = ReadyNetworks(start)
    with pytest.raises(MemoryError):
        networks(zeros(4, 4))
    assert networks.total == 0 and not networks.idle


def test_what_nobody_uses_can_be_given_back(networks, started):
    for side in (4, 8):
        networks(zeros(side, side))
    networks.drop_idle()
    assert not networks.idle and networks.total == 0
    networks(zeros(4, 4))
    assert len(started) == 3 and started[-1][-1] is None  # prepared anew, from nothing kept
