"""Workers of this machine share what it has, and nobody else reaches them."""

import asyncio
import ipaddress

import distributed
import psutil
import pytest
from cluster_tools import MAX_SECONDS
from loop_tools import run_beside

from nuclei.inference.cluster import connect
from nuclei.inference.local_workers import local_workers


def listening_addresses():
    """The (host, port) at which this process and its children listen."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    connections = [found for process in processes for found in process.net_connections("inet")]
    return {found.laddr for found in connections if found.status == psutil.CONN_LISTEN}


async def first_answer(host, port):
    """What comes back for a plain HTTP request and for Dask's own greeting, without TLS."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
        return await asyncio.wait_for(reader.read(100), MAX_SECONDS)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_local_workers_listen_on_loopback_only_by_tls_and_without_http():
    before = listening_addresses()
    with local_workers(2) as cluster:
        with connect(cluster.scheduler_address, cluster.security) as client:
            client.wait_for_workers(2, timeout=MAX_SECONDS)
            opened = listening_addresses() - before
            ports = client.scheduler_info()["services"]
            workers = client.scheduler_info()["workers"].values()
            ours = {address.port for address in opened}
            # A scheduler, two workers and their two nannies; an HTTP server would be one more.
            assert len(opened) == 5, opened
            assert all(ipaddress.ip_address(found.ip).is_loopback for found in opened), opened
            assert not ports and not any(set(worker["services"]) - {"nanny"} for worker in workers)
            for port in ours:
                assert b"HTTP" not in run_beside(first_answer("127.0.0.1", port))
        with pytest.raises(ValueError, match="no Dask scheduler answers"):  # no certificate
            connect(cluster.scheduler_address.replace("tls", "tcp"), distributed.Security())
        with pytest.raises(ValueError, match="no Dask scheduler answers"):  # another certificate
            connect(cluster.scheduler_address, distributed.Security.temporary())


@pytest.mark.parametrize(
    ("num_gpus", "visible", "expected"),
    [
        (0, None, [None] * 4),
        (2, None, ["0", "1", "0", "1"]),
        (8, "5,7", ["5", "7", "5", "7"]),
        (8, "", [None] * 4),
    ],
)
def test_local_workers_share_cores_and_gpus(monkeypatch, num_gpus, visible, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("nuclei.inference.local_workers.num_gpus", lambda: num_gpus)
    monkeypatch.setattr("nuclei.inference.local_workers.num_cores", lambda: 8)
    monkeypatch.setattr(distributed, "SpecCluster", lambda workers, **more: workers)
    environments = [worker["options"]["env"] for worker in local_workers(4).values()]
    assert [environment["OMP_NUM_THREADS"] for environment in environments] == ["2"] * 4
    gpus = [environment.get("CUDA_VISIBLE_DEVICES") for environment in environments]
    assert gpus == expected
