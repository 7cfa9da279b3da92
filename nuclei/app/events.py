"""What the server tells all open pages at once: server-sent events.

events = Events()
events.tell({"image": "a1", "revision": 7})     # from any thread
async for message in events.listen(): ...       # one for each open page
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator

MAX_WAITING = 1000  # messages of a page that does not read; it is then told to fetch all anew
SECONDS_OF_SILENCE = 15  # after which a comment is sent, so that a lost connection is noticed


class Events:
    """The open pages."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pages: dict[asyncio.Queue, asyncio.AbstractEventLoop] = {}

    def tell(self, message: dict) -> None:
        """Send a message to all pages."""
        text = f"data: {json.dumps(message)}\n\n"
        with self.lock:
            pages = list(self.pages.items())
        for queue, loop in pages:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.put, queue, text)

    @staticmethod
    def put(queue: asyncio.Queue, text: str | None) -> None:
        """Add a message to the queue of a page; one that does not read loses the oldest."""
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(text)

    def close(self) -> None:
        """End all connections, so that the server can stop."""
        with self.lock:
            pages = list(self.pages.items())
        for queue, loop in pages:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.put, queue, None)

    async def listen(self) -> AsyncIterator[str]:
        """The messages for one page, in the form of server-sent events."""
        queue: asyncio.Queue = asyncio.Queue(MAX_WAITING)
        with self.lock:
            self.pages[queue] = asyncio.get_running_loop()
        try:
            yield 'data: {"state": true}\n\n'  # after a lost connection: fetch all anew
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), SECONDS_OF_SILENCE)
                except TimeoutError:
                    text = ": still here\n\n"
                if text is None:
                    return
                yield text
        finally:
            with self.lock:
                del self.pages[queue]
