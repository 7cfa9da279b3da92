"""Coroutines in tests whose thread may have an event loop already."""

import asyncio
from concurrent.futures import ThreadPoolExecutor


def run_beside(coroutine):
    """Run a coroutine in a thread of its own: playwright keeps a loop running in the main one.

    Returns: what the coroutine returns.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
